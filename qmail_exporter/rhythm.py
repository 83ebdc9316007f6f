"""How long the loop sleeps between two ticks.  Pure: moments are arguments.

A tick of a quiet host finds all caches cold, and most of what it takes is that.  So where nothing has happened for a while,
and the kernel tells of what happens next, ticks come seldom; the first event, or line of a log, then brings one.
"""

from collections.abc import Callable

CALM = 10.0
"""Seconds without an event or a line of a log from which on ticks come seldom."""
SELDOM = 15.0
"""Seconds between ticks then.  So late shows what neither inotify nor a log tells, as that another directory was mounted."""


class Rhythm:
    """When the next tick is due.

    Args:
        tick: seconds between two ticks while something happens.
        most: seconds between two ticks at most, whatever happens; None where nobody minds.

    Attributes:
        still: nothing has happened for a while.
        calm: ticks come seldom now.
    """

    def __init__(self, tick: float, most: float | None) -> None:
        limit = float("inf") if most is None else most
        self.still = self.calm = False
        self._tick = min(tick, limit)
        self._seldom = max(self._tick, min(SELDOM, limit))
        self._news = -1
        self._since = 0.0

    def next(self, now: float, news: int, steady: Callable[[], bool], listens: Callable[[], bool]) -> float:
        """Return how many seconds there are from this tick, which has been done, to the next.

        Args:
            now: by any clock that does not go back, seconds.
            news: events and lines so far.
            steady: tells whether nothing is left to be done, and events or logs tell of whatever happens.
            listens: begins to listen to the logs, and tells whether it did already before this tick.
        """
        if news != self._news or not steady():
            self._news, self._since = news, now
        self.still = now - self._since >= CALM
        self.calm = self.still and listens()
        return self._seldom if self.calm else self._tick
