"""Finds the queues and logs of a host where they are not named: in the places that the usual installations use."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from qmail_exporter.config import LogSpec, QueueSpec

# Directories of multilog or svlogd, with the log in `current`. The more exact ones come first: /var/log/qmail
# itself is qmail-send's log in some installations and a directory of several logs in others.
_LOG_DIRECTORIES = (
    "var/log/qmail/send",
    "var/log/qmail/qmail-send",
    "var/log/qmail",
    "var/log/qmail-send",
    "var/log/svc/deliver*",  # indimail: one for each port, with the lines of all queues
    "service/qmail-send/log/main",
    "var/service/qmail-send/log/main",
    "etc/service/qmail-send/log/main",
)
_HOME_LOG_DIRECTORIES = ("supervise/qmail-send/log/main", "log/send", "log/qmail-send", "log")
_SYSLOG_FILES = ("var/log/maillog", "var/log/mail.log")
_UNITS = ("qmail-send.service", "qmail.service")
_UNIT_DIRECTORIES = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)

_INDIMAIL_QUEUE = re.compile(r"queue([0-9]+)", re.ASCII)


def find_queues(home: Path) -> tuple[QueueSpec, ...]:
    """Return the queues of a qmail home, or none if it has none (yet).

    indimail has several, `queue1`, `queue2` and so on, in the home or in its `queue` directory: each keeps its
    name. Else it is `HOME/queue`, named `default`, whose inside need not be readable.
    """
    queue = home / "queue"
    several = _numbered_queues(home) or _numbered_queues(queue)
    if several:
        return tuple(QueueSpec(path.name, path) for path in several)
    return (QueueSpec("default", queue),) if os.path.isdir(queue) else ()


def find_logs(home: Path, queues: Sequence[QueueSpec], *, root: Path = Path("/")) -> tuple[LogSpec, ...]:
    """Return qmail-send's log, or none: the first of the usual places that there is. `root` is where `/` is.

    A log directory of its own comes before the journal of a unit of qmail, and that before the log which all
    mail programs share, and which may be there without a line of qmail's. A place that may not be looked into
    counts if there is no other, so that the reason shows as an error of that source.

    A log that is found tells of all `queues` if they are below `home`, else only of the one that is `home/queue`.
    """
    below_home = all(queue.path.is_relative_to(home) for queue in queues)
    owners = [None] if below_home else [queue.name for queue in queues if queue.path == home / "queue"]
    return tuple(LogSpec(owner, spec) for owner in owners for spec in _find_log(home, root))


def _numbered_queues(parent: Path) -> list[Path]:
    try:
        names = os.listdir(parent)
    except OSError:
        return []
    found = [match for name in names if (match := _INDIMAIL_QUEUE.fullmatch(name))]
    found.sort(key=lambda match: int(match[1]))
    return [parent / match[0] for match in found if os.path.isdir(parent / match[0] / "mess")]


def _find_log(home: Path, root: Path) -> list[str]:
    places = [
        *([str(home / name)] for name in _HOME_LOG_DIRECTORIES),
        *(sorted(map(str, root.glob(name))) for name in _LOG_DIRECTORIES),
    ]
    forbidden: list[str] = []
    for place in places:
        there = [path for path in place if _exists(f"{path}/current")]
        if there:
            return there
        forbidden = forbidden or [path for path in place if _exists(f"{path}/current") is None]
    unit = _unit(root)
    if unit is not None:
        return [f"journal:{unit}"]
    return next(([str(root / name)] for name in _SYSLOG_FILES if _exists(root / name)), forbidden)


def _exists(path: str | Path) -> bool | None:
    """Tell whether there is such a file; None if that may not be known."""
    try:
        os.stat(path)
    except PermissionError:
        return None
    except OSError:
        return False
    return True


def _unit(root: Path) -> str | None:
    if shutil.which("journalctl") is None:
        return None
    units = (unit for unit in _UNITS for directory in _UNIT_DIRECTORIES if _exists(root / directory / unit))
    return next(units, None)
