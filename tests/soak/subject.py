"""One exporter under test: a collection, what it could know, and what it should have counted."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from qmail_exporter.demo.ledger import Ledger
from qmail_exporter.metrics import QmailCollector
from qmail_exporter.sources.inotify import News, Watcher
from rig import Series, series, settle, watching
from soak.rights import bound_by_modes
from soak.traffic import Traffic
from soak.written import Log, Maillog, Told

if TYPE_CHECKING:
    from qmail_exporter.collect import Collection
    from qmail_exporter.sources.logs import Follower

AUDIT_EVERY = 3600.0
SCRAPE_BUDGET = 0.5
BOUNCES = {b"": "single", b"#@[]": "double"}
"""Kinds of bounces by their sender."""
Counts: TypeAlias = Counter[tuple[str, ...]]


def tally(ledger: Ledger, log: Log) -> Counts:
    """Return what the simulator has counted, by what it is and its labels; a mangled report is a deferral."""
    found: Counts = Counter(
        {
            ("messages",): ledger.preprocessed,
            ("bytes",): ledger.preprocessed_bytes,
            ("ended",): ledger.ended,
            ("restarts",): ledger.starts,
            ("lines",): log.lines,
        }
    )
    for channel, count in ledger.started.items():
        found["started", channel] += count
    for (channel, result), count in ledger.results.items():
        found["result", channel, "deferral" if result == "mangled" else result] += count
    for kind, count in ledger.bounces.items():
        found["bounce", kind] += count
    return found


def less(counts: Counts, *others: Counts) -> Counts:
    """Return counts less others, below zero too."""
    rest = Counter(counts)
    for other in others:
        rest.subtract(other)
    return rest


class Subject:
    """An exporter.

    Args:
        name: what it is called in reports.
        traffic: the qmail that it watches.
        log: its log.
        place: a directory for what it was told.
        seats: as below.

    Attributes:
        collection: the exporter, as the daemon has it.
        told: the lines that it could read.
        lost: what was counted of lines that it could not read.
        unsure: bounces, by kind, of which it may have read but one of two lines: what announced them, or their arrival.
        seats: domains with series of their own.
        paused: it is not to be called.
        bound: how many reasons there are to have it bound by the modes of files, which as root it would not be.
        knows_arrivals: the log that was retained when it began goes back to the arrival of all that was queued then.
        scrapes: how many there were; worst: the longest one's seconds.
    """

    def __init__(self, name: str, traffic: Traffic, log: Log, place: Path, *, seats: int) -> None:
        self.name = name
        self.told = Told(place / f"told-{name}")
        self.lost: Counts = Counter()
        self.unsure: Counter[str] = Counter()
        self.paused = False
        self.bound = 0
        self.knows_arrivals = False
        self.scrapes = 0
        self.worst = 0.0
        self._traffic = traffic
        self._log = log
        self.seats = seats
        self._base: Counts | None = None
        self._read: tuple[int, int, Counts] | None = (
            None  # rotations, end of what was told, counts, when it had read all
        )
        self._begun: tuple[Follower, int] | None = (
            None  # what reads the log, and of which queue, since the log was read back
        )
        log.told.append(self.told)
        self.collection: Collection
        self._start()

    @property
    def ledger(self) -> Ledger:
        """What happened."""
        return self._traffic.qmail.ledger

    def new(self, log: Path | None = None) -> "Collection":
        """Return another collection with the same settings, which may follow another log."""
        home = Path(self._traffic.qmail.host.queue).parent
        return watching([home], seats=self.seats, rescan_interval=AUDIT_EVERY, log=log or self._log.path)

    def anew(self) -> "Collection":
        """Return another collection that has just read the queue, and of the log what this one could read."""
        other = self.new(self.told.path)
        settle(other)
        return other

    def _announced(self) -> Counter[str]:
        """Bounces that have not been preprocessed, by kind; they were announced before, but one at most."""
        waiting = [message for message in self.ledger.messages.values() if message.state == "todo"]
        return Counter(BOUNCES[message.sender] for message in waiting if message.sender in BOUNCES)

    def restart(self) -> None:
        """Forget everything, as after kill -9."""
        self.collection.close()
        self._start()

    def _start(self) -> None:
        self.collection = self.new()
        self._base = self._begun = self._read = None
        self.lost = Counter()

    # --- what it does

    def act(self, chance: random.Random) -> None:
        """Do something that the daemon does now and then."""
        if self.paused:
            return
        draw = chance.random()
        if draw < 0.35:
            self.call(self.collection.queues[0].read_events)
        elif draw < 0.65:
            self.call(self.collection.tick)
        elif draw < 0.86:
            self.call(lambda: self.collection.busy and self.collection.step())
        elif draw < 0.9:
            self.scrape()
        else:
            self.call(lambda: self.collection.refresh(0.0, exact=False))

    def scrape(self) -> None:
        """Answer a scrape, and measure it."""
        began = perf_counter()
        self.call(lambda: self.collection.refresh(SCRAPE_BUDGET))
        registry = CollectorRegistry()
        registry.register(QmailCollector(self.collection, self._traffic.clock))
        generate_latest(registry)
        self.worst = max(self.worst, perf_counter() - began)
        self.scrapes += 1

    def settle(self) -> None:
        """Do all that there is to do."""
        self.call(lambda: settle(self.collection))

    def call(self, do: Callable[[], object]) -> None:
        """Let the exporter do something, and note when it begins to count."""
        bound: AbstractContextManager[None] = bound_by_modes() if self.bound else nullcontext()
        with bound:
            do()
        watch, log = self.collection.queues[0], self.collection.logs[0]
        begun = (log.follower, watch.renewals)
        if begun == self._begun or not (log.recalled or log._backfill is not None):
            return
        self._begun = begun
        self.told.begin(self._log.files(), self._log.since())
        if not log._counting or self._base is None:
            self._base = tally(self.ledger, self._log)
            self.unsure = self._announced()
            oldest = self._traffic.clock.now - 1.5 * self._traffic.lifetime
            self.knows_arrivals = self._log.since() <= max(oldest, self._log.began)

    def read_all(self) -> None:
        """Read all that there is, and remember how far that went."""
        self.settle()
        rotations = self._log.writer.rotations if isinstance(self._log.writer, Maillog) else 0
        self._read = rotations, self.told.mark(), tally(self.ledger, self._log)

    # --- what is done to it

    def drop_events(self) -> None:
        """Lose the events that wait, as the kernel does when there are too many; the next read tells of it."""
        watcher = self.collection.queues[0].watcher
        if watcher is None or "read" in watcher.__dict__:
            return
        Watcher.read(watcher)

        def read() -> News:
            del watcher.__dict__["read"]
            return watcher.read()._replace(overflow=True)

        watcher.read = read  # type: ignore[method-assign]

    def may_lose(self, rotations: int) -> bool:
        """Whether all that came since it read everything is in one file, and of one qmail-send: then that can be told exactly."""
        return (
            self._read is not None
            and self._read[0] == rotations
            and self._read[2]["restarts",] == self.ledger.starts
        )

    def lose(self) -> int:
        """Lose what was written since it read everything; returns how many lines."""
        assert self._read is not None
        rotations, mark, counts = self._read
        now = tally(self.ledger, self._log)
        lost = less(now, counts)
        if not lost["lines",]:
            return 0
        self.unsure += self._announced()
        self.lost.update(lost)
        self.told.lose(mark, self._traffic.clock.now)
        self._read = rotations, mark, now
        return lost["lines",]

    def nominate(self, chance: random.Random) -> None:
        """Have it look at messages for nothing, at some that are not there, too."""
        watch = self.collection.queues[0]
        watch.pending |= {1, 424242, *chance.sample(sorted(watch.queue), min(len(watch.queue), 20))}

    # --- what it should show

    def series(self) -> Series:
        """Return what a scrape shows now."""
        return series(self.collection, self._traffic.clock.now)

    def due(self) -> Counts:
        """Return what it should have counted."""
        assert self._base is not None, "it has not begun to count"
        return less(tally(self.ledger, self._log), self._base, self.lost)

    def close(self) -> None:
        """Let go of everything."""
        self.collection.close()
