"""A message as it is listed: its envelope, and what the log told of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import Message, Sender, log_safe, parse_channel
from qmail_exporter.listing.forecast import Forecast
from qmail_exporter.listing.history import History, Tried

State = Literal["arriving", "todo", "trying", "deferred", "waiting", "ending", "unknown"]

_WITHOUT_RECIPIENTS = {"mess", "todo", "bounce"}


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a message.

    Attributes:
        channel: None while the message is not preprocessed.
        address: as the queue has it.
        done: delivered, or failed for good.
        attempts: as many as the log tells of; at least that many there were.
        last_attempt: when the last of them began, Unix seconds.
        reason: why the last one was deferred, of `formats.reason`.
        report: how, as the log has it.
        trying: a delivery is under way.
    """

    channel: str | None
    address: bytes
    done: bool = False
    attempts: int = 0
    last_attempt: float | None = None
    reason: str | None = None
    report: bytes | None = None
    trying: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One message; moments are Unix seconds.

    Attributes:
        queue: its queue's name.
        msg: its number.
        arrival: when it was queued: mtime of `mess`.
        birth: when it was queued as far as qmail-send is concerned: mtime of `info`.  None while there is none.
        size: bytes.
        sender: None where that cannot be told.
        kind: mail or one of the kinds of bounces; None where that cannot be told.
        todo: it is not preprocessed.
        failed: it has a `bounce` file: recipients have failed, and the sender will be told.
        expires: an attempt after this moment is the last one; None where that cannot be told.
        next_attempts: by channel with pending recipients; None where that cannot be told.
        recipients: all of them, in the order of the files.
        whole: its files tell all of it: none is malformed, or may be missing here because it cannot be read.
        log_complete: the log goes back to its arrival, so that what it does not tell was not.
    """

    queue: str
    msg: int
    arrival: float
    birth: int | None
    size: int
    sender: bytes | None
    kind: Sender | None
    todo: bool
    failed: bool
    expires: int | None
    next_attempts: Mapping[str, int | None]
    recipients: Sequence[Recipient]
    whole: bool
    log_complete: bool

    @property
    def since(self) -> float:
        """From when its age counts: its birth, or its arrival while it has none."""
        return self.arrival if self.birth is None else self.birth

    @property
    def next_attempt(self) -> int | None:
        """The earliest next attempt; None if there is none, or if any of them is not known."""
        moments = [moment for moment in self.next_attempts.values() if moment is not None]
        return min(moments) if moments and len(moments) == len(self.next_attempts) else None

    @property
    def pending(self) -> list[Recipient]:
        """The recipients that are not done."""
        return [recipient for recipient in self.recipients if not recipient.done]

    @property
    def state(self) -> State:
        """Where the message stands.

        `arriving`: qmail-queue has not finished it.  `todo`: not preprocessed.  `trying`: a delivery is under way.
        `deferred`: the last attempt at a recipient was.  `waiting`: no such attempt is known.  `ending`: no recipient is
        left.  `unknown`: its files cannot be read or are malformed.
        """
        if self.todo:
            return "todo"
        if not self.whole:
            return "unknown"
        if self.birth is None:
            return "arriving"
        if not self.pending:
            return "ending"
        if any(recipient.trying for recipient in self.pending):
            return "trying"
        return "deferred" if any(recipient.reason for recipient in self.pending) else "waiting"


class Entries:
    """Makes the entries of one queue.

    Args:
        queue: its name.
        history: what the log told; None if there is no log.
        lifetime: queuelifetime in seconds; None if it is not known.
        broken: areas of the queue that cannot be read, which may grow.
    """

    def __init__(
        self, queue: str, history: History | None, lifetime: int | None, broken: Mapping[str, object]
    ) -> None:
        self._queue = queue
        self._history = history
        self._lifetime = lifetime
        self._broken = broken
        self.refresh()

    def refresh(self) -> None:
        """Take notice of what the log has told since."""
        history = self._history
        self._log_since, send_since = (history.since, history.queue.send_since) if history else (None, None)
        self._forecast = Forecast(self._log_since, send_since)
        opened = history.open.values() if history else ()
        self._open = {(delivery.msg, delivery.channel, delivery.recipient) for delivery in opened}

    def make(self, msg: int, message: Message, sender: bytes | None, todo: Sequence[bytes]) -> Entry:
        """Return the entry of a message; `todo` are the recipients of one that is not preprocessed."""
        arrival = message.arrival_ns / 1e9
        complete = self._log_since is not None and arrival >= self._log_since
        recipients = [Recipient(None, address) for address in todo]
        due: dict[str, int | None] = {}
        malformed = False
        if message.birth is not None:
            try:
                recipients = self._recipients(msg, message)
                passes = self._history.passes(msg) if self._history else {}
                due = self._forecast.due(msg, message, passes)
            except FormatError:
                malformed = True
        unseen = bool(self._broken.keys() - _WITHOUT_RECIPIENTS) and all(r.done for r in recipients)
        expires = None
        if self._lifetime is not None and message.birth is not None:
            expires = message.birth + self._lifetime
        return Entry(
            queue=self._queue,
            msg=msg,
            arrival=arrival,
            birth=message.birth,
            size=message.size,
            sender=sender,
            kind=message.sender,
            todo=message.todo,
            failed=message.failed,
            expires=expires,
            next_attempts=due,
            recipients=recipients,
            whole=not malformed and not unseen,
            log_complete=complete,
        )

    def _recipients(self, msg: int, message: Message) -> list[Recipient]:
        tried = self._history.tried(msg, message.arrival_ns / 1e9) if self._history else {}
        found = []
        for channel, content, _ in message.channels:
            records = parse_channel(content)
            keys = [(channel, log_safe(address)) for address, _ in records] if tried else []
            same = Counter(keys) if len(records) > 1 else None  # addresses that the log cannot tell apart
            for place, (address, done) in enumerate(records):
                told = tried.get(keys[place]) if keys and not done else None
                if told is None:
                    found.append(Recipient(channel, address, done))
                else:
                    found.append(self._told(msg, address, told, same[keys[place]] if same else 1))
        return found

    def _told(self, msg: int, address: bytes, tried: Tried, alike: int) -> Recipient:
        outcome = tried.outcome
        return Recipient(
            tried.channel,
            address,
            attempts=-(-tried.starts // alike),
            last_attempt=tried.began,
            reason=outcome.reason if outcome else None,
            report=outcome.report if outcome else None,
            trying=(msg, tried.channel, tried.recipient) in self._open,
        )
