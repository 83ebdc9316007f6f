"""The flags that several commands have, and what queues and files they stand for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import click

from qmail_exporter import config, discover, logfmt
from qmail_exporter.flags.file import with_config_file
from qmail_exporter.flags.option import flag, option, together
from qmail_exporter.flags.value import DIRECTORY, LOG, QUEUE, Value

NamedPaths: TypeAlias = tuple[tuple[str | None, Path], ...]
"""The values of --qmail.queue."""
_Command = TypeVar("_Command", bound=Callable[..., Any])
LOG_LEVEL = click.Choice(list(logfmt.LEVELS))
_INDIMAIL_CONTROL = Path("/etc/indimail/control")


def _address(text: str) -> str:
    config.parse_address(text)
    return text


ADDRESS = Value(_address)


def with_queues(command: _Command) -> _Command:
    """Add --qmail.home, --qmail.queue and --config.file; the command gets `home` and `queues`, for `find_queues`."""
    home = flag(
        "--qmail.home", "home", type=DIRECTORY, metavar="DIR", default="/var/qmail", help="qmail's home."
    )
    queue = flag(
        "--qmail.queue",
        "queues",
        type=QUEUE,
        multiple=True,
        metavar="[NAME=]DIR",
        help="A queue directory; may be repeated. Default: those of the home.",
    )
    return together(home, queue, with_config_file)(command)


def with_logs(command: _Command) -> _Command:
    """Add --qmail.log; the command gets `logs`, for `find_logs`."""
    return flag(
        "--qmail.log",
        "logs",
        type=LOG,
        multiple=True,
        metavar="[NAME=]PATH|journal:UNIT",
        help="qmail-send's log, for the queue NAME if there are several: a directory of multilog or svlogd, a file,"
        " or the journal of a unit; may be repeated. Default: found in the usual places.",
    )(command)


def with_json(command: _Command) -> _Command:
    """Add --json; the command gets `as_json`."""
    return option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")(command)


def with_dry_run(command: _Command) -> _Command:
    """Add --dry-run; the command gets `dry_run`."""
    return option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(command)


def with_now(command: _Command) -> _Command:
    """Add --now; the command gets `now`."""
    return option("--now", is_flag=True, help="Then have qmail-send try every message of the queue now.")(
        command
    )


def with_exit_status(command: _Command) -> _Command:
    """Add --exit-status; the command gets `exit_status`, for `Output`."""
    return option(
        "--exit-status",
        is_flag=True,
        help="Write the exit status as the last line, for a reader at the other end of a socket.",
    )(command)


def find_queues(home: Path, queues: NamedPaths) -> tuple[config.QueueSpec, ...]:
    """Return the queues that are named, or else those of the home.

    Raises:
        click.ClickException: two are named the same, or there are none.
    """
    try:
        found = config.name_queues(queues) if queues else discover.find_queues(home)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    if not found:
        raise click.ClickException(f"no queue in {home}: name it with --qmail.queue")
    return found


def find_logs(
    home: Path, queues: tuple[config.QueueSpec, ...], logs: tuple[config.LogSpec, ...]
) -> tuple[config.LogSpec, ...]:
    """Return the logs that are named, or else those in the usual places.

    Raises:
        click.ClickException: there are none.
    """
    found = logs or discover.find_logs(home, queues)
    if not found:
        raise click.ClickException("no log of qmail-send was found: name it with --qmail.log")
    return found


def control_directory(home: Path) -> Path:
    """Return where the control files are: indimail keeps them in /etc."""
    own = home / "control"
    return _INDIMAIL_CONTROL if not own.is_dir() and _INDIMAIL_CONTROL.is_dir() else own
