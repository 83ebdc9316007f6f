"""Passes and deliveries: how qmail-send works off a channel (the jobs, deliveries and passes of qmail-send.c).

A pass opens one message's channel file and starts a delivery for each record to do, while the channel's concurrency
allows; the next message's pass begins when this one has read its file. A delivery ends with a report; success and
failure mark the record done. When the pass and its deliveries are over, the message waits for its next attempt, or, if
all are done, the file is unlinked.
"""

import heapq
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qmail_exporter.demo import bounce, tcpto
from qmail_exporter.demo.host import CHANNELS, Host, Steps, read_file
from qmail_exporter.demo.report import EXPIRED, Outcome, skipped
from qmail_exporter.demo.schedule import Schedule
from qmail_exporter.formats import FormatError, envelope, retry

_SLEEP_SYSFAIL = 123
_REPORT_MAX = 10000
_RESULTS = {"K": "success", "Z": "deferral", "D": "failure"}

Respond = Callable[[str, bytes, float], Outcome]
"""How an attempt in a channel to reach a recipient, begun at a time, goes."""
Log = Callable[[bytes], None]
"""Takes a line of the log, without its newline."""


@dataclass(slots=True)
class _Job:
    """A pass over a message's channel file, and the deliveries begun in it."""

    number: int
    channel: str
    retry: int
    dying: bool
    records: Iterator[tuple[int, bytes]]
    users: int = 1
    unfinished: int = 0
    read: bool = False


@dataclass(slots=True)
class _Delivery:
    number: int
    job: _Job
    place: int
    recipient: bytes
    outcome: Outcome


