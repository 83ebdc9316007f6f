import os
import re
from typing import Any

import pytest

from qmail_exporter.demo import report
from qmail_exporter.demo.qmail import Qmail, run
from qmail_exporter.formats import retry

LINES = [
    rb"status: local \d+/\d+ remote \d+/\d+( exitasap)?",
    rb"status: exiting",
    rb"new msg \d+",
    rb"info msg \d+: bytes \d+ from <[!-~]*> qp \d+ uid \d+",
    rb"starting delivery \d+: msg \d+ to (local|remote) [!-~]+",
    rb"delivery \d+: (success|failure|deferral): [!-~]*",
    rb"delivery \d+: report mangled, will defer",
    rb"bounce msg \d+ qp \d+",
    rb"triple bounce: discarding bounce/\d+",
    rb"end msg \d+",
]


def count(lines: list[bytes], pattern: bytes) -> int:
    """Count the lines that match whole."""
    return sum(re.fullmatch(pattern, line) is not None for line in lines)


def test_queue_directory_is_as_qmail_makes_it(simulate: Any) -> None:
    """The directories, their modes and the files of `lock` are those of hier.c."""
    queue = simulate(split=5).home / "queue"
    modes = {"mess": 0o750, "todo": 0o750, "lock": 0o750, "info": 0o700, "local": 0o700, "remote": 0o700}
    assert {name: (queue / name).stat().st_mode & 0o777 for name in modes} == modes
    assert sorted(os.listdir(queue / "remote")) == list("01234")
    assert (queue / "lock/tcpto").read_bytes() == bytes(1024)
    assert (queue / "lock/trigger").is_fifo()
    assert oct((queue / "lock/sendmutex").stat().st_mode)[-3:] == "600"


def test_drained_queue_is_empty(simulate: Any) -> None:
    """When all mail is delivered or bounced, no file is left, nor anything in the ledger."""
    simulation = simulate()
    for way in (b"ok@x.example", b"fail@x.example", b"joe", b"fail@mail.test"):
        simulation.send(way, b"second@y.example")
    simulation.qmail.run_until(simulation.clock.now + 10)
    assert simulation.files() == []
    assert simulation.qmail.ledger.messages == {}
    assert simulation.qmail.ledger.ended == simulation.qmail.ledger.injected == 6


def test_log_has_lines_of_qmail_log_only(simulate: Any) -> None:
    """Each line of a run with every kind of event is one that qmail-log(5) describes."""
    simulation = simulate()
    for recipient in (
        b"ok@x",
        b"fail@x",
        b"defer@x",
        b"mangle@x",
        b"white space\n%\xff@x",
        b"fail@mail.test",
    ):
        simulation.send(recipient)
        simulation.send(recipient, sender=b"")
        simulation.send(recipient, sender=b"#@[]")
    simulation.qmail.run_until(simulation.clock.now + 700000)
    simulation.qmail.stop()
    simulation.qmail.pump()
    assert [line for line in simulation.lines if not any(re.fullmatch(p, line) for p in LINES)] == []
    assert [p for p in LINES if not count(simulation.lines, p)] == []


def test_ledger_counts_what_the_log_says(simulate: Any) -> None:
    """The ledger's totals equal the number of lines of each kind."""
    simulation = simulate()
    for sender in (b"a@mail.test", b"", b"#@[]", b"fail@mail.test"):
        simulation.send(b"ok@x", b"fail@x", b"defer@x", b"joe", sender=sender)
    simulation.qmail.run_until(simulation.clock.now + 5000)
    ledger, lines = simulation.qmail.ledger, simulation.lines
    assert ledger.preprocessed == count(lines, rb"new msg .*")
    assert ledger.ended == count(lines, rb"end msg .*")
    assert ledger.started["remote"] == count(lines, rb"starting .* to remote .*")
    for result in ("success", "failure", "deferral"):
        total = sum(n for (_, kind), n in ledger.results.items() if kind == result)
        assert total == count(lines, rb"delivery \d+: %b: .*" % result.encode()) > 0
    assert ledger.deferred() == {b"x": 4}


def test_number_is_the_inode(simulate: Any) -> None:
    """A message's number is its file's inode number, and says which directory the file is in."""
    simulation = simulate(start=False, split=7)
    number = simulation.send(b"joe")
    path = simulation.home / "queue" / "mess" / str(number % 7) / str(number)
    assert path.stat().st_ino == number
    assert path == simulation.qmail.path("mess", number)


def test_numbers_are_reused_on_demand(simulate: Any) -> None:
    """With `reuse_numbers` a message has the number of the one that ended before it, whatever the file system."""
    simulation = simulate(reuse_numbers=True)
    first = simulation.send(b"joe")
    simulation.qmail.run_until(simulation.clock.now + 1)
    assert simulation.send(b"joe") == first


