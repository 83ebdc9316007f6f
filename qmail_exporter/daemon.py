"""The asyncio loop that ties it together: one loop owns the models, so that nothing needs a lock.

Long work runs in steps of some milliseconds, between which events are read and scrapes answered.
"""

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from qmail_exporter import __version__, logfmt, systemd
from qmail_exporter.collect import Collection, DoubleBounceWatch, HostWatch, LogWatch, QueueWatch, spare
from qmail_exporter.config import Config, LogSpec, QueueSpec
from qmail_exporter.discover import find_logs, find_queues
from qmail_exporter.draining import Drain
from qmail_exporter.hook.wiring import make_hook
from qmail_exporter.listening import Ear
from qmail_exporter.metrics import QmailCollector
from qmail_exporter.rhythm import Rhythm
from qmail_exporter.sources.logs import open_log
from qmail_exporter.status import POLICY, Status
from qmail_exporter.web import server
from qmail_exporter.web.app import Site, make_app

if TYPE_CHECKING:
    from qmail_exporter.hook import Hook
    from qmail_exporter.web.door import Door

logger = logfmt.get_logger(__name__)

WAIT = 0.005
"""Seconds between two looks at what other processes have found."""
TURNS = 8
"""Turns that the loop is given between two steps of long work: a scrape takes about so many, and would wait for a step at each."""
DISCOVER = 5.0
"""Seconds between two searches for a log, while there is none."""


