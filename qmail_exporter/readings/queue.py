"""The state of the queue: messages, recipients, domains."""

from collections.abc import Iterator
from math import ceil, floor
from operator import attrgetter

from qmail_exporter.formats.reason import REASONS
from qmail_exporter.queue.domains import OTHER, Domain
from qmail_exporter.queue.times import Timeline
from qmail_exporter.readings.view import Distribution, Sample, View

MINUTE, HOUR, DAY = 60, 3600, 86400
AGES = (
    60,
    300,
    900,
    1800,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    3 * DAY,
    5 * DAY,
    7 * DAY,
)
WAITS = (-300, 0, 60, 300, 900, 1800, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR)
HORIZONS = {"0": 0, "1h": HOUR, "6h": 6 * HOUR, "24h": DAY}
OSSIFIED = 36 * HOUR  # qmail-send.c: from then on it removes what was never queued


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
    shown = _shown(view)
    for domain in shown:
        yield (domain.name,), domain.pending
    yield (OTHER,), domains.pending - sum(domain.pending for domain in shown)


def domain_deferred(view: View) -> Iterator[Sample]:
    if not (view.log_told and _remote_known(view)):
        return
    domains = view.watch.queue.sums.domains
    rest = domains.deferred.copy()
    for domain in _shown(view):
        for reason, count in sorted((domain.deferred or {}).items()):
            rest[reason] -= count
            if count:
                yield (domain.name, REASONS[reason]), count
    for reason, count in sorted(rest.items()):
        if count:
            yield (OTHER, REASONS[reason]), count


def domain_oldest_deferred(view: View) -> Iterator[Sample]:
    if not (view.log_told and _remote_known(view)):
        return
    for domain in _shown(view):
        first = domain.births.first() if domain.births else None
        if first is not None:
            yield (domain.name,), first


# --- what several readings share


def _channels(view: View) -> list[str]:
    """The channels of which everything is known."""
    watch = view.watch
    if watch.tree is None or not watch.knows("mess", "todo", "info"):
        return []
    return [channel for channel in watch.tree.channels if watch.knows(channel)]


def _shown(view: View) -> list[Domain]:
    """The domains that have series of their own, in the same order at each scrape."""
    return sorted(view.watch.queue.sums.domains.shown(), key=attrgetter("name"))


def _remote_known(view: View) -> bool:
    channels = view.watch.tree.channels if view.watch.tree else ["remote"]
    return view.watch.knows("mess", "todo", "info", *(channel for channel in channels if channel != "local"))


def _ages(births: Timeline, now: float) -> Distribution:
    # age <= bound is birth >= now - bound; births are whole seconds.
    counts = [births.total - births.count(ceil(now - bound) - 1) for bound in AGES]
    # A birth touched into the future is a negative age, but without a negative bound OpenMetrics wants no negative sum.
    return Distribution(AGES, [*counts, births.total], max(now * births.total - births.sum, 0.0))
