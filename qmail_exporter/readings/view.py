"""What a reading is given, and what it gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from qmail_exporter.collect import HostWatch, LogWatch, QueueWatch
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


Value: TypeAlias = float | Distribution
Sample: TypeAlias = tuple[tuple[str, ...], Value]
Reading: TypeAlias = Callable[[View], Iterator[Sample]]
