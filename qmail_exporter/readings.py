"""Where each metric's samples come from: functions of one queue's `View`.

A reading yields label values and a value for each sample.  It yields nothing while what it needs is not known: a zero would
be a claim.  None of them costs time that grows with the queue.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, floor
from typing import TypeAlias

from qmail_exporter.collect import HostWatch, LogWatch, QueueWatch
from qmail_exporter.formats.log import KINDS
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.formats.tcpto import is_dead
from qmail_exporter.queue.domains import OTHER
from qmail_exporter.queue.times import Timeline
from qmail_exporter.queue.traffic import Histogram, Traffic
from qmail_exporter.sources.host import PROGRAMS, Controls, FileSystem, Process

MINUTE, HOUR, DAY = 60, 3600, 86400
AGES = (60, 300, 900, 1800, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR, DAY, 2 * DAY, 3 * DAY, 5 * DAY, 7 * DAY)
WAITS = (0, 60, 300, 900, 1800, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR)
HORIZONS = {"0": 0, "1h": HOUR, "6h": 6 * HOUR, "24h": DAY}
OSSIFIED = 36 * HOUR  # qmail-send.c: from then on it removes what was never queued
CHANNELS = ("local", "remote")
RESULTS = ("success", "failure", "deferral")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Counts at or below each bound, then of all; and the sum."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float


@dataclass(frozen=True, slots=True)
class View:
    """One queue at the moment `now` (Unix seconds) of a scrape."""

    watch: QueueWatch
    host: HostWatch
    log: LogWatch | None
    now: float

    @property
    def log_told(self) -> bool:
        """Whether what the log tells of the present is known: it is followed, and was read back."""
        return self.log is not None and self.log.recalled and self.log.up


Value: TypeAlias = float | Distribution
Sample: TypeAlias = tuple[tuple[str, ...], Value]
Reading: TypeAlias = Callable[[View], Iterator[Sample]]


# --- the queue


def up(view: View) -> Iterator[Sample]:
    yield (), float(view.watch.whole)


def messages(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess"):
        yield (), len(view.watch.queue)


def todo_messages(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess", "todo"):
        yield (), view.watch.queue.sums.todo


def queue_bytes(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess"):
        yield (), view.watch.queue.sums.bytes


def recipients(view: View) -> Iterator[Sample]:
    sums = view.watch.queue.sums
    for channel in _channels(view):
        if channel in sums.channels:
            number = sums.channels.index(channel)
            yield (channel, "pending"), sums.pending[number]
            yield (channel, "done"), sums.done[number]
        else:
            yield (channel, "pending"), 0
            yield (channel, "done"), 0


def bounce_messages(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess", "todo", "info"):
        _, bounces, doubles = view.watch.queue.sums.senders
        yield ("bounce",), bounces
        yield ("double",), doubles


def failed_messages(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess", "bounce"):
        yield (), view.watch.queue.sums.failed


def message_age(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess", "todo", "info"):
        for kind, births in zip(("mail", "bounce"), view.watch.queue.sums.births, strict=True):
            yield (kind,), _ages(births, view.now)


def oldest_message(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess", "todo", "info"):
        firsts = [births.first() for births in view.watch.queue.sums.births]
        known = [first for first in firsts if first is not None]
        if known:
            yield (), min(known)


def oldest_arrival(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess", "todo", "info"):
        first = view.watch.queue.sums.arrivals.first()
        if first is not None:
            yield (), first


def expiring_messages(view: View) -> Iterator[Sample]:
    controls = view.host.controls
    if controls is None or not view.watch.knows("mess", "todo", "info"):
        return
    for within, seconds in HORIZONS.items():
        born_before = ceil(view.now + seconds - controls.queuelifetime) - 1
        yield (within,), sum(births.count(born_before) for births in view.watch.queue.sums.births)


def next_attempt(view: View) -> Iterator[Sample]:
    if not view.log_told:
        return
    sums = view.watch.queue.sums
    for channel in _channels(view):
        due = sums.due[sums.channels.index(channel)] if channel in sums.channels else Timeline()
        counts = [due.count(floor(view.now + wait)) for wait in WAITS]
        yield (channel,), Distribution(WAITS, [*counts, due.total], due.sum - view.now * due.total)


def orphan_messages(view: View) -> Iterator[Sample]:
    if view.watch.knows("mess", "todo", "info"):
        yield (), view.watch.queue.sums.unqueued.count(ceil(view.now - OSSIFIED) - 1)


# --- domains


def domain_pending(view: View) -> Iterator[Sample]:
    if not _remote_known(view):
        return
    domains = view.watch.queue.sums.domains
    shown = domains.shown()
    for domain in shown:
        yield (domain.name,), domain.pending
    yield (OTHER,), domains.pending - sum(domain.pending for domain in shown)


def domain_deferred(view: View) -> Iterator[Sample]:
    if not (view.log_told and _remote_known(view)):
        return
    domains = view.watch.queue.sums.domains
    rest = domains.deferred.copy()
    for domain in domains.shown():
        for reason, count in (domain.deferred or {}).items():
            rest[reason] -= count
            if count:
                yield (domain.name, REASONS[reason]), count
    for reason, count in rest.items():
        if count:
            yield (OTHER, REASONS[reason]), count


def domain_oldest_deferred(view: View) -> Iterator[Sample]:
    if not (view.log_told and _remote_known(view)):
        return
    for domain in view.watch.queue.sums.domains.shown():
        first = domain.births.first() if domain.births else None
        if first is not None:
            yield (domain.name,), first


# --- the log's counters


def _counter(read: Callable[[Traffic], Iterator[Sample]]) -> Reading:
    """A reading of what was counted since the start; nothing until a log was there to be read."""

    def reading(view: View) -> Iterator[Sample]:
        if view.log is not None and view.log.read_once:
            yield from read(view.watch.flow.traffic)

    return reading


def _log_messages(traffic: Traffic) -> Iterator[Sample]:
    yield (), traffic.messages


def _log_bytes(traffic: Traffic) -> Iterator[Sample]:
    yield (), traffic.message_bytes


def _log_ended(traffic: Traffic) -> Iterator[Sample]:
    yield (), traffic.messages_ended


def _deliveries_started(traffic: Traffic) -> Iterator[Sample]:
    for channel in dict.fromkeys((*CHANNELS, *traffic.started)):
        yield (channel,), traffic.started[channel]


def _deliveries(traffic: Traffic) -> Iterator[Sample]:
    usual = [(channel, result) for channel in CHANNELS for result in RESULTS]
    for labels in dict.fromkeys((*usual, *traffic.results)):
        yield labels, traffic.results[labels]


def _problems(traffic: Traffic) -> Iterator[Sample]:
    usual = [("remote", result, reason) for result in RESULTS[1:] for reason in REASONS]
    for labels in dict.fromkeys((*usual, *traffic.problems)):
        yield labels, traffic.problems[labels]


def _domain_deliveries(traffic: Traffic) -> Iterator[Sample]:
    for domain, counts in traffic.domains.shown().items():
        for result in RESULTS:
            yield (domain, result), counts[result]


def _bounces(traffic: Traffic) -> Iterator[Sample]:
    for kind in ("single", "double", "triple"):
        yield (kind,), traffic.bounces[kind]


def _bounced(traffic: Traffic) -> Iterator[Sample]:
    for reason in REASONS:
        yield (reason,), traffic.bounced[reason]


def _durations(traffic: Traffic) -> Iterator[Sample]:
    for labels, histogram in traffic.durations.items():
        yield labels, _classic(histogram)


def _queue_time(traffic: Traffic) -> Iterator[Sample]:
    yield (), _classic(traffic.queue_time)


def _complaints(severity: str) -> Callable[[Traffic], Iterator[Sample]]:
    def read(traffic: Traffic) -> Iterator[Sample]:
        for kind in KINDS[severity]:
            yield (kind,), traffic.complaints[severity, kind]

    return read


def _restarts(traffic: Traffic) -> Iterator[Sample]:
    yield (), traffic.restarts


log_messages = _counter(_log_messages)
log_bytes = _counter(_log_bytes)
log_ended = _counter(_log_ended)
deliveries_started = _counter(_deliveries_started)
deliveries = _counter(_deliveries)
problems = _counter(_problems)
domain_deliveries = _counter(_domain_deliveries)
bounces = _counter(_bounces)
bounced = _counter(_bounced)
durations = _counter(_durations)
queue_time = _counter(_queue_time)
alerts = _counter(_complaints("alert"))
warnings = _counter(_complaints("warning"))
restarts = _counter(_restarts)


def concurrency(attribute: str) -> Reading:
    """Deliveries in progress (`used`), or allowed (`limit`), by channel, as the last status line said."""

    def reading(view: View) -> Iterator[Sample]:
        if view.log_told:
            for use in view.watch.flow.use:
                yield (use.channel,), getattr(use, attribute)

    return reading


# --- the host


def tcpto_hosts(view: View) -> Iterator[Sample]:
    if view.host.tcpto is not None:
        hosts = view.host.tcpto.hosts
        dead = sum(map(is_dead, hosts))
        yield ("suspect",), len(hosts) - dead
        yield ("dead",), dead


def tcpto_slots(view: View) -> Iterator[Sample]:
    if view.host.tcpto is not None:
        yield (), view.host.tcpto.slots


def tcpto_latest(view: View) -> Iterator[Sample]:
    if view.host.tcpto is not None and view.host.tcpto.hosts:
        yield (), max(host.last for host in view.host.tcpto.hosts)


def process_up(view: View) -> Iterator[Sample]:
    if view.host.processes is not None:
        found = {process.program for process in view.host.processes.found}
        for program in PROGRAMS:
            yield (program,), float(program in found)


def process(fact: Callable[[Process], float | None]) -> Reading:
    """One fact of each of qmail's long-running processes, where this user may know it."""

    def reading(view: View) -> Iterator[Sample]:
        for found in view.host.processes.found if view.host.processes else ():
            value = fact(found)
            if value is not None:
                yield (found.program,), value

    return reading


