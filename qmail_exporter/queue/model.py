"""The model of one queue: every message, and through `Sums` every sum over them.

`apply` replaces what is held of one message by what a look at its files found; `started`, `deferred` and `renew` add
what the log told of it.  `settle`, before the sums are read, makes up those that were put off because one large message
changed many times.

The files say who is pending; the log says when the last attempt was and how it ended.  A pending recipient is deferred
when a deferral of it is known: success and failure need no entry, as the files then say that it is done.
"""

from array import array
from collections.abc import Iterator
from math import inf

from qmail_exporter.formats.envelope import ChannelFile, Message
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.formats.retry import next_attempt, skip_for
from qmail_exporter.queue.domains import domain_of
from qmail_exporter.queue.look import only_recipient, row_without_recipient, valid_files
from qmail_exporter.queue.recent import Recent
from qmail_exporter.queue.recipients import Channel, Recipients
from qmail_exporter.queue.share import Packed, Share
from qmail_exporter.queue.sums import LOCAL, SECOND, Sums
from qmail_exporter.queue.table import (
    BUCKETS,
    DONE,
    FAILED,
    NEVER,
    NO_CHANNEL,
    NOT_DEFERRED,
    SEVERAL,
    UNKNOWN_SENDER,
    Columns,
    Place,
    Row,
    Table,
    is_told,
    put_reason,
    put_times,
    unpack,
    unpack_schedule,
)

MAX_DEPARTED = 16384
_new = tuple.__new__
_REASON_NUMBERS = {reason: number for number, reason in enumerate(REASONS)}


