"""Write a double bounce to a log, from a .qmail file: `qmail-record-double-bounce --file FILE`.

qmail-local starts this program for each delivery to `doublebounceto`, so it must start fast: it imports what the
interpreter has loaded anyway and small modules in C, and neither `re`, `json` nor `typing`.

What such a message holds, `formats/qsbmf.py` says.
"""

import errno
import fcntl
import os
import stat
import sys
import time

from qmail_exporter.formats.qsbmf import DoubleBounce, parse

MAX_MESSAGE = 1 << 18
"""Bytes of the message that are read; the failures stand at its beginning."""
MAX_RECIPIENTS = 10
"""Recipients of one message that are logged: a line stays below 64 KiB with every character escaped."""
MAX_ADDRESS = 320
MAX_FAILURE = 500
PATIENCE = 30.0
"""Seconds to wait for the log's lock, which others hold for the time of one write."""
TEMPORARY = 111
"""The exit status upon which qmail-local keeps the message and tries again later (qmail-command(8))."""

_USAGE = "usage: qmail-record-double-bounce --file FILE [--format json|text]\n"
_TRIES = 10


def json_line(bounce: DoubleBounce | None, now: float) -> bytes:
    """Write a double bounce as one line of JSON in ASCII; for None, a line that says that there was none.

    Keys: `time` (Unix seconds), `kind` (`double`, or `other` and no more keys), `sender`, `failure` (of the bounce),
    `recipients` (a list of `address` and `failure`).
    """
    if bounce is None:
        return b'{"time":%.6f,"kind":"other"}\n' % now
    recipients = ",".join(
        f'{{"address":{_quoted(address[:MAX_ADDRESS])},"failure":{_quoted(failure[:MAX_FAILURE])}}}'
        for address, failure in bounce.failures[:MAX_RECIPIENTS]
    )
    line = (
        f'{{"time":{now:.6f},"kind":"double","sender":{_quoted(bounce.sender[:MAX_ADDRESS])},'
        f'"failure":{_quoted(bounce.why[:MAX_FAILURE])},"recipients":[{recipients}]}}\n'
    )
    return line.encode("ascii")


def text_line(bounce: DoubleBounce | None, now: float) -> bytes:
    """Write a double bounce as a line for people: UTC, the sender, the recipients, why the first of them failed.

    Addresses are in qmail-log(5)'s form, so that they hold no space.
    """
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)).encode("ascii")
    if bounce is None:
        return moment + b" not a double bounce\n"
    to = b" ".join(b"<%b>" % _safe(address[:MAX_ADDRESS]) for address, _ in bounce.failures[:MAX_RECIPIENTS])
    failure = bounce.failures[0][1] if bounce.failures else bounce.why
    text = bytes(byte if 32 <= byte <= 126 else 47 if byte == 10 else 95 for byte in failure[:MAX_FAILURE])
    sender = _safe(bounce.sender[:MAX_ADDRESS])
    return b"%b double bounce: from <%b> to %b: %b\n" % (moment, sender, to or b"<>", text)


def append(path: str, line: bytes) -> None:
    """Append a line to a log, whole, whoever else does so at the same time, and see that it is on the disk.

    The log may be rotated by renaming it or by truncating it. What a writer that was killed, or a full disk, left of a
    line is ended first, or taken back.

    Raises:
        OSError: it could not be; the log is as it was.
    """
    for _ in range(_TRIES):
        fd = _open(path)
        try:
            _lock(fd, path)
            if not _is_at(fd, path):
                continue  # renamed while this waited
            _write(fd, line, path)
            # Not under the lock: the next one need not wait for the disk.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        return
    raise OSError(errno.EAGAIN, "it is renamed all the time", path)


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; returns 0, or 111 upon any trouble, so that no double bounce is lost."""
    try:
        path, form = _arguments(sys.argv[1:] if argv is None else argv)
        if not form:
            sys.stdout.write(_USAGE)
            return 0
        os.umask(0o027)  # qmail-local's lets nobody else read the log
        message = _read(0)
        line = json_line if form == "json" else text_line
        append(path, line(parse(message), time.time()))
    except OSError as error:
        return _complain(f"{error.filename or 'standard input'}: {error.strerror}")
    except ValueError as error:
        return _complain(str(error))
    except Exception as error:  # noqa: BLE001 - a traceback in qmail's log helps nobody, and losing mail even less
        return _complain(f"internal error: {type(error).__name__}: {error}")
    return 0


def _arguments(argv: list[str]) -> tuple[str, str]:
    """Return the log's path and its form, which is empty if help is asked for."""
    path, form = "", "json"
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in ("-h", "--help"):
            return "", ""
        if flag not in ("--file", "--format"):
            raise ValueError(f"unknown argument {word!r}; {_USAGE.rstrip()}")
        value = value if equals else next(words, "")
        if flag == "--file":
            path = value
        else:
            form = value
    if form not in ("json", "text"):
        raise ValueError(f"--format must be json or text; {_USAGE.rstrip()}")
    if not path or "\0" in path:
        raise ValueError(f"--file is missing; {_USAGE.rstrip()}")
    return path, form


def _complain(text: str) -> int:
    # qmail-local makes this a part of the report, which qmail-send logs.
    try:  # noqa: SIM105 - contextlib would have to be imported
        sys.stderr.write(
            "qmail-record-double-bounce: " + "".join(c if c.isprintable() else "?" for c in text) + "\n"
        )
    except (OSError, ValueError):
        pass
    return TEMPORARY


def _read(fd: int) -> bytes:
    """Read the beginning of the message, which is a file: what is left unread disturbs nobody."""
    parts, left = [], MAX_MESSAGE
    while left and (part := os.read(fd, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


# --- the line


def _quoted(raw: bytes) -> str:
    """Write bytes as a string of JSON; those that are no UTF-8 as a backslash, an x and two digits."""
    text = raw.decode("utf-8", "backslashreplace")
    return '"' + "".join(c if " " <= c <= "~" and c not in '"\\' else _escaped(c) for c in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _safe(raw: bytes) -> bytes:
    """Do as logsafe() in qsutil.c, and keep the angle brackets around an address its own."""
    return bytes(byte if 33 <= byte <= 126 and byte not in b"%<>" else 95 for byte in raw)


# --- the log


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags, 0o640)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file", path)


def _lock(fd: int, path: str) -> None:
    until = time.monotonic() + PATIENCE
    while not _try_lock(fd):
        if time.monotonic() >= until:
            raise OSError(errno.EAGAIN, "another program has it locked", path)
        time.sleep(0.005)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _write(fd: int, line: bytes, path: str) -> None:
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        line = b"\n" + line
    try:
        written = os.write(fd, line)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    if written < len(line):
        os.ftruncate(fd, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


if __name__ == "__main__":
    sys.exit(main())