def running_deliveries(view: View) -> Iterator[Sample]:
    if view.host.processes is not None and view.host.processes.found:
        for channel, count in view.host.processes.deliveries.items():
            yield (channel,), count


def file_system(fact: Callable[[FileSystem], float]) -> Reading:
    """One fact of the queue's file system."""

    def reading(view: View) -> Iterator[Sample]:
        if view.host.file_system is not None:
            yield (), fact(view.host.file_system)

    return reading


def control(fact: Callable[[Controls], float]) -> Reading:
    """One control file's value."""

    def reading(view: View) -> Iterator[Sample]:
        if view.host.controls is not None:
            yield (), fact(view.host.controls)

    return reading


def concurrency_control(view: View) -> Iterator[Sample]:
    if view.host.controls is not None:
        yield ("local",), view.host.controls.concurrencylocal
        yield ("remote",), view.host.controls.concurrencyremote


# --- the exporter


def source_up(view: View) -> Iterator[Sample]:
    watch = view.watch
    areas = watch.tree.areas if watch.tree else ("mess", "todo", "info", "bounce", *CHANNELS)
    for area in areas:
        yield (area,), float(watch.tree is not None and area not in watch.tree.broken)
    yield ("inotify",), float(watch.watched)
    yield ("log",), float(view.log is not None and view.log.up)
    for source, is_up in view.host.up().items():
        yield (source,), float(is_up)


