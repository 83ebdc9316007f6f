"""Entries as text: one line each for people and for programs, JSON, and what qmail-qread would have printed.

Whatever comes from the queue or the log is hostile.  All that leaves here is printable ASCII.
"""

import errno
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from qmail_exporter.formats.envelope import Sender
from qmail_exporter.listing.entry import Entry, Recipient
from qmail_exporter.listing.select import Group, attempts

UNKNOWN = "?"
NONE = "-"
DUE = "due"
"""In the place of a next attempt: its time has come; it waits for its turn, or for qmail-send to run."""
PASSED = "passed"
"""In the place of an expiry: the next attempt is the last."""

COLUMNS = ("ID", "AGE", "SIZE", "STATE", "FROM", "TO", "NEXT", "TRIES", "EXPIRES", "REASON")
TOP_COLUMNS = {
    "domains": ("DOMAIN", "RECIPIENTS", "DEFERRED", "MESSAGES", "OLDEST", "REASON"),
    "senders": ("SENDER", "MESSAGES", "RECIPIENTS", "BYTES", "OLDEST", "REASON"),
    "reasons": ("REASON", "RECIPIENTS", "MESSAGES", "OLDEST", "EXAMPLE"),
}
_KINDS = {Sender.MAIL: "mail", Sender.BOUNCE: "bounce", Sender.DOUBLE: "double"}
_ESCAPES = {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_VISIBLE = [_ESCAPES.get(n) or (chr(n) if 32 <= n <= 126 else f"\\x{n:02x}") for n in range(256)]
_FAR = 1 << 46  # seconds; years that gmtime can tell
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_QMAIL_ERRORS: dict[int | None, str] = {
    errno.ENOENT: "file does not exist",
    errno.EACCES: "access denied",
    errno.EPERM: "permission denied",
    errno.EIO: "input/output error",
    errno.EFBIG: "file too big",
}
_QREAD = bytes(n if 32 <= n <= 126 else ord("_") for n in range(256))


def visible(raw: bytes) -> str:
    r"""Return bytes as printable ASCII from which they can be had back: others are `\xNN`, `\n`, `\r`, `\t`, `\\`."""
    return "".join([_VISIBLE[byte] for byte in raw])


def span(seconds: float) -> str:
    """Return a duration as its two largest units: `3d4h`, `5h12m`, `17s`; one in the past begins with a minus sign."""
    sign, left = ("-" if seconds <= -1 else ""), int(abs(seconds))
    parts: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or size == 1:
            parts.append(f"{count}{name}")
    return sign + "".join(parts[:2])


# --- one line


def cells(entry: Entry, chosen: Sequence[Recipient], now: float, *, exact: bool) -> list[str]:
    """Return one line's cells under `COLUMNS`.

    Args:
        entry: the message.
        chosen: the recipients for which it is listed.
        now: Unix seconds.
        exact: durations as whole seconds, for programs, and the report not shortened to what the other host said.
    """

    def moment(at: float | None, past: str) -> str:
        if at is None:
            return UNKNOWN
        return str(int(at - now)) if exact else (past if at <= now else span(at - now))

    age = now - entry.since
    waits = bool(entry.next_attempts)
    return [
        str(entry.msg),
        str(int(age)) if exact else span(age),
        str(entry.size),
        entry.state + ((",bouncing" if exact else "*") if entry.failed else ""),
        UNKNOWN if entry.sender is None else f"<{visible(entry.sender)}>",
        _to(entry, chosen),
        moment(entry.next_attempt, DUE) if waits else _absent(entry),
        _tries(entry, chosen),
        moment(entry.expires, PASSED) if entry.birth is not None else _absent(entry),
        _why(entry, chosen, exact=exact),
    ]


def top_cells(what: str, name: str | bytes, group: Group, now: float, *, exact: bool) -> list[str]:
    """Return the cells of one line of `--top`, under `TOP_COLUMNS[what]`."""
    label = f"<{visible(name)}>" if isinstance(name, bytes) else name
    age = now - group.oldest
    oldest = str(int(age)) if exact else span(age)
    reason = group.reasons.most_common(1)[0][0] if group.reasons else NONE
    example = words(group.examples.get(reason, b"")) or NONE
    found: dict[str, Sequence[object]] = {
        "domains": (label, group.recipients, group.deferred, group.messages, oldest, _with(reason, example)),
        "senders": (label, group.messages, group.recipients, group.bytes, oldest, reason),
        "reasons": (label, group.recipients, group.messages, oldest, example),
    }
    return [str(cell) for cell in found[what]]


def words(report: bytes) -> str:
    """Return what matters of a report in the log's form: what the other host said, or else qmail's own words."""
    said = report.rpartition(b"Remote_host_said:_")[2]
    return visible(said.partition(b"/Giving_up_on")[0].strip(b"/").replace(b"_", b" "))


def _to(entry: Entry, chosen: Sequence[Recipient]) -> str:
    if not chosen:
        return _absent(entry)
    more = len(entry.pending) - 1
    return visible(chosen[0].address) + (f" +{more}" if more else "")


def _tries(entry: Entry, chosen: Sequence[Recipient]) -> str:
    count = attempts(chosen)
    if entry.log_complete:
        return str(count)
    return f"{count}+" if count else UNKNOWN


def _why(entry: Entry, chosen: Sequence[Recipient], *, exact: bool) -> str:
    told = next((recipient for recipient in chosen if recipient.reason is not None), None)
    if told is None or told.reason is None:
        return NONE if entry.log_complete or not chosen else UNKNOWN
    report = told.report or b""
    return _with(told.reason, visible(report) if exact else words(report))


def _with(reason: str, text: str) -> str:
    return f"{reason}: {text}" if text and text != NONE else reason


def _absent(entry: Entry) -> str:
    return UNKNOWN if entry.state == "unknown" else NONE


# --- JSON


def as_json(entry: Entry, chosen: Sequence[Recipient], now: float) -> str:
    """Return a message as a JSON object; moments are Unix seconds, addresses as `visible` writes them.

    What is not known, or is not, is null; `log_complete` tells the two apart for what the log tells.
    """
    count = attempts(chosen)
    return _dump({
        "queue": entry.queue,
        "id": entry.msg,
        "state": entry.state,
        "bouncing": entry.failed,
        "kind": None if entry.kind is None else _KINDS[entry.kind],
        "sender": None if entry.sender is None else visible(entry.sender),
        "size": entry.size,
        "arrival": round(entry.arrival, 3),
        "birth": entry.birth,
        "age": round(now - entry.since, 3),
        "expires": entry.expires,
        "next_attempt": entry.next_attempt,
        "attempts": count if entry.log_complete else None,
        "attempts_at_least": count,
        "log_complete": entry.log_complete,
        "recipients": [_recipient(entry, recipient) for recipient in entry.recipients],
    })  # fmt: skip


def _recipient(entry: Entry, recipient: Recipient) -> dict[str, Any]:
    attempted = recipient.attempts if entry.log_complete and not recipient.done else None
    return {
        "address": visible(recipient.address),
        "channel": recipient.channel,
        "done": recipient.done,
        "trying": recipient.trying,
        "attempts": attempted,
        "last_attempt": None if recipient.last_attempt is None else round(recipient.last_attempt, 3),
        "next_attempt": None if recipient.done else entry.next_attempts.get(recipient.channel or ""),
        "reason": recipient.reason,
        "report": None if recipient.report is None else visible(recipient.report),
    }


def top_as_json(what: str, name: str | bytes, group: Group) -> str:
    """Return one line of `--top` as a JSON object."""
    return _dump({
        what.removesuffix("s"): visible(name) if isinstance(name, bytes) else name,
        "messages": group.messages,
        "recipients": group.recipients,
        "deferred": group.deferred,
        "bytes": group.bytes,
        "oldest": round(group.oldest, 3),
        "reasons": dict(group.reasons.most_common()),
        "examples": {reason: visible(report) for reason, report in group.examples.items()},
    })  # fmt: skip


def _dump(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


# --- qmail-qread


def qread(  # noqa: PLR0913 - what qmail-qread reads of a message
    *,
    msg: int,
    size: int,
    birth: int,
    info: bytes,
    failed: bool,
    channels: Iterable[tuple[str, bytes | OSError | None]],
) -> bytes:
    """Return what qmail-qread prints of one message, byte for byte (qmail-qread.c, date822fmt.c).

    Args:
        msg: its number.
        size: of `mess`, bytes.
        birth: mtime of `info`, Unix seconds.
        info: content of `info`.
        failed: there is a `bounce` file.
        channels: name, and the file's content, None if there is none, or why it cannot be read.
    """
    at = time.gmtime(max(-_FAR, min(birth, _FAR)))
    date = f"{at.tm_mday} {_MONTHS[at.tm_mon - 1]} {at.tm_year} {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    sender = info.partition(b"\0")[0][1:]
    head = b"%b GMT  #%d  %d  <%b> %b" % (date.encode(), msg, size, sender, b" bouncing" if failed else b"")
    lines = [head.translate(_QREAD) + b"\n"]
    for name, content in channels:
        if isinstance(content, OSError):
            lines.append(qread_trouble(msg, content))
        elif content is not None:
            lines += [_qread_recipient(name, record) for record in content.split(b"\0")[:-1]]
    return b"".join(lines)


def qread_trouble(msg: int, error: OSError) -> bytes:
    """Return what qmail-qread prints of a message of which a file cannot be read.

    On a busy queue that is common: the message ended while it was read.
    """
    return b"warning: trouble with #%d: %b\n" % (msg, qmail_error(error))


def qmail_error(error: OSError) -> bytes:
    """Return the words of qmail's error_str.c for an error; the system's for what is not among the common ones."""
    return (_QMAIL_ERRORS.get(error.errno) or (error.strerror or "unknown error").lower()).encode(
        "ascii", "replace"
    )


def _qread_recipient(channel: str, record: bytes) -> bytes:
    if record[:1] not in (b"T", b"D"):
        return b""
    done = b"  done" if record[:1] == b"D" else b""
    return b"%b\t%b\t%b\n" % (done, channel.encode(), record[1:].translate(_QREAD))
