from bisect import bisect_right, insort

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmail_exporter.queue.times import Earliest, Timeline

MOMENTS = st.one_of(
    st.integers(1_795_340_000, 1_795_340_900),
    st.integers(-70_000, 70_000),
    st.integers(-(2**63), 2**63),
)
STEPS = st.lists(st.tuples(st.booleans(), MOMENTS), max_size=60)


@given(STEPS, st.lists(MOMENTS, max_size=5))
@example([(True, 0), (True, -1), (True, 255), (True, 256), (True, 65_535), (True, 65_536)], [])
def test_timeline_is_a_sorted_list(steps: list[tuple[bool, int]], asked: list[int]) -> None:
    """After any additions and removals, number, sum, first and every count are those of a sorted list."""
    timeline = Timeline()
    moments: list[int] = []
    for add, moment in steps:
        if add or not moments:
            timeline.add(moment)
            insort(moments, moment)
        else:
            timeline.remove(moments.pop(moment % len(moments)))
        assert (timeline.total, timeline.sum) == (len(moments), sum(moments))
        assert timeline.first() == (moments[0] if moments else None)
    for near in {step[1] for step in steps} | set(asked):
        for moment in (near - 256, near - 1, near, near + 1, near + 70_000):
            assert timeline.count(moment) == bisect_right(moments, moment)


@given(st.lists(st.lists(MOMENTS, max_size=20), max_size=4))
@example([[0, 1, 256], [1, 65_536]])
def test_many_at_once(parts: list[list[int]]) -> None:
    """To add many moments at once is to add each."""
    one, other = Timeline(), Timeline()
    for part in parts:
        one.add_all(part)
        for moment in part:
            other.add(moment)
    assert one.sum == other.sum
    assert (one._pages, one._eras) == (other._pages, other._eras)


@given(st.lists(MOMENTS, max_size=30))
def test_timeline_gives_its_memory_back(moments: list[int]) -> None:
    """When every moment has been removed, no page is left."""
    timeline = Timeline()
    for moment in moments:
        timeline.add(moment)
    for moment in reversed(moments):
        timeline.remove(moment)
    assert timeline.sum == 0
    assert (timeline._pages, timeline._eras, timeline._moves) == ({}, {}, {})


def test_what_is_put_off_is_bounded() -> None:
    """Unless somebody asks, a Timeline makes its changes up by itself when they are many, and then holds none of them."""
    timeline = Timeline()
    for change in (timeline.add, timeline.remove):
        for moment in range(10_000):
            change(moment)
            assert len(timeline._moves) <= 1024
    assert (timeline.total, timeline._pages) == (0, {})


def test_timeline_counts_many_in_one_second() -> None:
    """A hundred thousand messages of one second are one place on a page."""
    timeline = Timeline()
    for _ in range(100_000):
        timeline.add(1_795_340_000)
    assert (timeline.count(1_795_339_999), timeline.count(1_795_340_000)) == (0, 100_000)
    assert len(timeline._pages) == 1


@pytest.mark.parametrize("block", [1, 2, 3, 8])
@given(STEPS)
def test_earliest_is_the_first_of_a_sorted_list(block: int, steps: list[tuple[bool, int]]) -> None:
    """After any additions and removals the first is that of a sorted list, however small the blocks are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qmail_exporter.queue.times._BLOCK", block)
        patch.setattr("qmail_exporter.queue.times._HALF", (block + 1) // 2)
        earliest = Earliest()
        moments: list[int] = []
        for add, step in steps:
            moment = (
                max(min(step, 2**63 - 1), -(2**63)) if block < 8 else step % 5
            )  # the last: many equal ones
            if add or not moments:
                earliest.add(moment)
                insort(moments, moment)
            else:
                earliest.remove(moments.pop(step % len(moments)))
            assert earliest.first() == (moments[0] if moments else None)
            assert [moment for held in earliest._blocks for moment in held] == moments
            assert all(0 < len(held) <= block for held in earliest._blocks)


def test_earliest_fills_its_blocks_with_moments_in_order() -> None:
    """Moments that come in order fill block after block, so that none is half empty."""
    earliest = Earliest()
    for moment in range(5000):
        earliest.add(moment)
    assert [len(block) for block in earliest._blocks[:-1]] == [512] * 9
