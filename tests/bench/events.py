"""What an inotify event costs, from the kernel's queue to a nominated message: here, and through pyinotify's Notifier."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import pyinotify

from bench.report import Figure, Row, progress
from qmail_exporter.demo.qmail import Clock, Qmail, run
from qmail_exporter.demo.report import accepted
from qmail_exporter.formats.envelope import message_id
from qmail_exporter.sources.inotify import Watcher
from qmail_exporter.sources.scan import Tree

MESSAGES = 1000
"""A round's; their events are fewer than the 16,384 that the kernel holds by default."""
ROUNDS = 15
_FORM = "{:.2f} µs"


class _Nominate(pyinotify.ProcessEvent):  # type: ignore[misc]  # pyinotify has no types
    def my_init(self) -> None:
        self.messages: set[int | None] = set()
        self.events = 0

    def process_default(self, event: pyinotify.Event) -> None:
        self.events += 1
        self.messages.add(message_id(event.name.encode()))


def measure(place: Path) -> Iterator[Row]:
    """Yield the rows; `place` is a directory on a tmpfs."""
    progress("inotify events")
    clock = Clock(1_790_000_000.0)
    with tempfile.TemporaryDirectory(dir=place) as home:
        qmail = Qmail(
            Path(home),
            clock=clock,
            respond=lambda *_: accepted("192.0.2.1", "250 ok"),
            log=lambda _: None,
            concurrency={"local": 10, "remote": 100},
        )
        qmail.start()
        ours, theirs = zip(*_rounds(qmail, clock), strict=True)
    here = Figure(ours, _FORM)
    yield Row("processor time an inotify event", here, "limit", Figure([1.5], _FORM), ("≤", 1))
    yield Row(
        "processor time an inotify event", here, "pyinotify's Notifier", Figure(theirs, _FORM), ("≤", 0.2)
    )


def _rounds(qmail: Qmail, clock: Clock) -> Iterator[tuple[float, float]]:
    """Yield what an event costs each reader, in microseconds."""
    tree = Tree(qmail.host.queue)
    watcher = Watcher(qmail.host.queue, {area: tree.directories(area) for area in tree.areas})
    manager = pyinotify.WatchManager()
    for watch in watcher._manager.watches.values():
        manager.add_watch(watch.path, watch.mask, quiet=False)
    nominate = _Nominate()
    notifier = pyinotify.Notifier(manager, nominate, timeout=0)
    try:
        for _ in range(ROUNDS):
            for _ in range(MESSAGES):
                run(qmail.inject(b"a@mail.test", [b"b@remote.example"]))
                qmail.run_until(clock.now + 0.1)
            begun = process_time()
            news = watcher.read()
            ours = process_time() - begun
            nominate.my_init()
            begun = process_time()
            while notifier.check_events(0):
                notifier.read_events()
                notifier.process_events()
            theirs = process_time() - begun
            if news.overflow or news.messages != nominate.messages - {None} or news.events != nominate.events:
                raise RuntimeError("the two readers did not see the same events")
            yield ours * 1e6 / news.events, theirs * 1e6 / nominate.events
    finally:
        notifier.stop()
        watcher.close()
        tree.close()
