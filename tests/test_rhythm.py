import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.rhythm import CALM, SELDOM, Rhythm, until


def steady() -> bool:
    return True


def test_ticks_come_seldom_after_a_calm() -> None:
    """Ticks come at the pace that is set until nothing has happened for a while, and at once again when something does."""
    rhythm = Rhythm(1.0, None)
    assert [rhythm.next(now, 7, steady) for now in (0.0, 1.0, CALM - 1)] == [1.0] * 3
    assert [rhythm.next(now, 7, steady) for now in (SELDOM * 3, SELDOM * 9)] == [SELDOM] * 2
    assert rhythm.calm
    assert rhythm.next(SELDOM * 9 + 1, 8, steady) == 1.0
    assert not rhythm.calm
    assert rhythm.next(SELDOM * 12, 8, steady) == SELDOM


def test_no_calm_while_something_is_left_to_do() -> None:
    """While events do not tell of all that happens, or something is to be done, ticks come at the pace that is set."""
    rhythm = Rhythm(1.0, None)
    rhythm.next(0.0, 7, steady)
    assert rhythm.next(20.0, 7, lambda: False) == 1.0
    assert rhythm.next(21.0, 7, steady) == 1.0
    assert rhythm.next(32.0, 7, steady) == SELDOM


def test_where_something_happens_nobody_asks_what_is_left() -> None:
    """What is left to do is found out only where nothing has happened, as that is not free."""
    rhythm = Rhythm(1.0, None)
    for news in range(3):
        assert rhythm.next(news * 100.0, news, lambda: pytest.fail("asked")) == 1.0


@pytest.mark.parametrize(
    ("tick", "most", "busy", "calm"),
    [(1.0, 0.5, 0.5, 0.5), (1.0, 2.0, 1.0, 2.0), (30.0, None, 30.0, 30.0), (30.0, 15.0, 15.0, 15.0)],
)
def test_bounds(tick: float, most: float | None, busy: float, calm: float) -> None:
    """Systemd's watchdog bounds both paces, and in a calm no tick is sooner than the pace that is set."""
    rhythm = Rhythm(tick, most)
    assert rhythm.next(0.0, 0, steady) == busy
    assert rhythm.next(12.0, 0, steady) == calm


@given(st.floats(0, 1e6), st.sampled_from([0.01, 0.2, 1.0, SELDOM]))
def test_ticks_of_one_pace_fall_together(now: float, every: float) -> None:
    """Whenever somebody begins to tick, it is at the same moments as all others, and never twice at one of them."""
    left = until(now, every)
    assert every * 0.1 <= left <= every * 1.1
    assert abs((now + left) / every - round((now + left) / every)) < 1e-3


def test_long_paces_count_from_now() -> None:
    """Of a pace so long that the caches are cold anyway the first tick is not sooner than the second."""
    assert until(12345.0, 3600.0) == 3600.0
