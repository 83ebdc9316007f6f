"""A mail host that exists on paper: a simulated qmail, the exporter's own collector beside it, and one clock for both."""

import asyncio
import gzip
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

from incidents.world import World
from qmail_exporter.collect import Collection, HostWatch, LogWatch, QueueWatch
from qmail_exporter.config import HookConfig
from qmail_exporter.demo.multilog import Multilog
from qmail_exporter.demo.qmail import Clock, Qmail, run
from qmail_exporter.hook import Hook
from qmail_exporter.hook.probe import Pace, Target
from qmail_exporter.metrics import QmailCollector
from qmail_exporter.outage import State
from qmail_exporter.sources.host import PROGRAMS, FileSystem, Process, Processes, read_tcpto
from qmail_exporter.sources.logs import open_log

if TYPE_CHECKING:
    from qmail_exporter.hook.runs import Action

BIRTH = 1_800_000_000.0
"""When each run begins, Unix seconds."""
STEP = 30.0
"""Seconds from one tick of the exporter to the next; while the network is in question, `CLOSE`."""
CLOSE = 5.0
SCRAPE = 60.0
_GIB = 1 << 30
_CLOCKED = ("collect", "collect.directory", "collect.log", "collect.sweeps")
Facts = Callable[[], tuple[Processes, FileSystem]]


class SimulatedHostWatch(HostWatch):
    """A host's facts, of which the processes and the file system are the simulation's and not this machine's."""

    def __init__(self, queue: str, control: str, facts: Facts) -> None:
        super().__init__(queue, control, alone=False)
        self._facts = facts

    def read(self) -> None:
        """Read what lies in files, and take the rest from the simulation."""
        super().read()
        self.processes, self.file_system = self._facts()


class Door:
    """What stands for the file of --web.config.file."""

    def __init__(self) -> None:
        self.sound = True


