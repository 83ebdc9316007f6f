from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import ChannelFile, Glance, Message, Sender, State, state_of
from qmail_exporter.queue import Queue, share, table
from qmail_exporter.queue.domains import domain_of
from qmail_exporter.queue.share import Share
from qmail_exporter.queue.table import BUCKETS, NEVER

SECOND = 10**9
MOMENTS = st.integers(-(2**32), 2**32)
ADDRESSES = st.sampled_from(
    [
        b"a@x.example",
        b"b@X.example.",
        b"b@y.example",
        b"",
        b"@",
        b"a",
        b"a@" + 300 * b"x",
        b"\xff@\xfe",
        b"a@(other)",
    ]
)
RECORDS = st.builds(
    lambda kind, address: kind + address + b"\0", st.sampled_from([b"T", b"T", b"T", b"D"]), ADDRESSES
)
FILES = st.dictionaries(
    st.sampled_from(["local", "remote", "slow-1"]), st.lists(RECORDS, max_size=2).map(b"".join), max_size=2
)
STATES = st.builds(
    lambda arrival, size, todo, sender, birth, files, mtime, failed: (
        arrival, size, todo, sender, None if todo else birth, birth or 0,
        tuple((name, content, mtime) for name, content in files.items()), failed,
    ),
    MOMENTS.map(SECOND.__mul__), st.integers(0, 2**40), st.booleans(), st.sampled_from([None, 0, 0, 0, 1, 2]),
    st.one_of(st.none(), MOMENTS), FILES, MOMENTS, st.booleans(),
)  # fmt: skip
QUEUES = st.dictionaries(st.one_of(st.integers(1, 40), st.integers(1, 2**63 - 1)), STATES, max_size=40)
SIMPLE: Glance = (1, 5 * SECOND, 100, 0, 7, 8, 9, b"Ta@x.example\0")


def with_content(msg: int, content: bytes) -> Glance:
    return (msg, *SIMPLE[1:7], content)


def glanced(msg: int, state: State) -> tuple[str, list[Glance]]:
    """What a glance would tell of a message, if one is enough."""
    arrival_ns, size, todo, sender, birth, changed, files, failed = state
    if len(files) != 1 or todo or failed or birth is None or sender not in {0, 1}:
        return "", []
    [(channel, content, mtime)] = files
    return channel, [(msg, arrival_ns, size, sender, birth, changed, mtime, content)]


def applied(queue: Queue, states: dict[int, State]) -> None:
    for msg, (arrival_ns, size, todo, sender, birth, changed, files, failed) in states.items():
        kind = None if sender is None else Sender(sender)
        channels = tuple(ChannelFile(*file) for file in files)
        queue.apply(msg, Message(arrival_ns, size, todo, kind, birth, changed, channels, failed))


def absorbed(queue: Queue, states: dict[int, State], shares: int) -> int:
    """Have that many processes, as it were, take turns; return how many messages were gathered."""
    gathering = [queue.share() for _ in range(shares)]
    rest = dict(states)
    for place in range(shares):
        by_channel: dict[str, list[Glance]] = {}
        for msg, state in list(states.items())[place::shares]:
            channel, glances = glanced(msg, state)
            by_channel.setdefault(channel, []).extend(glances)
        for channel, glances in by_channel.items():
            left = gathering[place].add(channel, glances)
            for one in glances:
                assert state_of(one, channel) == states[one[0]]
                if one not in left:
                    del rest[one[0]]
    applied(queue, rest)
    for taken in gathering:
        queue.absorb(taken.pack())
    for _ in queue.sort():
        pass
    return len(states) - len(rest)


def facts(queue: Queue) -> dict[str, Any]:
    """All that a queue says, in terms that do not depend on the order in which it came to know."""
    sums = queue.sums
    rows = {}
    for msg in queue:
        row = queue._table.get(msg)
        assert row is not None
        waits = (
            not row.flags & table.DONE
            and row.channel != table.NO_CHANNEL
            and sums.channels[row.channel] != "local"
        )
        domain = sums.domains.name(row.domain) if waits else ""
        channel = "" if row.channel == table.NO_CHANNEL else sums.channels[row.channel]
        rows[msg] = (*row._replace(domain=0, channel=0), domain, channel)
    timelines = [*sums.births, sums.arrivals, sums.unqueued]
    by_channel = {
        name: (sums.pending[number], sums.done[number], _moments(sums.due[number]))
        for name, number in sums.numbers.items()
        if sums.pending[number] or sums.done[number]
    }
    return {
        "rows": rows,
        "sums": (sums.todo, sums.bytes, sums.failed, sums.senders),
        "times": [_moments(timeline) for timeline in timelines],
        "channels": by_channel,
        "domains": {domain.name: domain.pending for domain in sums.domains.shown()},
    }


def _moments(timeline: Any) -> tuple[Any, ...]:
    return timeline.total, timeline.sum, timeline._eras, timeline._pages


