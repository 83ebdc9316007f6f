"""Structured log lines on stderr, in logfmt or JSON, with the keys of Prometheus's own logs (promslog).

    logger = logfmt.get_logger(__name__)
    logger.info("scan finished", queue="default", messages=12)

writes `time=2026-11-22T10:45:41.664Z level=INFO msg="scan finished" queue=default messages=12`.

Values come from the queue, the log and the network. Whatever they hold, a record is one line and has no control
character in it, so it can neither forge a second record nor move a terminal's cursor.
"""

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import Literal

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
# Keys that every record has; a field of such a name gets an underscore.
_RESERVED = {"time", "level", "msg"}
# Characters of one value; a traceback, which is ours, may be longer.
_LONGEST = 2000
_LONGEST_TRACEBACK = 20_000
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t", '"': r"\"", "\\": r"\\"}

Value = str | int | float | None


class Logger:
    """A standard logger whose methods take the fields of a record as keywords, by any name."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, text: str, /, **fields: object) -> None:
        """Say what only a search for a fault needs."""
        self._log(logging.DEBUG, text, fields)

    def info(self, text: str, /, **fields: object) -> None:
        """Say what happened as it should."""
        self._log(logging.INFO, text, fields)

    def warning(self, text: str, /, **fields: object) -> None:
        """Say what is wrong around the exporter."""
        self._log(logging.WARNING, text, fields)

    def error(self, text: str, /, **fields: object) -> None:
        """Say what the exporter could not do."""
        self._log(logging.ERROR, text, fields)

    def exception(self, text: str, /, **fields: object) -> None:
        """Say what failed, with the exception that is being handled."""
        self._log(logging.ERROR, text, fields, exc_info=True)

    def _log(self, level: int, text: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        self._logger.log(level, text, extra={"fields": fields}, exc_info=exc_info, stacklevel=3)


def get_logger(name: str) -> Logger:
    """Return the logger of a module."""
    return Logger(name)


def configure(level: str, fmt: Literal["logfmt", "json"]) -> None:
    """Send all records from `level` (a key of `LEVELS`) on to stderr; replaces what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(fmt, tracebacks=level == "debug"))
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    # pyinotify gives its logger a handler of its own as it is imported, perhaps later than now. A filter takes
    # the records away before any handler sees them.
    logging.getLogger("pyinotify").addFilter(_reroute)


def _reroute(record: logging.LogRecord) -> bool:
    logging.getLogger().handle(record)
    return False


class Formatter(logging.Formatter):
    """Formats a record as one line of `fmt`; with `tracebacks`, a field of that name holds an exception's."""

    def __init__(self, fmt: Literal["logfmt", "json"], *, tracebacks: bool = False) -> None:
        super().__init__()
        self._json = fmt == "json"
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, without the newline."""
        pairs = self._pairs(record)
        if self._json:
            # json leaves DEL as it is.
            return json.dumps(pairs, ensure_ascii=True, allow_nan=False).replace("\x7f", r"\u007f")
        return " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items())

    def _pairs(self, record: logging.LogRecord) -> dict[str, Value]:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        pairs: dict[str, Value] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _NAMES.get(record.levelno, record.levelname),
            "msg": _value(record.getMessage()),
        }
        if not hasattr(record, "fields"):
            pairs["logger"] = record.name  # a library's
        for key, value in getattr(record, "fields", {}).items():
            pairs[f"{key}_" if key in _RESERVED else key] = _value(value)
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            pairs["error"] = _value(f"{type(error).__name__}: {error}".removesuffix(": "))
            if self._tracebacks:
                pairs["traceback"] = _text("".join(traceback.format_exception(error)), _LONGEST_TRACEBACK)
        return pairs


def _value(value: object) -> Value:
    """Return a value as JSON knows it: numbers, booleans and None as they are, all else as bounded text."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, bytes):
        return _text(value.decode("utf-8", "surrogateescape"), _LONGEST)
    return _text(str(value), _LONGEST)


def _text(text: str, longest: int) -> str:
    r"""Return text that can be encoded, cut to `longest`; a byte that was no UTF-8 becomes `\xNN`."""
    if len(text) > longest:
        text = text[:longest] + "…"
    return "".join(_plain(char) if "\ud800" <= char <= "\udfff" else char for char in text)


def _plain(surrogate: str) -> str:
    code = ord(surrogate)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _quoted(value: Value) -> str:
    """Return a logfmt value, in quotes (Go's strconv.Quote) if it is empty or holds more than plain characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text and text.isprintable() and not any(char in text for char in ' "=\\'):
        return text
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
