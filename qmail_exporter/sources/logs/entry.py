"""One line of `journalctl --output=json` as a value. Pure."""

import json
from typing import NamedTuple

from qmail_exporter.formats import FormatError


class Entry(NamedTuple):
    """One journal entry.

    Attributes:
        cursor: Its place in the journal, opaque.
        time: When journald received it, Unix seconds.
        message: Its text, or None if journalctl left that out for its size.
    """

    cursor: str
    time: float
    message: bytes | None


def parse_entry(line: bytes) -> Entry | None:
    """Read one line of `journalctl --output=json`; return None for an entry without a text.

    A text is a string, an array of byte values if it is not printable UTF-8, null if it is too long, or an array of
    those if the field was given more than once (the first counts): systemd's "Journal Export Formats".

    Raises:
        FormatError: It is none of that.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError("not JSON") from error
    if not isinstance(fields, dict):
        raise FormatError("not a JSON object")
    cursor, stamp = fields.get("__CURSOR"), fields.get("__REALTIME_TIMESTAMP")
    if not isinstance(cursor, str) or not cursor.isprintable() or not cursor:
        raise FormatError("no cursor")
    if not isinstance(stamp, str) or not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 20):
        raise FormatError("no time")
    if "MESSAGE" not in fields:
        return None
    return Entry(cursor, int(stamp) / 1e6, _text(fields["MESSAGE"]))


def _text(value: object) -> bytes | None:
    if isinstance(value, list) and value and not isinstance(value[0], int):
        value = value[0]
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if isinstance(value, list):
            return bytes(value)
    except (TypeError, ValueError) as error:
        raise FormatError("an array that is no bytes") from error
    raise FormatError("a text of an unknown type")
