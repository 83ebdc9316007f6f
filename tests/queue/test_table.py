import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.queue import table
from qmail_exporter.queue.table import BUCKETS, NEVER, NOT_DEFERRED, Row, Table

NUMBERS = st.one_of(st.integers(1, 6), st.integers(1, 2**63 - 1))
MOMENTS = st.integers(-(2**63), 2**63 - 1)
BYTES = st.integers(0, 255)
ROWS = st.builds(
    Row, MOMENTS, MOMENTS, MOMENTS, MOMENTS, MOMENTS, MOMENTS, MOMENTS, st.integers(0, 2**32 - 1), BYTES, BYTES, BYTES, BYTES
)  # fmt: skip
ROW = Row(1, 2, 3, 4, 5, NEVER, NEVER, 6, 7, 8, 9, NOT_DEFERRED)


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs of four rows, so that a few messages need more than one."""
    monkeypatch.setattr(table, "_SLAB_BITS", 2)
    monkeypatch.setattr(table, "_IN_SLAB", 3)


def place(rows: Table, msg: int) -> table.Place:
    found = rows.find(msg)
    assert found is not None
    return found


@given(
    st.lists(st.tuples(NUMBERS, st.one_of(st.none(), ROWS, st.tuples(MOMENTS, MOMENTS), BYTES)), max_size=60)
)
def test_table_is_a_dict(
    steps: list[tuple[int, Row | tuple[int, int] | int | None]],
) -> None:
    """Whatever is put, changed and dropped, the table holds what a dict would."""
    rows, expected = Table(), dict[int, Row]()
    for msg, what in steps:
        if isinstance(what, Row):
            rows.put(msg, what)
            expected[msg] = what
        elif msg not in expected:
            assert rows.get(msg) is None
        elif what is None:
            rows.drop(msg)
            del expected[msg]
        elif isinstance(what, int):
            table.put_reason(place(rows, msg), what)
            expected[msg] = expected[msg]._replace(reason=what)
        else:
            table.put_times(place(rows, msg), *what)
            expected[msg] = expected[msg]._replace(attempt=what[0], due=what[1])
        assert len(rows) == len(expected)
        assert (msg in rows) == (msg in expected)
        assert sorted(rows) == sorted(expected)
        assert {msg: rows.get(msg) for msg in rows} == expected
    assert sorted(msg for part in range(BUCKETS) for msg in rows.bucket(part)) == sorted(expected)


def test_rows_are_reused() -> None:
    """What comes after what has gone takes no more memory."""
    rows = Table()
    for msg in range(1000):
        rows.put(msg, ROW)
        if msg >= 8:
            rows.drop(msg - 8)
    assert len(rows._slabs) == 3


def test_steps_of_numbers_are_spread() -> None:
    """Inode numbers in steps of a power of two fill the buckets evenly."""
    rows = Table()
    for msg in range(4 * BUCKETS):
        rows.put(1_467_000 + 64 * msg, ROW)
    assert max(len(rows.bucket(part)) for part in range(BUCKETS)) < 40
