"""What qmail-send's log tells: records in; open deliveries, counters and, through the model, deferrals out.

Delivery numbers start again at 1 with every qmail-send.  A start shows as a status line of all zeros that follows no
delivery; after it nothing is open.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, get_args

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
    Remark,
    Starting,
    Status,
    Use,
)
from qmail_exporter.formats.reason import reason
from qmail_exporter.queue.domains import domain_of
from qmail_exporter.queue.model import Queue
from qmail_exporter.queue.recent import Recent
from qmail_exporter.queue.sums import LOCAL
from qmail_exporter.queue.traffic import Traffic
from qmail_exporter.queue.words import LastWords

MAX_OPEN = 8192
"""Open deliveries kept: more than any qmail-send can have, so that only a log with missing ends gets there."""
MAX_BORN = 65536
"""Messages whose arrival is remembered until the log tells their end; the oldest are given up first."""
MAX_UNPLACED = 65536
"""Deferrals kept for messages that are not held; of more, the first are given up."""
MAX_CHANNELS = 32
"""Channels that are told apart; more there are in no qmail, and a label of every other is `UNKNOWN`."""
UNKNOWN = "unknown"
"""The channel of a delivery of which the log tells the end only."""

_KINDS: dict[type, str] = {kind: kind.__name__.lower() for kind in get_args(Record)}
_BOUNCE_SENDERS = {b"": "single", b"#@[]": "double"}


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
        open: the `starting` lines of the deliveries in progress, by number; among them, after a restart that the log
            does not show, some that have ended.
        use: the last status line's used and allowed deliveries by channel; empty until one was read.
        unplaced: deferrals that wait for a look at their message; the reader takes them out.
        words: what was said last of each domain when a delivery to it, by any channel but `local`, did not succeed; also
            while recalling.
        on_delivery: called with the domain, report, result, reason, time and duration of each delivery that ends, on any
            channel but `local`; also while recalling.
        last: when the newest line that says so was written, Unix seconds; None until one was read.
    """

    def __init__(self, queue: Queue, *, seats: int = 100) -> None:
        self.queue = queue
        self.traffic = Traffic(seats)
        self.open: dict[int, Starting] = {}
        self.use: tuple[Use, ...] = ()
        self.unplaced: list[Deferral] = []
        self.words = LastWords()
        self.on_delivery: Callable[[str, bytes, str, str, float, float], None] | None = None
        self.last: float | None = None
        self._seats = seats
        self._status_follows = True  # so that the first line read, wherever the log begins, is no start
        self._bounces: Recent[None] = Recent(MAX_OPEN)  # qp of bounces that are not preprocessed yet
        self._born: Recent[float] = Recent(MAX_BORN)
        self._labels: dict[str, str] = {}  # of the channels

    def observe(self, records: Sequence[Record]) -> None:
        """Take in the log's next records."""
        handlers = self._handlers
        for record in records:
            handlers[type(record)](self, record)
        if records:
            self.last = records[-1].time
        lines = self.traffic.lines
        for kind, count in Counter(map(type, records)).items():
            lines[_KINDS[kind]] += count

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
        time, msg, _ = record
        self.traffic.messages += 1
        self._born.put(msg, time)
        self.queue.renew(msg)

    def _info(self, record: Info) -> None:
        _, _, size, sender, qp, _ = record
        self.traffic.message_bytes += size
        if sender in _BOUNCE_SENDERS and qp in self._bounces:
            del self._bounces[qp]
            self.traffic.bounces[_BOUNCE_SENDERS[sender]] += 1

    def _starting(self, record: Starting) -> None:
        time, delivery, msg, channel, recipient, _ = record
        self._status_follows = True
        traffic, opened = self.traffic, self.open
        traffic.started[self._labels.get(channel) or self._label(channel)] += 1
        if delivery in opened:
            del opened[delivery]  # the numbers have started again
        elif len(opened) >= MAX_OPEN:
            del opened[next(iter(opened))]
            traffic.forgotten += 1
        opened[delivery] = record
        self.queue.started(msg, channel, recipient, time)

    def _label(self, channel: str) -> str:
        """What the counters call a channel that has come for the first time."""
        if len(self._labels) >= MAX_CHANNELS:
            return UNKNOWN
        self._labels[channel] = channel
        return channel

    def _delivery(self, record: Delivery) -> None:
        time, delivery, result, report, _ = record
        self._status_follows = True
        opened = self.open.pop(delivery, None)
        channel = opened.channel if opened else UNKNOWN
        label = self._labels.get(channel, UNKNOWN)
        traffic = self.traffic
        if result == "success":
            why = ""
        else:
            if result == "mangled":
                result, why = "deferral", "system"
            else:
                why = reason(report, channel)
            traffic.problems[label, result, why] += 1
            if result == "failure":
                traffic.bounced[why] += 1
        key = label, result
        traffic.results[key] += 1
        if opened is None:
            return
        start, _, msg, _, recipient, _ = opened
        traffic.durations[key].observe(time - start)
        if channel != LOCAL:
            name = domain_of(recipient)
            traffic.domains.count(name, result)
            if why:
                self.words.put(name, time, recipient, report)
            if self.on_delivery is not None:
                self.on_delivery(name, report, result, why, time, time - start)
        if result == "deferral" and not self.queue.deferred(msg, channel, recipient, why, time):
            if len(self.unplaced) >= MAX_UNPLACED:
                del self.unplaced[: MAX_UNPLACED // 2]
            self.unplaced.append(Deferral(msg, channel, recipient, why, time))

    def _status(self, record: Status) -> None:
        time, self.use, stopping, _, idle, delayed = record
        if idle:
            self.open.clear()
            # indimail's also writes one when it puts a job off, which it then counts as delayed.
            if not (self._status_follows or stopping or delayed):
                self.traffic.restarts += 1
                self.queue.send_since = time
        self._status_follows = False

    def _exiting(self, _: Exiting) -> None:
        self._status_follows = False
        self.open.clear()
        self.use = tuple(use._replace(used=0) for use in self.use)

    def _bounce(self, record: Bounce) -> None:
        self._bounces.put(record.qp, None)

    def _discard(self, record: Discard) -> None:
        self.traffic.bounces[record.kind] += 1

    def _end(self, record: End) -> None:
        time, msg, _ = record
        self.traffic.messages_ended += 1
        born = self._born.pop(msg, None)
        if born is None:
            born = self.queue.arrival(msg, time)
        if born is not None:
            self.traffic.queue_time.observe(time - born)

    def _complaint(self, record: Complaint) -> None:
        self.traffic.complaints[record.severity, record.kind] += 1

    def _remark(self, _: Remark) -> None:
        pass

    _handlers: ClassVar[dict[type, Callable[["Flow", Any], None]]] = {
        New: _new,
        Info: _info,
        Starting: _starting,
        Delivery: _delivery,
        Status: _status,
        Exiting: _exiting,
        Bounce: _bounce,
        Discard: _discard,
        End: _end,
        Complaint: _complaint,
        Remark: _remark,
    }
