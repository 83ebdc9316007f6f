"""What the simulated programs share: the queue directory, the clock, process numbers, the trigger, the ledger."""

import heapq
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

from qmail_exporter.demo.ledger import Ledger
from qmail_exporter.formats import envelope

T = TypeVar("T")
Steps = Generator[str, None, T]
"""A program's run: it yields a short name after each call that others can see, and returns its result."""

CHANNELS = ("local", "remote")
_SPLIT = (("mess", 0o750), ("info", 0o700), ("local", 0o700), ("remote", 0o700))
_FLAT = (("pid", 0o700), ("intd", 0o700), ("todo", 0o750), ("bounce", 0o700), ("lock", 0o750))


def run(steps: Steps[T]) -> T:
    """Run a program to its end and return its result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


def read_file(path: str) -> bytes:
    """Return a file's content. `open` would cost twice as much for the small files of a queue."""
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        return os.read(file, size) if size else b""
    finally:
        os.close(file)


class Host:
    """One machine with a queue directory.

    Args:
        queue: the queue directory; `create` makes it.
        split: directories that `mess`, `info`, `local` and `remote` are split into.
        clock: the present time, Unix seconds.
        stamp_files: give files the clock's time with utime(2), for a clock that is not the kernel's.
        reuse_numbers: give a new message the number of the one that ended last, as ext4 does by itself, on file
            systems that do not reuse inode numbers (tmpfs). The file's name is then not its inode number.

    Attributes:
        pulled: the trigger was pulled since qmail-send last looked.
        backdated: seconds by which a message, by number, is older than it is.
    """

    def __init__(
        self, queue: Path, *, split: int, clock: Callable[[], float], stamp_files: bool, reuse_numbers: bool
    ) -> None:
        self.queue = str(queue)
        self.split = split
        self.clock = clock
        self.stamp_files = stamp_files
        self.ledger = Ledger()
        self.pulled = False
        self.backdated: dict[int, float] = {}
        self.tcpto = f"{queue}/lock/tcpto"
        self._directories = {
            kind: [f"{queue}/{kind}/{part}/" for part in range(split)] for kind, _ in _SPLIT
        } | {kind: [f"{queue}/{kind}/"] * split for kind, _ in _FLAT}
        self._pid = 10000
        self._free: list[int] | None = [] if reuse_numbers else None

    def create(self) -> None:
        """Make the queue directory as `make setup` does (hier.c), but for owners; what exists is kept."""
        _directory(self.queue, 0o750)
        for kind, mode in _FLAT:
            _directory(f"{self.queue}/{kind}", mode)
        for kind, mode in _SPLIT:
            _directory(f"{self.queue}/{kind}", mode)
            for part in self._directories[kind]:
                _directory(part, mode)
        for name, content, mode in (("tcpto", bytes(1024), 0o644), ("sendmutex", b"", 0o600)):
            if not os.path.exists(f"{self.queue}/lock/{name}"):
                Path(self.queue, "lock", name).write_bytes(content)
                os.chmod(f"{self.queue}/lock/{name}", mode)
        if not os.path.exists(f"{self.queue}/lock/trigger"):
            os.mkfifo(f"{self.queue}/lock/trigger")
            os.chmod(f"{self.queue}/lock/trigger", 0o622)  # noqa: S103 - anybody may wake qmail-send

    def path(self, kind: str, number: int) -> str:
        """Return the path of a message's file of that kind (fmtqfn.c)."""
        return f"{self._directories[kind][number % self.split]}{number}"

    def name(self, kind: str, number: int) -> bytes:
        """Return that path as qmail-send logs it: relative to the queue directory."""
        return self.path(kind, number)[len(self.queue) + 1 :].encode()

    def read_info(self, number: int) -> tuple[bytes, int]:
        """Return the sender and the birth, Unix seconds, that a message's `info` tells (getinfo in qmail-send.c)."""
        info = os.open(self.path("info", number), os.O_RDONLY)
        try:
            return envelope.parse_info(os.read(info, 4096)), os.fstat(info).st_mtime_ns // 10**9
        finally:
            os.close(info)

    def number(self, message: int) -> int:
        """Choose a message's number: the inode number of its file, open as descriptor `message`."""
        if self._free:
            return heapq.heappop(self._free)
        return os.fstat(message).st_ino

    def release(self, number: int) -> None:
        """Note that a message's number is free again."""
        self.backdated.pop(number, None)
        if self._free is not None:
            heapq.heappush(self._free, number)

    def next_pid(self) -> int:
        """Return the process number of the next program that starts: 10000 to 29999, over and over."""
        self._pid = self._pid + 1 if self._pid < 29999 else 10000
        return self._pid

    def stamp(self, path: str) -> None:
        """Give the file the clock's time, if that is not what the kernel gave it."""
        if self.stamp_files:
            now = self.clock()
            os.utime(path, (now, now))

    def pull_trigger(self) -> None:
        """Wake qmail-send (triggerpull.c): open, write and close the FIFO, unless nobody listens."""
        self.pulled = True
        try:
            trigger = os.open(f"{self.queue}/lock/trigger", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        try:
            os.write(trigger, b"\0")
        except BlockingIOError:
            pass  # a full FIFO wakes as well
        finally:
            os.close(trigger)


def _directory(path: str, mode: int) -> None:
    if not os.path.isdir(path):
        os.mkdir(path)
        os.chmod(path, mode)
