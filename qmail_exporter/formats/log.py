r"""The lines of qmail-send's log, as qmail-log(5) and qmail-send.c give them.

`parse` takes a line's text, after whatever the logger put before it (`prefix.py` takes that off), and the moment it was
written, in Unix seconds.  Recipients, senders and reports are the log's own form: qmail-send has replaced every byte
that is ``%``, below 33 or above 126, so they hold no space, and a line's words are its fields.

indimail puts its queue's name at the end of most lines, and after the delivery number; it comes out as `queue`.
"""

import re
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from qmail_exporter.formats import FormatError


class New(NamedTuple):
    """``new msg 1467090``: qmail-send begins to preprocess the message."""

    time: float
    msg: int
    queue: bytes


class Info(NamedTuple):
    """``info msg 1467090: bytes 241 from <a@mail.test> qp 10330 uid 0``."""

    time: float
    msg: int
    size: int
    sender: bytes
    qp: int
    queue: bytes


class Starting(NamedTuple):
    """``starting delivery 3: msg 1467090 to remote y@defer.example``."""

    time: float
    delivery: int
    msg: int
    channel: str
    recipient: bytes
    queue: bytes


class Delivery(NamedTuple):
    """``delivery 3: deferral: …``; `result` is success, failure, deferral or mangled."""

    time: float
    delivery: int
    result: str
    report: bytes
    queue: bytes


class Use(NamedTuple):
    """Deliveries in progress in one channel, and how many there may be."""

    channel: str
    used: int
    limit: int


class Status(NamedTuple):
    """``status: local 0/10 remote 3/20``; `stopping` where ``exitasap`` follows."""

    time: float
    use: tuple[Use, ...]
    stopping: bool
    queue: bytes


class Exiting(NamedTuple):
    """``status: exiting``: the last line of a qmail-send."""

    time: float
    queue: bytes


class Bounce(NamedTuple):
    """``bounce msg 1467094 qp 10340``: a failure notice was queued by the qmail-queue of that process number."""

    time: float
    msg: int
    qp: int
    queue: bytes


class Discard(NamedTuple):
    """``triple bounce: discarding bounce/1467094``; forks also have ``double``."""

    time: float
    kind: str
    queue: bytes


class End(NamedTuple):
    """``end msg 1467094``."""

    time: float
    msg: int
    queue: bytes


class Complaint(NamedTuple):
    """``warning: …`` or ``alert: …``; `kind` is one of `KINDS`."""

    time: float
    severity: str
    kind: str
    text: bytes
    queue: bytes


Record: TypeAlias = (
    New | Info | Starting | Delivery | Status | Exiting | Bounce | Discard | End | Complaint
)

# Addresses may be empty, and the words of a sender stand between < and >.
_NEW = re.compile(rb"new msg ([0-9]{1,19})(?: (\S+))?")
_END = re.compile(rb"end msg ([0-9]{1,19})(?: (\S+))?")
_INFO = re.compile(rb"info msg ([0-9]{1,19}): bytes ([0-9]{1,19}) from <(\S*)> qp ([0-9]{1,19}) uid [0-9]{1,19}(?: (\S+))?")
_STARTING = re.compile(rb"starting delivery ([0-9]{1,19})(?:\.(\S+))?: msg ([0-9]{1,19}) to ([a-z][a-z0-9_-]{0,31}) (\S*)(?: (\S+))?")
_DELIVERY = re.compile(rb"delivery ([0-9]{1,19})(?:\.(\S+))?: (success|failure|deferral): ?(\S*)(?: (\S+))?")
_MANGLED = re.compile(rb"delivery ([0-9]{1,19})(?:\.(\S+))?: report mangled, will defer(?: (\S+))?")
_BOUNCE = re.compile(rb"bounce msg ([0-9]{1,19}) qp ([0-9]{1,19})(?: (\S+))?")
_DISCARD = re.compile(rb"(double|triple) bounce: discarding bounce/\S+(?: (\S+))?")
_STATUS = re.compile(
    rb"status:((?: [a-z][a-z0-9_-]{0,31} [0-9]{1,9}/[0-9]{1,9}){1,32})"
    rb"(?: delayed jobs=[0-9]+)?( exitasap)?(?: \(held\))?(?: (\S+))?"
)
_EXITING = re.compile(rb"status: exiting(?: (\S+))?")

