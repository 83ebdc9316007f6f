"""The first scan in processes of its own, so that a million messages are shared out among processors.

`scan_apart` forks children, each of which scans some of the numbered directories and writes what it finds to a pipe; the
parent takes it from there in steps, and never waits.  Guaranteed:

- The steps are those of `Tree.scan`, in another order: every message is in one of them, as it was at some moment since
  the fork.  It may have changed since then, even gone, before the step is read: who looks at messages meanwhile must not
  let an older state replace a newer one.
- Messages that the `Gatherer` takes are in what it packs instead.
- A child lists the directories of a number once the parent has admitted it by that number, which is when they are watched.
- A child opens what a scan opens, through the directory that the parent has open, and writes to its pipe alone.  It
  keeps none of the parent's other descriptors but 0 to 2, runs none of its signal handlers or exit handlers, and takes no
  lock that another thread of the parent could have held at the fork: it neither logs, imports nor prints.
- It ends when the parent does or closes the pipes, at its next write or number; a full pipe holds it up until the parent
  reads.
- Should one fail in any way the parent gets an `ApartError`, never an end that looks like one: a scan is complete when
  the last frame of each pipe has said so.  Who took the steps knows what has come by then, so that `Tree.scan` can go on.

A frame is a length of 4 bytes and the `marshal` of `(found, progress, broken, gathered)`, or of None at the end.
"""

import errno
import fcntl
import gc
import marshal
import os
import select
import signal
import struct
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, NoReturn, Protocol

from qmail_exporter.formats.envelope import Glance, Message, state_of
from qmail_exporter.sources.scan import Tree, messages

MOST = 2
"""Children, where there are as many processors: with two, taking in what they find takes as long as finding it."""
_LENGTH = struct.Struct("<I")
_PIPE = 1 << 20  # bytes, the most that an unprivileged process may ask for
_READ = 1 << 16
_NICE = 10


class ApartError(OSError):
    """There is no other process, or one ended before its scan did: scan in this one."""


class Gatherer(Protocol):
    """Takes messages where they are found, so that they need not go through the pipe one by one."""

    @property
    def full(self) -> bool:
        """Whether it is time to `pack`."""

    def add(self, channel: str, glances: list[Glance], /) -> list[Glance]:
        """Take messages; returns those that it does not take, which are to go through the pipe by themselves."""

    def pack(self) -> Any:
        """Return what was taken, as `marshal` takes it, and begin anew."""


class Step(NamedTuple):
    """One step: what was found, what a gatherer packed, if it did, and how much of the whole is done, from 0 to 1."""

    found: list[tuple[int, Message]]
    gathered: Any
    progress: float


class ApartScan(Iterator["Step | None"]):
    """The parent's end: an iterator of steps, which gives None when no whole step has come yet.

    What the children cannot read goes into `broken` of the tree.
    """

    def __init__(self, tree: Tree, gather: Callable[[], Gatherer]) -> None:
        self._tree = tree
        self._complete = False
        self._children: deque[_Child] = deque()
        self._parts = min(MOST, len(os.sched_getaffinity(0)), tree.split)
        self._progress: dict[_Child, float] = {}
        self._epoll = select.epoll()
        try:
            for part in range(self._parts):
                child = _Child(tree, range(part, tree.split, self._parts), gather)
                self._children.append(child)
                self._epoll.register(child.pipe, select.EPOLLIN)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor that is readable when more has come after a None; -1 when it is closed."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def __next__(self) -> Step | None:
        """The next step, if one has come whole; reads at most 64 KiB of each child.

        Raises:
            StopIteration: the scan is complete, and the children have been reaped.
            ApartError: a child has ended before that, or `close` was called.
        """
        for child in tuple(self._children):
            self._children.rotate(-1)
            try:
                frame = child.receive()
            except EOFError as error:
                self.close()
                raise ApartError(
                    errno.EPIPE, f"a scanning process ended early: {error}", self._tree.path
                ) from None
            if frame is not None:
                return self._take(child, frame)
        if self._children:
            return None
        self.close()
        if self._complete:
            raise StopIteration
        raise ApartError(errno.EPIPE, "the scanning processes were ended", self._tree.path)

    def admit(self, number: int) -> None:
        """Let the directories of that number be listed; those of a child are to be admitted in order."""
        for child in self._children:
            if number in child.numbers:
                child.admit()

    def close(self) -> None:
        """End the children, reap them, and let go of the pipes; may be called at any time, and again."""
        while self._children:
            self._children.pop().end(kill=True)
        self._epoll.close()

    def _take(self, child: "_Child", frame: bytes) -> Step:
        content = marshal.loads(frame)  # noqa: S302 - it comes from this very program
        if content is None:
            self._epoll.unregister(child.pipe)
            self._children.remove(child)
            child.end(kill=False)
            self._complete = not self._children
            content = [], 1.0, [], None
        found, self._progress[child], broken, gathered = content
        for area, *error in broken:
            self._tree.broken.setdefault(area, OSError(*error))
        return Step(messages(found), gathered, sum(self._progress.values()) / self._parts)


