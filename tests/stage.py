"""What the tests of commands and actions stand on: what a command printed, a simulated qmail, a stand-in for qmail-send."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qmail_exporter.demo import report
from qmail_exporter.demo.qmail import Clock, Outcome, Qmail, run

_PATIENCE = 30.0


@dataclass
class Done:
    """What a command printed, and its exit status."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The lines of stdout as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Done]


def answer(_channel: str, recipient: bytes, _now: float) -> Outcome:
    """Defer what is for `defer…`, refuse what is for `fail…`, accept all else."""
    if recipient.startswith(b"defer"):
        return report.recipient_refused("192.0.2.1", "451 4.7.1 Greylisted", 0.05)
    if recipient.startswith(b"fail"):
        return report.recipient_refused("192.0.2.1", "550 5.1.1 No such user here", 0.05)
    return report.accepted("192.0.2.1", "250 2.0.0 Ok", 0.05)


@dataclass
class Simulated:
    """A simulated qmail, whose clock begins with the real one."""

    home: Path
    clock: Clock
    lines: list[bytes] = field(default_factory=list)
    qmail: Qmail = field(init=False)

    @property
    def queue(self) -> Path:
        """Its queue directory, unless it was given another name."""
        return self.home / "queue"

    def send(self, *recipients: bytes, sender: bytes = b"a@mail.test", age: float = 0) -> int:
        """Queue a message, let qmail-send try it, and return its number."""
        number = run(self.qmail.inject(sender, recipients, age=age))
        self.qmail.run_until(self.clock.now + 1)
        return number

    def info(self, number: int) -> Path:
        """The path of a message's `info` file."""
        return self.qmail.path("info", number)

    def alarm(self) -> None:
        """Let every message be tried."""
        self.qmail.alarm()
        self.qmail.run_until(self.clock.now + 1)


def wait_until(condition: Callable[[], Any], *, seconds: float = _PATIENCE) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


def read_terminal(fd: int) -> bytes:
    """Read a terminal's near side until its other side is closed, and close it."""
    out = b""
    with suppress(OSError):  # which is how it ends
        while some := os.read(fd, 65536):
            out += some
    os.close(fd)
    return out


def in_terminal(columns: int, *argv: str, colours: bool = False, code: int = 0, **environment: str) -> str:
    """What a command prints in a terminal of that many columns: without its colours, if they are not asked for."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ |= {"COLUMNS": str(columns), "TERM": "xterm", "LANG": "C.UTF-8"} | environment
        os.execv(sys.executable, [sys.executable, "-m", "qmail_exporter", *argv])  # noqa: S606 - as in subprocess
    out = read_terminal(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code, out
    text = out.decode("utf-8").replace("\r\n", "\n")
    return text if colours else re.sub(r"\x1b\[[0-9;]*m", "", text)


# --- a stand-in for qmail-send

_STAND_IN = """
import fcntl, os, signal, sys
os.chdir(sys.argv[1])
signal.signal(signal.SIGALRM, lambda *_: os.write(1, b"alarm\\n"))
if sys.argv[2] != "unlocked":
    fcntl.flock(os.open("lock/sendmutex", os.O_WRONLY | os.O_CREAT, 0o600), fcntl.LOCK_EX | fcntl.LOCK_NB)
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


class StandIn:
    """A process with qmail-send's name that holds a queue's lock and writes a line for each SIGALRM."""

    def __init__(self, directory: Path, queue: Path, how: str, name: str) -> None:
        program = directory / name
        if not program.exists():
            program.symlink_to(sys.executable)
        self.process = subprocess.Popen(
            [str(program), "-I", "-S", "-c", _STAND_IN, str(queue), how], stdout=subprocess.PIPE
        )
        assert self.line() == b"ready\n"

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.process.pid

    def line(self) -> bytes:
        """Return the next line it writes."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> bytes:
        """End it and return what it wrote besides."""
        self.process.kill()
        return self.process.communicate(timeout=_PATIENCE)[0]


@contextmanager
def simulation(directory: Path, *, start: bool = True, **given: Any) -> Iterator[Simulated]:
    """A simulated qmail in a directory, until the end. One that is not started leaves its lock to a stand-in."""
    simulated = Simulated(directory, Clock(time.time()))
    options: dict[str, Any] = {"respond": answer} | given
    simulated.qmail = Qmail(directory, clock=simulated.clock, log=simulated.lines.append, **options)
    if start:
        simulated.qmail.start()
    try:
        yield simulated
    finally:
        simulated.qmail.kill()


@contextmanager
def standing_in(
    directory: Path, queue: Path, how: str = "locked", name: str = "qmail-send"
) -> Iterator[StandIn]:
    """A stand-in for the qmail-send of a queue, until the end.

    It is `locked`: as qmail-send; `unlocked`: without the lock; `deaf`: without a handler of SIGALRM.
    """
    process = StandIn(directory, queue, how, name)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.end()
