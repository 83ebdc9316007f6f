"""The last hour, stepped."""

from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.status.history import APART, RESULTS, SPAN, History

T = 1_800_000_000.0


def counts(success: int = 0, deferral: int = 0, failure: int = 0) -> dict[str, int]:
    return {"success": success, "deferral": deferral, "failure": failure}


def test_nothing_is_known_at_first() -> None:
    """A new history has no points, no rate, and 60 minutes of which nothing is known."""
    history = History()
    assert (history.points(), history.rate(), history.minutes()) == ([], None, [None] * 60)


def test_peak_between_points_is_kept() -> None:
    """A peak that lasted for a second is in the next point; the present is the present."""
    history = History()
    for second in range(21):
        history.step(T + second, 900 if second == 14 else second, None)
    assert [point.depth for point in history.points()] == [0, 10, 900]
    history.step(T + 21, 21, None)
    assert [point.depth for point in history.points()] == [0, 10, 900, 21]


def test_unknown_depth_is_no_zero() -> None:
    """While the depth is not known the points say so."""
    history = History()
    for second, depth in ((0, 5), (10, None), (20, None), (30, 6)):
        history.step(T + second, depth, None)
    assert [point.depth for point in history.points()] == [5, None, None, 6]


def test_rate_is_of_the_last_minute() -> None:
    """The rate counts what ended within the last minute, over the time that this really was."""
    history = History()
    for second in range(0, 301, 10):
        history.step(T + second, 1, counts(success=second, deferral=2 * second if second <= 200 else 400))
    rate = history.rate()
    assert rate is not None
    assert (rate.seconds, rate.ended) == (70.0, counts(success=70))
    assert rate.a_minute("success") == 60


def test_rate_begins_when_the_log_has_told() -> None:
    """Points at which the deliveries were not known do not keep the rate from being known."""
    history = History()
    history.step(T, 1, None)
    history.step(T + 10, 1, counts(5))
    assert history.rate() is None
    history.step(T + 25, 1, counts(8))
    rate = history.rate()
    assert rate is not None
    assert (rate.seconds, rate.ended["success"]) == (15.0, 3)


def test_minutes_hold_each_delivery_once() -> None:
    """What ended in the last hour is in exactly one of its minutes, the newest in the last."""
    history = History()
    for second in range(0, 3601, 10):
        history.step(T + second, 1, counts(success=second // 10))
    minutes = history.minutes()
    assert sum(minute["success"] for minute in minutes if minute) == 360
    assert minutes[-1] == counts(success=6)


def test_gap_is_unknown() -> None:
    """What lies within a gap of more than a minute, a sleep of the machine, is known of no minute."""
    history = History()
    history.step(T, 1, counts(0))
    history.step(T + 600, 1, counts(500))
    assert history.minutes() == [None] * 60


def test_counter_that_began_again_is_unknown() -> None:
    """Counts that fall, as another log is read, give no negative deliveries."""
    history = History()
    history.step(T, 1, counts(10))
    history.step(T + 10, 1, counts(2))
    history.step(T + 20, 1, counts(5))
    assert history.rate() is None
    assert history.minutes()[-1] == counts(3)


def test_clock_set_back_begins_anew() -> None:
    """A clock that was set back leaves no point in the future."""
    history = History()
    history.step(T, 1, counts(0))
    history.step(T - 500, 2, counts(3))
    assert [point.time for point in history.points()] == [T - 500]


steps = st.lists(
    st.tuples(
        st.floats(min_value=-10, max_value=4000),
        st.none() | st.integers(min_value=0, max_value=10**6),
        st.none() | st.integers(min_value=0, max_value=10**6),
    ),
    max_size=60,
)


@given(steps)
def test_bounds(moves: list[tuple[float, int | None, int | None]]) -> None:
    """However time goes, there are not more points than an hour holds, none older than it, in order, and 60 minutes."""
    history, now = History(), T
    for seconds, depth, ended in moves:
        now += seconds
        history.step(now, depth, None if ended is None else counts(ended))
        points = history.points()
        times = [point.time for point in points]
        assert times == sorted(times)
        assert times[-1] == now
        assert times[0] >= now - SPAN
        assert len(points) <= SPAN // APART + 2
        minutes = history.minutes()
        assert len(minutes) == 60
        assert all(minute is None or min(minute[result] for result in RESULTS) >= 0 for minute in minutes)


def test_memory_is_bounded() -> None:
    """A day of steps leaves an hour of points."""
    history = History()
    for second in range(0, 86400, 7):
        history.step(T + second, 1, counts(second))
    assert len(history._points) <= SPAN // APART + 1
