import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmail_exporter.demo import scenario
from qmail_exporter.demo.report import Outcome
from qmail_exporter.demo.scenario import Scenario
from qmail_exporter.demo.world import TIMEOUT_CONNECT, World

NOW = 1_800_000_000.0


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Scenario]:
    """A scenario that has just begun, on a clock that the test moves."""
    played = Scenario(tmp_path / "qmail", tmp_path / "log", now=NOW, stamp_files=True)
    yield played
    played.close()


def play(played: Scenario, start: float, end: float) -> None:
    """Tick once a second, from `start` to `end` seconds after the beginning."""
    for second in range(int(start), int(end) + 1):
        played.tick(NOW + second)


def test_queue_has_a_past(played: Scenario) -> None:
    """At the start there is mail of all ages up to a week, deferred, with the reasons in the log."""
    messages = played.qmail.ledger.queued()
    ages = sorted((NOW - message.birth) / 86400 for message in messages.values())
    assert 200 < len(ages) < 300
    assert ages[0] < 0.2
    assert ages[-1] > 7
    assert sum(played.qmail.ledger.deferred().values()) > 200
    assert played.qmail.ledger.expired == 0


def test_demo_shows_what_it_promises(played: Scenario) -> None:
    """In eleven minutes: expired mail, both kinds of bounces, an outage that leaves dead hosts, a restart."""
    ledger = played.qmail.ledger
    play(played, 0, scenario.OUTAGE_FIRST + scenario.OUTAGE_LENGTH + 20)
    table = (Path(played.qmail.host.queue) / "lock/tcpto").read_bytes()
    assert sum(count >= 2 for count in table[4::16]) > 10
    assert ledger.expired >= 1
    assert ledger.bounces["single"] > 0
    assert ledger.bounces["double"] > 0
    play(played, 251, scenario.RESTART_EVERY + 60)
    assert ledger.starts == 2
    assert played.qmail.running


def test_answers_depend_on_the_seed_and_the_question_alone() -> None:
    """The same attempt goes the same way in whatever order the questions come; another seed makes another world."""
    questions = [(domain.name.encode(), now) for domain in World(5).domains for now in (1.0, 2.5, 1000.0)]

    def answers(seed: int, questions: list[tuple[bytes, float]]) -> dict[tuple[bytes, float], Outcome]:
        world = World(seed)
        patient = {domain.name.encode() for domain in world.domains if domain.behaviour == "greylist"}
        return {q: world.respond("remote", b"a@" + q[0], q[1]) for q in questions if q[0] not in patient}

    assert answers(5, questions) == answers(5, questions[::-1])
    assert answers(5, questions) != answers(6, questions)


def test_ticks_are_short(played: Scenario) -> None:
    """Half of all ticks take less than 20 ms, with a great margin, so that the loop they run in can do its own work."""
    times = []
    for tenth in range(300):
        before = time.perf_counter()
        played.tick(NOW + tenth / 10)
        times.append(time.perf_counter() - before)
    assert sorted(times)[len(times) // 2] < 0.02


def test_description_has_the_times(played: Scenario) -> None:
    """What to look at is told with when."""
    assert any(f"{scenario.OUTAGE_FIRST:.0f} s" in line for line in played.describe())


def test_outage_takes_a_share_of_the_hosts() -> None:
    """In an outage the chosen share of the hosts times out, and before and after it none does that answers else."""
    world = World()
    world.set_outage(100, 200, 0.5)
    answering = [d.name.encode() for d in world.domains if d.behaviour == "accept"]

    def silent(now: float) -> int:
        return sum(world.respond("remote", b"a@" + name, now).timed_out for name in answering)

    assert (silent(99), silent(200)) == (0, 0)
    assert 0 < silent(150) < len(answering)
    world.set_outage(100, 200)
    assert silent(150) == len(answering)
    assert world.respond("remote", b"a@" + answering[0], 150).duration == TIMEOUT_CONNECT


def test_greylisting_ends() -> None:
    """A greylisting host takes the recipient at the first attempt after its time."""
    world = World()
    name = next(d.name.encode() for d in world.domains if d.behaviour == "greylist")
    letters = [world.respond("remote", b"a@" + name, now).letter for now in (0, 100, 239, 240)]
    assert letters == ["Z", "Z", "Z", "K"]


def test_unknown_domain_fails() -> None:
    """A domain that the world does not have does not exist."""
    assert World().respond("remote", b"a@nowhere.example", 0).letter == "D"
