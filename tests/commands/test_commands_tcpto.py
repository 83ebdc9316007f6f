import fcntl
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qmail_exporter import actions
from qmail_exporter.hook.runs import read_answer
from stage import Command, Simulated

_LINE = "{} timed out {} seconds ago; # recent timeouts: {}"


def table(*hosts: tuple[int, int, float], size: int = 1024) -> bytes:
    """A tcpto table: last byte of 192.0.2.x, count, seconds ago."""
    now = int(time.time())
    records = b"".join(
        bytes((192, 0, 2, last, count, 0, 0, 0)) + struct.pack("<L", now - int(ago)) + bytes(4)
        for last, count, ago in hosts
    )
    return records.ljust(size, b"\0")


@pytest.fixture
def tcpto_file(simulated: Simulated) -> Path:
    path: Path = simulated.queue / "lock/tcpto"
    path.write_bytes(table((1, 1, 30), (2, 2, 3600), (3, 10, 5900)))
    return path


def test_tcpto_lists_as_qmail_and_says_what_is_skipped(
    simulated: Simulated, tcpto_file: Path, command: Command
) -> None:
    """Each host has qmail-tcpto's line, and those with two time-outs less than 97 minutes ago are skipped until then."""
    done = command("tcpto", "--qmail.home", simulated.home)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    listed = [line.split() for line in lines[:3]]
    assert [(words[0], int(words[-1])) for words in listed] == [
        ("192.0.2.1", 1),
        ("192.0.2.2", 2),
        ("192.0.2.3", 10),
    ]
    assert 3600 <= int(listed[1][3]) <= 3605
    assert lines[1] == _LINE.format("192.0.2.2", listed[1][3], 2)
    assert len(lines) == 4
    assert lines[3].startswith("192.0.2.2 is skipped until 20")
    assert tcpto_file.stat().st_size == 1024


def test_tcpto_as_json(simulated: Simulated, tcpto_file: Path, command: Command) -> None:
    """One object a host, with the moment from which every qmail-remote tries it again."""
    assert tcpto_file.exists()
    hosts = command("tcpto", "--qmail.home", simulated.home, "--json").objects
    assert [(host["host"], host["timeouts"], host["skipped"]) for host in hosts] == [
        ("192.0.2.1", 1, False),
        ("192.0.2.2", 2, True),
        ("192.0.2.3", 10, False),
    ]
    assert hosts[1]["skipped_until"] == hosts[1]["last_timeout"] + 5824
    assert {host["queue"] for host in hosts} == {"default"}


def test_tcpto_of_what_is_no_table(simulated: Simulated, tcpto_file: Path, command: Command) -> None:
    """A table of no known size, a FIFO and a missing file are one line on stderr each, and status 1."""
    tcpto_file.write_bytes(b"x" * 17)
    assert "17 bytes" in command("tcpto", "--qmail.home", simulated.home).err
    tcpto_file.unlink()
    os.mkfifo(tcpto_file)
    assert "not a regular file" in command("tcpto", "--qmail.home", simulated.home).err
    tcpto_file.unlink()
    done = command("tcpto", "--qmail.home", simulated.home)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "No such file" in done.err


def test_several_queues(simulate: Callable[..., Simulated], command: Command) -> None:
    """Each queue is done, named after its directory, and what fails in one does not keep the command from the next."""
    homes = [simulate(queue=name).home / name for name in ("queue1", "queue2")]
    (homes[0] / "lock/tcpto").unlink()
    (homes[1] / "lock/tcpto").write_bytes(table((7, 3, 10)))
    done = command("tcpok", "--qmail.queue", homes[0], "--qmail.queue", homes[1])
    assert done.code == 1
    assert done.err.startswith("qmail-exporter tcpok: queue1:")
    assert done.out == "queue2: 1 host forgotten (by write)\n"


def test_tcpok_empties_the_table_and_says_so(
    simulated: Simulated, tcpto_file: Path, command: Command, audit: list[str]
) -> None:
    """The table is zeros of the same size afterwards, and syslog has who did it."""
    done = command("tcpok", "--qmail.home", simulated.home)
    assert (done.code, done.out) == (0, "default: 3 hosts forgotten (by write)\n")
    assert tcpto_file.read_bytes() == bytes(1024)
    assert len(audit) == 1
    assert audit[0].startswith(f"action=tcpok queue=default uid={os.getuid()} ")
    assert audit[0].endswith(" hosts=3 by=write")


def test_tcpok_of_indimails_larger_table(simulated: Simulated, tcpto_file: Path) -> None:
    """A table of 2,048 bytes, which is indimail's, is zeroed whole."""
    tcpto_file.write_bytes(b"\2" * 2048)
    actions.tcpok(str(simulated.queue))
    assert tcpto_file.read_bytes() == bytes(2048)