def test_retries_come_as_nextretry_says(simulate: Any) -> None:
    """A message that is always deferred is tried at the squares of the schedule until it is too old."""
    simulation = simulate()
    times = []
    log = simulation.lines.append

    def stamp(line: bytes) -> None:
        if line.startswith(b"starting"):
            times.append(int(simulation.clock.now))
        log(line)

    other = Qmail(
        simulation.home, clock=simulation.clock, log=stamp, respond=_defer, stamp_files=True, queue="queue2"
    )
    other.start()
    run(other.inject(b"", [b"defer@x.example"]))
    born = int(simulation.clock.now)
    other.run_until(born + 700000)
    other.kill()
    # The double bounce at the end goes to the local postmaster at once.
    assert times[:-1] == list(retry.attempts(born, retry.SKIP["remote"], 604800))
    assert other.ledger.expired == 1


def _defer(channel: str, _recipient: bytes, _now: float) -> report.Outcome:
    return report.delivered() if channel == "local" else report.dns_temporary(0.1)


def test_clean_exit_keeps_the_schedule(simulate: Any) -> None:
    """A stop leaves the next attempt in the channel file's mtime, and a start takes it from there."""
    simulation = simulate()
    number = simulation.send(b"defer@x.example")
    simulation.qmail.run_until(simulation.clock.now + 450)
    simulation.qmail.stop()
    simulation.qmail.pump()
    assert not simulation.qmail.running
    assert simulation.lines[-1] == b"status: exiting"
    birth = simulation.qmail.ledger.messages[number].birth
    assert simulation.qmail.path("remote", number).stat().st_mtime == birth + 1600
    simulation.qmail.start()
    simulation.lines.clear()
    simulation.qmail.run_until(birth + 1599)
    assert simulation.lines == []
    simulation.qmail.run_until(birth + 1601)
    assert simulation.lines[0].startswith(b"starting delivery 1: msg %d " % number)


def test_kill_loses_the_schedule(simulate: Any) -> None:
    """After a kill, a message is tried at the next start, whenever it was to be tried."""
    simulation = simulate()
    simulation.send(b"defer@x.example")
    simulation.qmail.run_until(simulation.clock.now + 450)
    simulation.qmail.kill()
    simulation.qmail.start()
    before = simulation.qmail.ledger.started["remote"]
    simulation.qmail.pump()
    assert simulation.qmail.ledger.started["remote"] == before + 1


def test_stop_waits_for_deliveries(simulate: Any) -> None:
    """After SIGTERM nothing new begins; each report is followed by a status with `exitasap`, the last by the exit."""
    simulation = simulate(concurrency={"local": 1, "remote": 2})
    simulation.send(*(b"ok-%d@x.example" % n for n in range(5, 10)))
    simulation.qmail.pump()
    simulation.qmail.stop()
    simulation.lines.clear()
    simulation.qmail.run_until(simulation.clock.now + 100)
    assert [line for line in simulation.lines if line.startswith(b"status")] == [
        b"status: local 0/1 remote 1/2 exitasap",
        b"status: local 0/1 remote 0/2 exitasap",
        b"status: exiting",
    ]
    assert simulation.qmail.ledger.recipients() == {("remote", "pending"): 3, ("remote", "done"): 2}


def test_concurrency_is_never_exceeded(simulate: Any) -> None:
    """No more deliveries are open at once than the channel allows, and as many as it allows are."""
    simulation = simulate(concurrency={"local": 2, "remote": 3})
    simulation.send(*(b"ok@x.example" for _ in range(20)), *(b"joe" for _ in range(9)))
    simulation.qmail.run_until(simulation.clock.now + 10)
    uses = {tuple(map(int, re.findall(rb"(\d+)/", line))) for line in simulation.lines if b"status" in line}
    assert (max(local for local, _ in uses), max(remote for _, remote in uses)) == (2, 3)


@pytest.mark.parametrize(
    ("sender", "recipient", "bounces"),
    [
        (b"a@mail.test", b"fail@x", {"single": 1}),
        (b"fail@y", b"fail@x", {"single": 1, "double": 1}),
        (b"", b"fail@x", {"double": 1}),
        (b"#@[]", b"fail@x", {"triple": 1}),
        (b"list-@mail.test-@[]", b"fail@x", {"single": 1}),
    ],
)
def test_bounces(sender: bytes, recipient: bytes, bounces: dict[str, int], simulate: Any) -> None:
    """Mail bounces to its sender, a bounce to the postmaster, a double bounce to nobody."""
    simulation = simulate()
    simulation.send(recipient, sender=sender)
    simulation.qmail.run_until(simulation.clock.now + 10)
    assert simulation.qmail.ledger.bounces == bounces
    assert simulation.files() == []
    to = b"list-@mail.test" if b"list" in sender else b"postmaster@mail.test"
    if bounces != {"triple": 1} and b"a@" not in sender:
        assert count(simulation.lines, rb"starting delivery \d+: msg \d+ to local " + to) == 1


