"""What the log counts: every counter and classic histogram, since the exporter started."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from heapq import nlargest
from itertools import accumulate
from operator import itemgetter
from typing import TypeAlias

from qmail_exporter.queue.domains import OTHER, elect

DURATION_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1200.0)
QUEUE_TIME_BOUNDS = (
    1.0,
    5.0,
    15.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    14400.0,
    43200.0,
    86400.0,
    259200.0,
    604800.0,
)

DECAY = 0.99
"""With an election a minute, a delivery weighs half as much an hour later."""

Results: TypeAlias = defaultdict[str, int]
"""Deliveries by result.  A `defaultdict` counts three times as fast as a `Counter`, which matters for every line."""


class Histogram:
    """A classic histogram of seconds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation; a clock that stepped back makes it 0, not negative."""
        if seconds < 0:
            seconds = 0.0
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[int]:
        """The counts at or below each bound, and of all."""
        return list(accumulate(self.counts))


class DomainTraffic:
    """Deliveries by domain and result, for the busiest domains; all others share `(other)`.

    A counter must never fall.  So a domain that takes a seat starts from 0 (what came before stays in `(other)`), and one
    that loses it keeps its count aside, to go on from there should it come back: every delivery raises one series by 1,
    and nothing else raises any.  Of those aside the longest gone are forgotten, at ten times as many as there are seats.
    """

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.seated: dict[str, Results] = {}
        self.other: Results = defaultdict(int)
        self._most = 32 * seats + 1024
        self._aside: dict[str, Results] = {}
        self._recent: defaultdict[str, float] = defaultdict(float)

    def count(self, domain: str, result: str) -> None:
        """One delivery to `domain` ended with `result`."""
        counts = self.seated.get(domain)
        if counts is None:
            counts = self._seat(domain) if len(self.seated) < self.seats else self.other
        counts[result] += 1
        recent = self._recent
        recent[domain] += 1
        if len(recent) > self._most:
            most = nlargest(self._most // 2, recent.items(), key=itemgetter(1))
            self._recent = defaultdict(float, most)

    def elect(self) -> None:
        """Give the seats to the busiest domains of late: with each election, what came before weighs a little less."""
        recent = self._recent
        outside = recent.keys() - self.seated.keys()
        if outside:
            chosen = elect(self.seated, outside, lambda domain: recent.get(domain, 0.0), self.seats)
            for domain in self.seated.keys() - chosen:
                self._aside[domain] = self.seated.pop(domain)
            for domain in chosen - self.seated.keys():
                self._seat(domain)
            while len(self._aside) > 10 * self.seats:
                del self._aside[next(iter(self._aside))]
        self._recent = defaultdict(float, {domain: n * DECAY for domain, n in recent.items() if n > 0.5})

    def shown(self) -> dict[str, Results]:
        """Counts by result, of each seated domain and of `(other)`."""
        return {**self.seated, OTHER: self.other}

    def _seat(self, domain: str) -> Results:
        counts = self._aside.pop(domain, None)
        counts = self.seated[domain] = defaultdict(int) if counts is None else counts
        return counts


class Traffic:
    """Counts of what one queue's log told."""

    def __init__(self, seats: int) -> None:
        self.lines: defaultdict[str, int] = defaultdict(int)  # by kind
        self.messages = 0
        self.message_bytes = 0
        self.messages_ended = 0
        self.started: defaultdict[str, int] = defaultdict(int)  # by channel
        self.results: defaultdict[tuple[str, str], int] = defaultdict(int)  # channel, result
        self.problems: defaultdict[tuple[str, str, str], int] = defaultdict(int)  # channel, result, reason
        self.bounces: Counter[str] = Counter()  # by kind
        self.bounced: Counter[str] = Counter()  # by reason
        self.complaints: Counter[tuple[str, str]] = Counter()  # severity, kind
        self.restarts = 0
        self.forgotten = 0  # open deliveries given up because there were too many
        self.durations: defaultdict[tuple[str, str], Histogram]  # channel, result
        self.durations = defaultdict(partial(Histogram, DURATION_BOUNDS))
        self.queue_time = Histogram(QUEUE_TIME_BOUNDS)
        self.domains = DomainTraffic(seats)
