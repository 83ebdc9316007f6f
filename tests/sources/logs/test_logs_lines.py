import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.sources.logs.lines import LONGEST, Lines


def fed(blocks: list[bytes], longest: int = LONGEST) -> tuple[list[bytes], Counter[str]]:
    losses: Counter[str] = Counter()
    lines = Lines(losses, longest)
    return [line for block in blocks for line in lines.feed(block)], losses


@given(st.lists(st.binary(max_size=40)))
def test_cutting_the_stream_changes_nothing(blocks: list[bytes]) -> None:
    """The lines are those of the whole stream, any bytes unharmed, however it is cut into blocks."""
    assert fed(blocks) == (b"".join(blocks).split(b"\n")[:-1], Counter())


@given(st.lists(st.lists(st.sampled_from([b"a", b"b" * 3, b"\n", b"c" * 9]), max_size=12).map(b"".join)))
def test_long_lines_are_dropped_whole_and_counted_once(blocks: list[bytes]) -> None:
    """A line over the limit is missing from what is given out, and the count says so, however the stream is cut."""
    everything = b"".join(blocks).split(b"\n")
    kept = [line for line in everything[:-1] if len(line) <= 8]
    dropped = len([line for line in everything if len(line) > 8])
    assert fed(blocks, 8) == (kept, Counter(long_line=dropped) if dropped else Counter())


def test_a_line_grown_long_over_two_blocks_is_dropped() -> None:
    """The limit holds for a line of which each block brings a part below it."""
    assert fed([b"x" * 6, b"y" * 3 + b"\nz\n"], 8) == ([b"z"], Counter(long_line=1))


@pytest.mark.parametrize(("length", "count"), [(LONGEST, 0), (LONGEST + 1, 1)])
@pytest.mark.parametrize("before", [0, 1, 32767, 32768, 32769])
def test_the_limit_is_exact(before: int, length: int, count: int) -> None:
    """A line of 64 KiB is given out and one byte more is not, wherever in the block it stands."""
    block = b"\n" * before + b"x" * length + b"\nlast\n"
    lines, losses = fed([block])
    assert losses["long_line"] == count
    assert len(lines) == before + 2 - count
    assert lines[-1] == b"last"


def test_a_line_that_never_ends_is_not_held() -> None:
    """Ten megabytes without a newline leave less than 200 KB behind; the line after them is read."""
    losses: Counter[str] = Counter()
    lines = Lines(losses)
    block = b"x" * 10_000
    tracemalloc.start()
    try:
        for _ in range(1000):
            assert lines.feed(block) == []
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert lines.feed(b"end\nnext\n") == [b"next"]
    assert losses == {"long_line": 1}


def test_a_cut_stream_joins_nothing() -> None:
    """Where the stream breaks off, the half line is dropped and counted, and the next line stands alone."""
    losses: Counter[str] = Counter()
    lines = Lines(losses)
    assert lines.feed(b"one\ntw") == [b"one"]
    lines.cut()
    assert lines.feed(b"three\n") == [b"three"]
    lines.cut()
    assert losses == {"cut_line": 1}


def test_skipping_ends_at_the_next_newline() -> None:
    """After `skip` the rest of the present line is left out, without a count."""
    losses: Counter[str] = Counter()
    lines = Lines(losses)
    lines.skip()
    assert lines.feed(b"rest of ") == []
    assert lines.feed(b"a line\nwhole\n") == [b"whole"]
    assert not losses
