"""The model of one queue: every message, and through `Sums` every sum over them.

`apply` replaces what is held of one message by what a look at its files found; `started`, `deferred` and `renew` add
what the log told of it.  `settle`, before the sums are read, makes up those that were put off because one large message
changed many times.

The files say who is pending; the log says when the last attempt was and how it ended.  A pending recipient is deferred
when a deferral of it is known: success and failure need no entry, as the files then say that it is done.
"""

from collections.abc import Iterator

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import ChannelFile, Message, domain, log_safe
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.formats.retry import next_attempt, skip_for
from qmail_exporter.queue.recipients import Channel, Recipients
from qmail_exporter.queue.sums import LOCAL, SECOND, Sums
from qmail_exporter.queue.table import (
    BUCKETS,
    DONE,
    FAILED,
    NEVER,
    NO_CHANNEL,
    NOT_DEFERRED,
    SEVERAL,
    TODO,
    UNKNOWN_SENDER,
    Row,
    Table,
)

MAX_DEPARTED = 16384
_REASON_NUMBERS = {reason: number for number, reason in enumerate(REASONS)}


class Queue:
    """One queue.  `seats` domains get series of their own."""

    def __init__(self, *, seats: int = 100) -> None:
        self.sums = Sums(seats)
        self.log_since: float | None = None  # from then on, the log's deliveries are known
        self.send_since: float | None = None  # the last start of qmail-send that the log tells of
        self._table = Table()
        self._several: dict[int, Recipients] = {}
        self._unsettled: set[int] = set()
        self._departed: dict[int, int] = {}  # arrivals of messages whose end the log may not have told yet

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

        Returns whether anything differs.

        Raises:
            FormatError: a channel's file is not in qmail's format; nothing has changed then.
        """
        old = self._table.get(msg)
        if message is None:
            if old is None:
                return False
            self.sums.remove(old)
            self._table.drop(msg)
            self._replace_several(msg, None)
            if len(self._departed) >= MAX_DEPARTED:
                del self._departed[next(iter(self._departed))]
            self._departed[msg] = old.arrival_ns
            return True
        same = old if old is not None and old.arrival_ns == message.arrival_ns else None
        files = [file for file in message.channels if file.content]
        several = self._look_several(msg, message, files, same)
        row = self._look_row(msg, message, files, same, several)
        if row == old and _shape(several) == _shape(self._several.get(msg)):
            return False
        self._table.put(msg, row)
        self.sums.add(row)
        if old is not None:
            self.sums.remove(old)
        self._replace_several(msg, several)
        return True

    def arrival(self, msg: int) -> float | None:
        """When message `msg` was queued, which may have gone a short while ago; None where that is not known."""
        row = self._table.get(msg)
        arrival_ns = row.arrival_ns if row else self._departed.get(msg)
        return None if arrival_ns is None else arrival_ns / SECOND

    def started(self, msg: int, channel: str, recipient: bytes, time: float) -> None:
        """The log says that a delivery started at `time`; an attempt at the message began then, or goes on."""
        row = self._table.get(msg)
        if row is None or time * SECOND < row.arrival_ns:
            return
        number, attempt = self.sums.channel(channel), int(time)
        if row.flags & SEVERAL:
            if file := self._several[msg].channels.get(number):
                self._started_several(row, number, file, recipient, attempt)
        elif row.channel == number and row.attempt != attempt:
            due = next_attempt(row.birth, attempt, skip_for(channel))
            if not row.flags & DONE:
                self.sums.reschedule(number, row.due, due)
            self._table.put(msg, row._replace(attempt=attempt, due=due))

    def deferred(self, msg: int, channel: str, recipient: bytes, reason: str, time: float) -> bool:
        """The log says that a delivery was deferred at `time`.

        Returns False where no such message is held: then a look at it, and another call, are due.
        """
        row = self._table.get(msg)
        if row is None:
            return False
        if time * SECOND < row.arrival_ns:
            return True
        number, reason_number = self.sums.channel(channel), _REASON_NUMBERS[reason]
        if row.flags & SEVERAL:
            if file := self._several[msg].channels.get(number):
                file.outcomes[recipient] = reason_number
                self._unsettled.add(msg)
        elif row.channel == number and not row.flags & DONE and row.reason != reason_number:
            self._change_reason(msg, row, reason_number)
        return True

    def renew(self, msg: int) -> None:
        """The log says that qmail-send begins with message `msg`: what it told of that number was of another one."""
        row = self._table.get(msg)
        if row is None:
            return
        if row.flags & SEVERAL:
            several = self._several[msg]
            for file in several.channels.values():
                file.attempt, file.outcomes = NEVER, {}
            self._reschedule_several(row, several)
            self._unsettled.add(msg)
        elif row.channel != NO_CHANNEL:
            if row.reason != NOT_DEFERRED:
                row = self._change_reason(msg, row, NOT_DEFERRED)
            self._reschedule(msg, row._replace(attempt=NEVER))

    def settle(self) -> None:
        """Make up the sums of messages with several recipients of which the log told something."""
        for msg in self._unsettled:
            if several := self._several.get(msg):
                self.sums.undefer_several(several)
                self.sums.defer_several(several)
        self._unsettled.clear()

    def reschedule(self) -> Iterator[None]:
        """Work out every next attempt anew, in steps: `log_since` or `send_since` has changed."""
        for part in self.parts():
            for msg in part:
                row = self._table.get(msg)
                if row is None:
                    continue
                if row.flags & SEVERAL:
                    self._reschedule_several(row, self._several[msg])
                elif row.channel != NO_CHANNEL:
                    self._reschedule(msg, row)
            yield

    # --- from a look to a row

    def _look_several(
        self, msg: int, message: Message, files: list[ChannelFile], same: Row | None
    ) -> Recipients | None:
        if len(files) < 2 and sum(file.content.count(b"\0") for file in files) < 2:
            return None
        before = self._several.get(msg) if same else None
        channels = {}
        for file in files:
            number = self.sums.channel(file.channel)
            channel = Channel(file.content, file.mtime, before.channels.get(number) if before else None)
            channel.due = self._due(number, file.mtime, channel.attempt, message)
            channels[number] = channel
        return Recipients(channels, _or_never(message.birth))

    def _look_row(
        self, msg: int, message: Message, files: list[ChannelFile], same: Row | None, several: Recipients | None
    ) -> Row:
        flags = (TODO if message.todo else 0) | (FAILED if message.failed else 0)
        number, mtime, attempt, due, place, reason = NO_CHANNEL, NEVER, NEVER, NEVER, 0, NOT_DEFERRED
        if several is not None:
            flags |= SEVERAL
        elif files:
            (file,) = files
            address = _only_recipient(file)
            number, mtime = self.sums.channel(file.channel), file.mtime
            attempt, reason = self._memory(msg, same, number, address)
            due = self._due(number, mtime, attempt, message)
            if file.content[0] == ord("D"):
                flags |= DONE
                reason = NOT_DEFERRED
            elif file.channel != LOCAL:
                place = self.sums.domains.number(domain(address))
        birth, changed = _or_never(message.birth), message.info_changed
        sender = UNKNOWN_SENDER if message.sender is None else message.sender.value
        return Row(
            message.arrival_ns, message.size, birth, changed, mtime, attempt, due, place, flags, sender, number, reason
        )  # fmt: skip

    def _memory(self, msg: int, same: Row | None, number: int, address: bytes) -> tuple[int, int]:
        """What the log told of the one recipient that is left: the last attempt, and the reason of its deferral."""
        if same is None:
            return NEVER, NOT_DEFERRED
        if not same.flags & SEVERAL:
            return (same.attempt, same.reason) if same.channel == number else (NEVER, NOT_DEFERRED)
        file = self._several[msg].channels.get(number)
        if file is None:
            return NEVER, NOT_DEFERRED
        return file.attempt, file.outcomes.get(log_safe(address), NOT_DEFERRED)

    def _due(self, channel: int, mtime: int, attempt: int, of: Row | Message) -> int:
        """When qmail-send will try next.

        It computes that when an attempt starts, from the birth as it then was: an info file that has changed since has
        been touched, and was born about when the message arrived.  A qmail-send that has started since goes by the
        file's mtime, and so does one that never tried the message.
        """
        send_since, arrival = self.send_since, of.arrival_ns / SECOND
        if attempt != NEVER and (send_since is None or attempt >= int(send_since)):
            changed = of.changed if isinstance(of, Row) else of.info_changed
            birth = int(arrival) if attempt < changed else _or_never(of.birth)
            return next_attempt(birth, attempt, skip_for(self.sums.channels[channel]))
        if send_since is not None or (self.log_since is not None and arrival >= self.log_since):
            return mtime
        return NEVER

    # --- changes to what is held

    def _started_several(self, row: Row, number: int, file: Channel, recipient: bytes, attempt: int) -> None:
        """A pass over a file takes its recipients in turn; one that was deferred before begins another pass."""
        if file.attempt == NEVER or attempt >= file.due or recipient in file.outcomes:
            due = next_attempt(row.birth, attempt, skip_for(self.sums.channels[number]))
            if file.pending:
                self.sums.reschedule(number, file.due, due)
            file.attempt, file.due = attempt, due

    def _reschedule(self, msg: int, row: Row) -> None:
        due = self._due(row.channel, row.mtime, row.attempt, row)
        if not row.flags & DONE:
            self.sums.reschedule(row.channel, row.due, due)
        self._table.put(msg, row._replace(due=due))

    def _reschedule_several(self, row: Row, several: Recipients) -> None:
        for number, file in several.channels.items():
            due = self._due(number, file.mtime, file.attempt, row)
            if file.pending:
                self.sums.reschedule(number, file.due, due)
            file.due = due

    def _change_reason(self, msg: int, row: Row, reason: int) -> Row:
        self.sums.undefer(row)
        row = row._replace(reason=reason)
        self._table.put(msg, row)
        self.sums.defer(row)
        return row

    def _replace_several(self, msg: int, several: Recipients | None) -> None:
        before = self._several.pop(msg, None)
        if several is not None:
            self._several[msg] = several
            self.sums.add_several(several)
        if before is not None:
            self.sums.remove_several(before)


def _only_recipient(file: ChannelFile) -> bytes:
    content = file.content
    if content[:1] not in (b"T", b"D") or content[-1:] != b"\0":
        raise FormatError("channel: not one record, to do or done")
    return content[1:-1]


def _or_never(moment: int | None) -> int:
    return NEVER if moment is None else moment


def _shape(several: Recipients | None) -> list[tuple[int, bytes, int]] | None:
    if several is None:
        return None
    return sorted((number, file.content, file.due) for number, file in several.channels.items())
