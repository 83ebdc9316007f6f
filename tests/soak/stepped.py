"""The exporter's own clocks, stepped: they follow the simulated time, so that no test waits and a seed tells all."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from types import SimpleNamespace
from typing import NoReturn
from unittest.mock import patch

from qmail_exporter import collect
from qmail_exporter.collect import directory, double, everywhere, log, sweeps
from qmail_exporter.demo.qmail import Clock as SimulatedClock
from qmail_exporter.sources import scan
from qmail_exporter.sources.apart import ApartError

_PART = 2  # half a second: in nanoseconds since 1970 a number that a float holds
TICK = 0.001
"""Seconds that pass on the monotonic clock with each look at it: so what has a budget comes to its end, always at the same place."""


class Clock(SimulatedClock):
    """The simulated clock, in half seconds: a file's time and the log's are then the very same, and not a bit apart."""

    @property
    def now(self) -> float:
        """The present time, Unix seconds."""
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = ceil(now * _PART) / _PART


class Monotonic:
    """A monotonic clock that goes on with the simulated time, but not back with it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen = clock()
        self._now = 0.0

    def __call__(self) -> float:
        """Return the present moment, in seconds."""
        now = self._clock()
        self._now += max(now - self._seen, 0.0) + TICK
        self._seen = now
        return self._now


@contextmanager
def stepped(clock: Callable[[], float]) -> Iterator[None]:
    """Within this, collections go by `clock` (Unix seconds), and scan in this process alone."""
    monotonic = Monotonic(clock)
    with ExitStack() as stack:
        for module in (collect, directory, double, log, sweeps):
            stack.enter_context(patch.object(module, "monotonic", monotonic))
        for module in (double, log):
            stack.enter_context(patch.object(module, "time", clock))
        stack.enter_context(patch.object(scan, "time", SimpleNamespace(time=clock)))
        stack.enter_context(patch.object(everywhere, "scan_apart", _alone))
        yield


def _alone(*_given: object) -> NoReturn:
    raise ApartError(0, "a soak's steps are the same each time")
