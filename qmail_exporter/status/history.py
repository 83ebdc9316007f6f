"""The last hour of one queue: how many messages were in it, and how deliveries ended.  Pure: moments are arguments.

It is kept as points ten seconds apart at least.  A point holds the greatest depth that was seen since the one before it, so
that a peak of some seconds is not lost, and the counts of deliveries so far: what happened between two points is their difference.
"""

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

SPAN = 3600
"""Seconds that are kept."""
APART = 10
"""Seconds between two points at least."""
BROKEN = 60.0
"""Seconds between two points from which on nothing is known of what lies between: the machine slept, or the clock was set."""
MINUTE = 60

RESULTS = ("success", "deferral", "failure")
Counts = Mapping[str, int]
"""Deliveries by result."""


class Point(NamedTuple):
    """One point: its moment, the greatest depth since the point before, and the deliveries so far; None: not known."""

    time: float
    depth: int | None
    ended: tuple[int, ...] | None  # in the order of RESULTS


class Rate(NamedTuple):
    """Deliveries that ended, by result, and in how many seconds."""

    seconds: float
    ended: dict[str, int]

    def a_minute(self, result: str) -> float:
        """Deliveries a minute with that result."""
        return self.ended[result] * MINUTE / self.seconds


class History:
    """The last hour; at most `SPAN / APART` points and the present."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=SPAN // APART + 1)
        self._now: Point | None = None

    def step(self, now: float, depth: int | None, ended: Counts | None) -> None:
        """It is `now` (Unix seconds), there are `depth` messages, and deliveries have ended so far; None: not known.

        A clock that was set back begins the hour anew.
        """
        counts = None if ended is None else tuple(ended.get(result, 0) for result in RESULTS)
        if self._now is not None and now < self._now.time:
            self._points.clear()
            self._now = None
        if self._now is not None and (not self._points or self._now.time != self._points[-1].time):
            depth = _greatest(depth, self._now.depth)
        self._now = Point(now, depth, counts)
        if not self._points or now - self._points[-1].time >= APART:
            self._points.append(self._now)

    def points(self) -> list[Point]:
        """The points of the last hour, oldest first; the last is the present."""
        if self._now is None:
            return []
        points = [point for point in self._points if self._now.time - point.time <= SPAN]
        return points if points and points[-1] is self._now else [*points, self._now]

    def rate(self) -> Rate | None:
        """The deliveries of the last minute, or as much of it as is known; None where nothing is."""
        points = self.points()
        recent = (point for point in points if points[-1].time - point.time <= MINUTE + APART)
        first = next((point for point in recent if point.ended is not None), None)
        if first is None or points[-1].time - first.time < APART:
            return None
        ended = _between(first, points[-1])
        return None if ended is None else Rate(points[-1].time - first.time, ended)

    def minutes(self) -> list[dict[str, int] | None]:
        """The deliveries of each of the last 60 minutes by result, oldest first; None for one of which nothing is known."""
        found: list[dict[str, int] | None] = [None] * (SPAN // MINUTE)
        points = self.points()
        for before, after in pairwise(points):
            ended = _between(before, after)
            if ended is None or after.time - before.time > BROKEN:
                continue
            place = len(found) - 1 - int((points[-1].time - after.time) // MINUTE)
            if place >= 0:
                sums = found[place] or dict.fromkeys(RESULTS, 0)
                found[place] = {result: sums[result] + ended[result] for result in RESULTS}
        return found


def _greatest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one
    return max(one, other)


def _between(before: Point, after: Point) -> dict[str, int] | None:
    """The deliveries between two points; None where that is not known, as the counts were not, or began again."""
    if before.ended is None or after.ended is None:
        return None
    gained = [late - early for early, late in zip(before.ended, after.ended, strict=True)]
    return None if min(gained) < 0 else dict(zip(RESULTS, gained, strict=True))
