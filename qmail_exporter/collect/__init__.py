"""Everything that is watched, and the order in which it is brought up to date."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic

from qmail_exporter.collect.directory import QueueWatch
from qmail_exporter.collect.double import DoubleBounceWatch
from qmail_exporter.collect.host import HostWatch
from qmail_exporter.collect.log import LogWatch

__all__ = ["Collection", "DoubleBounceWatch", "HostWatch", "LogWatch", "QueueWatch", "spare"]

STEP = 0.02
"""Seconds that one step of long work may take about, so that scrapes and events get their turn."""
ELECTION = 60.0
"""Seconds between two choices of the domains that have series of their own."""
_DONE = object()


def spare() -> None:
    """Have Python's garbage collector look seldom, for as long as this process lives.

    Records and looks are made by the thousand and gone a moment later without it: there are no cycles in them.  It would
    walk through those there are every few hundred, which takes a tenth of the time of reading a log.
    """
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


class Collection:
    """The queues and logs of one host.

    `tick` is for once a second, `refresh` for when somebody asks, `step` for whenever there is time; each returns soon.
    """

    def __init__(
        self, queues: Sequence[QueueWatch], logs: Sequence[LogWatch], hosts: Mapping[str, HostWatch]
    ) -> None:
        self.queues = list(queues)
        self.logs = list(logs)
        self.hosts = dict(hosts)  # by the queue's name, as the next
        self.double_bounces: dict[str, DoubleBounceWatch] = {}
        self._ticked = False
        self._reschedules: list[Iterator[None]] = []
        self._send_since: dict[str, float | None] = {}
        self._renewals: dict[str, int] = {}
        self._next_election = monotonic()

    @property
    def ready(self) -> bool:
        """Whether every queue that is there has been scanned, and every log that can be read was read back."""
        scanned = all(watch.scanned for watch in self.queues if watch.tree is not None)
        return self._ticked and scanned and all(log.recalled or log.error for log in self.logs)

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(
            self._reschedules
            or any(watch.sweeps.due or watch.behind for watch in self.queues)
            or any(log.behind for log in self.logs)
            or self._recalling()
        )

    @property
    def news(self) -> int:
        """How many events and lines of logs there have been, others' lines too: while it stays, nothing happens."""
        told = sum(watch.events + sum(watch.flow.traffic.lines.values()) for watch in self.queues)
        return told + sum(log.foreign + log.unparsed for log in self.logs)

    @property
    def steady(self) -> bool:
        """Whether there is nothing to do, and whatever happens shows as an event or stands in a log."""
        return (
            self.ready
            and not self.busy
            and all(watch.whole and not watch.pending for watch in self.queues)
            and all(log.up for log in self.logs)
        )

    def tick(self) -> None:
        """Look after what no event tells, and bring all up to date, a little."""
        for watch in self.queues:
            watch.tick()
        self._ticked = True
        self.refresh(STEP, exact=False)
        if monotonic() >= self._next_election:
            self._next_election = monotonic() + ELECTION
            for watch in self.queues:
                watch.queue.sums.domains.elect()
                watch.flow.traffic.domains.elect()
            for doubles in self.double_bounces.values():
                doubles.counts.elect()

    def refresh(self, budget: float, *, exact: bool = True) -> None:
        """Bring the models up to date with what had happened when this was called, for at most `budget` seconds.

        The log is read first, then events, and the messages they name are looked at; only then are the log's lines taken in.
        What the budget did not suffice for stays in `QueueWatch.pending`, and in the log.  So does the log of a queue for
        which other processes scan, as nothing is looked at there: a line that came before its message would be lost.
        """
        until = monotonic() + budget
        apart = [watch.flow for watch in self.queues if watch.apart]
        logs = [log for log in self.logs if not any(flow in apart for flow in log.flows)]
        while True:
            records = [(log, log.read()) for log in logs]
            self._look(until, exact=exact)
            for log, batch in records:
                for watch in self.queues:
                    watch.look_at_named(log.messages(batch, watch.flow), log.new_messages(batch, watch.flow))
                log.observe(batch)
            for watch in self.queues:
                watch.place()
            if monotonic() >= until or not any(log.behind for log in logs):
                break
        for doubles in self.double_bounces.values():
            doubles.read()
        self._notice()
        if exact:
            for watch in self.queues:
                watch.queue.settle()
            for host in self.hosts.values():
                host.read()

    def log_of(self, watch: QueueWatch) -> LogWatch | None:
        """The log that tells of a queue, if one is followed."""
        return next((log for log in self.logs if watch.flow in log.flows), None)

    def step(self) -> bool:
        """Do some of the work that takes long: scans, the retained log, next attempts after a start of qmail-send.

        Returns whether there was something to do, and not only to wait for.
        """
        until = monotonic() + STEP
        while monotonic() < until:
            if self._reschedules:
                if next(self._reschedules[0], _DONE) is _DONE:
                    del self._reschedules[0]
            elif any(watch.sweeps.due for watch in self.queues):
                for watch in self.queues:
                    watch.read_events()
                    watch.sweep()
                if self._waiting:
                    break
            elif log := self._recalling():
                self._recall(log)
            else:
                break
        self.refresh(STEP, exact=False)
        return not self._waiting

    def close(self) -> None:
        """Let go of everything."""
        for watch in self.queues:
            watch.close()
        for log in self.logs:
            log.close()
        for doubles in self.double_bounces.values():
            doubles.close()

    @property
    def _waiting(self) -> bool:
        """Whether every sweep that is due waits for another process."""
        return (
            not self._reschedules
            and all(watch.waiting for watch in self.queues if watch.sweeps.due)
            and any(watch.waiting for watch in self.queues)
        )

    def _look(self, until: float, *, exact: bool) -> None:
        """Look at what events have nominated; each queue may use its share of the time, and what others left of theirs."""
        for watch in self.queues:
            watch.read_events()
        for place, watch in enumerate(self.queues):
            now = monotonic()
            watch.look(now + (until - now) / (len(self.queues) - place), exact=exact)

    def _recalling(self) -> LogWatch | None:
        """The next log to be read back: when the scans are done, as state is kept only of messages that are held."""
        if not all(watch.settled for watch in self.queues if watch.tree is not None):
            return None
        return next((log for log in self.logs if not log.recalled and log.due), None)

    def _recall(self, log: LogWatch) -> None:
        """Read some of the retained log; first look at whatever may have come before the point up to which that goes."""
        if log.begin():
            self._look(float("inf"), exact=True)
        elif log.recall():
            self._reschedules += [watch.queue.reschedule() for watch in self.queues]

    def _notice(self) -> None:
        """A qmail-send that has started goes by the times of its files: every next attempt may be another.

        And of a queue that has come or was replaced, or an area that could not be read, the log may have told before.
        """
        for watch in self.queues:
            since = watch.queue.send_since
            if self._send_since.setdefault(watch.name, since) != since:
                self._send_since[watch.name] = since
                self._reschedules.append(watch.queue.reschedule())
            log = self.log_of(watch)
            if log is not None and (log.behind or watch.apart):  # apart, no message can be looked at
                continue
            renewed = watch.renewals != self._renewals.get(watch.name, 0)
            self._renewals[watch.name] = watch.renewals
            if log is not None and (renewed or (log.owed and log.follower.present)):
                log.start_over()
                self._look(float("inf"), exact=True)
