"""The asyncio loop that ties it together: one loop owns the models, so that nothing needs a lock.

Long work runs in steps of some milliseconds, between which events are read and scrapes answered.
"""

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from time import monotonic

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from qmail_exporter import __version__, logfmt, server, systemd
from qmail_exporter.collect import Collection, HostWatch, LogWatch, QueueWatch
from qmail_exporter.config import Config, LogSpec, QueueSpec
from qmail_exporter.discover import find_logs, find_queues
from qmail_exporter.metrics import QmailCollector
from qmail_exporter.sources.logs import open_log
from qmail_exporter.web import Site, make_app

logger = logfmt.get_logger(__name__)

DRAIN = 0.1
"""Seconds at least between two reads of events.  A busy queue makes thousands a second, which fold better the later they
are read; the kernel holds 16,384 of them."""
DISCOVER = 5.0
"""Seconds between two searches for a log, while there is none."""


async def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Raises:
        server.ListenError: an address cannot be listened on.
        OSError: systemd passed no sockets, or others than stream sockets.
    """
    sockets = systemd.listen_fds() if config.systemd_socket else server.listen(config.listen)
    if not sockets:
        raise OSError("systemd passed no socket: start the exporter through its socket unit")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: logger.info("nothing to reload: files are followed as they change"))
    await Daemon(config).serve(sockets, stop)
    return 0


class Daemon:
    """The running exporter of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.collection = _collection(config)
        self._next_discovery = monotonic() + DISCOVER
        self._stepping: asyncio.Task[None] | None = None
        self._watched_fds: set[int] = set()

    async def serve(self, sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
        """Watch, and answer on `sockets`, until `stop` is set."""
        app = make_app(
            self.site(), telemetry_path=self.config.telemetry_path, max_requests=self.config.max_requests
        )
        for sock in sockets:
            logger.info("listening", address=_address(sock), version=__version__)
        ticking = asyncio.create_task(self._tick_forever())
        try:
            systemd.notify("READY=1")
            await server.serve(app, sockets, stop)
        finally:
            systemd.notify("STOPPING=1")
            for task in filter(None, (ticking, self._stepping)):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self._unwatch()
            self.collection.close()
            logger.info("stopped")

    def site(self) -> Site:
        """What the pages show."""
        disable_created_metrics()
        registry = CollectorRegistry()
        registry.register(QmailCollector(self.collection))
        ProcessCollector(registry=registry)
        return Site(registry, self._refresh, lambda: self.collection.ready, self._page)

    async def _refresh(self) -> None:
        self.collection.refresh(self.config.scrape_budget)

    async def _tick_forever(self) -> None:
        interval = min(self.config.tick, systemd.watchdog_interval() or self.config.tick)
        while True:
            try:
                self._tick()
            except Exception:  # a fault in one tick must not end the daemon; the next rescan makes up for it
                logger.exception("a tick failed")
            systemd.notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    def _tick(self) -> None:
        self._discover()
        self.collection.tick()
        self._watch()
        if self.collection.busy and (self._stepping is None or self._stepping.done()):
            self._stepping = asyncio.create_task(self._step_while_busy())

    async def _step_while_busy(self) -> None:
        while self.collection.busy:
            try:
                self.collection.step()
            except Exception:
                logger.exception("a step failed")
                return
            await asyncio.sleep(0)

    # --- descriptors

    def _watch(self) -> None:
        """Have the loop say when there are events; which descriptors there are changes with the queues."""
        loop = asyncio.get_running_loop()
        fds = {fd for watch in self.collection.queues if (fd := watch.fileno()) is not None}
        for fd in self._watched_fds - fds:
            loop.remove_reader(fd)
        for fd in fds - self._watched_fds:
            loop.add_reader(fd, self._drain_soon, fd)
        self._watched_fds = fds

    def _unwatch(self) -> None:
        loop = asyncio.get_running_loop()
        for fd in self._watched_fds:
            loop.remove_reader(fd)
        self._watched_fds = set()

    def _drain_soon(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        self._watched_fds.discard(fd)
        loop.call_later(DRAIN, self._drain)

    def _drain(self) -> None:
        for watch in self.collection.queues:
            watch.read_events()
        self._watch()

    # --- what is there

    def _discover(self) -> None:
        """Look for a log again while none was given and none has been found."""
        if self.config.logs or self.collection.logs or monotonic() < self._next_discovery:
            return
        self._next_discovery = monotonic() + DISCOVER
        self.collection.logs += _logs(self.config, self.collection.queues)

    def _page(self) -> str:
        path = escape(self.config.telemetry_path)
        queues = "".join(
            f"<tr><td>{escape(watch.name)}<td>{escape(watch.path)}<td>{_state(watch)}" for watch in self.collection.queues
        )
        return _PAGE.format(version=escape(__version__), path=path, queues=queues)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>qmail_exporter</title>
<style>:root{{color-scheme:light dark}}body{{font:1rem/1.5 system-ui,sans-serif;margin:2rem}}td,th{{padding-right:1.5rem;text-align:left}}</style>
</head><body><main><h1>qmail_exporter</h1><p>Version {version}. <a href="{path}">Metrics</a>,
<a href="/-/healthy">health</a>, <a href="/-/ready">readiness</a>.</p>
<table><thead><tr><th>Queue<th>Directory<th>State</tr></thead><tbody>{queues}</tbody></table></main></body></html>
"""


def _state(watch: QueueWatch) -> str:
    if watch.tree is None:
        return "not there, or not to be opened"
    if not watch.scanned:
        return f"being scanned, {watch.progress:.0%} done"
    return f"{len(watch.queue)} messages" + ("" if watch.whole else "; not all of it is known, the log says why")


def _collection(config: Config) -> Collection:
    specs = config.queues or find_queues(config.home) or (QueueSpec("default", config.home / "queue"),)
    watches = [
        QueueWatch(spec.name, str(spec.path), seats=config.domains_max, rescan_interval=config.rescan_interval)
        for spec in specs
    ]
    control = _control(config.home)
    hosts = {
        spec.name: HostWatch(str(spec.path), control, alone=len(specs) == 1) for spec in specs
    }
    logs = _logs(config, watches)
    if not logs:
        logger.warning("no log of qmail-send was found: name it with --qmail.log")
    return Collection(watches, logs, hosts)


def _control(home: Path) -> str:
    """indimail keeps its control files in /etc."""
    theirs = Path("/etc/indimail/control")
    return str(theirs if not (home / "control").is_dir() and theirs.is_dir() else home / "control")


def _logs(config: Config, watches: Sequence[QueueWatch]) -> list[LogWatch]:
    queues = [QueueSpec(watch.name, Path(watch.path)) for watch in watches]
    found: Sequence[LogSpec] = config.logs or find_logs(config.home, queues)
    flows = {watch.name: watch.flow for watch in watches}
    return [
        LogWatch(open_log(log.spec), flows if log.queue is None else {log.queue: flows[log.queue]})
        for log in found
    ]


def _address(sock: socket.socket) -> str:
    where = sock.getsockname()
    if not isinstance(where, tuple):
        return str(where)
    host, port = where[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
