from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from qmail_exporter.queue.domains import OTHER
from qmail_exporter.queue.traffic import DomainTraffic, Histogram, Traffic

RESULTS = ("success", "failure", "deferral")


def flat(traffic: DomainTraffic) -> dict[tuple[str, str], int]:
    """All series as a scrape shows them."""
    return {(name, result): n for name, counts in traffic.shown().items() for result, n in counts.items()}


@settings(deadline=None)
@given(
    st.integers(0, 3),
    st.lists(
        st.one_of(st.none(), st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(RESULTS))), max_size=200
    ),
)
def test_domain_counters_never_fall(seats: int, steps: list[tuple[str, str] | None]) -> None:
    """Whatever elections happen, no counter that is shown is below what it showed last, and each delivery raises one.

    So what Prometheus adds up over all series is the number of deliveries.
    """
    traffic = DomainTraffic(seats)
    last: dict[tuple[str, str], int] = {}
    deliveries = Counter(steps)
    raised: Counter[str] = Counter()
    for step in steps:
        if step is None:
            traffic.elect()
        else:
            traffic.count(*step)
        series = flat(traffic)
        assert len(traffic.seated) <= seats
        for key, n in series.items():
            assert n >= last.get(key, 0)
            raised[key[1]] += n - last.get(key, 0)
        last.update(series)
    assert raised == Counter(
        {result: sum(n for key, n in deliveries.items() if key and key[1] == result) for result in RESULTS}
    )
    shown = sum(last_n for key, last_n in flat(traffic).items())
    aside = sum(sum(counts.values()) for counts in traffic._aside.values())
    assert shown + aside == sum(n for key, n in deliveries.items() if key)


def test_without_too_many_domains_the_series_are_the_deliveries() -> None:
    """While there are no more domains than seats, each has its own series and `(other)` stays empty."""
    traffic = DomainTraffic(3)
    for name in "abcab":
        traffic.count(name, "success")
        traffic.elect()
    assert traffic.shown() == {"a": {"success": 2}, "b": {"success": 2}, "c": {"success": 1}, OTHER: {}}


def test_busy_domain_takes_the_seat_of_an_idle_one() -> None:
    """A domain that came late gets a seat when who sits has had nothing for long; it starts from 0."""
    traffic = DomainTraffic(1)
    traffic.count("idle", "success")
    for _ in range(5):
        traffic.count("busy", "success")
    assert traffic.shown() == {"idle": {"success": 1}, OTHER: {"success": 5}}
    traffic.elect()
    traffic.count("busy", "deferral")
    assert traffic.shown() == {"busy": {"deferral": 1}, OTHER: {"success": 5}}
    for _ in range(100):
        traffic.count("idle", "success")
    traffic.elect()
    assert traffic.shown() == {"idle": {"success": 1}, OTHER: {"success": 105}}


def test_old_traffic_weighs_less() -> None:
    """What is long ago no longer keeps a seat."""
    traffic = DomainTraffic(1)
    for _ in range(1000):
        traffic.count("once", "success")
    for _ in range(500):
        traffic.elect()
    for _ in range(20):
        traffic.count("now", "success")
    traffic.elect()
    assert list(traffic.seated) == ["now"]


def test_memory_of_domains_is_bounded() -> None:
    """However many domains there are, so many are weighed and so many are kept aside."""
    traffic = DomainTraffic(2)
    for number in range(5000):
        for _ in range(2):
            traffic.count(f"{number}.example", "success")
        if number % 10 == 0:
            traffic.elect()
    assert len(traffic._recent) <= 32 * 2 + 1024
    for number in range(14):
        for _ in range(2**number):
            traffic.count(f"big{number}.example", "success")
        traffic.elect()
    assert len(traffic._aside) == 20


@given(st.lists(st.floats(-10, 100)))
def test_histogram_counts_each_at_its_bound(values: list[float]) -> None:
    """Each bucket has the observations at or below its bound; a negative one counts as 0."""
    histogram = Histogram((0.5, 1.0, 50.0))
    for value in values:
        histogram.observe(value)
    expected = [sum(max(value, 0.0) <= bound for value in values) for bound in (0.5, 1.0, 50.0, float("inf"))]
    assert histogram.cumulative() == expected
    assert abs(histogram.sum - sum(max(value, 0.0) for value in values)) < 1e-6


def test_bound_is_within_its_bucket() -> None:
    """An observation that equals a bound belongs to that bucket."""
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0)
    assert histogram.cumulative() == [1, 1, 1]


def test_counters_begin_at_zero() -> None:
    """Nothing has been counted at the beginning."""
    traffic = Traffic(1)
    assert (
        traffic.messages,
        traffic.message_bytes,
        traffic.messages_ended,
        traffic.restarts,
        traffic.forgotten,
    ) == (0,) * 5
    assert not traffic.lines
    assert traffic.durations["remote", "success"].cumulative() == [0] * 14