class Deliveries:
    """The open passes and deliveries of one qmail-send.

    Args:
        host: where.
        schedule: where the messages come from and go back to.
        limits: how many deliveries a channel may have open.
        lifetime: seconds after its birth from which on a message is tried for the last time.
        respond: how each attempt goes.
        log: takes the lines.

    Attributes:
        open: deliveries under way, by channel.
        stopping: exit as soon as possible: shown in the status line.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that a delivery needs
        self,
        host: Host,
        schedule: Schedule,
        limits: dict[str, int],
        lifetime: int,
        respond: Respond,
        log: Log,
    ) -> None:
        self.open = dict.fromkeys(CHANNELS, 0)
        self.stopping = False
        self._host = host
        self._schedule = schedule
        self._limits = limits
        self._lifetime = lifetime
        self._respond = respond
        self._log = log
        self._passes: dict[str, _Job | None] = dict.fromkeys(CHANNELS)
        self._jobs = 0
        self._ends: list[tuple[float, int, _Delivery]] = []
        self._started = 0

    def log_status(self) -> None:
        """Log the status line."""
        use = b"".join(b" %b %d/%d" % (c.encode(), self.open[c], self._limits[c]) for c in CHANNELS)
        self._log(b"status:" + use + (b" exitasap" if self.stopping else b""))

    def wakeup(self) -> float:
        """When there is something to do here: Unix seconds, or infinity."""
        now = self._host.clock()
        times = [end for end, _, _ in self._ends[:1]]
        for channel in CHANNELS if not self.stopping else ():
            if self._passes[channel]:
                times += [now] * (self.open[channel] < self._limits[channel])
            elif self._jobs < sum(self._limits.values()):
                times += [due for due, _ in self._schedule.due[channel][:1]]
        return min(times, default=float("inf"))

    def step(self, channel: str, recent: int) -> Steps[bool]:
        """Begin a pass if one is due and none is open; start one delivery or end the pass. Return if it did any."""
        job = self._passes[channel]
        if job is None:
            due = self._schedule.due[channel]
            if self._jobs >= sum(self._limits.values()) or not due or due[0][0] > recent:
                return False
            job = self._passes[channel] = self._begin(heapq.heappop(due)[1], channel, recent)
            if job is None:
                return True
        if self.open[channel] >= self._limits[channel]:
            return False
        record = next(job.records, None)
        if record is not None:
            yield from self._start(job, *record)
        else:
            job.read = True
            self._passes[channel] = None
            yield from self._leave(job)
        return True

    def end(self) -> Steps[bool]:
        """Take in the reports of deliveries that have ended by now; return whether there were any."""
        now = self._host.clock()
        ended = False
        while self._ends and self._ends[0][0] <= now:
            delivery = heapq.heappop(self._ends)[2]
            if delivery.outcome.timed_out:
                yield from tcpto.note(self._host, delivery.outcome.host, timed_out=True)
            yield from self._report(delivery)
            ended = True
        return ended

    def _begin(self, number: int, channel: str, recent: int) -> _Job | None:
        try:
            content = read_file(self._host.path(channel, number))
            _, birth = self._host.read_info(number)
        except (OSError, FormatError):  # as getinfo() fails of a file that is being written
            self._log(
                b"warning: trouble opening " + self._host.name(channel, number) + b"; will try again later"
            )
            heapq.heappush(self._schedule.due[channel], (recent + _SLEEP_SYSFAIL, number))
            return None
        self._jobs += 1
        again = retry.next_attempt(birth, recent, retry.SKIP[channel])
        return _Job(number, channel, again, recent > birth + self._lifetime, _to_do(content))

    def _start(self, job: _Job, place: int, recipient: bytes) -> Steps[None]:
        channel = job.channel
        job.unfinished += 1
        job.users += 1
        self._started += 1
        self.open[channel] += 1
        self._host.ledger.started[channel] += 1
        to = channel.encode() + b" " + envelope.log_safe(recipient)
        self._log(b"starting delivery %d: msg %d to %b" % (self._started, job.number, to))
        self.log_status()
        now = self._host.clock()
        outcome = self._respond(channel, recipient, now)
        pid = self._host.next_pid()
        if outcome.host:
            known, dead = yield from tcpto.look_up(self._host, outcome.host, pid)
            if dead:
                outcome = skipped()
            elif known and not outcome.timed_out:
                yield from tcpto.note(self._host, outcome.host, timed_out=False)
        delivery = _Delivery(self._started, job, place, recipient, outcome)
        heapq.heappush(self._ends, (now + outcome.duration, self._started, delivery))

    def _report(self, delivery: _Delivery) -> Steps[None]:
        """Log a report, mark the recipient, and leave the job (del_dochan)."""
        job, outcome = delivery.job, delivery.outcome
        letter, report = outcome.letter, outcome.report[: _REPORT_MAX - 2]
        ledger = self._host.ledger
        if letter == "Z" and job.dying:
            letter, report = "D", report + EXPIRED
            ledger.expired += 1
        result = _RESULTS.get(letter, "mangled")
        ledger.results[job.channel, result] += 1
        if result == "mangled":
            self._log(b"delivery %d: report mangled, will defer" % delivery.number)
        else:
            words = result.encode() + b": " + envelope.log_safe(report)
            self._log(b"delivery %d: %b" % (delivery.number, words))
        if result in ("deferral", "mangled"):
            ledger.messages[job.number].channels[job.channel].deferred[delivery.place] = report
        if result == "failure":
            yield from bounce.add(self._host, job.number, delivery.recipient, report)
        if result in ("success", "failure"):
            yield from self._mark_done(job, delivery.place)
            job.unfinished -= 1
        yield from self._leave(job)
        self.open[job.channel] -= 1
        self.log_status()

    def _mark_done(self, job: _Job, place: int) -> Steps[None]:
        """Write D over the record's T (markdone)."""
        path = self._host.path(job.channel, job.number)
        file = os.open(path, os.O_WRONLY)
        try:
            os.lseek(file, place, os.SEEK_SET)
            os.write(file, b"D")
            channel = self._host.ledger.messages[job.number].channels[job.channel]
            del channel.pending[place]
            channel.deferred.pop(place, None)
            channel.done += 1
            yield f"{job.channel} write"
        finally:
            os.close(file)
        self._host.stamp(path)
        yield f"{job.channel} close"

    def _leave(self, job: _Job) -> Steps[None]:
        """Let go of a job; the last to do so unlinks the file or schedules the next attempt (job_close)."""
        job.users -= 1
        if job.users:
            return
        self._jobs -= 1
        if not job.read or job.unfinished:
            heapq.heappush(self._schedule.due[job.channel], (job.retry, job.number))
            return
        os.unlink(self._host.path(job.channel, job.number))
        del self._host.ledger.messages[job.number].channels[job.channel]
        yield f"{job.channel} unlink"
        if not any(os.path.exists(self._host.path(channel, job.number)) for channel in CHANNELS):
            self._schedule.add(job.number, [])


def _to_do(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the place and address of each record that is to do."""
    place = 0
    while (end := content.find(b"\0", place)) >= 0:
        if content[place] == ord("T"):
            yield place, content[place + 1 : end]
        place = end + 1
