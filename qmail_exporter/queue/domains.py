"""What waits for each domain, and which domains get series of their own."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache

from qmail_exporter.formats import envelope
from qmail_exporter.queue.times import Earliest

OTHER = "(other)"
"""The label of all domains that have no series of their own; no domain is called so, for `(` is in no host name."""


def domain_of(address: bytes) -> str:
    """What `envelope.domain` gives of an address, remembered for the names that come again and again."""
    _, at, name = address.rpartition(b"@")
    if not at:
        return envelope.NO_DOMAIN
    return _remembered(name) if len(name) < 256 else envelope.domain(address)


@lru_cache(maxsize=4096)
def _remembered(name: bytes) -> str:
    return envelope.domain(b"@" + name)


def elect(
    sitting: Iterable[str], outside: Iterable[str], weigh: Callable[[str], float], seats: int
) -> set[str]:
    """The names that get one of the `seats`: the heaviest, but who sits is displaced only by a quarter more weight.

    Two domains of nearly the same weight at the edge would otherwise take turns, and each turn would end one series and
    begin another.
    """
    members = [(weigh(name), name) for name in sitting]
    heapq.heapify(members)
    for weight, name in heapq.nlargest(seats, ((weigh(name), name) for name in outside)):
        if len(members) < seats:
            heapq.heappush(members, (weight, name))
        elif members and weight > 1.25 * members[0][0]:
            heapq.heapreplace(members, (weight, name))
        else:
            break
    return {name for _, name in members}


class Domain:
    """The recipients that wait for one domain."""

    __slots__ = ("births", "deferred", "name", "pending")

    def __init__(self, name: str) -> None:
        self.name = name
        self.pending = 0
        self.deferred: defaultdict[int, int] | None = None  # by reason; most domains never have one
        self.births: Earliest | None = None  # of the messages with a deferred recipient here


class Domains:
    """Every domain with a pending recipient, under a small number that a row can hold.

    A number is valid while its domain has pending recipients, and may then be given to another domain.
    """

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.pending = 0
        self.deferred: defaultdict[int, int] = defaultdict(int)  # by reason
        self.members: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._domains: list[Domain | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, name: str) -> int:
        """The number of the domain `name`, which becomes known; add a pending recipient next."""
        number = self._numbers.get(name)
        if number is not None:
            return number
        if self._free:
            number = self._free.pop()
            self._domains[number] = Domain(name)
        else:
            number = len(self._domains)
            self._domains.append(Domain(name))
        self._numbers[name] = number
        if len(self.members) < self.seats:
            self.members.add(name)
        return number

    def get(self, name: str) -> Domain | None:
        """What waits for the domain `name`, or None where nothing does."""
        number = self._numbers.get(name)
        return None if number is None else self._domains[number]

    def name(self, number: int) -> str:
        """The name of a domain that has pending recipients."""
        return self._at(number).name

    def wait(self, number: int, count: int) -> None:
        """`count` more recipients are pending; negative where they no longer are, which frees an empty number."""
        domain = self._domains[number]
        assert domain is not None  # noqa: S101 - the caller's duty
        domain.pending += count
        self.pending += count
        if not domain.pending:
            del self._numbers[domain.name]
            self._domains[number] = None
            self._free.append(number)

    def defer(self, number: int, reasons: Iterable[tuple[int, int]], birth: int) -> None:
        """One message born at `birth` has deferred recipients here: pairs of a reason and their count."""
        domain = self._at(number)
        if domain.deferred is None or domain.births is None:
            domain.deferred, domain.births = defaultdict(int), Earliest()
        for reason, count in reasons:
            domain.deferred[reason] += count
            self.deferred[reason] += count
        domain.births.add(birth)

    def undefer(self, number: int, reasons: Iterable[tuple[int, int]], birth: int) -> None:
        """Take back one `defer` of the same values."""
        domain = self._at(number)
        assert domain.deferred is not None and domain.births is not None  # noqa: S101, PT018 - the caller's duty
        for reason, count in reasons:
            domain.deferred[reason] -= count
            self.deferred[reason] -= count
        domain.births.remove(birth)
        if domain.births.first() is None:
            domain.deferred = domain.births = None

    def elect(self) -> None:
        """Choose anew which domains have series of their own; costs a walk over the domains when they are too many."""
        if len(self._numbers) <= self.seats:
            self.members = set(self._numbers)
            return
        sitting = self.members & self._numbers.keys()
        outside = (name for name in self._numbers if name not in sitting)
        self.members = elect(sitting, outside, self._weigh, self.seats)

    def shown(self) -> list[Domain]:
        """The domains that have series of their own and something pending, in no order."""
        found = map(self.get, self.members)
        return [domain for domain in found if domain is not None]

    def _weigh(self, name: str) -> int:
        return self._at(self._numbers[name]).pending

    def _at(self, number: int) -> Domain:
        domain = self._domains[number]
        assert domain is not None  # noqa: S101 - the caller's duty
        return domain
