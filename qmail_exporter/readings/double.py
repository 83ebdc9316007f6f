"""Readings of the log that `record-double-bounce` writes; nothing where none is followed."""

from collections.abc import Callable, Iterator

from qmail_exporter.double_bounce import DoubleBounces
from qmail_exporter.readings.view import Reading, Sample, View


def by_domain(view: View) -> Iterator[Sample]:
    if view.double_bounces is not None:
        for domain, counts in view.double_bounces.domains.shown().items():
            yield (domain,), sum(counts.values())


def count(fact: Callable[[DoubleBounces], int]) -> Reading:
    """One of the log's counts."""

    def reading(view: View) -> Iterator[Sample]:
        if view.double_bounces is not None:
            yield (), fact(view.double_bounces)

    return reading
