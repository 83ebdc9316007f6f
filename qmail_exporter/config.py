"""What the daemon is told to do, and how that is spelled: queues, logs, addresses, durations."""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qmail_exporter.outage.rules import Rules

# A name becomes the value of the label `queue`, and cannot be mistaken for the start of a path.
_NAMED = re.compile(r"([A-Za-z0-9._-]+)=(.*)", re.ASCII | re.DOTALL)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PART = re.compile(rf"({_NUMBER})(ms|[smhdw])", re.ASCII)
_PARTS = re.compile(rf"(?:{_NUMBER}(?:ms|[smhdw]))+", re.ASCII)
_SECONDS = re.compile(_NUMBER, re.ASCII)
_URL_PATH = re.compile(r"/[A-Za-z0-9/._~!$&'()*+,;=:@-]*", re.ASCII)
_BRACKETED = re.compile(r"\[([^\[\]]+)\]:([^:]*)")


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue directory and the value of its series' `queue` label."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class LogSpec:
    """A log of qmail-send: `spec` is a multilog or svlogd directory, a file, or `journal:UNIT`.

    `queue` names the queue it tells of; None is the only queue, or all of them where lines name theirs (indimail).
    """

    queue: str | None
    spec: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HookConfig:
    """What `--hook.*` say.

    Attributes:
        tcpok: empty tcpto when an outage is over.
        redeliver: then make every message due.
        command: a program to run, after tcpok and before redeliver; its words.
        cooldown: seconds between two runs at least.
        probe: probe hosts while an outage lasts.
        dry_run: only say what would be done.
        timeout: seconds that each action may take.
        sockets: the directory with the sockets of the units that do what the exporter's user may not.
    """

    tcpok: bool = False
    redeliver: bool = False
    command: tuple[str, ...] = ()
    cooldown: float = Rules().cooldown
    probe: bool = True
    dry_run: bool = False
    timeout: float = 30.0
    sockets: str = "/run/qmail-exporter"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of `serve`.

    Attributes:
        home: qmail's home, with `control` and, where none is given, the queues.
        queues: empty means: find them below `home`.
        logs: empty means: find them in the usual places.
        listen: addresses as `parse_address` takes them; empty if systemd passes the sockets.
        systemd_socket: take the listening sockets from systemd.
        telemetry_path: where the metrics are.
        max_requests: scrapes worked on at once; 0 is no limit.
        domains_max: domains that have series of their own, per queue.
        tick: seconds between two looks at what inotify does not tell of.
        rescan_interval: seconds between two looks at everything; 0 is never.
        scrape_budget: seconds that a scrape spends at most on bringing the model up to date.
        web_config: the file with TLS, passwords and headers, in exporter-toolkit's format; None if there is none.
        double_bounces: the log that record-double-bounce writes; None if none is followed.
        hook: what is done at the end of an outage.
        log_level: a key of `logfmt.LEVELS`.
        log_format: form of the exporter's own log.
    """

    home: Path = Path("/var/qmail")
    queues: tuple[QueueSpec, ...] = ()
    logs: tuple[LogSpec, ...] = ()
    listen: tuple[str, ...] = (":10225",)
    systemd_socket: bool = False
    telemetry_path: str = "/metrics"
    max_requests: int = 40
    domains_max: int = 100
    tick: float = 1.0
    rescan_interval: float = 3600.0
    scrape_budget: float = 0.5
    web_config: Path | None = None
    double_bounces: LogSpec | None = None
    hook: HookConfig = HookConfig()
    log_level: str = "info"
    log_format: Literal["logfmt", "json"] = "logfmt"


def parse_path(text: str) -> Path:
    """Return a path made absolute.

    Raises:
        ValueError: empty, or with a NUL byte.
    """
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is no path")
    return Path(os.path.abspath(text))


def split_name(text: str) -> tuple[str | None, str]:
    """Return the name, None if there is none, and what follows, of `[NAME=]TEXT`."""
    named = _NAMED.fullmatch(text)
    return (named[1], named[2]) if named else (None, text)


def parse_queue_spec(text: str) -> tuple[str | None, Path]:
    """Return name, None if there is none, and absolute path of `[NAME=]DIR`.

    A relative directory with an equals sign in it is written `./a=b`.

    Raises:
        ValueError: no directory.
    """
    name, path = split_name(text)
    return name, parse_path(path)


def name_queues(queues: Sequence[tuple[str | None, Path]]) -> tuple[QueueSpec, ...]:
    """Return the queues with a name each.

    It is the given one; or `default` if there is one queue; or as much of the path's end as no other queue has
    (`queue1`, or `a/queue` beside `b/queue`).

    Raises:
        ValueError: two queues have the same name or the same directory.
    """
    if len(queues) == 1:
        name, path = queues[0]
        return (QueueSpec(name or "default", path),)
    _refuse_twice("queue directory", [str(path) for _, path in queues])
    unnamed = [path for name, path in queues if name is None]
    specs = tuple(QueueSpec(name or _distinct_tail(path, unnamed), path) for name, path in queues)
    _refuse_twice("queue name", [spec.name for spec in specs])
    return specs


def parse_log_spec(text: str) -> LogSpec:
    """Return the meaning of `[NAME=]PATH` or `[NAME=]journal:UNIT`; the path is made absolute.

    Raises:
        ValueError: no path or unit.
    """
    name, spec = split_name(text)
    if spec in ("", "journal:") or "\0" in spec:
        raise ValueError(f"{text!r} names no log")
    return LogSpec(name, spec if spec.startswith("journal:") else str(parse_path(spec)))


def check_logs(logs: Sequence[LogSpec], queues: Sequence[QueueSpec]) -> None:
    """Check that logs and queues fit, as far as the queues were given and not left to be found.

    Raises:
        ValueError: a log is of no such queue.
    """
    names = {queue.name for queue in queues}
    for log in logs:
        if names and log.queue is not None and log.queue not in names:
            raise ValueError(
                f"log {log.spec!r} is for queue {log.queue!r}, and there is no queue of that name"
            )


def parse_duration(text: str) -> float:
    """Return a duration in seconds: `90`, `0.5`, or parts with units from ms to w as Prometheus writes them, `1h30m`.

    Raises:
        ValueError: not so spelled.
    """
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        # The whole is matched before its parts are looked for: a search begins anew at each digit of a number without a unit.
        if not _PARTS.fullmatch(text):
            raise ValueError(f"{text!r} is no duration such as 90, 30m or 1h30m")
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if math.isinf(seconds):
        raise ValueError(f"{text!r} is too long")
    return seconds


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[IPv6]:PORT` or `:PORT`, where the host is empty.

    Raises:
        ValueError: not so spelled, or no port from 0 to 65535.
    """
    bracketed = _BRACKETED.fullmatch(text)
    host, _, port = (bracketed[1], ":", bracketed[2]) if bracketed else text.rpartition(":")
    if not bracketed and any(char in host for char in ":[]/"):
        raise ValueError(f"{text!r} is no address: write HOST:PORT, [IPv6]:PORT or :PORT")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535 and ":" in text):
        raise ValueError(f"{text!r} has no port from 0 to 65535: write HOST:PORT, [IPv6]:PORT or :PORT")
    try:
        host.encode("idna")  # as the resolver will
    except UnicodeError:
        raise ValueError(f"{text!r} names no host: write HOST:PORT, [IPv6]:PORT or :PORT") from None
    return host, int(port)


def parse_url_path(text: str) -> str:
    """Return a path for the metrics, such as `/metrics`.

    Raises:
        ValueError: no absolute path, or characters that a URL would have to encode.
    """
    if not _URL_PATH.fullmatch(text):
        raise ValueError(f"{text!r} is no path such as /metrics")
    return text


def _distinct_tail(path: Path, among: Sequence[Path]) -> str:
    others = [other.parts for other in among if other != path]
    tails = (path.parts[-length:] for length in range(1, len(path.parts)))
    distinct = next(
        (tail for tail in tails if not any(other[-len(tail) :] == tail for other in others)), path.parts
    )
    # A label value is UTF-8, a path need not be.
    return os.fsencode(os.path.join(*distinct)).decode("utf-8", "backslashreplace")


def _refuse_twice(what: str, values: Sequence[str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{what} {value!r} is given {count} times")