def source_errors(view: View) -> Iterator[Sample]:
    counts = [*view.watch.errors.items(), *view.host.errors.items()]
    if view.log is not None:
        counts += [(("log", kind), count) for kind, count in view.log.errors.items()]
        counts += [(("log", kind), count) for kind, count in view.log.follower.losses.items()]
    if view.watch.flow.traffic.forgotten:
        counts.append((("log", "open_deliveries"), view.watch.flow.traffic.forgotten))
    for labels, count in counts:
        yield labels, count


def watch_fact(fact: Callable[[QueueWatch], float | None]) -> Reading:
    """One fact of the exporter's own work on a queue."""

    def reading(view: View) -> Iterator[Sample]:
        value = fact(view.watch)
        if value is not None:
            yield (), value

    return reading


def rescans(view: View) -> Iterator[Sample]:
    for reason in ("start", "audit", "overflow", "replaced", "readable", "poll"):
        yield (reason,), view.watch.rescans[reason]


def log_lines(view: View) -> Iterator[Sample]:
    for kind, count in view.watch.flow.traffic.lines.items():
        yield (kind,), count
    if view.log is not None:
        yield ("foreign",), view.log.foreign


def log_unparsed(view: View) -> Iterator[Sample]:
    if view.log is not None:
        yield (), view.log.unparsed


def log_lag(view: View) -> Iterator[Sample]:
    if view.log_told and view.log is not None:
        last = view.watch.flow.last
        behind = view.log.follower.lag_bytes() > 0 and last is not None
        yield (), max(view.now - last, 0.0) if behind and last is not None else 0.0


def log_last(view: View) -> Iterator[Sample]:
    if view.watch.flow.last is not None:
        yield (), view.watch.flow.last


# --- what several readings share


def _channels(view: View) -> list[str]:
    """The channels of which everything is known."""
    watch = view.watch
    if watch.tree is None or not watch.knows("mess", "todo", "info"):
        return []
    return [channel for channel in watch.tree.channels if watch.knows(channel)]


def _remote_known(view: View) -> bool:
    channels = view.watch.tree.channels if view.watch.tree else ["remote"]
    return view.watch.knows("mess", "todo", "info", *(channel for channel in channels if channel != "local"))


def _ages(births: Timeline, now: float) -> Distribution:
    # age <= bound is birth >= now - bound; births are whole seconds.
    counts = [births.total - births.count(ceil(now - bound) - 1) for bound in AGES]
    return Distribution(AGES, [*counts, births.total], now * births.total - births.sum)


def _classic(histogram: Histogram) -> Distribution:
    return Distribution(tuple(histogram.bounds), histogram.cumulative(), histogram.sum)