class Host:
    """One simulated host.

    Args:
        home: a new directory for its qmail.
        mails: messages a day, all day long.
        remote: concurrencyremote.
        hook: gives what the outage hook is to do, by name; without it the hook only watches.
        history: seconds that qmail has run when the exporter is started.

    Attributes:
        qmail: on `clock`; `world` answers it.
        alive: there is a qmail-send process. One that hangs is alive.
        hung: qmail-send does nothing.
        free: bytes and inodes that are free, as shares of all.
        errands: called at each step with the time, for what an incident does all the while.
        frames: what a scrape got each minute, gzipped; None where nobody answered.
    """

    def __init__(
        self,
        home: Path,
        *,
        mails: float = 2400,
        remote: int = 20,
        hook: "Callable[[Host], Mapping[str, Action]] | None" = None,
        history: float = 0.0,
        world: World | None = None,
    ) -> None:
        self.home = home
        self.mails = mails
        self.world = world or World()
        self.alive = True
        self.hung = False
        self.free = {"bytes": 0.6, "inodes": 0.8}
        self.errands: list[Callable[[float], None]] = []
        self.frames: list[bytes | None] = []
        self.door = Door()
        self.clock = Clock(BIRTH - history)
        self.log = Multilog(home / "log", self.clock, count=1000, size=10_000_000)
        self.qmail = Qmail(
            home,
            clock=self.clock,
            respond=self.world.respond,
            log=self._write,
            concurrency={"local": 10, "remote": remote},
            stamp_files=True,
            reuse_numbers=True,
            split=3,
        )
        self.qmail.start()
        self.collection: Collection | None = None
        self.hook: Hook | None = None
        self._actions = hook(self) if hook else {}
        self._registry = CollectorRegistry()
        self._chance = random.Random(str(home.name))
        self._next_mail = self.clock.now + 1

    # --- what happens

    def send(self, *recipients: bytes, sender: bytes = b"joe@mail.test", age: float = 0) -> int:
        """Put a message into the queue; `age` in seconds makes it as old."""
        return run(self.qmail.inject(sender, recipients, age=age))

    def kill(self) -> None:
        """qmail-send dies."""
        self.qmail.kill()
        self.alive = False

    def start(self) -> None:
        """qmail-send starts."""
        self.qmail.start()
        self.alive = True

    def stop(self) -> None:
        """qmail-send is told to exit, and does when its deliveries have ended; then it is started again."""
        self.qmail.stop()

        def restart(_: float) -> None:
            if not self.qmail.running:
                self.start()
                self.errands.remove(restart)

        self.errands.append(restart)

    def complain(self, line: bytes) -> None:
        """qmail-send writes a line."""
        self.log(line)

    def _write(self, line: bytes) -> None:
        self.log(line)  # whichever it is by now

    # --- the exporter

    def watch(self) -> None:
        """Start an exporter."""
        queue, control = str(self.home / "queue"), str(self.home / "control")
        watch = QueueWatch("default", queue, seats=100, rescan_interval=3600.0)
        log = LogWatch(partial(open_log, str(self.home / "log")), {"default": watch.flow})
        facts = SimulatedHostWatch(queue, control, self._facts)
        collection = self.collection = Collection([watch], [log], {"default": facts})
        self.hook = Hook(
            "default",
            HookConfig(),
            self._actions,
            table=lambda: read_tcpto(queue),
            ports=lambda: {"": (25,)},
            ready=lambda: log.recalled,
            clock=self.clock,
            connect=self._connect,
        )
        watch.flow.on_delivery = self.hook.on_delivery
        self._registry = CollectorRegistry()
        disable_created_metrics()
        self._registry.register(
            QmailCollector(collection, self.clock, hooks={"default": self.hook}, door=self.door)
        )

    async def unwatch(self) -> None:
        """End the exporter."""
        collection, self.collection = self.collection, None
        if self.hook is not None:
            await self.hook.close()
        if collection is not None:
            collection.close()

    async def scrape(self) -> None:
        """Note what a scrape gets now."""
        if self.collection is None:
            self.frames.append(None)
            return
        self.collection.refresh(60.0)
        self.frames.append(gzip.compress(generate_latest(self._registry), 1, mtime=0))

    async def live_until(self, end: float) -> None:
        """Let everything go on until then, in steps."""
        while self.clock.now < end:
            unclear = self.hook is not None and self.hook.state is not State.CLEAR
            await self._step(min(self.clock.now + (CLOSE if unclear else STEP), end))

    async def _step(self, until: float) -> None:
        while self._next_mail <= until:
            self._run(self._next_mail)
            recipients, sender = self.world.mail(self._chance)
            self.send(*recipients, sender=sender)
            self._next_mail += self._chance.expovariate(self.mails / 86400)
        self._run(until)
        for errand in list(self.errands):
            errand(until)
        if self.collection is not None and self.hook is not None:
            self.collection.tick()
            while self.collection.busy:
                self.collection.step()
            self.hook.tick()
            for _ in range(3):
                await asyncio.sleep(0)

    def _run(self, until: float) -> None:
        if self.hung:
            self.clock.now = max(self.clock.now, until)
        else:
            self.qmail.run_until(until)

    def _facts(self) -> tuple[Processes, FileSystem]:
        running = PROGRAMS if self.alive else ()
        found = [Process(program, 1.0, 1 << 20, 8, BIRTH) for program in running]
        free = FileSystem(
            100 * _GIB, int(self.free["bytes"] * 100 * _GIB), 1_000_000, int(self.free["inodes"] * 1_000_000)
        )
        return Processes(found, dict(self.qmail.deliveries) if self.alive else {}), free

    async def _connect(self, target: Target, _pace: Pace, answer: Callable[[bool], None]) -> None:
        answer(self.world.reachable(target.host, self.clock.now))


@contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """Have the exporter's collectors go by that clock: their patience, their elections, their rescans."""
    with ExitStack() as stack:
        for module in _CLOCKED:
            stack.enter_context(mock.patch(f"qmail_exporter.{module}.monotonic", clock))
        stack.enter_context(mock.patch("qmail_exporter.collect.log.time", clock))
        yield


async def record(
    host: Host, length: float, turns: Mapping[float, Callable[[Host], Awaitable[None] | None]]
) -> None:
    """Let a host live for `length` seconds with an exporter beside it, scraped every `SCRAPE` seconds.

    Args:
        host: one that has just been made.
        length: of the recording.
        turns: what befalls it, by the seconds since the exporter's start.
    """
    with clocked(host.clock):
        await host.live_until(BIRTH)
        host.watch()
        moments = sorted({*turns, *(SCRAPE * n for n in range(int(length // SCRAPE) + 1))})
        for moment in moments:
            await host.live_until(BIRTH + moment)
            if moment in turns and (done := turns[moment](host)) is not None:
                await done
            if moment % SCRAPE == 0:
                await host.scrape()
        await host.unwatch()
        host.qmail.kill()
        host.log.close()
