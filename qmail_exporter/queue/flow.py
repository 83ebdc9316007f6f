"""What qmail-send's log tells: records in; open deliveries, counters and, through the model, deferrals out.

Delivery numbers start again at 1 with every qmail-send.  A start shows as a status line of all zeros that follows no
delivery; after it nothing is open.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from qmail_exporter.formats.envelope import domain
from qmail_exporter.formats.log import (
    Bounce,
    Complaint,
    Delivery,
    Discard,
    End,
    Exiting,
    Info,
    New,
    Record,
    Starting,
    Status,
    Use,
)
from qmail_exporter.formats.reason import reason
from qmail_exporter.queue.model import Queue
from qmail_exporter.queue.sums import LOCAL
from qmail_exporter.queue.traffic import Traffic

MAX_OPEN = 8192
"""Open deliveries kept: more than any qmail-send can have, so that only a log with missing ends gets there."""
MAX_BORN = 65536
"""Messages whose arrival is remembered until the log tells their end; the oldest are given up first."""

_reason = lru_cache(maxsize=4096)(reason)
_domain = lru_cache(maxsize=4096)(domain)


class Open(NamedTuple):
    """A delivery in progress."""

    msg: int
    channel: str
    recipient: bytes
    time: float


class Deferral(NamedTuple):
    """A deferral of a message that the model did not hold when the log told of it."""

    msg: int
    channel: str
    recipient: bytes
    reason: str
    time: float


class Flow:
    """The log of one queue.

    Attributes:
        traffic: every counter.
        open: the deliveries in progress by number; among them, after a restart that the log does not show, some that
            have ended.
        use: the last status line's used and allowed deliveries by channel; empty until one was read.
        unplaced: deferrals that wait for a look at their message; the reader takes them out.
        last: when the newest line that says so was written, Unix seconds; None until one was read.
    """

    def __init__(self, queue: Queue, *, seats: int = 100) -> None:
        self.queue = queue
        self.traffic = Traffic(seats)
        self.open: dict[int, Open] = {}
        self.use: tuple[Use, ...] = ()
        self.unplaced: list[Deferral] = []
        self.last: float | None = None
        self._seats = seats
        self._status_follows = True  # so that the first line read, wherever the log begins, is no start
        self._bounces: dict[int, None] = {}  # qp of bounces that are not preprocessed yet
        self._born: dict[int, float] = {}

    def observe(self, record: Record) -> None:
        """Take in the log's next record."""
        kind = type(record)
        self.traffic.lines[kind.__name__.lower()] += 1
        _HANDLERS[kind](self, record)

    @contextmanager
    def recalling(self) -> Iterator[None]:
        """Within this, records are old: they tell of the present state, and are not counted."""
        traffic = self.traffic
        self.traffic = Traffic(self._seats)
        try:
            yield
        finally:
            self.traffic = traffic

    def _new(self, record: New) -> None:
        self.last = record.time
        self.traffic.messages += 1
        _remember(self._born, record.msg, record.time, MAX_BORN)
        self.queue.renew(record.msg)

    def _info(self, record: Info) -> None:
        self.traffic.message_bytes += record.size
        if record.qp in self._bounces and record.sender in _BOUNCE_SENDERS:
            del self._bounces[record.qp]
            self.traffic.bounces[_BOUNCE_SENDERS[record.sender]] += 1

    def _starting(self, record: Starting) -> None:
        time, delivery, msg, channel, recipient, _ = record
        self.last = time
        self._status_follows = True
        self.traffic.started[channel] += 1
        if len(self.open) >= MAX_OPEN:
            self.traffic.forgotten += 1
        _remember(self.open, delivery, Open(msg, channel, recipient, time), MAX_OPEN)
        self.queue.started(msg, channel, recipient, time)

    def _delivery(self, record: Delivery) -> None:
        time, delivery, result, report, _ = record
        self.last = time
        self._status_follows = True
        opened = self.open.pop(delivery, None)
        channel = opened.channel if opened else UNKNOWN
        if result == "mangled":
            result, why = "deferral", "system"
        elif result == "success":
            why = ""
        else:
            why = _reason(report, channel)
        self._count(channel, result, why)
        if opened:
            self._close(opened, result, why, time)

    def _count(self, channel: str, result: str, why: str) -> None:
        traffic = self.traffic
        traffic.results[channel, result] += 1
        if why:
            traffic.problems[channel, result, why] += 1
        if result == "failure":
            traffic.bounced[why] += 1

    def _close(self, opened: Open, result: str, why: str, time: float) -> None:
        msg, channel, recipient, start = opened
        self.traffic.took(channel, result, time - start)
        if channel != LOCAL:
            self.traffic.domains.count(_domain(recipient), result)
        if result == "deferral" and not self.queue.deferred(msg, channel, recipient, why, time):
            self.unplaced.append(Deferral(msg, channel, recipient, why, time))

    def _status(self, record: Status) -> None:
        self.use = record.use
        self.last = record.time
        if not self._status_follows and not record.stopping and not any(use.used for use in record.use):
            self.open.clear()
            self.traffic.restarts += 1
            self.queue.send_since = record.time
        self._status_follows = False

    def _exiting(self, record: Exiting) -> None:
        self.last = record.time
        self.open.clear()
        self.use = tuple(use._replace(used=0) for use in self.use)

    def _bounce(self, record: Bounce) -> None:
        _remember(self._bounces, record.qp, None, MAX_OPEN)

    def _discard(self, record: Discard) -> None:
        self.traffic.bounces[record.kind] += 1

    def _end(self, record: End) -> None:
        self.last = record.time
        self.traffic.messages_ended += 1
        born = self._born.pop(record.msg, None) or self.queue.arrival(record.msg)
        if born is not None:
            self.traffic.queue_time.observe(record.time - born)

    def _complaint(self, record: Complaint) -> None:
        self.traffic.complaints[record.severity, record.kind] += 1


UNKNOWN = "unknown"
"""The channel of a delivery of which the log tells the end only."""
_BOUNCE_SENDERS = {b"": "single", b"#@[]": "double"}
_HANDLERS: dict[type, Callable[[Flow, Any], None]] = {
    New: Flow._new,
    Info: Flow._info,
    Starting: Flow._starting,
    Delivery: Flow._delivery,
    Status: Flow._status,
    Exiting: Flow._exiting,
    Bounce: Flow._bounce,
    Discard: Flow._discard,
    End: Flow._end,
    Complaint: Flow._complaint,
}

_K = TypeVar("_K")
_V = TypeVar("_V")


def _remember(memory: dict[_K, _V], key: _K, value: _V, most: int) -> None:
    """Put `key` last in `memory`, and drop the first when there are more than `most`."""
    memory.pop(key, None)
    if len(memory) >= most:
        del memory[next(iter(memory))]
    memory[key] = value
