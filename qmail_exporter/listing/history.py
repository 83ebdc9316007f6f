"""What the log told of the messages that it has not told the end of.

The log is read before the queue, and the queue may be large, so this keeps little: of a message, each recipient's number
of attempts, the start of the last one, and how it ended.  A message with one recipient takes some 250 bytes.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from qmail_exporter.formats.log import Delivery, End, New, Record, Starting
from qmail_exporter.queue import Flow, Queue

MAX_OUTCOMES = 65536
"""Different endings that are kept apart; of later ones only the reason is."""
MAX_REPORT = 500
"""Bytes of a report that are kept."""


class Outcome(NamedTuple):
    """How a deferred attempt ended: a reason of `formats.reason`, and the report's beginning as the log has it."""

    reason: str
    report: bytes


class Tried(NamedTuple):
    """The attempts at one recipient.

    Attributes:
        channel: to which the last one belonged.
        recipient: the address as the log has it.
        starts: how many there were.
        began: when the last one began, Unix seconds.
        outcome: of the last one that was deferred; None if none was.
    """

    channel: str
    recipient: bytes
    starts: int
    began: float
    outcome: Outcome | None


class Several:
    """The attempts at a message's recipients, of which the log named more than one.

    Attributes:
        tried: by channel and address; those that are done are dropped.
        passes: by channel, when the last pass over the message began.
    """

    __slots__ = ("passes", "tried")

    def __init__(self, first: Tried) -> None:
        self.tried = {(first.channel, first.recipient): first}
        self.passes = {first.channel: first.began}


Told: TypeAlias = Tried | Several


class History(Flow):
    """A log's `Flow`, of a queue that need not be held, that remembers what it told of each message."""

    def __init__(self) -> None:
        super().__init__(Queue(seats=0), seats=0)
        self._told: dict[int, Told] = {}
        self._outcomes: dict[Outcome, Outcome] = {}

    @property
    def since(self) -> float | None:
        """From when on the log is known, Unix seconds; None while it has not been read."""
        return self.queue.log_since

    def observe(self, records: Sequence[Record]) -> None:
        """Take in the log's next records."""
        for record in records:
            self._observe(record)

    def _observe(self, record: Record) -> None:
        opened = self.open.get(record.delivery) if isinstance(record, Delivery) else None
        super().observe((record,))
        if isinstance(record, Starting):
            self._begin(record)
        elif isinstance(record, Delivery):
            # The queue holds no message, so every deferral is handed out here.
            for deferral in self.unplaced:
                outcome = Outcome(deferral.reason, record.report[:MAX_REPORT])
                self._defer(deferral.msg, (deferral.channel, deferral.recipient), self._one_of_each(outcome))
            self.unplaced.clear()
            if opened and record.result in ("success", "failure"):
                self._finish(opened.msg, (opened.channel, opened.recipient))
        elif isinstance(record, (New, End)):
            self._told.pop(record.msg, None)

    def tried(self, msg: int, arrival: float) -> dict[tuple[str, bytes], Tried]:
        """The attempts at a message that was queued at `arrival`, by channel and address as the log has it."""
        told = self._told.get(msg)
        if told is None:
            return {}
        every = told.tried if isinstance(told, Several) else {(told.channel, told.recipient): told}
        return {key: tried for key, tried in every.items() if tried.began >= arrival}

    def passes(self, msg: int) -> dict[str, float]:
        """When the last attempt at a message began, by channel."""
        told = self._told.get(msg)
        if told is None:
            return {}
        return dict(told.passes) if isinstance(told, Several) else {told.channel: told.began}

    def _begin(self, record: Starting) -> None:
        time, _, msg, channel, recipient, _ = record
        told, key = self._told.get(msg), (channel, recipient)
        if told is None:
            self._told[msg] = Tried(channel, recipient, 1, time, None)
            return
        if isinstance(told, Tried):
            if key == (told.channel, told.recipient):
                self._told[msg] = told._replace(starts=told.starts + 1, began=time)
                return
            told = self._told[msg] = Several(told)
        before = told.tried.get(key)
        if channel not in told.passes or (before and self._begins_pass(record, before, told.passes[channel])):
            told.passes[channel] = time
        starts, outcome = (before.starts, before.outcome) if before else (0, None)
        told.tried[key] = Tried(channel, recipient, starts + 1, time, outcome)

    def _begins_pass(self, record: Starting, before: Tried, begun: float) -> bool:
        """Whether this delivery is the first of a pass, which comes when all deliveries of the last one have ended.

        A pass takes each recipient once, but the same address may stand in the file several times.
        """
        return before.began >= begun and not any(
            opened.msg == record.msg and opened.channel == record.channel and delivery != record.delivery
            for delivery, opened in self.open.items()
        )

    def _defer(self, msg: int, key: tuple[str, bytes], outcome: Outcome) -> None:
        told = self._told.get(msg)
        if isinstance(told, Several):
            if tried := told.tried.get(key):
                told.tried[key] = tried._replace(outcome=outcome)
        elif told is not None and key == (told.channel, told.recipient):
            self._told[msg] = told._replace(outcome=outcome)

    def _finish(self, msg: int, key: tuple[str, bytes]) -> None:
        told = self._told.get(msg)
        if isinstance(told, Several):
            told.tried.pop(key, None)

    def _one_of_each(self, outcome: Outcome) -> Outcome:
        """The same object for equal outcomes: remote hosts say the same few things, but some number them."""
        known = self._outcomes.get(outcome)
        if known is None:
            if len(self._outcomes) >= MAX_OUTCOMES:
                outcome = Outcome(outcome.reason, b"")
                return self._outcomes.setdefault(outcome, outcome)
            known = self._outcomes[outcome] = outcome
        return known