def test_bounce_has_the_process_number_of_its_log_line(simulate: Any) -> None:
    """`bounce msg` names the qmail-queue whose number the new message's `info msg` line has as `qp`."""
    simulation = simulate()
    simulation.send(b"fail@x")
    simulation.qmail.run_until(simulation.clock.now + 10)
    qp = next(line for line in simulation.lines if line.startswith(b"bounce")).rpartition(b" ")[2]
    assert count(simulation.lines, rb"info msg \d+: bytes \d+ from <> qp %b uid 990" % qp) == 1


def test_expired_deferral_is_a_failure(simulate: Any) -> None:
    """The last deferral of a message older than the lifetime is logged as a failure that says so, and bounces."""
    simulation = simulate()
    number = simulation.send(b"defer@x.example")
    simulation.qmail.pump()
    simulation.qmail.run_until(simulation.clock.now + 1)
    simulation.qmail.touch(number, simulation.clock.now - 8 * 86400)
    simulation.qmail.alarm()
    simulation.qmail.run_until(simulation.clock.now + 1)
    ending = rb".*I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long\./"
    assert count(simulation.lines, rb"delivery \d+: failure: " + ending) == 1
    assert simulation.qmail.ledger.bounces == {"single": 1}


def test_age_is_seen_in_the_files(simulate: Any) -> None:
    """A message queued with an age has it in `mess` and, once preprocessed, in `info`."""
    simulation = simulate()
    number = simulation.send(b"defer@x.example", age=86400)
    simulation.qmail.pump()
    for kind in ("mess", "info"):
        assert simulation.qmail.path(kind, number).stat().st_mtime == simulation.clock.now - 86400


def test_attempt_ignores_the_schedule(simulate: Any) -> None:
    """`attempt` begins a pass now; a message that does not wait cannot be attempted."""
    simulation = simulate()
    number = simulation.send(b"defer@x.example", b"defer@y.example")
    run(simulation.qmail.preprocess(number))
    simulation.qmail.run_until(simulation.clock.now + 1)
    run(simulation.qmail.attempt(number, "remote"))
    assert simulation.qmail.deliveries == {"local": 0, "remote": 2}
    with pytest.raises(ValueError, match="does not wait"):
        simulation.qmail.attempt(number, "local")


def test_second_qmail_send_is_refused(simulate: Any) -> None:
    """The mutex keeps a second qmail-send from a queue that has one; it says so and ends."""
    simulation = simulate()
    other = Qmail(simulation.home, clock=simulation.clock, log=simulation.lines.append, respond=_defer)
    other.start()
    assert not other.running
    assert simulation.lines[-1] == b"alert: cannot start: qmail-send is already running"
    with pytest.raises(RuntimeError, match="running"):
        simulation.qmail.start()


def test_orphans_are_removed_after_36_hours(simulate: Any) -> None:
    """What a killed qmail-queue left in `mess` and `intd` goes at the first clean-up that finds it 36 hours old."""
    simulation = simulate()
    queue = simulation.qmail.inject(b"", [b"joe"])
    while next(queue) != "intd create":
        pass
    queue.close()
    assert [path.partition("/")[0] for path in simulation.files()] == ["intd", "mess"]
    simulation.qmail.run_until(simulation.clock.now + 129600)
    assert len(simulation.files()) == 2
    simulation.qmail.run_until(simulation.clock.now + 76431)
    assert simulation.files() == []


def test_named_queue_stands_in_the_lines(simulate: Any) -> None:
    """With a queue name the lines carry it where indimail-mta's qmail-send puts it."""
    simulation = simulate(queue_name=b"queue1")
    simulation.send(b"ok-5@x")
    simulation.qmail.pump()
    simulation.qmail.stop()
    simulation.qmail.run_until(simulation.clock.now + 10)
    lines = [re.sub(rb"\d{4,}", b"N", line) for line in simulation.lines]
    assert lines[1] == b"new msg N queue1"
    assert lines[3] == b"starting delivery 1: msg N to remote ok-5@x queue1"
    assert lines[-3] == b"status: local 0/10 remote 0/20 queue1 exitasap"
    assert lines[-1] == b"status: queue1 queue1 qmail-send exiting"


def test_real_clock_cannot_be_moved(simulate: Any) -> None:
    """`run_until` needs a clock that can be set."""
    qmail = Qmail(simulate().home, clock=lambda: 0.0, log=print, respond=_defer, queue="other")
    with pytest.raises(TypeError, match="moved"):
        qmail.run_until(1.0)
