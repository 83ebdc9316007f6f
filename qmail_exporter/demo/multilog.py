"""A log as qmail's loggers write it: a directory as multilog keeps it, and the prefix styles of the others."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Style = Literal["multilog", "svlogd", "syslog", "iso", "bare"]
"""multilog `t` or svlogd `t`; svlogd `-tt`; splogger and syslog, old form; the same with rsyslog's; no prefix."""

TAI_OFFSET = 2**62 + 10
"""What daemontools adds to Unix seconds: the TAI64 label of 1970, and a constant 10 s."""
_SPLOGGER_BUFFER = 799
_MARGIN = 2000


class Multilog:
    """Write lines to a directory as `multilog t s… n… DIR` does (daemontools' multilog.c).

    `current` (mode 0644) is appended to. When it is within 2000 bytes of `size` at the end of a line it is renamed
    to `previous`, a new `current` is made, `previous` (mode 0744) is linked to `@….s`, its time stamp's name, and
    unlinked; then the oldest are removed until `count` - 1 remain. A clean exit leaves `current` with mode 0744; a
    `current` without, found at the start, was not finished: it becomes `@….u`.

    Args:
        directory: made if absent.
        clock: the present time, Unix seconds.
        size: bytes, at least 4096.
        count: files kept, `current` among them.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], float], *, size: int = 99999, count: int = 10
    ) -> None:
        self._directory = str(directory)
        self._clock = clock
        self._limit = size - _MARGIN
        self._count = count
        self._named = ""
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("lock", "state"):
            (directory / name).touch()
        current = directory / "current"
        if current.exists() and not current.stat().st_mode & 0o100:
            os.rename(current, self._path("previous"))
            self._archive("u")
        self._open()

    def __call__(self, line: bytes) -> None:
        """Write one line, given without its newline."""
        entry = tai64n(self._clock()) + b" " + line + b"\n"
        self._bytes += os.write(self._file, entry)
        if self._bytes >= self._limit:
            self.rotate()

    def rotate(self) -> None:
        """Begin a new `current`."""
        os.fsync(self._file)
        os.close(self._file)
        os.rename(self._path("current"), self._path("previous"))
        self._open()
        os.chmod(self._path("previous"), 0o744)
        self._archive("s")

    def close(self) -> None:
        """Exit as multilog does at the end of its input."""
        os.fsync(self._file)
        os.fchmod(self._file, 0o744)
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path("current"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.fchmod(self._file, 0o644)
        self._bytes = os.fstat(self._file).st_size

    def _archive(self, code: str) -> None:
        name = f"{tai64n(self._clock()).decode()}.{code}"
        if name <= self._named:  # the clock stands still; the real one waits until it has gone on
            name = f"@{int(self._named[1:25], 16) + 1:024x}.{code}"
        self._named = name
        os.link(self._path("previous"), self._path(name))
        os.unlink(self._path("previous"))
        archives = sorted(entry for entry in os.listdir(self._directory) if entry.startswith("@"))
        for old in archives[: max(0, len(archives) - (self._count - 1))]:
            os.unlink(self._path(old))

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def tai64n(now: float) -> bytes:
    """Return the label `@` and 24 hex digits of a time in Unix seconds."""
    nanoseconds = round(now * 1_000_000) * 1000
    return b"@%016x%08x" % (TAI_OFFSET + nanoseconds // 10**9, nanoseconds % 10**9)


def stamped(style: Style, now: float, line: bytes, *, program: bytes = b"qmail") -> list[bytes]:
    """Return a line as it stands in the log: one line or more, each with its newline.

    splogger cuts what is longer than 799 bytes, and begins each further part with its stamp and `+`. `now` is in
    Unix seconds, shown in UTC.
    """
    if style == "multilog":
        return [tai64n(now) + b" " + line + b"\n"]
    if style == "bare":
        return [line + b"\n"]
    if style == "svlogd":
        return [_date(now, "%Y-%m-%d_%H:%M:%S.{:05d} ", 5) + line + b"\n"]
    head = _date(now, "%b %e %H:%M:%S" if style == "syslog" else "%Y-%m-%dT%H:%M:%S.{:06d}+00:00", 6)
    head += b" mx1 " + program + b": " + _date(now, "{seconds}.{:06d}", 6)
    parts = [line[at : at + _SPLOGGER_BUFFER] for at in range(0, len(line), _SPLOGGER_BUFFER)]
    return [head + (b"+" if at else b" ") + part + b"\n" for at, part in enumerate(parts)]


def _date(now: float, form: str, digits: int) -> bytes:
    """Format a time; `{}` takes the fraction, cut to that many digits, and `{seconds}` the whole seconds."""
    microseconds = round(now * 1_000_000)
    seconds, fraction = divmod(microseconds, 1_000_000)
    text = time.strftime(form, time.gmtime(seconds))
    return text.format(fraction // 10 ** (6 - digits), seconds=seconds).encode()
