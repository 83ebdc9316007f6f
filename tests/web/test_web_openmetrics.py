"""The text whose unchanged lines are remembered, beside the library's."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeHistogramMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest

from qmail_exporter.web import openmetrics

Point = tuple[str, str, float]


class Made:
    """A registry of given families."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self.families = families

    def collect(self) -> Sequence[Metric]:
        """The families."""
        return self.families


def families(points: Sequence[Point], unit: str) -> list[Metric]:
    """Return some families of these labels and values."""
    gauge = GaugeMetricFamily("a_gauge", "Help of\nmore than one line.", labels=("one", "other"))
    counter = CounterMetricFamily("a_counter", "It counts.", labels=("one",), unit=unit)
    ages = GaugeHistogramMetricFamily("ages", 'Of "things".', labels=("one",))
    for one, other, value in points:
        gauge.add_metric((one, other), value)
        counter.add_metric((one,), abs(value))
        ages.add_metric((one,), [("1.0", value), ("+Inf", abs(value))], value)
    return [gauge, counter, ages]


VALUES = st.floats().map(lambda value: value + 0.0)  # no negative zero
TEXTS = st.sampled_from(["", "x", "a.example", 'q"uote', "back\\slash", "two\nlines", "\u2028", "\r", "ü"])
POINTS = st.lists(st.tuples(TEXTS, TEXTS, VALUES), max_size=5)


@given(st.lists(st.tuples(POINTS, st.sampled_from(["", "seconds"])), max_size=6))
def test_it_is_the_librarys(scrapes: list[tuple[list[Point], str]]) -> None:
    """Whatever was shown before, each text is byte for byte the one that the library makes of all that there is now."""
    encode = openmetrics.encoder()
    for points, unit in scrapes:
        made = Made(families(points, unit))
        whole = generate_latest(made)
        assert encode(made) == whole
        assert encode(made) == whole


def test_only_what_has_changed_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is asked for lines of new samples, and for no others; what is gone is forgotten."""
    asked: list[int] = []

    def counted(registry: Made, escaping: str) -> bytes:
        asked.append(sum(len(family.samples) for family in registry.collect()))
        return bytes(generate_latest(registry, escaping))

    monkeypatch.setattr(openmetrics, "generate_latest", counted)
    encode, new = openmetrics.encoder(), []
    for points in (
        [("a", "b", 1.0)],
        [("a", "b", 1.0), ("c", "d", 2.0)],
        [("c", "d", 2.0)],
        [("a", "b", 1.0)],
    ):
        before = sum(asked)
        encode(Made(families(points, "")))
        new.append(sum(asked) - before)
    assert new == [6, 6, 0, 6]
