"""The recipients of messages that have more than one.

A list message may have a hundred thousand of them, marked done one by one.  So what is kept of a channel's file is the
file itself, and what is counted of it is counted anew when somebody looks, not at every mark.
"""

from collections import Counter

from qmail_exporter.formats.envelope import count_channel, domain, pending_addresses
from qmail_exporter.queue.table import NEVER


class Channel:
    """One channel's recipients of one message, and what the log told of them."""

    __slots__ = ("attempt", "content", "domains", "done", "due", "mtime", "outcomes", "pending")

    def __init__(self, content: bytes, mtime: int, before: "Channel | None") -> None:
        self.content = content
        self.mtime = mtime
        if before is not None and before.content == content:
            self.pending, self.done, self.domains = before.pending, before.done, before.domains
        else:
            self.pending, self.done, self.domains = count_channel(content)
        self.attempt = before.attempt if before else NEVER  # start of the last pass over the file
        self.outcomes: dict[bytes, int] = before.outcomes if before else {}  # log form of a deferred address -> reason
        self.due = NEVER

    def deferred(self) -> dict[str, Counter[int]]:
        """The deferred recipients by domain and reason; outcomes of those no longer pending are dropped."""
        counts: dict[str, Counter[int]] = {}
        if not self.outcomes:
            return counts
        outcomes, kept = self.outcomes, {}
        for address in pending_addresses(self.content):
            reason = outcomes.get(address)
            if reason is not None:
                kept[address] = reason
                counts.setdefault(domain(address), Counter())[reason] += 1
        self.outcomes = kept
        return counts


class Recipients:
    """All recipients of one message, by channel number, and what of them the aggregates hold."""

    __slots__ = ("birth", "channels", "deferred", "waiting")

    def __init__(self, channels: dict[int, Channel], birth: int) -> None:
        self.channels = channels
        self.birth = birth
        self.waiting: list[tuple[int, int]] = []  # domain number, pending recipients
        self.deferred: list[tuple[int, list[tuple[int, int]]]] = []  # domain number, its reasons and their counts
