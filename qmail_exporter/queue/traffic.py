"""What the log counts: every counter and classic histogram, since the exporter started."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from qmail_exporter.queue.domains import OTHER, elect

DURATION_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1200.0)
QUEUE_TIME_BOUNDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0, 604800.0)


class Histogram:
    """A classic histogram of seconds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation; a clock that stepped back makes it 0, not negative."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[int]:
        """The counts at or below each bound, and of all."""
        return list(accumulate(self.counts))


class DomainTraffic:
    """Deliveries by domain and result, for the busiest domains; all others share `(other)`.

    A counter must never fall.  So a domain that takes a seat starts from 0 (what came before stays in `(other)`), and one
    that loses it keeps its count aside, to go on from there should it come back.
    """

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.seated: dict[str, Counter[str]] = {}
        self.other: Counter[str] = Counter()
        self._aside: dict[str, Counter[str]] = {}
        self._recent: Counter[str] = Counter()

    def count(self, domain: str, result: str) -> None:
        """One delivery to `domain` ended with `result`."""
        counts = self.seated.get(domain)
        if counts is None:
            counts = self._seat(domain) if len(self.seated) < self.seats else self.other
        counts[result] += 1
        self._recent[domain] += 1
        if len(self._recent) > 32 * self.seats + 1024:
            self._recent = Counter(dict(self._recent.most_common(16 * self.seats + 512)))

    def elect(self) -> None:
        """Give the seats to the busiest domains of late: each election halves the weight of what came before."""
        if len(self._recent) > self.seats:
            outside = (domain for domain in self._recent if domain not in self.seated)
            chosen = elect(self.seated, outside, self._recent.__getitem__, self.seats)
            for domain in self.seated.keys() - chosen:
                self._aside[domain] = self.seated.pop(domain)
            for domain in chosen - self.seated.keys():
                self._seat(domain)
            while len(self._aside) > 10 * self.seats:
                del self._aside[next(iter(self._aside))]
        self._recent = Counter({domain: n // 2 for domain, n in self._recent.items() if n > 1})

    def shown(self) -> dict[str, Counter[str]]:
        """Counts by result, of each seated domain and of `(other)`."""
        return {**self.seated, OTHER: self.other}

    def _seat(self, domain: str) -> Counter[str]:
        counts = self.seated[domain] = self._aside.pop(domain, None) or Counter()
        return counts


class Traffic:
    """Counts of what one queue's log told."""

    def __init__(self, seats: int) -> None:
        self.lines: Counter[str] = Counter()  # by kind
        self.messages = 0
        self.message_bytes = 0
        self.messages_ended = 0
        self.started: Counter[str] = Counter()  # by channel
        self.results: Counter[tuple[str, str]] = Counter()  # channel, result
        self.problems: Counter[tuple[str, str, str]] = Counter()  # channel, result, reason
        self.bounces: Counter[str] = Counter()  # by kind
        self.bounced: Counter[str] = Counter()  # by reason
        self.complaints: Counter[tuple[str, str]] = Counter()  # severity, kind
        self.restarts = 0
        self.forgotten = 0  # open deliveries given up because there were too many
        self.durations: dict[tuple[str, str], Histogram] = {}  # channel, result
        self.queue_time = Histogram(QUEUE_TIME_BOUNDS)
        self.domains = DomainTraffic(seats)

    def took(self, channel: str, result: str, seconds: float) -> None:
        """A delivery of that channel and result lasted `seconds`."""
        histogram = self.durations.get((channel, result))
        if histogram is None:
            histogram = self.durations[channel, result] = Histogram(DURATION_BOUNDS)
        histogram.observe(seconds)
