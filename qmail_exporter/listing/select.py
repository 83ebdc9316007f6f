"""Which messages are listed, in which order, and the counts of `--top`."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qmail_exporter.formats.envelope import Sender, domain, log_safe
from qmail_exporter.listing.entry import Entry, Recipient

NOT_DEFERRED = "(not deferred)"
"""The reason of recipients that were not deferred, as far as the log tells, where it tells all."""
UNKNOWN = "(unknown)"
"""What stands for a sender or reason that cannot be told."""


@dataclass(frozen=True)
class Wanted:
    """What a message must be to be listed; what is empty or None does not matter.

    Of `domains`, `channels` and `deferred` one pending recipient must fit all.

    Attributes:
        domains: as `domain_criterion` makes them.
        senders: as `sender_criterion` makes them.
        channels: names of channels.
        deferred: whose last attempt was deferred.
        bounces: bounces and double bounces only.
        older_than: seconds of age.
    """

    domains: tuple[str, ...] = ()
    senders: tuple[bytes, ...] = ()
    channels: tuple[str, ...] = ()
    deferred: bool = False
    bounces: bool = False
    older_than: float | None = None

    def chosen(self, entry: Entry, now: float) -> list[Recipient] | None:
        """Return the pending recipients for which a message is listed; None if it is not.  `now` is in Unix seconds."""
        if self.older_than is not None and not now - entry.since > self.older_than:
            return None
        if self.bounces and entry.kind not in (Sender.BOUNCE, Sender.DOUBLE):
            return None
        if self.senders and not any(_is_from(entry.sender, each) for each in self.senders):
            return None
        pending = entry.pending
        if not (self.domains or self.channels or self.deferred):
            return pending
        return [recipient for recipient in pending if self._fits(recipient)] or None

    def _fits(self, recipient: Recipient) -> bool:
        if self.channels and recipient.channel not in self.channels:
            return False
        if self.deferred and recipient.reason is None:
            return False
        if not self.domains:
            return True
        name = domain(recipient.address)
        return any(name.endswith(want) if want[0] == "." else name == want for want in self.domains)


def domain_criterion(text: str) -> str:
    """Return the domain that `--domain` names, as `envelope.domain` writes it; `.example.com` is all below it.

    Raises:
        ValueError: it is empty.
    """
    dot = "." if text.startswith(".") else ""
    name = domain(b"@" + text.removeprefix(".").encode("utf-8", "surrogateescape"))
    if name == "(none)" and text != "(none)":
        raise ValueError(f"{text!r} is no domain")
    return dot + name


def sender_criterion(text: str) -> bytes:
    """Return the sender that `--sender` names, in the log's form and in lower case.

    It is an address, `@` and a domain, or `<>` for the empty sender of bounces.
    """
    return log_safe(b"" if text == "<>" else text.encode("utf-8", "surrogateescape")).lower()


def _is_from(sender: bytes | None, criterion: bytes) -> bool:
    if sender is None:
        return False
    address = log_safe(sender).lower()
    if criterion.startswith(b"@"):
        return b"@" in address and address.rpartition(b"@")[2] == criterion[1:]
    return address == criterion


# --- order


class Ordered(NamedTuple):
    """How `--sort` orders: by what, and whether the greatest comes first.  Where it is not known, it comes last."""

    key: Callable[[Entry, Sequence[Recipient]], Any]
    greatest_first: bool


def attempts(chosen: Sequence[Recipient]) -> int:
    """Return the number of attempts at a message, as far as the log tells: those at its most tried recipient."""
    return max((recipient.attempts for recipient in chosen), default=0)


SORTS = {
    "age": Ordered(lambda entry, _: entry.since, greatest_first=False),
    "next": Ordered(lambda entry, _: entry.next_attempt, greatest_first=False),
    "attempts": Ordered(lambda _, chosen: attempts(chosen), greatest_first=True),
    "expiry": Ordered(lambda entry, _: entry.expires, greatest_first=False),
    "size": Ordered(lambda entry, _: entry.size, greatest_first=True),
    "domain": Ordered(lambda _, chosen: domain(chosen[0].address) if chosen else None, greatest_first=False),
    "sender": Ordered(lambda entry, _: entry.sender, greatest_first=False),
    "id": Ordered(lambda entry, _: (entry.queue, entry.msg), greatest_first=False),
}
"""The values of `--sort`."""

Row = tuple[Entry, list[Recipient]]
"""A message and its recipients that were chosen."""


class Placed(NamedTuple):
    """A message that waits for its place: as little of it as that takes.

    Attributes:
        value: by what it is ordered; None if that is not known.
        queue: its queue's name.
        msg: its number.
        text: how it is shown.
    """

    value: Any
    queue: str
    msg: int
    text: str


def placed(row: Row, name: str, text: str) -> Placed:
    """Return what ordering by `name` of `SORTS` needs of a message."""
    entry, chosen = row
    return Placed(SORTS[name].key(entry, chosen), entry.queue, entry.msg, text)


def in_order(messages: Iterable[Placed], name: str, *, backwards: bool) -> list[Placed]:
    """Return messages ordered by `name` of `SORTS`, those where that is not known last; equals by number."""
    by_number = sorted(messages, key=lambda message: (message.queue, message.msg))
    known = [message for message in by_number if message.value is not None]
    known.sort(key=lambda message: message.value, reverse=SORTS[name].greatest_first != backwards)
    return known + [message for message in by_number if message.value is None]


# --- counts


class Group:
    """What `--top` counts of one domain, sender or reason."""

    __slots__ = ("bytes", "deferred", "examples", "messages", "oldest", "reasons", "recipients")

    def __init__(self) -> None:
        self.messages = 0
        self.recipients = 0
        self.deferred = 0
        self.bytes = 0
        self.oldest = float("inf")  # birth, Unix seconds
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, bytes] = {}  # by reason, a report

    def add(self, entry: Entry, recipients: Sequence[Recipient]) -> None:
        """Count a message and those of its recipients that belong here."""
        self.messages += 1
        self.recipients += len(recipients)
        self.bytes += entry.size
        self.oldest = min(self.oldest, entry.since)
        for recipient in recipients:
            if recipient.reason is not None:
                self.deferred += 1
                self.reasons[recipient.reason] += 1
                if recipient.report:
                    self.examples.setdefault(recipient.reason, recipient.report)


class Top:
    """Counts by `domains`, `senders` or `reasons`."""

    def __init__(self, what: str) -> None:
        self.groups: dict[str | bytes, Group] = {}
        self._what = what

    def add(self, entry: Entry, chosen: Sequence[Recipient]) -> None:
        """Count a message and its chosen recipients."""
        if self._what == "senders":
            self._group(UNKNOWN if entry.sender is None else entry.sender).add(entry, chosen)
            return
        parts: dict[str, list[Recipient]] = {}
        for recipient in chosen:
            name = domain(recipient.address) if self._what == "domains" else _reason(entry, recipient)
            parts.setdefault(name, []).append(recipient)
        for name, recipients in parts.items():
            self._group(name).add(entry, recipients)

    def most(self, limit: int | None) -> list[tuple[str | bytes, Group]]:
        """Return the groups with the most pending recipients; of senders, with the most messages."""
        by_messages = self._what == "senders"

        def weight(pair: tuple[str | bytes, Group]) -> tuple[int, bytes]:
            name, group = pair
            count = group.messages if by_messages else group.recipients
            return -count, name.encode() if isinstance(name, str) else name

        return sorted(self.groups.items(), key=weight)[:limit]

    def _group(self, name: str | bytes) -> Group:
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group()
        return group


def _reason(entry: Entry, recipient: Recipient) -> str:
    return recipient.reason or (NOT_DEFERRED if entry.log_complete else UNKNOWN)