async def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Raises:
        DoorError: the file of --web.config.file is wrong.
        server.ListenError: an address cannot be listened on.
        OSError: systemd passed no sockets, or others than stream sockets.
    """
    door = _door(config.web_config)  # before anything listens
    sockets = systemd.listen_fds() if config.systemd_socket else server.listen(config.listen)
    if not sockets:
        raise OSError("systemd passed no socket: start the exporter through its socket unit")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: logger.info("nothing to reload: files are followed as they change")
    )
    spare()
    await Daemon(config, door).serve(sockets, stop)
    return 0


class Daemon:
    """The running exporter of one configuration, behind a door if there is one."""

    def __init__(self, config: Config, door: "Door | None" = None) -> None:
        self.config = config
        self._door = door
        self.collection = _collection(config)
        self.hooks: dict[str, Hook] = {}
        self._closing: asyncio.Future[list[None]] | None = None  # of hooks of queues that are no longer there
        self._make_hooks()
        self.status = Status(
            self.collection, self.hooks, host=socket.gethostname(), telemetry_path=config.telemetry_path
        )
        self._next_discovery = monotonic() + DISCOVER
        self._stepping: asyncio.Task[None] | None = None
        self._rhythm = Rhythm(config.tick, systemd.watchdog_interval())
        self._news = asyncio.Event()  # events have come and were read, or a log has been written to
        self._drain = Drain(lambda: self.collection.queues, self._news.set)
        self._ear = Ear(lambda: self.collection.logs, self._news.set)

    async def serve(self, sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
        """Watch, and answer on `sockets`, until `stop` is set."""
        app = make_app(
            self.site(), telemetry_path=self.config.telemetry_path, max_requests=self.config.max_requests
        )
        for sock in sockets:
            logger.info("listening", address=server.address(sock), version=__version__)
        ticking = asyncio.create_task(self._tick_forever())
        try:
            systemd.notify("READY=1")
            if self._door is None:
                await server.serve(app, sockets, stop)
            else:
                await server.serve(self._door.guard(app), sockets, stop, self._door.encryption)
        finally:
            systemd.notify("STOPPING=1")
            for task in filter(None, (ticking, self._stepping)):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.gather(*(hook.close() for hook in self.hooks.values()))
            self._ear.stop()
            self._drain.unwatch()
            self.collection.close()
            logger.info("stopped")

    def site(self) -> Site:
        """What the pages show."""
        disable_created_metrics()
        registry = CollectorRegistry()
        registry.register(QmailCollector(self.collection, hooks=self.hooks, door=self._door))
        ProcessCollector(registry=registry)
        return Site(registry, self._refresh, lambda: self.collection.ready, self.status.page, POLICY)

    async def _refresh(self) -> None:
        before = self.collection.news
        try:
            self.collection.refresh(self.config.scrape_budget)
        finally:
            self._drain.watch()
            if self.collection.news != before:
                self._news.set()  # it was read here, so that nothing else tells of it

    async def _tick_forever(self) -> None:
        while True:
            begun, interval = monotonic(), self.config.tick
            self._drain.next_tick = begun + interval
            try:
                self._tick()
                interval = self._next_tick(begun)
            except Exception:  # a fault in one tick must not end the daemon; the next rescan makes up for it
                logger.exception("a tick failed")
            systemd.notify("WATCHDOG=1")
            await self._sleep(begun, interval)

    def _next_tick(self, begun: float) -> float:
        """Return how long to sleep after the tick that was begun then; the logs are listened to while ticks come seldom."""
        interval = self._rhythm.next(begun, self.collection.news, self._steady, self._ear.listen)
        if not self._rhythm.still:
            self._ear.stop()
        if self._rhythm.calm:
            self._news.clear()
            self._drain.next_tick = begun + interval
            self._drain.watch()
        return interval

    def _steady(self) -> bool:
        return self.collection.steady and all(hook.quiet for hook in self.hooks.values())

    async def _sleep(self, begun: float, seconds: float) -> None:
        """Sleep for so long after the tick that was begun then; where ticks come seldom, at most until there is news."""
        if self._rhythm.calm:
            timer = asyncio.get_running_loop().call_later(seconds, self._news.set)
            try:
                await self._news.wait()
            finally:
                timer.cancel()
            seconds = begun + min(self.config.tick, seconds) - monotonic()
        await asyncio.sleep(seconds)

    def _tick(self) -> None:
        try:
            self._discover()
            self.collection.tick()
            self.status.step()
        finally:
            self._drain.drained()
            for hook in self.hooks.values():
                hook.step()
        if self.collection.busy and (self._stepping is None or self._stepping.done()):
            self._stepping = asyncio.create_task(self._step_while_busy())

    async def _step_while_busy(self) -> None:
        while self.collection.busy:
            try:
                did = self.collection.step()
            except Exception:
                logger.exception("a step failed")
                return
            finally:
                self._drain.watch()
            if not did:
                await asyncio.sleep(WAIT)
                continue
            for _ in range(TURNS):
                await asyncio.sleep(0)

    # --- hooks

    def _make_hooks(self) -> None:
        config, collection = self.config, self.collection
        self.hooks.clear()
        for watch in collection.queues:
            hook = make_hook(
                config.hook,
                watch.name,
                watch.path,
                home=str(config.home),
                control=_control(config.home),
                ready=partial(_told, collection, watch),
            )
            watch.flow.on_delivery = hook.on_delivery
            self.hooks[watch.name] = hook

    # --- what is there

    def _discover(self) -> None:
        """Look for queues, and for a log, again while none was given and none has been found."""
        if monotonic() < self._next_discovery:
            return
        self._next_discovery = monotonic() + DISCOVER
        if not self.config.queues and all(watch.tree is None for watch in self.collection.queues):
            found = find_queues(self.config.home)
            if found and [spec.name for spec in found] != [watch.name for watch in self.collection.queues]:
                self.collection.close()
                fresh = _collection(self.config)  # of another shape: an indimail home has come
                self.collection.queues, self.collection.logs = fresh.queues, fresh.logs
                self.collection.hosts = fresh.hosts
                self.collection.double_bounces = fresh.double_bounces
                self._closing = asyncio.gather(*(hook.close() for hook in self.hooks.values()))
                self._make_hooks()
        if not self.config.logs and not self.collection.logs:
            self.collection.logs += _logs(self.config, self.collection.queues)


def _door(path: Path | None) -> "Door | None":
    if path is None:
        return None
    # bcrypt and YAML cost a tenth of a second and some megabytes, which most do without.
    from qmail_exporter.web.door import Door  # noqa: PLC0415

    return Door(path)


def _collection(config: Config) -> Collection:
    specs = config.queues or find_queues(config.home) or (QueueSpec("default", config.home / "queue"),)
    watches = [
        QueueWatch(
            spec.name, str(spec.path), seats=config.domains_max, rescan_interval=config.rescan_interval
        )
        for spec in specs
    ]
    control = _control(config.home)
    hosts = {spec.name: HostWatch(str(spec.path), control, alone=len(specs) == 1) for spec in specs}
    logs = _logs(config, watches)
    if not logs:
        logger.warning("no log of qmail-send was found: name it with --qmail.log")
    collection = Collection(watches, logs, hosts)
    if config.double_bounces is not None:
        spec = config.double_bounces
        doubles = DoubleBounceWatch(open_log(spec.spec), seats=config.domains_max)
        collection.double_bounces[spec.queue or watches[0].name] = doubles
    return collection


def _told(collection: Collection, watch: QueueWatch) -> bool:
    """Whether the log, if there is one to be read, has been read back."""
    log = collection.log_of(watch)
    return log is None or log.recalled or not log.up


def _control(home: Path) -> str:
    """Return the directory of control files; indimail has it in /etc."""
    theirs = Path("/etc/indimail/control")
    return str(theirs if not (home / "control").is_dir() and theirs.is_dir() else home / "control")


def _logs(config: Config, watches: Sequence[QueueWatch]) -> list[LogWatch]:
    queues = [QueueSpec(watch.name, Path(watch.path)) for watch in watches]
    found: Sequence[LogSpec] = config.logs or find_logs(config.home, queues)
    flows = {watch.name: watch.flow for watch in watches}
    return [
        LogWatch(partial(open_log, log.spec), flows if log.queue is None else {log.queue: flows[log.queue]})
        for log in found
    ]