_ALERTS = (
    ("cannot_start", re.compile(rb"cannot start")),
    ("lost_connection", re.compile(rb"lost (?:\S+ )?connection")),
    ("bounce_unwritable", re.compile(rb"unable to append to bounce")),
    ("out_of_memory", re.compile(rb"out of memory")),
    ("controls", re.compile(rb"controls|home directory|switch back to queue")),
    ("queue_unreadable", re.compile(rb"opendir|read directory|queue directory")),
)
_WARNINGS = (
    ("marking", re.compile(rb"trouble marking")),
    ("bounce_injection", re.compile(rb"trouble injecting bounce|unable to start qmail-queue")),
    ("cleanup", re.compile(rb"unable to clean up")),
    ("report_range", re.compile(rb"delivery report out of range")),
    ("unknown_record", re.compile(rb"unknown record type")),
    ("retried_too_soon", re.compile(rb"unable to utime")),
    ("file", re.compile(rb"unable to (?:stat|open|unlink|create|read)|trouble (?:opening|reading|writing)")),
)
KINDS = {
    "alert": (*(kind for kind, _ in _ALERTS), "other"),
    "warning": (*(kind for kind, _ in _WARNINGS), "other"),
}


def parse(text: bytes, time: float) -> Record:
    """The record that one line's text is.

    Raises:
        FormatError: it is no line of qmail-send.
    """
    parser = _PARSERS.get(text[:4])
    record = parser(text, time) if parser else None
    if record is None:
        raise FormatError("not a line of qmail-send's log")
    return record


def _new(text: bytes, time: float) -> New | None:
    if not (m := _NEW.fullmatch(text)):
        return None
    msg, queue = m.groups(b"")
    return New(time, int(msg), queue)


def _end(text: bytes, time: float) -> End | None:
    if not (m := _END.fullmatch(text)):
        return None
    msg, queue = m.groups(b"")
    return End(time, int(msg), queue)


def _info(text: bytes, time: float) -> Info | None:
    if not (m := _INFO.fullmatch(text)):
        return None
    msg, size, sender, qp, queue = m.groups(b"")
    return Info(time, int(msg), int(size), sender, int(qp), queue)


def _starting(text: bytes, time: float) -> Starting | None:
    if not (m := _STARTING.fullmatch(text)):
        return None
    delivery, queue, msg, channel, recipient, name = m.groups(b"")
    return Starting(time, int(delivery), int(msg), channel.decode(), recipient, queue or name)


def _delivery(text: bytes, time: float) -> Delivery | None:
    if not (m := _DELIVERY.fullmatch(text)):
        return _mangled(text, time)
    delivery, queue, result, report, name = m.groups(b"")
    return Delivery(time, int(delivery), result.decode(), report, queue or name)


def _mangled(text: bytes, time: float) -> Delivery | None:
    if not (m := _MANGLED.fullmatch(text)):
        return None
    delivery, queue, name = m.groups(b"")
    return Delivery(time, int(delivery), "mangled", b"", queue or name)


def _bounce(text: bytes, time: float) -> Bounce | None:
    if not (m := _BOUNCE.fullmatch(text)):
        return None
    msg, qp, queue = m.groups(b"")
    return Bounce(time, int(msg), int(qp), queue)


def _discard(text: bytes, time: float) -> Discard | None:
    if not (m := _DISCARD.fullmatch(text)):
        return None
    kind, queue = m.groups(b"")
    return Discard(time, kind.decode(), queue)


def _status(text: bytes, time: float) -> Status | Exiting | None:
    known = _status_words(text)
    if known is not None:
        return Status(time, *known)
    if m := _EXITING.fullmatch(text):
        return Exiting(time, m[1] or b"")
    return None


@lru_cache(maxsize=4096)  # nearly half of all lines are one of a few dozen status lines
def _status_words(text: bytes) -> tuple[tuple[Use, ...], bool, bytes] | None:
    if not (m := _STATUS.fullmatch(text)):
        return None
    words = m[1].split()
    use = tuple(
        Use(channel.decode(), *map(int, counts.split(b"/")))
        for channel, counts in zip(words[::2], words[1::2], strict=True)
    )
    return use, bool(m[2]), m[3] or b""


def _complaint(text: bytes, time: float) -> Complaint | None:
    severity, colon, rest = text.partition(b": ")
    name = severity.decode("ascii", "replace")
    if not colon or name not in KINDS:
        return None
    table = _ALERTS if name == "alert" else _WARNINGS
    kind = next((kind for kind, pattern in table if pattern.search(rest)), "other")
    return Complaint(time, name, kind, rest, b"")


_PARSERS = {
    b"new ": _new,
    b"info": _info,
    b"star": _starting,
    b"deli": _delivery,
    b"stat": _status,
    b"end ": _end,
    b"boun": _bounce,
    b"doub": _discard,
    b"trip": _discard,
    b"aler": _complaint,
    b"warn": _complaint,
}
