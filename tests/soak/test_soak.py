"""The soak finds nothing wrong, can be repeated, and would find what it is there to find."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.collect import LogWatch
from qmail_exporter.formats.log import End, Starting
from qmail_exporter.queue import Flow, Queue
from soak import held, report
from soak.play import Plan, run
from soak.rights import bound_by_modes
from soak.written import Told

Play = Callable[[Plan], list[str]]


@pytest.fixture
def told() -> list[str]:
    """What a run has told."""
    return []


@pytest.fixture
def play(in_memory: Path, told: list[str]) -> Play:
    """Play in a directory of its own each time; gives what is wrong."""

    def play(plan: Plan) -> list[str]:
        place = in_memory / str(len(list(in_memory.iterdir())))
        place.mkdir()
        return run(plan, place, told.append)

    return play


# --- it finds nothing wrong


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 5])  # a multilog directory, and one file
def test_short_soak(seed: int, play: Play, told: list[str]) -> None:
    """Half a day of mail with a mishap every quarter of an hour shows no drift, and no counter that is not the ledger's."""
    assert play(Plan(seed, days=0.5, messages=400, mishaps=100, rests=16)) == []
    assert "drift 0, counters' difference 0" in told[0]


@pytest.mark.slow
def test_seed_tells_all(play: Play, told: list[str]) -> None:
    """The same seed plays the same: as many messages, lines and mishaps of each kind."""
    for _ in range(2):
        assert play(Plan(3, days=0.2, messages=500, mishaps=200)) == []
    (day, *first), (other_day, *second) = told[: len(told) // 2], told[len(told) // 2 :]
    assert day.partition("; held")[0] == other_day.partition("; held")[0]
    assert first[0] == second[0]
    assert first[0].startswith("mishaps: ")


# --- it finds what is planted


@pytest.mark.slow
def test_drift_is_found(play: Play, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that misses one of twenty ends of messages is found out; the seed and the step are told."""
    apply, ends = Queue.apply, [0]

    def forgetful(self: Queue, msg: int, message: Any) -> bool:
        ends[0] += message is None
        return False if message is None and ends[0] % 20 == 0 else apply(self, msg, message)

    monkeypatch.setattr(Queue, "apply", forgetful)
    wrong = play(Plan(1, days=0.5, messages=500, mishaps=0))
    assert any("drift: qmail_queue_messages{queue=default} is " in line for line in wrong)
    assert "--seed 1 --days 0.5" in told[-1]
    assert told[-1].startswith("at step ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"), [(End, "counters: ended is "), (Starting, "counters: started remote is ")]
)
def test_counters_difference_is_found(
    kind: type, name: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that leaves out one line of a thousand is found out."""
    observe, seen = Flow._handlers[kind], [0]

    def careless(self: Flow, record: Any) -> None:
        seen[0] += 1
        if seen[0] % 1000:
            observe(self, record)

    monkeypatch.setitem(Flow._handlers, kind, careless)
    wrong = play(Plan(1, days=1, messages=800, mishaps=0, rests=8))
    assert any(name in line for line in wrong)


@pytest.mark.slow
def test_leak_is_found(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that keeps ten kilobytes for each message that has ended is found out."""
    end = Flow._handlers[End]

    def greedy(self: Flow, record: Any) -> None:
        self.words.__dict__.setdefault("kept", []).append(bytes(10_000))
        end(self, record)

    monkeypatch.setitem(Flow._handlers, End, greedy)
    wrong = play(Plan(1, days=3, messages=60, mishaps=0, rests=2))
    assert [line.partition(" by ")[0] for line in wrong] == ["memory: what is held rises"]


@pytest.mark.slow
def test_descriptor_left_open_is_found(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that does not close its log when it ends is found out."""
    monkeypatch.setattr(LogWatch, "close", lambda _: None)
    wrong = play(Plan(1, days=0.2, messages=300, mishaps=0))
    assert any(line.startswith("descriptors: ") for line in wrong)


# --- its parts


def test_slope_is_that_of_the_straight_line() -> None:
    """A rise of so much a day is told whatever goes up and down beside it; of one day there is none."""
    assert held.slope([5.0]) == 0
    assert held.slope([7.0, 7.0, 7.0]) == 0
    assert held.slope([0.0, 10.0, 20.0, 30.0]) == 10
    assert held.slope([3.0, 8.0, 23.0, 28.0]) == 9


def test_rise_beyond_the_bound_is_wrong() -> None:
    """What is held may go up and down by any amount, and rise by so much a day."""
    figures = report.Figures(held=[0, 10 << 20, 0], resident=[50 << 20, 51 << 20, 50 << 20])
    assert figures.wrong() == []
    figures.held = [0, report.HELD_A_DAY + 1]
    figures.resident = [0, report.RESIDENT_A_DAY + 1]
    assert len(figures.wrong()) == 2


def test_what_was_told_can_be_lost_and_trimmed(tmp_path: Path) -> None:
    """Lines that were truncated away are taken out, and old ones where a day has ended since."""
    told = Told(tmp_path / "told")
    told.write(b"one\n")
    told.trim(10.0, 5.0)
    told.write(b"two\n")
    mark = told.mark()
    told.write(b"three\n")
    told.lose(mark, 20.0)
    assert told.path.read_bytes() == b"one\ntwo\n"
    assert told.since == 20.0
    told.trim(30.0, 15.0)
    told.write(b"four\n")
    assert told.path.read_bytes() == b"two\nfour\n"
    assert told.since == 20.0
    told.close()


def test_modes_bind_for_a_while(tmp_path: Path) -> None:
    """Who may pass over modes is bound by them within, and not after."""
    path = tmp_path / "closed"
    path.touch(mode=0)
    with bound_by_modes(), pytest.raises(PermissionError):
        path.open("rb")
    assert os.geteuid() != 0 or path.read_bytes() == b""
