"""qmail-send: one run of it, from its start to its exit or its death (main, todo_do and cleanup_do in qmail-send.c).

It is one process with one thread: its main loop takes one turn after another, and a turn handles the reports of
deliveries that have ended, preprocesses one message, starts one delivery in each channel, and ends one message. What
it knows is in its memory and dies with it; the files tell its successor the rest.
"""

import fcntl
import heapq
import os
from collections.abc import Callable
from dataclasses import dataclass

from qmail_exporter.demo import bounce, tcpto
from qmail_exporter.demo.deliveries import Deliveries, Log, Respond
from qmail_exporter.demo.host import CHANNELS, Host, Steps
from qmail_exporter.demo.preprocess import preprocess
from qmail_exporter.demo.schedule import Schedule, numbers

_SLEEP_TODO = 1500
_SLEEP_CLEANUP = 76431
_OSSIFIED = 129600


@dataclass(frozen=True)
class Settings:
    """What qmail-send reads of the control files: deliveries at once by channel, seconds, names, and rewriting."""

    concurrency: dict[str, int]
    lifetime: int
    bounces: bounce.Names
    to_channel: Callable[[bytes], tuple[str, bytes]]


class Send:
    """A qmail-send with its spawners.

    Attributes:
        schedule: what is due when.
        deliveries: what is under way.
        stopping: exit when the open deliveries have ended (SIGTERM); nothing new is begun.
        rush: every message becomes due at the next turn (SIGALRM).
        exited: it is over.
    """

    def __init__(self, host: Host, settings: Settings, respond: Respond, log: Log) -> None:
        self.schedule = Schedule(host)
        self.deliveries = Deliveries(
            host, self.schedule, settings.concurrency, settings.lifetime, respond, log
        )
        self.rush = False
        self.exited = False
        self._host = host
        self._settings = settings
        self._log = log
        self._mutex = -1
        self._trigger = -1
        self._todo: list[int] = []
        self._next_todo = 0
        self._next_cleanup = int(host.clock())

    @property
    def stopping(self) -> bool:
        """Whether it is to exit when the open deliveries have ended."""
        return self.deliveries.stopping

    def begin(self) -> Steps[None]:
        """Zero tcpto (qmail-rspawn does), take the mutex, read the queue with the times that a clean exit left."""
        yield from tcpto.clear(self._host)
        self._mutex = os.open(f"{self._host.queue}/lock/sendmutex", os.O_WRONLY)
        try:
            fcntl.flock(self._mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._log(b"alert: cannot start: qmail-send is already running")
            self.die()
            return
        self._host.ledger.starts += 1
        self.schedule.load()
        self.deliveries.log_status()
        self._set_trigger()
        yield "trigger open"

    def turn(self) -> Steps[bool]:
        """Take one turn of the main loop; return whether there may be more to do at once."""
        recent = int(self._host.clock())
        if self.rush:
            self.rush = False
            self.schedule.all_due(recent)
        busy = yield from self.deliveries.end()
        if not self.stopping:
            busy |= yield from self._preprocess_next(recent)
            for channel in CHANNELS:
                busy |= yield from self.deliveries.step(channel, recent)
        done = self.schedule.done
        if done and done[0][0] <= recent:
            yield from bounce.finish(self._host, heapq.heappop(done)[1], self._settings.bounces, self._log)
            busy = True
        if recent >= self._next_cleanup:
            self._next_cleanup = recent + _SLEEP_CLEANUP
            yield from self._clean_up(recent)
        if self.stopping and not any(self.deliveries.open.values()):
            yield from self.schedule.save()
            self._log(b"status: exiting")
            self.die()
        return busy and not self.exited

    def wakeup(self) -> float:
        """When there will be something to do if nothing comes from outside: Unix seconds, perhaps past."""
        times = [self.deliveries.wakeup(), self._next_cleanup, *(due for due, _ in self.schedule.done[:1])]
        if not self.stopping:
            times.append(self._host.clock() if self._host.pulled or self._todo else self._next_todo)
        return min(times)

    def take(self, number: int) -> Steps[None]:
        """Preprocess a message from `todo` and schedule it for now."""
        channels = yield from preprocess(self._host, number, self._log, self._settings.to_channel)
        if channels is not None:
            self.schedule.add(number, channels)

    def die(self) -> None:
        """End without any clean-up, as by SIGKILL: the kernel closes the files, and memory is gone."""
        self.exited = True
        for file in (self._trigger, self._mutex):
            if file >= 0:
                os.close(file)
        self._trigger = self._mutex = -1

    def _set_trigger(self) -> None:
        """Open the trigger anew, which empties it (trigger.c)."""
        if self._trigger >= 0:
            os.close(self._trigger)
        self._host.pulled = False
        self._trigger = os.open(f"{self._host.queue}/lock/trigger", os.O_RDONLY | os.O_NONBLOCK)

    def _preprocess_next(self, recent: int) -> Steps[bool]:
        if not self._todo:
            if not self._host.pulled and recent < self._next_todo:
                return False
            self._set_trigger()
            self._next_todo = recent + _SLEEP_TODO
            found = [int(name) for name in os.listdir(f"{self._host.queue}/todo") if name.isdecimal()]
            self._todo = found[::-1]
            return bool(found)
        yield from self.take(self._todo.pop())
        return True

    def _clean_up(self, recent: int) -> Steps[None]:
        """Remove messages that qmail-queue never finished, 36 hours after they were last read or written."""
        host = self._host
        for number in list(numbers(host, "mess")):
            if recent <= os.stat(host.path("mess", number)).st_atime + _OSSIFIED:
                continue
            if not any(os.path.exists(host.path(kind, number)) for kind in ("info", "todo")):
                yield from bounce.remove(host, number)
