"""The logger goes on between any two of the follower's system calls, and while it lists names."""

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loggers import Multilog, Processor, Svlogd
from qmail_exporter.sources.logs import Follower, open_log

CALLS = ("listdir", "stat", "open")


class Race:
    """A logger that takes steps of its rotations inside the follower's system calls.

    Args:
        log: the logger.
        moves: for each call in turn, how many steps are taken before it; then it rests.
        missed: for each name that came or went while names were listed, whether the listing has it (readdir(3) leaves that
            open).
    """

    def __init__(self, log: Multilog, moves: list[int], missed: list[bool]) -> None:
        self.log = log
        self.written: list[bytes] = []
        self._moves = iter(moves)
        self._missed = iter(missed)
        self._steps: Iterator[str] = iter(())
        self._busy = False

    def write(self) -> None:
        """Write a line, unlike any other."""
        line = b"line %d" % len(self.written)
        self.log.write(line + b"\n")
        self.written.append(line)

    def step(self) -> None:
        """Take the next step of a rotation, or begin another."""
        if next(self._steps, None) is None:
            self.write()
            self._steps = self.log.steps()
        elif (self.log.path / "current").exists() and not os.stat(self.log.path / "current").st_mode & 0o100:
            self.write()

    def rest(self) -> None:
        """Take the steps that are left of a rotation."""
        for _ in self._steps:
            pass

    def move(self) -> None:
        """Take as many steps as are due before a call."""
        for _ in range(next(self._moves, 0)):
            self.step()

    def listing(self, listed: Callable[[Any], list[str]], path: Any) -> list[str]:
        """List names while steps are taken: what was there all the time is listed, the rest or not."""
        before = listed(path)
        self.move()
        after = listed(path)
        stayed = set(before) & set(after)
        return [
            name for name in dict.fromkeys(before + after) if name in stayed or not next(self._missed, False)
        ]

    @contextmanager
    def during_calls(self) -> Iterator[None]:
        """Within this, the logger moves in each of the follower's calls."""
        real = {name: getattr(os, name) for name in CALLS}

        def raced(name: str) -> Callable[..., Any]:
            def call(*given: Any, **more: Any) -> Any:
                if self._busy:
                    return real[name](*given, **more)
                self._busy = True
                try:
                    if name == "listdir":
                        return self.listing(real[name], *given)
                    self.move()
                    return real[name](*given, **more)
                finally:
                    self._busy = False

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, raced(name))
            yield


def catch_up(follower: Follower) -> list[bytes]:
    lines: list[bytes] = []
    while (batch := follower.read()).lines or follower.behind:
        lines += batch.lines
    return lines


@given(
    kind=st.sampled_from([Multilog, Svlogd]),
    processor=st.sampled_from([None, bytes, gzip.compress, bytes.upper]),
    moves=st.lists(st.integers(0, 2), min_size=40, max_size=80),
    missed=st.lists(st.booleans(), max_size=20),
    reads=st.integers(4, 6),
)
@settings(max_examples=250)
def test_whatever_the_logger_does_between_two_calls(
    kind: type[Multilog], processor: Processor, moves: list[int], missed: list[bool], reads: int
) -> None:
    """Every line comes once and in order, wherever in a look the logger goes on and whatever a listing misses."""
    with TemporaryDirectory() as directory:
        log = kind(Path(directory) / "log", 1000, processor)
        race = Race(log, moves, missed)
        race.write()
        log.rotate()
        with closing(open_log(str(log.path))) as follower:
            given_out = list(chain.from_iterable(batch.lines for batch in follower.backfill()))
            with race.during_calls():
                for _ in range(reads):
                    given_out += follower.read().lines
            race.rest()
            race.write()
            given_out += catch_up(follower)
            race.write()
            log.rotate()
            race.write()
            given_out += catch_up(follower)
            assert [line.lower() for line in given_out] == race.written
            assert not follower.losses


def test_a_file_that_changes_its_name_after_it_was_listed(
    tmp_path: Path, follow: Callable[[object], Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Svlogd's processor ends between the list of names and the look at the files: nothing comes twice."""
    log = Svlogd(tmp_path / "log", processor=bytes)
    log.write(b"0\n")
    log.rotate()
    follower = follow(log.path)
    lines = [line for batch in follower.backfill() for line in batch.lines]
    log.write(b"1\n")
    steps = log.steps()
    assert "processed" in steps  # which takes them up to there
    log.write(b"2\n")
    real, due = os.stat, [True]

    def finish_then_stat(path: Any, *given: Any, **more: Any) -> os.stat_result:
        if str(path).endswith(".u") and due and due.pop():
            list(steps)
        return real(path, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", finish_then_stat)
        lines += follower.read().lines
    assert not due
    log.rotate()
    log.write(b"3\n")
    assert lines + follower.read().lines == [b"0", b"1", b"2", b"3"]
    assert not follower.losses


def test_a_slow_disk_amid_a_rotation(tmp_path: Path, follow: Callable[[object], Follower]) -> None:
    """However often the log is asked for while multilog has deleted `previous` and not named `processed`, nothing comes twice."""
    log = Multilog(tmp_path / "log", processor=bytes.upper)
    follower = follow(log.path)
    lines = [line for batch in follower.backfill() for line in batch.lines]
    for number in range(3):
        log.write(b"%d\n" % number)
        for step in log.steps():
            if step == "replaced":
                log.write(b"A%d\n" % number)
                lines += [line for _ in range(50) for line in follower.read().lines]
    log.write(b"END\n")
    assert lines + follower.read().lines == [b"0", b"A0", b"1", b"A1", b"2", b"A2", b"END"]
    assert not follower.losses
