"""The exporter's own work and troubles."""

from collections import Counter
from collections.abc import Callable, Iterator

from qmail_exporter.collect import QueueWatch
from qmail_exporter.collect.sweeps import REASONS
from qmail_exporter.readings.view import CHANNELS, Reading, Sample, View


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
    counts = Counter(dict.fromkeys(_USUAL_ERRORS, 0))
    counts.update(view.watch.errors)
    counts.update(view.host.errors)
    if view.log is not None:
        counts.update({("log", kind): count for kind, count in view.log.losses.items()})
    counts["log", "open_deliveries"] += view.watch.flow.traffic.forgotten
    yield from counts.items()


_USUAL_ERRORS = (("queue", "open"), ("queue", "format"), ("inotify", "watch"), ("log", "read"))
"""Shown before the first of them comes, so that `increase` sees it."""


def watch_fact(fact: Callable[[QueueWatch], float | None]) -> Reading:
    """One fact of the exporter's own work on a queue."""

    def reading(view: View) -> Iterator[Sample]:
        value = fact(view.watch)
        if value is not None:
            yield (), value

    return reading


def rescans(view: View) -> Iterator[Sample]:
    for reason in REASONS:
        yield (reason,), view.watch.sweeps.done[reason]


def log_lines(view: View) -> Iterator[Sample]:
    for kind, count in sorted(view.watch.flow.traffic.lines.items()):
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


def log_backfill(view: View) -> Iterator[Sample]:
    if view.log is not None and (progress := view.log.progress) is not None:
        yield (), progress


def log_last(view: View) -> Iterator[Sample]:
    if view.watch.flow.last is not None:
        yield (), view.watch.flow.last
