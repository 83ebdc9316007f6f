r"""The lines of qmail-send's log, as qmail-log(5) and qmail-send.c give them.

`parse` takes a line's text, after whatever the logger put before it (`prefix.py` takes that off), and the moment it was
written, in Unix seconds.  Recipients, senders and reports are the log's own form: qmail-send has replaced every byte
that is ``%``, below 33 or above 126, so they hold no space, and a line's words are its fields.

indimail-mta (its qmail-send.c, slowq-send.c and todo-proc.c) puts its queue's name at the end of most lines, or between
colons at the beginning; it comes out as `queue`.  Where a line has none, a name behind the delivery's number will do.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from qmail_exporter.formats import FormatError, complaint

KINDS = complaint.KINDS


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
    """``status: local 0/10 remote 3/20``; `stopping` where ``exitasap`` follows, `delayed` indimail's ``delayed jobs=``.

    `idle` where no channel has a delivery in progress.
    """

    time: float
    use: tuple[Use, ...]
    stopping: bool
    queue: bytes
    idle: bool
    delayed: int = 0


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
    """``triple bounce: discarding bounce/1467094``; forks also have ``double`` and ``delete``."""

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


class Remark(NamedTuple):
    """A line of indimail's that tells nothing which is not told elsewhere, such as ``info: …``."""

    time: float
    queue: bytes


Record: TypeAlias = (
    New | Info | Starting | Delivery | Status | Exiting | Bounce | Discard | End | Complaint | Remark
)

_N = rb"([0-9]{1,19})"
_QUEUE = rb"(?: ([^ ]+))?"
_CHANNEL = rb"[a-z][a-z0-9_-]{0,31}"
_SEND = rb"(?:qmail|slowq|qmta)-send"
_MSG = re.compile(rb"new msg " + _N + _QUEUE)
_END = re.compile(rb"end msg " + _N + rb"(?: " + _SEND + rb":)?" + _QUEUE)
_CHANNELS = {b"local": "local", b"remote": "remote"}
_RESULTS = {b"success:": "success", b"failure:": "failure", b"deferral:": "deferral"}
_PLAIN_STARTING = re.compile(rb"starting delivery %b: msg %b to (local|remote) ([^ ]+)" % (_N, _N)).fullmatch
_INFO = re.compile(rb"info msg %b: bytes %b from <([^ ]*)> qp %b uid [0-9]{1,19}" % (_N, _N, _N) + _QUEUE)
_STARTING = re.compile(
    rb"starting delivery "
    + _N
    + rb"(?:\.([^ ]+))?: msg "
    + _N
    + rb" to ("
    + _CHANNEL
    + rb")(?: ([^ ]*))?"
    + _QUEUE
)
_DELIVERY = re.compile(
    rb"delivery "
    + _N
    + rb"(?:\.([^ ]+))?: (?:(success|failure|deferral): ?([^ ]*)|report mangled, will defer:?)"
    + _QUEUE
)
_BOUNCE = re.compile(rb"bounce msg %b qp %b" % (_N, _N) + _QUEUE)
_DISCARD = re.compile(rb"(?:info: [^ ]+: )?(double|triple|delete) bounce: discarding bounce/[^ ]+" + _QUEUE)
_STATUS = re.compile(
    rb"status:((?: " + _CHANNEL + rb" [0-9]{1,9}/[0-9]{1,9}(?: \(held\))?){1,32})"
    rb"(?: delayed jobs=([0-9]{1,9}))?(?: (?!exitasap)([^ ]+))?( exitasap)?"
)
_USE = re.compile(rb" (" + _CHANNEL + rb") ([0-9]+)/([0-9]+)")
_EXITING = re.compile(
    rb"status:(?: [^ ]+ ([^ ]+) " + _SEND + rb")? exiting" + _QUEUE
    + rb"|info: " + _SEND + rb": pid [0-9]+ ([^ ]+) exiting"
)  # fmt: skip
_REMARK = re.compile(
    rb"(?:info|todo): (?:[a-z]+-[a-z]+: )?(?:([^:\s]+): )?.*"
    rb"|(?:local|remote): .* bytes(?: ([^ ]+))?"
    rb"|bounce processor sender .* exit=[0-9]+ ([^ ]+)"
    rb"|status: ([^:\s]+):? qmail-[a-z]+ .*"
)
_COMPLAINT = re.compile(rb"(alert|warning|warn): ((?:[a-z]+-[a-z]+: )?(?:([^:\s]+): )?.*)", re.DOTALL)

# Nearly half of all lines are one of some hundred status lines, so these are remembered; a longer one is none of them.
_STATUSES: dict[bytes, tuple[tuple[Use, ...], bool, bytes, bool, int]] = {}
_MOST, _LONG = 4096, 256
_DIGITS, _COLON = 19, ord(":")
_new = tuple.__new__  # a NamedTuple made of a tuple, at half the price of calling its class


