import pytest

from qmail_exporter.rhythm import CALM, SELDOM, Rhythm


def yes() -> bool:
    return True


def test_ticks_come_seldom_after_a_calm() -> None:
    """Ticks come at the pace that is set until nothing has happened for a while, and at once again when something does."""
    rhythm = Rhythm(1.0, None)
    assert [rhythm.next(now, 7, yes, yes) for now in (0.0, 1.0, CALM - 1)] == [1.0] * 3
    assert [rhythm.next(now, 7, yes, yes) for now in (SELDOM * 3, SELDOM * 9)] == [SELDOM] * 2
    assert rhythm.calm
    assert rhythm.next(SELDOM * 9 + 1, 8, yes, yes) == 1.0
    assert not rhythm.calm
    assert rhythm.next(SELDOM * 12, 8, yes, yes) == SELDOM


def test_no_calm_while_something_is_left_to_do() -> None:
    """While events do not tell of all that happens, or something is to be done, ticks come at the pace that is set."""
    rhythm = Rhythm(1.0, None)
    rhythm.next(0.0, 7, yes, yes)
    assert rhythm.next(20.0, 7, lambda: False, yes) == 1.0
    assert rhythm.next(21.0, 7, yes, yes) == 1.0
    assert rhythm.next(32.0, 7, yes, yes) == SELDOM


def test_where_something_happens_nobody_asks_what_is_left() -> None:
    """What is left to do is found out only where nothing has happened, as that is not free."""
    rhythm = Rhythm(1.0, None)
    for news in range(3):
        assert rhythm.next(news * 100.0, news, lambda: pytest.fail("asked"), yes) == 1.0


def test_no_calm_without_news_of_the_logs() -> None:
    """Where a log cannot be listened to, ticks go on at the pace that is set; it is listened to from when they come seldom."""
    rhythm = Rhythm(1.0, None)
    rhythm.next(0.0, 7, yes, lambda: pytest.fail("listened"))
    assert not rhythm.still
    assert rhythm.next(20.0, 7, yes, lambda: False) == 1.0
    assert rhythm.still
    assert not rhythm.calm
    assert rhythm.next(21.0, 7, yes, yes) == SELDOM


@pytest.mark.parametrize(
    ("tick", "most", "busy", "calm"),
    [(1.0, 0.5, 0.5, 0.5), (1.0, 2.0, 1.0, 2.0), (30.0, None, 30.0, 30.0), (30.0, 15.0, 15.0, 15.0)],
)
def test_bounds(tick: float, most: float | None, busy: float, calm: float) -> None:
    """Systemd's watchdog bounds both paces, and in a calm no tick is sooner than the pace that is set."""
    rhythm = Rhythm(tick, most)
    assert rhythm.next(0.0, 0, yes, yes) == busy
    assert rhythm.next(12.0, 0, yes, yes) == calm
