from collections.abc import Callable
from pathlib import Path

import pytest

from stage import Command, Simulated, StandIn


def test_redeliver_wakes_the_queues_qmail_send(
    stopped: Simulated, stand_in: Callable[..., StandIn], command: Command, audit: list[str]
) -> None:
    """The process that holds the queue's lock gets SIGALRM, once, and syslog has who sent it."""
    send = stand_in(stopped.queue)
    done = command("redeliver", "--qmail.home", stopped.home)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"default: qmail-send, process {send.pid}, was told to try every message now\n"
    assert send.line() == b"alarm\n"
    assert [line.split()[0] for line in audit] == ["action=redeliver"]
    assert audit[0].endswith(f" pid={send.pid}")
    assert send.end() == b""


def test_redeliver_wakes_no_other_queues_qmail_send(
    simulate: Callable[..., Simulated], stand_in: Callable[..., StandIn], command: Command
) -> None:
    """Where only another queue has a qmail-send, nothing is signalled, and the status is 3."""
    ours, other = simulate(start=False), simulate(start=False)
    send = stand_in(other.queue)
    done = command("redeliver", "--qmail.home", ours.home)
    assert (done.code, done.out) == (3, "")
    assert "no qmail-send runs on this queue" in done.err
    assert send.end() == b""


def test_redeliver_of_several_queues(
    simulate: Callable[..., Simulated], stand_in: Callable[..., StandIn], command: Command
) -> None:
    """Each queue's own qmail-send is told; one that is missing does not keep the command from the next."""
    queues = [simulate(queue=name, start=False).home / name for name in ("queue1", "queue2", "queue3")]
    first, third = stand_in(queues[0]), stand_in(queues[2])
    words = [word for queue in queues for word in ("--qmail.queue", queue)]
    done = command("redeliver", *words, "--json")
    assert done.code == 3
    assert [(each["queue"], each.get("pid")) for each in done.objects] == [
        ("queue1", first.pid),
        ("queue2", None),
        ("queue3", third.pid),
    ]
    assert (first.line(), third.line()) == (b"alarm\n", b"alarm\n")


def test_redeliver_dry_run(
    stopped: Simulated, stand_in: Callable[..., StandIn], command: Command, audit: list[str]
) -> None:
    """A dry run names the process, and signals and logs nothing."""
    send = stand_in(stopped.queue)
    done = command("redeliver", "--qmail.home", stopped.home, "--dry-run", "--exit-status")
    assert done.out.splitlines() == [
        f"default: qmail-send, process {send.pid}, would be told to try every message now",
        "0",
    ]
    assert (send.end(), audit) == (b"", [])


@pytest.mark.parametrize("how", ["missing", "directory"])
def test_redeliver_of_what_is_no_queue(
    stopped: Simulated, how: str, command: Command, tmp_path: Path
) -> None:
    """A queue that is not there, or without a lock, is one line on stderr, and status 1."""
    queue = tmp_path / "no" if how == "missing" else tmp_path
    done = command("redeliver", "--qmail.queue", queue, "--qmail.home", stopped.home)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "No such file" in done.err
