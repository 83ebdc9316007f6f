"""Everything that is watched, and the order in which it is brought up to date."""

from collections.abc import Iterator, Mapping, Sequence
from time import monotonic

from qmail_exporter.collect.directory import QueueWatch
from qmail_exporter.collect.host import HostWatch
from qmail_exporter.collect.log import LogWatch

__all__ = ["Collection", "HostWatch", "LogWatch", "QueueWatch"]

STEP = 0.02
"""Seconds that one step of long work may take about, so that scrapes and events get their turn."""


DONE = object()


class Collection:
    """The queues and logs of one host.

    `tick` is for once a second, `refresh` for when somebody asks, `step` for whenever there is time; each returns soon.
    """

    def __init__(
        self, queues: Sequence[QueueWatch], logs: Sequence[LogWatch], hosts: Mapping[str, HostWatch]
    ) -> None:
        self.queues = list(queues)
        self.logs = list(logs)
        self.hosts = dict(hosts)  # by the queue's name
        self._reschedules: list[Iterator[None]] = []
        self._send_since: dict[str, float | None] = {}
        self._next_election = monotonic()

    @property
    def ready(self) -> bool:
        """Whether every queue that is there has been scanned, and its log read back."""
        scanned = all(watch.scanned for watch in self.queues if watch.tree is not None)
        return scanned and all(log.recalled or not log.up for log in self.logs)

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(
            self._reschedules
            or any(watch.sweeping and watch.tree is not None for watch in self.queues)
            or any(log.follower.behind for log in self.logs if log.recalled)
            or self._recalling()
        )

    def tick(self) -> None:
        """Look after what no event tells, and bring all up to date, a little."""
        for watch in self.queues:
            watch.tick()
        self.refresh(STEP, exact=False)
        if monotonic() >= self._next_election:
            self._next_election = monotonic() + 60
            for watch in self.queues:
                watch.queue.sums.domains.elect()
                watch.flow.traffic.domains.elect()

    def refresh(self, budget: float, *, exact: bool = True) -> None:
        """Bring the models up to date with what had happened when this was called, for at most `budget` seconds.

        The log is read first, then events, and the messages they name are looked at; only then are the log's lines taken in.
        What the budget did not suffice for stays in `QueueWatch.pending`, and in the log.
        """
        until = monotonic() + budget
        while True:
            records = [(log, log.read()) for log in self.logs]
            for watch in self.queues:
                watch.read_events()
                watch.look(until, exact=exact)
            for log, batch in records:
                log.observe(batch)
            for watch in self.queues:
                watch.place()
            if monotonic() >= until or not any(log.follower.behind for log in self.logs):
                break
        self._notice_starts()
        for watch in self.queues:
            watch.queue.settle()
        if exact:
            for host in self.hosts.values():
                host.read()

    def log_of(self, watch: QueueWatch) -> LogWatch | None:
        """The log that tells of a queue, if one is followed."""
        return next((log for log in self.logs if watch.flow in log.flows), None)

    def step(self) -> None:
        """Do some of the work that takes long: scans, the retained log, next attempts after a start of qmail-send."""
        until = monotonic() + STEP
        while self.busy and monotonic() < until:
            for watch in self.queues:
                watch.read_events()
                watch.sweep()
            if log := self._recalling():
                log.recall()
                if log.recalled:
                    self._reschedules += [watch.queue.reschedule() for watch in self.queues]
            if self._reschedules and next(self._reschedules[0], DONE) is DONE:
                self._reschedules.pop(0)
        self.refresh(STEP, exact=False)

    def close(self) -> None:
        """Let go of everything."""
        for watch in self.queues:
            watch.close()
        for log in self.logs:
            log.follower.close()

    def _recalling(self) -> LogWatch | None:
        """The next log to be read back: when the scans are done."""
        if not all(watch.scanned for watch in self.queues if watch.tree is not None):
            return None
        return next((log for log in self.logs if not log.recalled and log.due), None)

    def _notice_starts(self) -> None:
        """A qmail-send that has started goes by the times of its files: every next attempt may be another."""
        for watch in self.queues:
            since = watch.queue.send_since
            if self._send_since.setdefault(watch.name, since) != since:
                self._send_since[watch.name] = since
                self._reschedules.append(watch.queue.reschedule())