class Queue:
    """One queue.  `seats` domains get series of their own."""

    def __init__(self, *, seats: int = 100) -> None:
        self.sums = Sums(seats)
        self.log_since: float | None = None  # from then on, the log's deliveries are known
        self.send_since: float | None = None  # the last start of qmail-send that the log tells of
        self._started = False  # `send_since` was known
        self._earliest = 1 << 62  # that `log_since` ever was
        self._table = Table()
        self._several: dict[int, Recipients] = {}
        self._unsettled: set[int] = set()
        self._departed: Recent[int] = Recent(MAX_DEPARTED)  # arrivals, for ends that the log has not told yet

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[int]:
        return iter(self._table)

    def __contains__(self, msg: int) -> bool:
        return msg in self._table

    def parts(self) -> Iterator[list[int]]:
        """The numbers of the messages held, in parts, each as of the moment when it is asked for."""
        return map(self._table.bucket, range(BUCKETS))

    def apply(self, msg: int, message: Message | None) -> bool:
        """Replace what is held of message `msg` by what a look found: None where there is no such message.

        Returns whether anything differs.  Channels' files count only where there is a birth, as they are valid only then.

        Raises:
            FormatError: a channel's file is not in qmail's format, or a time is absurd; nothing has changed then.
        """
        place = self._table.find(msg)
        if place is None:
            return message is not None and self._take(msg, message, None)
        old = _new(Row, unpack(*place))
        if message is not None:
            return self._take(msg, message, old)
        self.sums.remove(old)
        self._table.drop(msg)
        self._replace_several(msg, None)
        self._departed.put(msg, old.arrival_ns)
        return True

    def _take(self, msg: int, message: Message, old: Row | None) -> bool:
        """Replace the row `old` of a message by what a look found; returns whether anything differs."""
        same = old if old is not None and old.arrival_ns == message.arrival_ns else None
        files, several = valid_files(message), None
        if len(files) == 1 and files[0].content.count(b"\0") == 1:
            row = self._look_single(msg, message, files[0], same)
        elif files:
            several = self._look_several(msg, message, files, same)
            row = row_without_recipient(message, SEVERAL)
        else:
            row = row_without_recipient(message, 0)
        if old is None:
            self._table.insert(msg, row)
            self.sums.add(row)
        elif row == old and (several is None or several.equals(self._several.get(msg))):
            return False
        else:
            self._table.put(msg, row)
            self.sums.add(row)
            self.sums.remove(old)
            if same is None:
                self._departed.put(msg, old.arrival_ns)
        if several is not None or msg in self._several:
            self._replace_several(msg, several)
        return True

    def share(self) -> Share:
        """Return a share that another process may fill, whose rows say what this model's would, as things stand now."""
        known = self.log_since is not None or self.send_since is not None
        return Share(self._due if known else None)

    def absorb(self, packed: Packed) -> None:
        """Take in a share of messages none of which is held; call `sort` when all of them have come.

        Raises:
            FormatError: there are too many channels; nothing has changed then.
        """
        ids, rows, channels, domains = packed
        columns = Columns(rows)
        numbers = [self.sums.channel(name) for name in channels]
        places = [0, *map(self.sums.domains.number, domains)]
        self.sums.add_all(columns, numbers, places)
        columns.renumber(numbers, places)
        self._table.adopt(array("q", ids), columns.rows)

    def sort(self) -> Iterator[None]:
        """Make what was absorbed to be found, in steps; no message may be applied between `absorb` and its end."""
        return self._table.sort()

    def arrival(self, msg: int, at: float = inf) -> float | None:
        """When the message that had the number `msg` at a moment was queued; None where that is not known.

        It may have gone a short while ago, and another message may have got its number.
        """
        row = self._table.get(msg)
        for arrival_ns in (row.arrival_ns if row else None, self._departed.get(msg)):
            if arrival_ns is not None and arrival_ns / SECOND <= at:
                return arrival_ns / SECOND
        return None

    def started(self, msg: int, channel: str, recipient: bytes, time: float) -> None:
        """The log says that a delivery started at `time`; an attempt at the message began then, or goes on."""
        number, attempt = self.sums.numbers.get(channel, -1), int(time)
        if several := self._several.get(msg):
            file = several.channels.get(number)
            if file is None or time * SECOND < several.ages[0]:
                return
            over = self._is_over(file.attempt)
            if over:
                file.begin_anew()
            if over or file.begins_pass(recipient):
                file.attempt = attempt
                self._reschedule_file(several, number, file)
            return
        place = self._table.find(msg)
        if place is None:
            return
        arrival_ns, birth, changed, mtime, before, planned, flags, of = unpack_schedule(*place)
        if of != number or before == attempt or time * SECOND < arrival_ns:
            return
        due = self._due(channel, mtime, attempt, (arrival_ns, birth, changed))
        if not flags & DONE:
            self.sums.reschedule(number, planned, due)
        put_times(place, attempt, due)

    def deferred(self, msg: int, channel: str, recipient: bytes, reason: str, time: float) -> bool:
        """The log says that a delivery was deferred at `time`.

        Returns False where no such message is held: then a look at it, and another call, are due.
        """
        number, reason_number = self.sums.numbers.get(channel, -1), _REASON_NUMBERS[reason]
        if several := self._several.get(msg):
            file = several.channels.get(number)
            if file is not None and time * SECOND >= several.ages[0]:
                file.defer(recipient, reason_number)
                self._unsettled.add(msg)
            return True
        place = self._table.find(msg)
        if place is None:
            return False
        row = _new(Row, unpack(*place))
        told = row.channel == number and time * SECOND >= row.arrival_ns and not row.flags & DONE
        if told and row.reason != reason_number:
            self._change_reason(place, row, reason_number)
        return True

    def renew(self, msg: int) -> None:
        """The log says that qmail-send begins with message `msg`: what it told of that number was of another one."""
        if msg in self._departed:
            del self._departed[msg]
        if several := self._several.get(msg):
            for number, file in several.channels.items():
                file.forget()
                self._reschedule_file(several, number, file)
            self._unsettled.add(msg)
            return
        place = self._table.find(msg)
        if place is None or not is_told(place):
            return
        row = _new(Row, unpack(*place))
        if row.reason != NOT_DEFERRED:
            self._change_reason(place, row, NOT_DEFERRED)
        if row.attempt != NEVER:
            self._reschedule(place, row._replace(attempt=NEVER))

    def settle(self) -> None:
        """Make up the sums of messages with several recipients of which the log told something."""
        for msg in self._unsettled:
            if several := self._several.get(msg):
                self.sums.undefer_several(several)
                self.sums.defer_several(several)
        self._unsettled.clear()

    def reschedule(self) -> Iterator[None]:
        """Work out every next attempt anew, in steps: to be called whenever `log_since` or `send_since` has changed."""
        self._started |= self.send_since is not None
        if self.log_since is not None:
            self._earliest = min(self._earliest, int(self.log_since))
        if not self._started and self.sums.arrivals.count(self._earliest - 1) == self.sums.arrivals.total:
            return  # no message is due, or ever was, because of what these two say
        for number in range(BUCKETS):
            for msg, place in self._table.places(number):
                row = _new(Row, unpack(*place))
                if row.channel != NO_CHANNEL:
                    self._reschedule(place, row)
                elif several := self._several.get(msg):
                    for channel, file in several.channels.items():
                        self._reschedule_file(several, channel, file)
            yield

    # --- from a look to a row

    def _look_single(self, msg: int, message: Message, file: ChannelFile, same: Row | None) -> Row:
        name, content, mtime = file
        done, address = only_recipient(content)
        arrival_ns, size, _, kind, birth, changed, _, failed = message
        assert birth is not None  # noqa: S101 - or the file would not be valid
        number = self.sums.channel(name)
        attempt, reason = NEVER, NOT_DEFERRED
        if same is not None:
            attempt, reason = self._memory(msg, same, number, address)
        due = self._due(name, mtime, attempt, (arrival_ns, birth, changed))
        flags, place = FAILED if failed else 0, 0
        if done:
            flags |= DONE
            reason = NOT_DEFERRED
        elif name != LOCAL:
            place = self.sums.domains.number(domain_of(address))
        sender = UNKNOWN_SENDER if kind is None else kind
        values = arrival_ns, size, birth, changed, mtime, attempt, due, place, flags, sender, number, reason
        return _new(Row, values)

    def _look_several(
        self, msg: int, message: Message, files: tuple[ChannelFile, ...], same: Row | None
    ) -> Recipients:
        before = self._several.get(msg) if same else None
        assert message.birth is not None  # noqa: S101 - or the files would not be valid
        several = Recipients((message.arrival_ns, message.birth, message.info_changed))
        for name, content, mtime in files:
            number = self.sums.channel(name)
            file = Channel(content, mtime, before.channels.get(number) if before else None)
            file.due = self._due(name, mtime, file.attempt, several.ages)
            several.channels[number] = file
        return several

    def _memory(self, msg: int, same: Row, number: int, address: bytes) -> tuple[int, int]:
        """What the log told of the one recipient that is left: the last attempt, and the reason of its deferral."""
        if same.channel == number:
            return same.attempt, same.reason
        if same.flags & SEVERAL:
            return self._several[msg].memory(number, address)
        return NEVER, NOT_DEFERRED

    def _due(self, channel: str, mtime: int, attempt: int, ages: tuple[int, int, int]) -> int:
        """When qmail-send will try next a message with this arrival, birth and change of the `info` file.

        It computes that when an attempt starts, from the birth as it then was: an info file that has changed since has
        been touched, and was born about when the message arrived.  A qmail-send that has started since goes by the
        file's mtime, and so does one that never tried the message.
        """
        arrival_ns, birth, changed = ages
        since = self.send_since
        if attempt != NEVER and (since is None or attempt >= int(since)):
            born = arrival_ns // SECOND if attempt < changed else birth
            return next_attempt(born, attempt, skip_for(channel))
        if since is not None or (self.log_since is not None and arrival_ns >= self.log_since * SECOND):
            return mtime
        return NEVER

    def _is_over(self, attempt: int) -> bool:
        """Whether a new start of qmail-send has ended what began then."""
        return self.send_since is not None and attempt < int(self.send_since)

    # --- changes to what is held

    def _reschedule(self, place: Place, row: Row) -> None:
        channel = self.sums.channels[row.channel]
        due = self._due(channel, row.mtime, row.attempt, (row.arrival_ns, row.birth, row.changed))
        if not row.flags & DONE:
            self.sums.reschedule(row.channel, row.due, due)
        put_times(place, row.attempt, due)

    def _reschedule_file(self, of: Recipients, number: int, file: Channel) -> None:
        channel = self.sums.channels[number]
        due = self._due(channel, file.mtime, file.attempt, of.ages)
        if file.pending:
            self.sums.reschedule(number, file.due, due)
        file.due = due

    def _change_reason(self, place: Place, row: Row, reason: int) -> None:
        self.sums.undefer(row, row.reason)
        put_reason(place, reason)
        self.sums.defer(row, reason)

    def _replace_several(self, msg: int, several: Recipients | None) -> None:
        before = self._several.pop(msg, None)
        if several is not None:
            self._several[msg] = several
            self.sums.add_several(several)
        if before is not None:
            self.sums.remove_several(before)
