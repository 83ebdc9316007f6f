"""What the simulated qmail did, counted by itself as it does it.

The ledger is written next to each call and read from no file and no log line, so it can judge what others make of
those. Between any two steps of a program it agrees with the files: whatever a call changed is already noted.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

State = Literal["arriving", "todo", "queued", "ending"]
"""`mess` only; `mess` and `todo`; preprocessed: `info` and no `todo`; `info` gone, `mess` not yet."""


@dataclass(slots=True)
class Channel:
    """The recipients of a message in one channel whose file exists.

    Attributes:
        pending: address of each recipient to do, by the place of its record in the file.
        done: number of recipients done.
        deferred: report of the last attempt, for those pending whose last attempt was deferred.
    """

    pending: dict[int, bytes]
    done: int = 0
    deferred: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Message:
    """One message that has a `mess` file.

    Attributes:
        arrival: when it was queued, Unix seconds; what its `mess` file shows.
        size: bytes in `mess`.
        sender: empty until `todo` is complete.
        birth: what the `info` file shows: Unix seconds, 0 before preprocessing.
        channels: valid in state `queued`; a channel is there while its file is.
        failed: it has a `bounce` file.
    """

    arrival: float
    state: State = "arriving"
    size: int = 0
    sender: bytes = b""
    birth: int = 0
    channels: dict[str, Channel] = field(default_factory=dict)
    failed: bool = False


class Ledger:
    """Counts since the queue was made, and the messages that are in it.

    Attributes:
        messages: every message that has a `mess` file, by number.
        injected: messages queued (their `todo` file was linked); injected_bytes: their sizes.
        preprocessed: `new msg` lines: more than `injected` if qmail-send was killed in the middle.
        preprocessed_bytes: the sizes in `info msg` lines.
        ended: `end msg` lines.
        started: deliveries by channel.
        results: deliveries by channel and result: success, failure, deferral or mangled.
        bounces: by kind: single and double were queued, triple were thrown away.
        expired: failures that were deferrals of a message older than queuelifetime; in `results` as failure.
        starts: times that qmail-send began to work.
    """

    def __init__(self) -> None:
        self.messages: dict[int, Message] = {}
        self.injected = 0
        self.injected_bytes = 0
        self.preprocessed = 0
        self.preprocessed_bytes = 0
        self.ended = 0
        self.started: Counter[str] = Counter()
        self.results: Counter[tuple[str, str]] = Counter()
        self.bounces: Counter[str] = Counter()
        self.expired = 0
        self.starts = 0

    def queued(self) -> dict[int, Message]:
        """Return the messages that have been preprocessed and not yet ended: those that qmail-qread lists."""
        return {number: message for number, message in self.messages.items() if message.state == "queued"}

    def recipients(self) -> dict[tuple[str, str], int]:
        """Return the number of recipients of queued messages by channel and `pending` or `done`."""
        counts: Counter[tuple[str, str]] = Counter()
        for message in self.queued().values():
            for name, channel in message.channels.items():
                counts[name, "pending"] += len(channel.pending)
                counts[name, "done"] += channel.done
        return dict(counts)

    def deferred(self, channel: str = "remote") -> Counter[bytes]:
        """Return, by domain as the address spells it, the recipients pending whose last attempt was deferred."""
        counts: Counter[bytes] = Counter()
        for message in self.queued().values():
            if channel in message.channels:
                recipients = message.channels[channel]
                counts.update(recipients.pending[place].rpartition(b"@")[2] for place in recipients.deferred)
        return counts
