"""What a reading is given, and what it gives."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from qmail_exporter.collect import Collection, HostWatch, LogWatch, QueueWatch
from qmail_exporter.double_bounce import DoubleBounces
from qmail_exporter.hook import Hook

CHANNELS = ("local", "remote")
RESULTS = ("success", "failure", "deferral")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Counts at or below each bound, then of all; and the sum."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float


@dataclass(frozen=True, slots=True)
class View:
    """One queue at the moment `now` (Unix seconds) of a scrape."""

    watch: QueueWatch
    host: HostWatch
    log: LogWatch | None
    now: float
    hook: Hook | None = None
    double_bounces: DoubleBounces | None = None

    @property
    def log_told(self) -> bool:
        """Whether what the log tells of the present is known: it is followed, and was read back."""
        return self.log is not None and self.log.recalled and self.log.up


def views(collection: Collection, hooks: Mapping[str, Hook], now: float) -> list[View]:
    """Return a view of each queue of a collection; `hooks` by the queue's name."""
    found = []
    for watch in collection.queues:
        doubles = collection.double_bounces.get(watch.name)
        counts = doubles.counts if doubles is not None and doubles.read_once else None
        host, log, hook = collection.hosts[watch.name], collection.log_of(watch), hooks.get(watch.name)
        found.append(View(watch, host, log, now, hook, counts))
    return found


Value: TypeAlias = float | Distribution
Sample: TypeAlias = tuple[tuple[str, ...], Value]
Reading: TypeAlias = Callable[[View], Iterator[Sample]]