def test_tcpok_dry_run(simulated: Simulated, tcpto_file: Path, command: Command, audit: list[str]) -> None:
    """A dry run says how many hosts there are, and changes and logs nothing."""
    before = tcpto_file.read_bytes()
    done = command("tcpok", "--qmail.home", simulated.home, "--dry-run", "--json")
    assert done.objects == [{"queue": "default", "hosts": 3, "dry_run": True, "by": None}]
    assert (tcpto_file.read_bytes(), audit) == (before, [])


def test_tcpok_ends_with_its_exit_status(simulated: Simulated, tcpto_file: Path, command: Command) -> None:
    """With --exit-status the last line on stdout is the exit status, of a failure too, as the hook reads it."""
    done = command("tcpok", "--qmail.home", simulated.home, "--exit-status")
    assert read_answer(done.out.encode()) == (True, "status 0: default: 3 hosts forgotten (by write)")
    tcpto_file.unlink()
    done = command("tcpok", "--qmail.home", simulated.home, "--exit-status")
    assert (done.code, done.out) == (1, "1\n")
    assert not read_answer(done.out.encode()).ok


@pytest.mark.parametrize("where", ["lock", "tcpto"])
def test_tcpok_follows_no_symbolic_link(
    simulated: Simulated, tmp_path: Path, where: str, command: Command
) -> None:
    """A link in the place of the table, or of its directory, leads nowhere: what it points to stays as it was."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "tcpto").write_bytes(table((9, 9, 9)))
    lock = simulated.queue / "lock"
    if where == "lock":
        lock.rename(tmp_path / "moved")
        lock.symlink_to(other)
    else:
        (lock / "tcpto").unlink()
        (lock / "tcpto").symlink_to(other / "tcpto")
    before = (other / "tcpto").read_bytes()
    assert command("tcpok", "--qmail.home", simulated.home).code == 1
    assert (other / "tcpto").read_bytes() == before


def test_tcpok_waits_for_the_lock(simulated: Simulated, tcpto_file: Path) -> None:
    """While another program holds the table's lock nothing is written; after a while it is an error."""
    with tcpto_file.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(actions.ActionError, match="lock"):
            actions.tcpok(str(simulated.queue), timeout=0.05)
        assert any(tcpto_file.read_bytes())
        waiting = threading.Thread(target=actions.tcpok, args=(str(simulated.queue),))
        waiting.start()
        assert any(tcpto_file.read_bytes())
        fcntl.flock(held, fcntl.LOCK_UN)
        waiting.join(10)
    assert tcpto_file.read_bytes() == bytes(1024)


def program(home: Path, script: str) -> Path:
    """Make a bin/qmail-tcpok of one's own."""
    path = home / "bin/qmail-tcpok"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_qmails_own_program_is_used(simulated: Simulated, tcpto_file: Path) -> None:
    """If the home has qmail-tcpok and the queue is the home's, that program empties the table."""
    program(simulated.home, f"head -c 1024 /dev/zero >'{tcpto_file}'")
    assert actions.tcpok(str(simulated.queue), str(simulated.home)) == (3, True)
    assert tcpto_file.read_bytes() == bytes(1024)


def test_a_program_of_another_home_does_not_do(simulated: Simulated, tcpto_file: Path) -> None:
    """If hosts are left after qmail's program has run, it was built for another home, and the table is written to."""
    program(simulated.home, "exit 0")
    assert actions.tcpok(str(simulated.queue), str(simulated.home)) == (3, False)
    assert tcpto_file.read_bytes() == bytes(1024)


def test_a_failing_program_is_an_error(simulated: Simulated, tcpto_file: Path, command: Command) -> None:
    """What qmail's program says on stderr and its status are told in one line; one that hangs is ended."""
    program(simulated.home, "printf 'no\\033[31m way\\n' >&2; exit 111")
    done = command("tcpok", "--qmail.home", simulated.home)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "status 111: no" in done.err
    assert "\033" not in done.err
    program(simulated.home, "exec sleep 60")
    with pytest.raises(actions.ActionError, match="took more than"):
        actions.tcpok(str(simulated.queue), str(simulated.home), timeout=0.2)
    assert any(tcpto_file.read_bytes())


def test_two_at_once(simulated: Simulated, tcpto_file: Path) -> None:
    """Any number of them at the same time leave an empty table of the right size."""
    code = "import sys; from qmail_exporter import actions; actions.tcpok(sys.argv[1])"
    running = [subprocess.Popen([sys.executable, "-c", code, str(simulated.queue)]) for _ in range(4)]
    assert [process.wait(30) for process in running] == [0] * 4
    assert tcpto_file.read_bytes() == bytes(1024)


def test_no_queue(tmp_path: Path, command: Command) -> None:
    """A home without a queue is one line that says how to name one."""
    done = command("tcpok", "--qmail.home", tmp_path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "--qmail.queue" in done.err
