"""When qmail-send tries a message again."""

from itertools import pairwise
from math import isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats.control import QUEUE_LIFETIME
from qmail_exporter.formats.retry import SKIP, attempts, gives_up, next_attempt, skip_for

BIRTH = 1_795_344_242


def squareroot(x: int) -> int:
    """Go the steps of the function of this name in qmail-send.c, on a machine of 64 bits."""
    y = yy = 0
    for j in range(15, -1, -1):
        y21 = (y << (j + 1)) + (1 << (j + j))
        if y21 <= x - yy:
            y += 1 << j
            yy += y21
    return y


def test_steps_of_the_channels() -> None:
    """The steps are qmail-send's, and a channel that only a fork has is taken for remote."""
    assert SKIP == {"local": 10, "remote": 20}
    assert (skip_for("local"), skip_for("remote"), skip_for("slow1")) == (10, 20, 20)


def test_first_attempts() -> None:
    """A remote message is tried at 400 s, 1600 s, 3600 s and so on; a local one at 100 s, 400 s, 900 s."""
    remote = [time - BIRTH for time in attempts(BIRTH, 20, QUEUE_LIFETIME)]
    local = [time - BIRTH for time in attempts(BIRTH, 10, QUEUE_LIFETIME)]
    assert remote[:5] == [0, 400, 1600, 3600, 6400]
    assert local[:5] == [0, 100, 400, 900, 1600]


def test_only_the_last_attempt_gives_up() -> None:
    """The schedule ends with the first attempt after the lifetime."""
    times = list(attempts(BIRTH, 20, QUEUE_LIFETIME))
    assert [gives_up(BIRTH, time, QUEUE_LIFETIME) for time in times] == [False] * (len(times) - 1) + [True]
    assert all(earlier < later for earlier, later in pairwise(times))


def test_lifetime_of_nothing() -> None:
    """With a lifetime of 0 the attempt at birth is not yet the last; with a negative one it is."""
    assert list(attempts(BIRTH, 20, 0)) == [BIRTH, BIRTH + 400]
    assert list(attempts(BIRTH, 20, -1)) == [BIRTH]


@pytest.mark.parametrize(
    ("now", "last"), [(BIRTH, False), (BIRTH + 100, False), (BIRTH + 101, True), (0, False)]
)
def test_giving_up_is_strict(now: int, last: bool) -> None:
    """A message gives up when it is older than the lifetime, not when it is as old."""
    assert gives_up(BIRTH, now, 100) is last


def test_touching_info_moves_the_schedule() -> None:
    """A message that is made young is tried as a new one, and one made old after a longer gap."""
    now = BIRTH + 1000
    assert next_attempt(now, now, 20) == now + 400
    assert next_attempt(now - 600_000, now, 20) - now > 30_000


def test_birth_in_the_future() -> None:
    """A birth in the future counts as an age of nothing, from that birth on."""
    assert next_attempt(BIRTH + 50, BIRTH, 20) == BIRTH + 450


@given(st.integers(0, 2**33))
def test_root_is_that_of_qmail(age: int) -> None:
    """The next attempt is the one that qmail-send's own square root gives, also where that runs out of bits."""
    assert next_attempt(BIRTH, BIRTH + age, 20) == BIRTH + (squareroot(age) + 20) ** 2


@pytest.mark.parametrize("age", [0, 1, 3, 4, 2**31 - 1, 2**31, 2**32 - 1])
def test_root_is_the_integer_square_root(age: int) -> None:
    """Within 16 bits qmail-send's square root is exact."""
    assert squareroot(age) == isqrt(age)


@given(birth=st.integers(-(2**40), 2**40), late=st.integers(0, 2**31), skip=st.integers(1, 100))
def test_next_attempt_is_later(birth: int, late: int, skip: int) -> None:
    """Within the ages that a lifetime allows the next attempt always lies ahead."""
    assert next_attempt(birth, birth + late, skip) > birth + late