def scan_apart(tree: Tree, gather: Callable[[], Gatherer]) -> ApartScan:
    """Begin a scan in other processes, which see the tree as it is now; `close` it in the end.

    `gather` is called in each of them.

    Raises:
        ApartError: there can be no other process.
    """
    try:
        return ApartScan(tree, gather)
    except OSError as error:
        raise ApartError(error.errno, f"no other process: {error.strerror}", tree.path) from error


class _Child:
    """A child and its pipe."""

    def __init__(self, tree: Tree, numbers: range, gather: Callable[[], Gatherer]) -> None:
        self.numbers = numbers
        self._buffer = bytearray()
        ends: list[int] = []
        try:
            ends += os.pipe2(os.O_CLOEXEC)
            ends += os.pipe2(os.O_CLOEXEC)
            self.pipe, writer, gate, self._gate = ends
            with suppress(OSError):  # only so that a child need not wait for the parent at every step
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE)
            os.set_blocking(self.pipe, False)
            os.set_blocking(self._gate, False)
            self._pid = _fork(tree, numbers, gather, _Pipes(gate, writer))
        except BaseException:
            for end in ends:
                os.close(end)
            raise
        os.close(gate)
        os.close(writer)

    def admit(self) -> None:
        """Let the directories of one more number be listed."""
        with suppress(OSError):  # it has ended, which `receive` tells; the pipe has room for every number
            os.write(self._gate, b"\0")

    def receive(self) -> bytes | None:
        """The next frame, if it is whole.

        Raises:
            EOFError: the child has ended, and how.
        """
        if (frame := self._frame()) is not None:
            return frame
        try:
            received = os.read(self.pipe, _READ)
        except BlockingIOError:
            return None
        if not received:
            raise EOFError(self.end(kill=False))
        self._buffer += received
        return self._frame()

    def _frame(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
        if len(buffer) < end:
            return None
        frame = bytes(buffer[_LENGTH.size : end])
        del buffer[:end]
        return frame

    def end(self, *, kill: bool) -> str:
        """Close the pipe and reap the child, once; returns how it ended, in words."""
        pid, self._pid = self._pid, 0
        if not pid:
            return "already"
        os.close(self.pipe)
        os.close(self._gate)
        try:
            if kill:
                os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except (ProcessLookupError, ChildProcessError):  # somebody reaps every child of this process
            return "no status"
        return f"status {code}" if code >= 0 else str(signal.strsignal(-code))


# --- the child


class _Pipes(NamedTuple):
    """A child's ends: it waits at one, and writes to the other."""

    gate: int
    writer: int


def _fork(tree: Tree, numbers: range, gather: Callable[[], Gatherer], pipes: _Pipes) -> int:
    # No handler may run between the fork and the child's giving it up.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            # From 3.12 on, Python warns of other threads; why they do no harm is said above.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _run(tree, numbers, gather, pipes)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(tree: Tree, numbers: range, gather: Callable[[], Gatherer], pipes: _Pipes) -> NoReturn:
    status = 1
    try:
        gc.disable()  # a scan makes no cycles, and a collection would touch, and so copy, all the parent's memory
        _give_up_all_but((0, 1, 2, tree.fileno(), *pipes))
        with suppress(OSError):
            os.nice(_NICE)
        told, gatherer = set(tree.broken), gather()
        for channel, glances, found, progress in tree.walk(numbers, admit=partial(_wait, pipes.gate)):
            left = gatherer.add(channel, glances) if glances else []
            rest = found + [(one[0], state_of(one, channel)) for one in left]
            broken = [
                (area, error.errno, error.strerror, error.filename)
                for area, error in tree.broken.items()
                if area not in told
            ]
            told.update(tree.broken)
            _write(pipes.writer, (rest, progress, broken, gatherer.pack() if gatherer.full else None))
        _write(pipes.writer, ([], 1.0, [], gatherer.pack()))
        _write(pipes.writer, None)
        status = 0
    finally:
        os._exit(status)  # whatever was raised: nothing of the parent's may run here


def _give_up_all_but(kept: tuple[int, ...]) -> None:
    """Let go of the parent's signal handlers and descriptors."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with suppress(OSError):  # the one that listed them
                os.close(int(name))


def _wait(gate: int, _number: int) -> None:
    if not os.read(gate, 1):
        raise EOFError  # the parent has gone


def _write(pipe: int, content: Any) -> None:
    frame = marshal.dumps(content)
    rest = memoryview(_LENGTH.pack(len(frame)) + frame)
    while rest:
        rest = rest[os.write(pipe, rest) :]
