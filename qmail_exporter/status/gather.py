"""The facts of a running exporter: from what is watched, through the same readings as the metrics, to `facts`.

Only sums that are kept anyway are read, so the cost does not grow with the queue.
"""

from collections.abc import Callable
from heapq import nlargest
from math import floor
from operator import attrgetter, itemgetter
from typing import TypeVar

from qmail_exporter.double_bounce import DoubleBounces
from qmail_exporter.formats.log import KINDS
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.formats.tcpto import Host, is_dead, skipped_until
from qmail_exporter.outage.told import passed_over
from qmail_exporter.queue.domains import OTHER, Domain
from qmail_exporter.queue.words import LONGEST, LastWords, Words
from qmail_exporter.readings import Distribution, Reading, View, own, queue
from qmail_exporter.status.facts import (
    Ages,
    DeadHost,
    Destination,
    Doubles,
    Expiring,
    Fact,
    Network,
    Own,
    QueueFacts,
    Room,
    Run,
    Timeouts,
    Unknown,
    Use,
    Waiting,
)
from qmail_exporter.status.history import History
from qmail_exporter.status.sources import AREAS, sources, unread
from qmail_exporter.status.text import Speech, speech

OVERDUE = 300
"""Seconds after a message is due from which on qmail-send should have tried it, if it is not busy."""

_T = TypeVar("_T")


def queue_facts(view: View, history: History, most: int) -> QueueFacts:
    """Return all that the page tells of one queue, with that many domains at most."""
    watch, host = view.watch, view.host
    controls, processes, room = host.controls, host.processes, host.file_system
    lifetime: Fact[int] = Unknown(unread(view, "control")) if controls is None else controls.queuelifetime
    return QueueFacts(
        name=watch.name,
        path=watch.path,
        messages=_count(view, queue.messages, "mess"),
        todo=_count(view, queue.todo_messages, "mess", "todo"),
        size=_count(view, queue.queue_bytes, "mess"),
        oldest=_if_read(view, lambda: _first(queue.oldest_message, view)),
        ages=_if_read(view, lambda: _ages(view)),
        expiring=lifetime if isinstance(lifetime, Unknown) else _if_read(view, lambda: _expiring(view)),
        lifetime=lifetime,
        overdue=_if_told(view, lambda: _overdue(view)),
        waiting=_if_told(view, lambda: _waiting(view, most)),
        use=_if_told(view, lambda: tuple(Use(*use) for use in watch.flow.use)),
        rate=_if_told(view, lambda: history.rate() or Unknown("the exporter has only just started")),
        points=tuple(history.points()),
        minutes=tuple(history.minutes()),
        timeouts=_timeouts(view),
        network=_if_told(view, lambda: _network(view)),
        doubles=None if view.double_bounces is None else _doubles(view.double_bounces),
        sending=Unknown(unread(view, "processes"))
        if processes is None
        else any(process.program == "qmail-send" for process in processes.found),
        room=Unknown(unread(view, "filesystem")) if room is None else Room(*room),
        alerts=_alerts(view),
        heard=watch.flow.last,
        sources=sources(view),
        own=_own(view),
    )


def step(history: History, view: View) -> None:
    """Let a history go on to the moment of a view."""
    depth = len(view.watch.queue) if view.watch.knows("mess") else None
    ended: dict[str, int] | None = None
    if view.log_told:
        ended = {}
        for (_, result), count in view.watch.flow.traffic.results.items():
            ended[result] = ended.get(result, 0) + count
    history.step(view.now, depth, ended)


# --- known, or why not


def _first(reading: Reading, view: View) -> float | None:
    value = next((value for _, value in reading(view)), None)
    assert not isinstance(value, Distribution)  # noqa: S101 - it is asked for readings of numbers only
    return value


def _count(view: View, reading: Reading, *areas: str) -> Fact[int]:
    value = _first(reading, view)
    return Unknown(unread(view, *areas)) if value is None else int(value)


def _if_read(view: View, fact: Callable[[], _T]) -> Fact[_T]:
    """A fact that takes every message's birth."""
    return (
        fact() if view.watch.knows("mess", "todo", "info") else Unknown(unread(view, "mess", "todo", "info"))
    )


def _if_told(view: View, fact: Callable[[], Fact[_T]]) -> Fact[_T]:
    """A fact that takes the log."""
    return fact() if view.log_told else Unknown(unread(view, "log"))


# --- the queue


