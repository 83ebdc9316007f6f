"""A simulated qmail on a temporary queue, a clock that the test moves, and a recorder of inotify events."""

import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.demo import report
from qmail_exporter.demo.deliveries import Respond
from qmail_exporter.demo.qmail import Clock, Outcome, Qmail, run

NOW = 1_800_000_000.0
HOST = "192.0.2.1"
_EVENTS = {0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE", 0x200: "DELETE"}  # fmt: skip
_MASK = sum(_EVENTS)


def answer(_channel: str, recipient: bytes, _now: float) -> Outcome:
    """Answer by the first word of the recipient's box; `-N` at its end is how many seconds it takes."""
    box = recipient.partition(b"@")[0].decode("ascii", "replace")
    way, _, seconds = box.partition("-")
    duration = float(seconds or 0.05)
    if way == "fail":
        return report.recipient_refused(HOST, "550 5.1.1 No such user here", duration)
    if way == "defer":
        return report.recipient_refused(HOST, "451 4.7.1 Greylisted", duration)
    if way == "hole":
        return report.timed_out("192.0.2.9", duration)
    if way == "mangle":
        return Outcome("?", b"", duration)
    return report.accepted(HOST, "250 2.0.0 Ok: queued as 4F2A", duration)


@dataclass
class Simulation:
    """A qmail with its clock and the lines it logged."""

    home: Path
    clock: Clock
    lines: list[bytes] = field(default_factory=list)
    qmail: Qmail = field(init=False)

    def send(self, *recipients: bytes, sender: bytes = b"a@mail.test", **how: Any) -> int:
        """Queue a message and return its number."""
        return run(self.qmail.inject(sender, recipients, **how))

    def files(self) -> list[str]:
        """Return the paths of all message files below the queue directory."""
        queue = self.home / "queue"
        paths = (path.relative_to(queue) for path in queue.rglob("*") if path.is_file())
        return sorted(str(path) for path in paths if path.parts[0] != "lock")


@pytest.fixture
def respond() -> Respond:
    """Return how the simulations' mail is answered."""
    return answer


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Callable[..., Simulation]]:
    """Make simulated qmails, started unless told not to."""
    made: list[Simulation] = []

    def make(*, start: bool = True, **given: Any) -> Simulation:
        options: dict[str, Any] = {"respond": answer, "stamp_files": True} | given
        now = NOW if options["stamp_files"] else time.time()
        simulation = Simulation(tmp_path / f"qmail{len(made)}", Clock(now))
        simulation.qmail = Qmail(
            simulation.home, clock=simulation.clock, log=simulation.lines.append, **options
        )
        made.append(simulation)
        if start:
            simulation.qmail.start()
        return simulation

    yield make
    for simulation in made:
        simulation.qmail.kill()


class Recorder:
    """The raw inotify events of a queue's directories."""

    def __init__(self, queue: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_NONBLOCK)
        self._queue = queue
        self._names: dict[int, str] = {}
        for directory in (path for path in queue.rglob("*") if path.is_dir()):
            watch = self._libc.inotify_add_watch(self._file, os.fsencode(directory), _MASK)
            assert watch > 0
            self._names[watch] = str(directory.relative_to(queue))

    def events(self) -> list[tuple[str, str, str]]:
        """Return what happened since the last call: directory, event, file name."""
        found: list[tuple[str, str, str]] = []
        while True:
            try:
                buffer = os.read(self._file, 1 << 20)
            except BlockingIOError:
                return found
            place = 0
            while place < len(buffer):
                watch, mask, _, length = struct.unpack_from("iIII", buffer, place)
                name = buffer[place + 16 : place + 16 + length].rstrip(b"\0").decode()
                place += 16 + length
                found.append((self._names[watch], _EVENTS[mask], name))

    def close(self) -> None:
        """Stop recording."""
        os.close(self._file)


@pytest.fixture
def record() -> Iterator[Callable[[Path], Recorder]]:
    """Make recorders of a queue directory."""
    made: list[Recorder] = []

    def make(queue: Path) -> Recorder:
        made.append(Recorder(queue))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()