def parse(text: bytes, time: float) -> Record:
    """The record that one line's text is.

    Raises:
        FormatError: it is no line of qmail-send.
    """
    words = _STATUSES.get(text)
    if words is not None:
        return _new(Status, (time, *words))
    parser = _PARSERS.get(text[:4])
    record = parser(text, time) if parser else None
    if record is None:
        raise FormatError("not a line of qmail-send's log")
    return record


# The usual form of most lines has a way of its own, which takes less time than the expression for all that they may be.


def _new_msg(text: bytes, time: float) -> New | None:
    number = text[8:]
    if number.isdigit() and len(number) <= _DIGITS and text.startswith(b"new msg "):
        return _new(New, (time, int(number), b""))
    if not (m := _MSG.fullmatch(text)):
        return None
    return New(time, int(m[1]), m[2] or b"")


def _end(text: bytes, time: float) -> End | None:
    number = text[8:]
    if number.isdigit() and len(number) <= _DIGITS and text.startswith(b"end msg "):
        return _new(End, (time, int(number), b""))
    if not (m := _END.fullmatch(text)):
        return None
    return End(time, int(m[1]), m[2] or b"")


def _info(text: bytes, time: float) -> Info | Discard | Exiting | Remark | None:
    if not (m := _INFO.fullmatch(text)):
        return _discard(text, time) or _exiting(text, time) or _remark(text, time)
    msg, size, sender, qp, queue = m.groups(b"")
    return _new(Info, (time, int(msg), int(size), sender, int(qp), queue))


def _starting(text: bytes, time: float) -> Starting | None:
    if m := _PLAIN_STARTING(text):
        number, msg, channel, recipient = m.groups()
        return _new(Starting, (time, int(number), int(msg), _CHANNELS[channel], recipient, b""))
    if not (m := _STARTING.fullmatch(text)):
        return None
    delivery, ident, msg, channel, recipient, queue = m.groups(b"")
    return Starting(time, int(delivery), int(msg), channel.decode(), recipient, queue or ident)


def _delivery(text: bytes, time: float) -> Delivery | None:
    try:
        word, delivery, name, report = text.split(b" ")
        result = _RESULTS[name]
    except (ValueError, KeyError):
        return _odd_delivery(text, time)
    number = delivery[:-1]
    if number.isdigit() and len(number) <= _DIGITS and delivery[-1] == _COLON and word == b"delivery":
        return _new(Delivery, (time, int(number), result, report, b""))
    return _odd_delivery(text, time)


def _odd_delivery(text: bytes, time: float) -> Delivery | None:
    if not (m := _DELIVERY.fullmatch(text)):
        return None
    delivery, ident, result, report, queue = m.groups(b"")
    return Delivery(time, int(delivery), result.decode() or "mangled", report, queue or ident)


def _bounce(text: bytes, time: float) -> Bounce | Remark | None:
    if not (m := _BOUNCE.fullmatch(text)):
        return _remark(text, time)
    return Bounce(time, int(m[1]), int(m[2]), m[3] or b"")


def _discard(text: bytes, time: float) -> Discard | None:
    if not (m := _DISCARD.fullmatch(text)):
        return None
    return Discard(time, m[1].decode(), m[2] or b"")


def _status(text: bytes, time: float) -> Status | Exiting | Remark | None:
    if not (m := _STATUS.fullmatch(text)):
        return _exiting(text, time) or _remark(text, time)
    uses = [Use(channel.decode(), int(used), int(limit)) for channel, used, limit in _USE.findall(m[1])]
    if len({use.channel for use in uses}) < len(uses):
        return None  # two values of one series would be made of it
    idle = not any(use.used for use in uses)
    words = tuple(uses), bool(m[4]), m[3] or b"", idle, int(m[2] or 0)
    if len(text) < _LONG:
        if len(_STATUSES) >= _MOST:
            _STATUSES.clear()
        _STATUSES[text] = words
    return Status(time, *words)


def _exiting(text: bytes, time: float) -> Exiting | None:
    if not (m := _EXITING.fullmatch(text)):
        return None
    return Exiting(time, m[1] or m[2] or m[3] or b"")


def _remark(text: bytes, time: float) -> Remark | None:
    if not (m := _REMARK.fullmatch(text)):
        return None
    return Remark(time, m[m.lastindex] if m.lastindex else b"")


def _complaint(text: bytes, time: float) -> Complaint | None:
    if not (m := _COMPLAINT.fullmatch(text)):
        return None
    severity = "alert" if m[1] == b"alert" else "warning"
    return Complaint(time, severity, complaint.kind_of(severity, m[2]), m[2], m[3] or b"")


_PARSERS: dict[bytes, Callable[[bytes, float], Record | None]] = {
    b"new ": _new_msg,
    b"info": _info,
    b"star": _starting,
    b"deli": _delivery,
    b"stat": _status,
    b"end ": _end,
    b"boun": _bounce,
    b"doub": _discard,
    b"trip": _discard,
    b"dele": _discard,
    b"aler": _complaint,
    b"warn": _complaint,
    b"loca": _remark,
    b"remo": _remark,
    b"todo": _remark,
}