def _ages(view: View) -> Ages:
    found: list[tuple[int, ...]] = []
    for _, value in queue.message_age(view):
        assert isinstance(value, Distribution)  # noqa: S101 - that is what it gives
        before = (0, *value.counts)
        found.append(tuple(count - less for count, less in zip(value.counts, before, strict=False)))
    return Ages(queue.AGES, *found)


def _expiring(view: View) -> Expiring:
    counts = {labels[0]: value for labels, value in queue.expiring_messages(view)}
    return Expiring(*(int(counts[within]) for within in ("0", "1h", "6h", "24h")))  # type: ignore[arg-type]


def _overdue(view: View) -> int:
    return sum(due.count(floor(view.now - OVERDUE)) for due in view.watch.queue.sums.due)


def _waiting(view: View, most: int) -> Fact[Waiting]:
    areas = view.watch.tree.channels if view.watch.tree else AREAS
    missing = [
        area for area in ("mess", "todo", "info", *areas) if area != "local" and not view.watch.knows(area)
    ]
    if missing:
        return Unknown(unread(view, *missing))
    domains = view.watch.queue.sums.domains
    total = sum(domains.deferred.values())
    waiting = filter(_deferred, domains.shown())
    shown = sorted(waiting, key=lambda each: (-_deferred(each), each.name))[:most]
    found = tuple(_destination(domain, view.watch.flow.words) for domain in shown)
    return Waiting(found, total - sum(each.deferred for each in found), total)


def _deferred(domain: Domain) -> int:
    return sum(domain.deferred.values()) if domain.deferred else 0


def _destination(domain: Domain, words: LastWords) -> Destination:
    counts = ((REASONS[reason], count) for reason, count in (domain.deferred or {}).items() if count)
    reasons = tuple(sorted(counts, key=itemgetter(1), reverse=True))
    oldest = domain.births.first() if domain.births else None
    found = Destination(domain.name, _deferred(domain), domain.pending, oldest, reasons)
    said = words.get(domain.name)
    if said is None:
        return found
    last, remote = said
    found = found._replace(words=_speech(last), said=last.time)
    return (
        found
        if remote is None or remote == last
        else found._replace(earlier=_speech(remote), spoken=remote.time)
    )


def _speech(words: Words) -> Speech:
    return speech(words.report, words.recipient, cut=len(words.report) == LONGEST)


def _alerts(view: View) -> tuple[tuple[str, int], ...]:
    complaints = view.watch.flow.traffic.complaints
    return tuple((kind, count) for kind in KINDS["alert"] if (count := complaints["alert", kind]))


# --- the host and the network


def _timeouts(view: View) -> Fact[Timeouts]:
    table = view.host.tcpto
    if table is None:
        return Unknown(unread(view, "tcpto"))
    dead = sorted(map(_dead_host, passed_over(table, view.now)), key=attrgetter("latest"))
    return Timeouts(tuple(dead), sum(not is_dead(host) for host in table.hosts), table.slots)


def _dead_host(host: Host) -> DeadHost:
    return DeadHost(host.address, host.timeouts, host.last, *skipped_until(host))


def _network(view: View) -> Fact[Network]:
    hook = view.hook
    if hook is None:
        return Unknown("no hook watches this queue")
    record = hook.record
    runs = (Run(name, record.last_run.get(name), record.last_result.get(name)) for name in hook.actions)
    state, skip = hook.state.value, record.last_skip
    return Network(state, record.outages, record.started, record.cleared, tuple(runs), skip, hook.dry_run)


def _doubles(counts: DoubleBounces) -> Doubles:
    sums = {name: sum(found.values()) for name, found in counts.domains.shown().items() if name != OTHER}
    most = nlargest(5, sums.items(), key=itemgetter(1))
    return Doubles(counts.total, counts.duplicates, counts.last, tuple(most))


# --- the exporter


def _own(view: View) -> Own:
    watch, log = view.watch, view.log
    return Own(
        scan=watch.sweeps.progress if watch.sweeps.due else None,
        in_doubt=watch.tree is not None and watch.sweeps.in_doubt,
        recalling=log is not None and log.error is None and not log.recalled,
        recalled=log.progress if log else None,
        pending=len(watch.pending),
        lag=_first(own.log_lag, view) or 0.0,
        overflows=watch.overflows,
        drift=watch.sweeps.drift,
        unparsed=log.unparsed if log else 0,
        malformed=watch.malformed,
        lost=sum(log.losses.values()) if log else 0,
    )
