"""Every sum over the messages that a scrape shows, kept as rows come and go."""

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from operator import not_

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import Sender
from qmail_exporter.queue.domains import Domains
from qmail_exporter.queue.recipients import Recipients
from qmail_exporter.queue.table import (
    DONE,
    FAILED,
    NEVER,
    NO_CHANNEL,
    NOT_DEFERRED,
    TODO,
    UNKNOWN_SENDER,
    Columns,
    Row,
)
from qmail_exporter.queue.times import Timeline

LOCAL = "local"
SECOND = 10**9  # ns
_BOUNCES = (Sender.BOUNCE.value, Sender.DOUBLE.value)


class Sums:
    """The sums over one queue; `seats` domains get series of their own.

    Where a message changes, what it has become is added before what it was is taken away: a domain's number stays
    valid throughout.
    """

    def __init__(self, seats: int) -> None:
        self.todo = 0
        self.bytes = 0
        self.failed = 0
        self.senders = [0] * len(Sender)
        self.births = Timeline(), Timeline()  # of mail, of bounces: info mtimes
        self.arrivals = Timeline()  # mess mtimes of what is queued
        self.unqueued = Timeline()  # mess mtimes of what has neither todo nor info
        self.channels: list[str] = []
        self.numbers: dict[str, int] = {}  # of the channels
        self.pending: list[int] = []  # by channel number, as the next two
        self.done: list[int] = []
        self.due: list[Timeline] = []
        self.domains = Domains(seats)

    def channel(self, name: str) -> int:
        """The number of the channel `name`; channels are few, and never forgotten.

        Raises:
            FormatError: there are more than a number can tell.
        """
        number = self.numbers.get(name)
        if number is not None:
            return number
        if len(self.channels) == NO_CHANNEL:
            raise FormatError("too many channels")
        number = self.numbers[name] = len(self.channels)
        self.channels.append(name)
        self.pending.append(0)
        self.done.append(0)
        self.due.append(Timeline())
        return number

    def add(self, row: Row) -> None:
        """A message has become `row`."""
        arrival_ns, size, birth, _, _, _, due, place, flags, sender, channel, reason = row
        self.bytes += size
        if flags & TODO:
            self.todo += 1
        if flags & FAILED:
            self.failed += 1
        if sender != UNKNOWN_SENDER:
            self.senders[sender] += 1
        if birth != NEVER:
            self.births[sender in _BOUNCES].add(birth)
        (self.arrivals if birth != NEVER or flags & TODO else self.unqueued).add(arrival_ns // SECOND)
        if channel == NO_CHANNEL:
            return
        if flags & DONE:
            self.done[channel] += 1
            return
        self.pending[channel] += 1
        if due != NEVER:
            self.due[channel].add(due)
        if self.channels[channel] != LOCAL:
            self.domains.wait(place, 1)
            if reason != NOT_DEFERRED:
                self.domains.defer(place, ((reason, 1),), birth)

    def add_all(self, columns: Columns, channels: Sequence[int], domains: Sequence[int]) -> None:
        """Messages of which nothing was held have become these rows.

        Args:
            columns: all have a birth, a sender and one recipient, and none was deferred or has failed.
            channels: the number here of each channel in them.
            domains: the number here of each domain in them; the first stands for none.
        """
        self.bytes += sum(columns.sizes)
        self.arrivals.add_all([arrival_ns // SECOND for arrival_ns in columns.arrivals_ns])
        for flags, sender, channel, count in columns.kinds():
            self.senders[sender] += count
            (self.done if flags & DONE else self.pending)[channels[channel]] += count
        if columns.senders.count(Sender.MAIL) == len(columns.senders):
            self.births[False].add_all(columns.births)
        else:
            bounces = [sender in _BOUNCES for sender in columns.senders]
            self.births[False].add_all(list(compress(columns.births, map(not_, bounces))))
            self.births[True].add_all(list(compress(columns.births, bounces)))
        for domain, count in Counter(columns.domains).items():
            if domain:
                self.domains.wait(domains[domain], count)
        if columns.dues.count(NEVER) < len(columns.dues):
            for channel, flags, due in zip(columns.channels, columns.flags, columns.dues, strict=True):
                if due != NEVER and not flags & DONE:
                    self.due[channels[channel]].add(due)

    def remove(self, row: Row) -> None:
        """A message is no longer `row`."""
        arrival_ns, size, birth, _, _, _, due, place, flags, sender, channel, reason = row
        self.bytes -= size
        if flags & TODO:
            self.todo -= 1
        if flags & FAILED:
            self.failed -= 1
        if sender != UNKNOWN_SENDER:
            self.senders[sender] -= 1
        if birth != NEVER:
            self.births[sender in _BOUNCES].remove(birth)
        (self.arrivals if birth != NEVER or flags & TODO else self.unqueued).remove(arrival_ns // SECOND)
        if channel == NO_CHANNEL:
            return
        if flags & DONE:
            self.done[channel] -= 1
            return
        self.pending[channel] -= 1
        if due != NEVER:
            self.due[channel].remove(due)
        if self.channels[channel] != LOCAL:
            if reason != NOT_DEFERRED:
                self.domains.undefer(place, ((reason, 1),), birth)
            self.domains.wait(place, -1)

    def reschedule(self, channel: int, before: int, after: int) -> None:
        """A pending recipient's, or message's, next attempt in that channel has moved; NEVER stands for none."""
        if before == after:
            return
        due = self.due[channel]
        if before != NEVER:
            due.remove(before)
        if after != NEVER:
            due.add(after)

    def defer(self, row: Row, reason: int) -> None:
        """The one recipient of `row` is deferred for that reason, or is not: NOT_DEFERRED."""
        if reason != NOT_DEFERRED and self.channels[row.channel] != LOCAL:
            self.domains.defer(row.domain, ((reason, 1),), row.birth)

    def undefer(self, row: Row, reason: int) -> None:
        """Take back a `defer`."""
        if reason != NOT_DEFERRED and self.channels[row.channel] != LOCAL:
            self.domains.undefer(row.domain, ((reason, 1),), row.birth)

    def add_several(self, several: Recipients) -> None:
        """A message has got these recipients."""
        self._count_several(several, +1)
        for number, channel in several.channels.items():
            if channel.pending:
                self.reschedule(number, NEVER, channel.due)
            if self.channels[number] != LOCAL:
                for name, count in channel.domains.items():
                    place = self.domains.number(name)
                    self.domains.wait(place, count)
                    several.waiting.append((place, count))
        self.defer_several(several)

    def remove_several(self, several: Recipients) -> None:
        """A message has these recipients no longer."""
        self._count_several(several, -1)
        for number, channel in several.channels.items():
            if channel.pending:
                self.reschedule(number, channel.due, NEVER)
        self.undefer_several(several)
        for place, count in several.waiting:
            self.domains.wait(place, -count)

    def defer_several(self, several: Recipients) -> None:
        """Count those of the recipients that are deferred."""
        for number, channel in several.channels.items():
            if self.channels[number] == LOCAL:
                continue
            for name, reasons in channel.deferred().items():
                entry = self.domains.number(name), list(reasons.items())
                self.domains.defer(*entry, several.birth)
                several.deferred.append(entry)

    def undefer_several(self, several: Recipients) -> None:
        """Take back a `defer_several`."""
        for place, reasons in several.deferred:
            self.domains.undefer(place, reasons, several.birth)
        several.deferred = []

    def _count_several(self, several: Recipients, sign: int) -> None:
        for number, channel in several.channels.items():
            self.pending[number] += sign * channel.pending
            self.done[number] += sign * channel.done
