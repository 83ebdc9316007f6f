"""The recipients of messages that have more than one.

A list message may have a hundred thousand of them, marked done one by one.  So what is kept of a channel's file is the
file itself, and what is counted of it is counted anew when somebody looks, not at every mark.
"""

from collections import Counter

from qmail_exporter.formats.envelope import count_channel, log_safe, pending_addresses
from qmail_exporter.queue.domains import domain_of
from qmail_exporter.queue.table import NEVER, NOT_DEFERRED

_PASS = 128  # the bit of an outcome that tells passes over a file apart, the even and the odd


class Channel:
    """One channel's recipients of one message, and what the log told of them."""

    __slots__ = ("attempt", "content", "domains", "done", "due", "mtime", "outcomes", "parity", "pending")

    def __init__(self, content: bytes, mtime: int, before: "Channel | None") -> None:
        self.content = content
        self.mtime = mtime
        self.pending: int
        self.done: int
        self.domains: dict[str, int]
        if before is not None and before.content == content:
            self.pending, self.done, self.domains = before.pending, before.done, before.domains
        else:
            self.pending, self.done, self.domains = count_channel(content)
        self.attempt: int = before.attempt if before else NEVER  # start of the last pass over the file
        self.due = NEVER
        self.parity: int = before.parity if before else 0  # of that pass
        # By a deferred address in the log's form.
        self.outcomes: dict[bytes, int] = before.outcomes if before else {}

    def begins_pass(self, recipient: bytes) -> bool:
        """Whether a delivery to `recipient` that starts now is the first of a pass over the file, which then begins.

        A pass takes the recipients in turn, each once: one that was deferred in a pass comes again in the next only.
        """
        if self.attempt == NEVER:
            self.parity ^= _PASS  # a deferral of which no start was told is of an earlier pass
            return True
        outcome = self.outcomes.get(recipient)
        if outcome is None or outcome & _PASS != self.parity:
            return False
        self.parity ^= _PASS
        return True

    def begin_anew(self) -> None:
        """A new qmail-send begins a pass.  The one that ended with the old may not have come to every recipient."""
        self.outcomes = {
            recipient: outcome & ~_PASS | self.parity for recipient, outcome in self.outcomes.items()
        }
        self.parity ^= _PASS

    def defer(self, recipient: bytes, reason: int) -> None:
        """The log says that the recipient was deferred in this pass."""
        self.outcomes[recipient] = reason | self.parity

    def forget(self) -> None:
        """What the log told was of another message."""
        self.attempt, self.outcomes = NEVER, {}

    def reason(self, recipient: bytes) -> int:
        """Why the recipient, an address in the log's form, was deferred, or NOT_DEFERRED."""
        outcome = self.outcomes.get(recipient)
        return NOT_DEFERRED if outcome is None else outcome & ~_PASS

    def deferred(self) -> dict[str, Counter[int]]:
        """The deferred recipients by domain and reason; outcomes of those no longer pending are dropped."""
        counts: dict[str, Counter[int]] = {}
        if not self.outcomes:
            return counts
        outcomes, kept = self.outcomes, {}
        for address in pending_addresses(self.content):
            outcome = outcomes.get(address)
            if outcome is not None:
                kept[address] = outcome
                counts.setdefault(domain_of(address), Counter())[outcome & ~_PASS] += 1
        self.outcomes = kept
        return counts


class Recipients:
    """All recipients of one message, by channel number, and what of them the aggregates hold.

    `ages` are arrival in nanoseconds, birth and change of the `info` file, as in the message's row.
    """

    __slots__ = ("ages", "birth", "channels", "deferred", "waiting")

    def __init__(self, ages: tuple[int, int, int]) -> None:
        self.ages = ages
        self.birth = ages[1]
        self.channels: dict[int, Channel] = {}
        self.waiting: list[tuple[int, int]] = []  # domain number, pending recipients
        self.deferred: list[
            tuple[int, list[tuple[int, int]]]
        ] = []  # domain number, its reasons and their counts

    def memory(self, number: int, address: bytes) -> tuple[int, int]:
        """The start of the last pass over that channel's file, and why the address was deferred; or that neither is known."""
        file = self.channels.get(number)
        return (NEVER, NOT_DEFERRED) if file is None else (file.attempt, file.reason(log_safe(address)))

    def equals(self, other: "Recipients | None") -> bool:
        """Whether both are of the same files and next attempts."""
        return other is not None and _shape(self) == _shape(other)


def _shape(recipients: Recipients) -> dict[int, tuple[bytes, int, int]]:
    return {number: (file.content, file.mtime, file.due) for number, file in recipients.channels.items()}
