"""What a command prints, as text or as JSON, and the exit status that follows from it.

Whatever comes from the queue or the log is hostile: no control character of it reaches the terminal.
"""

import json
import sys
from typing import Any

import click

DONE = 0
FAILED = 1
NOTHING = 3


class Output:
    """Prints one result a line on stdout, and one failure a line on stderr.

    Args:
        command: the command's name, which begins each line on stderr.
        as_json: write each result, and each failure too, as a JSON object on stdout.
        exit_status: write the exit status as the last line on stdout.

    Attributes:
        code: the exit status so far.
        as_json: as given.
    """

    def __init__(self, command: str, *, as_json: bool, exit_status: bool = False) -> None:
        self.code = DONE
        self._command = command
        self.as_json = as_json
        self._exit_status = exit_status

    def result(self, text: str, **fields: Any) -> None:
        """Print one thing that was found or done; `fields` are the keys of its JSON object."""
        _echo(json.dumps(fields) if self.as_json else text)

    def failed(self, text: str, code: int = FAILED, **fields: Any) -> None:
        """Print one thing that could not be done."""
        if self.code != FAILED:
            self.code = code
        if self.as_json:
            _echo(json.dumps({**fields, "error": text}))
        place = "".join(f" {fields[key]}:" for key in ("queue", "id") if key in fields)
        _echo(f"qmail-exporter {self._command}:{place} {text}", err=True)

    def note(self, text: str) -> None:
        """Print on stderr what is neither."""
        _echo(f"qmail-exporter {self._command}: {text}", err=True)

    def end(self) -> int:
        """Return the exit status, printed if that was asked for."""
        if self._exit_status:
            _echo(str(self.code))
        return self.code


def decoded(raw: bytes) -> str:
    """Return bytes as text that JSON can carry; what is no UTF-8 as a backslash, an x and two digits."""
    return raw.decode("utf-8", "backslashreplace")


def shown(raw: bytes) -> str:
    """Return bytes as text that a terminal can be shown."""
    return _printable(decoded(raw))


def reason_of(error: Exception) -> str:
    """Return what an error says, with the path if it has one."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def age(seconds: float) -> str:
    """Return an age in its two largest units, as `3d 4h`."""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    left = max(int(seconds), 0)
    parts: list[str] = []
    for name, size in units:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{name}")
    return " ".join(parts[:2]) or "0s"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _echo(text: str, *, err: bool = False) -> None:
    stream = sys.stderr if err else sys.stdout
    encoding = stream.encoding or "ascii"
    click.echo(_printable(text).encode(encoding, "backslashreplace").decode(encoding), err=err)