@given(QUEUES, st.integers(1, 3), st.one_of(st.none(), MOMENTS), st.one_of(st.none(), MOMENTS))
def test_absorbing_is_applying(
    states: dict[int, State], shares: int, log_since: int | None, send_since: int | None
) -> None:
    """A queue that absorbed shares, in which any messages were gathered, is the one to which all were applied."""
    one, other = Queue(), Queue()
    for queue in (one, other):
        queue.log_since, queue.send_since = log_since, send_since
    applied(one, states)
    absorbed(other, states, shares)
    assert facts(other) == facts(one)
    for msg in list(other):
        other.apply(msg, None)
    assert not len(other)
    assert not other.sums.bytes
    assert not len(other.sums.domains)


def test_bounces_and_next_attempts() -> None:
    """Shares tell bounces from mail, and where the log has told of a start, when each message is tried next."""
    states: dict[int, State] = {
        msg: state_of((msg, msg * SECOND, 100, msg % 2, 7, 8, 900 + msg, content), "remote")
        for msg, content in enumerate((b"Ta@x.example\0", b"Tb@x.example\0", b"Dc@y.example\0", b"Td\0"), 1)
    }
    one, other = Queue(), Queue()
    one.send_since = other.send_since = 10.0
    applied(one, states)
    assert absorbed(other, states, 1) == len(states)
    assert facts(other) == facts(one)
    assert other.sums.senders == [2, 2, 0]
    assert other.sums.due[0].total == 3


def test_most_messages_are_gathered() -> None:
    """One recipient, to do or done, in a channel of any name is what a share takes; all else it gives back."""
    taken = Share(None)
    assert not taken.add("remote", [])
    assert not taken.add("remote", [SIMPLE])
    assert not taken.add("local", [with_content(2, b"Dme\0"), with_content(4, b"Tme\0")])
    odd = [
        with_content(10 + number, content)
        for number, content in enumerate(
            (b"", b"Ta@x\0Tb@x\0", b"Xa\0", b"T\0a", b"Ta@x", b"\0", b"Ta\0b@x.example")
        )
    ]
    for channel in ("local", "remote"):
        assert taken.add(channel, odd) == odd
    mixed = [odd[0], with_content(5, b"Tb@x.example\0"), odd[1], with_content(6, b"Db@y.example\0")]
    assert taken.add("remote", mixed) == odd[:2]
    ids, _, channels, domains = taken.pack()
    assert (list(array("q", ids)), channels, domains) == ([1, 2, 4, 5, 6], ["remote", "local"], ["x.example"])
    assert taken.pack() == (b"", b"", [], [])


def test_a_share_is_full_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says when it is time to pack it, and begins anew then."""
    monkeypatch.setattr(share, "MOST", 257)
    taken = Share(None)
    assert not taken.full
    for msg in (1, 2):
        taken.add("remote", [with_content(msg, b"Ta@x\0")])
    assert taken.full
    taken.pack()
    assert not taken.full


def test_channels_beyond_what_a_row_can_tell_are_left() -> None:
    """A share has no more channels than the model can number."""
    taken = Share(None)
    left = [bool(taken.add(f"c{number}", [with_content(number, b"Ta@x\0")])) for number in range(300)]
    assert left == [False] * table.NO_CHANNEL + [True] * (300 - table.NO_CHANNEL)


def test_too_many_channels_change_nothing() -> None:
    """A share whose channels do not fit beside those that are known is refused, and the model stays as it was."""
    queue = Queue()
    for number in range(table.NO_CHANNEL):
        queue.sums.channel(f"c{number}")
    taken = queue.share()
    taken.add("remote", [SIMPLE])
    with pytest.raises(FormatError):
        queue.absorb(taken.pack())
    assert not len(queue)
    assert not queue.sums.bytes


def test_rows_that_are_adopted_are_found_once_sorted() -> None:
    """Numbers in any order are found after `sort`, with their rows, also in slabs that are not full; freed rows are used."""
    queue = Queue()
    taken = queue.share()
    numbers = [msg * 7919 % 10007 + 1 for msg in range(5000)]
    assert not taken.add("remote", [(msg, msg * SECOND, *SIMPLE[2:]) for msg in numbers])
    queue.absorb(taken.pack())
    assert sum(1 for _ in queue.sort()) == BUCKETS
    assert sorted(queue) == sorted(numbers)
    assert all(queue.arrival(msg) == msg for msg in numbers)
    assert queue.arrival(20000) is None
    applied(queue, {20000: state_of(SIMPLE, "remote")})
    assert len(queue._table._slabs) == 2
    assert len(queue) == 5001


def test_domains_are_those_of_the_addresses() -> None:
    """The number that a share remembers by the end of an address is that of the domain which the model counts."""
    taken = Share(None)
    addresses = [
        b"a@x.example",
        b"b@x.example",
        b"b@X.example",
        b"none",
        b"@",
        b"b@" + 300 * b"y",
        b"c@" + 300 * b"y",
    ]
    for _ in range(2):
        assert not taken.add("remote", [with_content(1, b"T" + address + b"\0") for address in addresses])
    *_, domains = packed = taken.pack()
    columns = table.Columns(packed[1])
    named = [domains[number - 1] for number in columns.domains]
    assert named == 2 * [domain_of(address) for address in addresses]
    assert set(columns.dues) == {NEVER}
