from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.queue.recent import Recent


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 8), st.integers())))
def test_the_newest_are_remembered(most: int, entries: list[tuple[int, int]]) -> None:
    """After any entries, those put last are held, in their order and with their last values."""
    recent: Recent[int] = Recent(most)
    order: list[tuple[int, int]] = []
    for key, value in entries:
        recent.put(key, value)
        order = [*(entry for entry in order if entry[0] != key), (key, value)][-most:]
        assert list(recent.items()) == order
