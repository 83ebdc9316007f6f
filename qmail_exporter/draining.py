"""When the loop reads inotify events: not as they come, but when some have gathered, or at the next tick.

Events fold better the later they are read: of a message that has come and gone meanwhile, a look finds nothing, and takes a
tenth of the time.  But the kernel holds 16,384 of them, and a queue may become busy between two reads.  Nor does the loop
wake for events that the next tick reads as soon: to wake costs more than they do.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmail_exporter.collect import QueueWatch
    from qmail_exporter.sources.inotify import Watcher

REST = 0.1, 1.0
"""Seconds at least, and at most, from the first event that waits until events are read."""
FEW = 2000
"""Events that are to wait at a read."""


class Drain:
    """The descriptors of the queues' watchers in the running loop.

    Args:
        queues: gives the queues that there are now.
        on_read: called when events were read because they had waited.

    Attributes:
        next_tick: when all events are read next in any case, by the monotonic clock; `drained` must be called then.
            While it is nearer than events may rest, `watch` has the loop say nothing.
    """

    def __init__(
        self, queues: Callable[[], Sequence["QueueWatch"]], on_read: Callable[[], object] = lambda: None
    ) -> None:
        self.next_tick = 0.0
        self._on_read = on_read
        self._queues = queues
        self._watched: dict[int, Watcher] = {}  # by descriptor
        self._resting: dict[
            int, asyncio.TimerHandle | None
        ] = {}  # by descriptor, what ends that; None: the next tick
        self._rested_since = self._drained_at = monotonic()
        self._read_so_far = 0
        self._rest_for = REST[1]

    def watch(self) -> None:
        """Have the loop say when there are events.

        To be called after all that may have opened or closed a queue, before the loop goes on: a number may by then
        belong to another watcher, or would soon to another file.
        """
        loop = asyncio.get_running_loop()
        watchers = [watch.watcher for watch in self._queues() if watch.watcher is not None]
        present = {watcher.fd: watcher for watcher in watchers}
        for fd, watcher in list(self._watched.items()):
            if present.get(fd) is not watcher:
                loop.remove_reader(fd)
                del self._watched[fd]
        if not self._sooner():
            return
        for fd in present.keys() - self._watched.keys() - self._resting.keys():
            loop.add_reader(fd, self._rest, fd)
            self._watched[fd] = present[fd]

    def unwatch(self) -> None:
        """Leave the loop."""
        loop = asyncio.get_running_loop()
        for fd in self._watched:
            loop.remove_reader(fd)
        self._watched.clear()

    def drained(self) -> None:
        """All events have been read.  How many came since the last time tells how long the next may rest."""
        now, so_far = monotonic(), sum(watch.events for watch in self._queues())
        for timer in self._resting.values():
            if timer is not None:
                timer.cancel()
        gathered = now - (self._rested_since if self._resting else self._drained_at)
        self._resting.clear()
        came = max(so_far - self._read_so_far, 1)
        self._drained_at, self._read_so_far = now, so_far
        self._rest_for = min(max(gathered * FEW / came, REST[0]), REST[1])
        self.watch()

    def _rest(self, fd: int) -> None:
        """There are events, which are left to gather for a while."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        del self._watched[fd]
        if not self._resting:
            self._rested_since = monotonic()
        sooner = self._sooner()
        self._resting[fd] = loop.call_later(self._rest_for, self._read) if sooner else None

    def _sooner(self) -> bool:
        """Whether events that come now have rested long enough before the next tick."""
        return monotonic() + self._rest_for < self.next_tick

    def _read(self) -> None:
        for watch in self._queues():
            watch.read_events()
        self.drained()
        self._on_read()
