import errno
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from qmail_exporter.formats.envelope import Glance, Message, state_of
from qmail_exporter.sources import apart, scan
from qmail_exporter.sources.apart import ApartError, ApartScan, Step
from qmail_exporter.sources.scan import Scanned, Tree
from queuedir import QueueDir
from soak.held import open_descriptors

PATIENCE = 30.0


class Even:
    """Gathers the messages with an even number, three at a time."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, Any]] = []

    @property
    def full(self) -> bool:
        """Whether there are three."""
        return len(self.taken) >= 3

    def add(self, channel: str, glances: list[Glance]) -> list[Glance]:
        """Take those that are even."""
        self.taken += [(one[0], state_of(one, channel)) for one in glances if one[0] % 2 == 0]
        return [one for one in glances if one[0] % 2]

    def pack(self) -> list[tuple[int, Any]]:
        """Return what there is."""
        taken, self.taken = self.taken, []
        return taken


class Nothing(Even):
    """Gathers nothing."""

    def add(self, _channel: str, glances: list[Glance]) -> list[Glance]:
        """Take none."""
        return glances


def scan_apart(tree: Tree, gather: Callable[[], Even] = Nothing) -> ApartScan:
    """Begin a scan of all there is."""
    running = apart.scan_apart(tree, gather)
    for number in range(tree.split):
        running.admit(number)
    return running


@pytest.fixture
def queue(tmp_path: Path) -> QueueDir:
    return QueueDir(tmp_path / "queue", split=7)


@pytest.fixture
def tree(queue: QueueDir) -> Iterator[Tree]:
    with closing(Tree(queue.path)) as tree:
        yield tree


def steps(running: ApartScan) -> Iterator[Step]:
    """Give the steps, waiting for each as an event loop would."""
    for step in running:
        if step is not None:
            yield step
        else:
            assert select.select([running], [], [], PATIENCE)[0], "no step came, and no end"


def found(taken: Iterator[Scanned] | Iterator[Step]) -> dict[int, Message]:
    pairs = [pair for step in taken for pair in step.found]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def take(taken: Iterator[Step], into: dict[int, Message]) -> None:
    for step in taken:
        into.update(step.found)


def children(running: ApartScan) -> list[int]:
    return [child._pid for child in running._children]


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        select.select([], [], [], 0.005)


def state(pid: int) -> str:
    """Return a process's state as proc(5) has it: T is stopped, Z ended and not reaped, X gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state(pid) == "T")


def kept(pid: int) -> list[str]:
    """Return what a process has open beside its standard descriptors, less what it closes at this moment."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            if int(fd) > 2:
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sorted(found)


def fill(queue: QueueDir, count: int) -> None:
    for msg in range(1, count + 1):
        queue.message(msg, (b"", b"#@[]", b"a@bc")[msg % 3], {("local", "remote")[msg % 2]: b"Tx@y\0Dz\0"})


@pytest.fixture(autouse=True)
def others() -> set[int]:
    """The children that this process has by what other tests have set up."""
    _others.clear()
    _others.update(child.pid for child in psutil.Process().children())
    return _others


_others: set[int] = set()


def zombies() -> bool:
    """Whether a child of these tests' is left, running or to be reaped."""
    return not _others.issuperset(child.pid for child in psutil.Process().children())


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_it_finds_what_a_scan_finds(
    queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """All steps together are those of a scan in this process, each message once, whatever the number of children."""
    monkeypatch.setattr(apart, "MOST", parts)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(scan, "_STEP", 16)
    fill(queue, 500)
    queue.put("todo", 7, b"u1\0p2\0F#@[]\0Tx@y\0")
    queue.put("bounce", 8, b"x")
    queue.put("mess", 1000)
    queue.put("mess", 1001)
    queue.put("todo", 1001, b"\xff")
    whole = found(tree.scan(lambda _: False))
    assert len(whole) == 502
    with closing(scan_apart(tree)) as running:
        assert len(children(running)) == parts
        taken = list(steps(running))
    assert found(iter(taken)) == whole
    assert [step.progress for step in taken] == sorted(step.progress for step in taken)
    assert taken[-1].progress == 1
    assert max(len(step.found) for step in taken) <= 16
    assert not zombies()


def test_directories_are_listed_when_admitted(queue: QueueDir, tree: Tree) -> None:
    """What comes into a directory before its number is admitted is found, and nothing of it before."""
    fill(queue, 20)
    with closing(apart.scan_apart(tree, Nothing)) as running:
        until(lambda: all(state(pid) == "S" for pid in children(running)))  # for a number
        queue.message(21, b"a@bc", {"remote": b"Tx@y\0"})
        running.admit(0)
        taken: dict[int, Message] = {}
        while len(taken) < 3:
            assert select.select([running], [], [], PATIENCE)[0]
            take(iter(lambda: next(running), None), taken)
        assert sorted(taken) == [7, 14, 21]
        for number in range(1, 7):
            running.admit(number)
        take(steps(running), taken)
    assert sorted(taken) == list(range(1, 22))


def test_what_is_gathered_comes_in_packs(queue: QueueDir, tree: Tree) -> None:
    """Glances that the gatherer takes are in its packs, of which the last may not be full, and all else is in the steps."""
    fill(queue, 500)
    whole = found(tree.scan(lambda _: False))
    with closing(scan_apart(tree, Even)) as running:
        taken = list(steps(running))
    gathered = {msg: scan.message(state) for step in taken for msg, state in step.gathered or ()}
    assert gathered == {
        msg: message for msg, message in whole.items() if msg % 6 == 0
    }  # a bounce takes no look
    assert found(iter(taken)) == {msg: message for msg, message in whole.items() if msg % 6}


def test_hostile_content(queue: QueueDir, tree: Tree) -> None:
    """Any bytes come through, and so does a file larger than the pipe, without its frame holding anything up."""
    queue.message(1, files={"local": bytes(range(256)) * 3, "remote": b"Tx@y\0" * 500_000})
    queue.message(2, files={"remote": b""}, mtime=-(2.0**30))
    whole = found(tree.scan(lambda _: False))
    with closing(scan_apart(tree)) as running:
        assert found(steps(running)) == whole


def test_a_step_never_waits(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the children have written nothing more an iteration gives None, and the descriptor is not readable."""
    monkeypatch.setattr(
        apart, "_PIPE", 4096
    )  # full before the queue is through, so that nobody ends meanwhile
    monkeypatch.setattr(scan, "_STEP", 1)
    fill(queue, 500)
    with closing(scan_apart(tree)) as running:
        pids = children(running)
        for pid in pids:
            stop(pid)
        before: dict[int, Message] = {}
        take(iter(lambda: next(running), None), before)
        assert len(before) < 500
        assert next(running) is None
        assert not select.select([running], [], [], 0)[0]
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        take(steps(running), before)
        assert len(before) == 500


def test_a_broken_area_is_told(queue: QueueDir, tree: Tree) -> None:
    """What a child cannot read is broken in the parent's tree, with the path in its words."""
    fill(queue, 20)
    (queue.root / "info/3").rename(queue.root / "info/x")
    with closing(scan_apart(tree)) as running:
        assert len(found(steps(running))) == 20
    assert tree.broken.keys() == {"info"}
    assert tree.broken["info"].errno == errno.ENOENT
    assert tree.broken["info"].filename == f"{queue.path}/info/3"


@pytest.fixture
def _interrupted() -> Iterator[None]:
    """SIGINT is not ignored, as it is in what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupted")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_that_is_killed(
    queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Its end is an error that says what happened, never the end of the steps; the scan can go on in this process."""
    monkeypatch.setattr(scan, "_STEP", 1)
    monkeypatch.setattr(apart, "_PIPE", 4096)
    fill(queue, 500)
    with closing(scan_apart(tree)) as running:
        taken = steps(running)
        before = dict(next(step for step in taken if step.found).found)
        pids = children(running)
        os.kill(pids[0], number)
        with pytest.raises(ApartError, match=f"ended early: {signal.strsignal(number)}") as caught:
            take(taken, before)
        assert caught.value.filename == queue.path
        assert 0 < len(before) < 500
        assert running.fileno() == -1
        with pytest.raises(ApartError):
            next(running)
    assert not zombies()
    before.update(found(tree.scan(before.__contains__)))
    assert before == found(tree.scan(lambda _: False))


def test_a_child_that_fails(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a child is an error here, and nothing of it is printed or handled twice."""

    def fail(*_: object) -> None:
        raise MemoryError

    fill(queue, 10)
    monkeypatch.setattr(Tree, "walk", fail)
    with closing(scan_apart(tree)) as running, pytest.raises(ApartError, match="ended early: status 1"):
        found(steps(running))
    assert not zombies()


def test_closed_early(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing in the middle ends and reaps the children, leaves no descriptor, and may be done twice."""
    monkeypatch.setattr(scan, "_STEP", 1)
    fill(queue, 500)
    before = open_descriptors()
    running = scan_apart(tree)
    next(steps(running))
    running.close()
    running.close()
    assert open_descriptors() == before
    assert not zombies()
    with pytest.raises(ApartError):
        next(running)


def test_somebody_else_reaps(queue: QueueDir, tree: Tree) -> None:
    """Where the children have been reaped already, closing finds nothing to do."""
    fill(queue, 10)
    running = scan_apart(tree)
    for pid in children(running):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    running.close()


@pytest.mark.parametrize("call", ["fork", "pipe2"])
def test_no_other_process(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Where nothing can be forked, at once or after one child, the error says so and nothing is left behind."""
    fill(queue, 10)
    real, calls = getattr(os, call), iter([True, False, False])

    def refuse(*args: int) -> object:
        if next(calls):
            return real(*args)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(os, call, refuse)
    before = open_descriptors()
    for _ in range(2):
        with pytest.raises(ApartError, match="no other process: Resource temporarily unavailable"):
            scan_apart(tree)
        assert open_descriptors() == before
        assert not zombies()


def test_what_a_child_keeps(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child keeps the standard descriptors, the queue's and its pipes', no handler of ours, and is nice."""
    monkeypatch.setattr(apart, "_PIPE", 4096)
    monkeypatch.setattr(scan, "_STEP", 1)
    fill(queue, 500)
    nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with closing(scan_apart(tree)) as running, open(os.devnull, "rb"):
            for pid in children(running):
                until(lambda pid=pid: os.getpriority(os.PRIO_PROCESS, pid) == nice)  # type: ignore[misc]
                stop(pid)
                *directories, gate, pipe = kept(pid)
                assert gate.startswith("pipe:")
                assert pipe.startswith("pipe:")
                assert directories
                assert all(path.startswith(queue.path) for path in directories)
                with open(f"/proc/{pid}/status", encoding="ascii") as file:
                    status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
                ours = 1 << (signal.SIGUSR1 - 1) | 1 << (signal.SIGINT - 1)
                assert int(status["SigCgt"], 16) & ours == 0
                assert int(status["SigBlk"], 16) == 0
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("admitted", [0, 7])
def test_the_parent_goes(queue: QueueDir, admitted: int) -> None:
    """Children whose parent is killed end at their next write, or where they wait for a number."""
    fill(queue, 300)
    work = (
        "import sys, time; from qmail_exporter.sources import apart, scan\n"
        "scan._STEP = 1; apart._PIPE = 4096\n"
        "class Nothing: full, add, pack = False, lambda _, channel, glances: glances, lambda _: None\n"
        "running = apart.scan_apart(scan.Tree(sys.argv[1]), Nothing)\n"
        "for number in range(int(sys.argv[2])): running.admit(number)\n"
        "while sys.argv[2] != '0' and not next(running): pass\n"
        "print(*(child._pid for child in running._children), flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", work, queue.path, str(admitted)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert pids
        parent.kill()
    until(lambda: all(state(pid) in "ZX" for pid in pids))


def test_with_other_threads(queue: QueueDir, tree: Tree) -> None:
    """A thread that waits elsewhere in the parent, as asyncio's for name look-ups do, is no hindrance."""
    fill(queue, 20)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with closing(scan_apart(tree)) as running:
            assert len(found(steps(running))) == 20
    finally:
        done.set()
        thread.join()


def test_an_empty_queue(tree: Tree) -> None:
    """A queue without messages has steps without messages, and an end."""
    with closing(scan_apart(tree)) as running:
        assert found(steps(running)) == {}
        assert running.fileno() == -1
        with pytest.raises(StopIteration):
            next(running)


def test_signal_mask_is_kept(tree: Tree) -> None:
    """After the fork the parent's signals are blocked or not as before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        with closing(scan_apart(tree)):
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGUSR2}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_descriptors_at_their_limit(queue: QueueDir, tree: Tree) -> None:
    """Without a descriptor to be had there is no other process, and this one has lost none."""
    fill(queue, 3)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 10, limits[1]))
    taken: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            taken += iter(lambda: os.dup(0), None)
        for _ in range(6):
            with pytest.raises(ApartError, match="Too many open files"):
                scan_apart(tree)
            os.close(taken.pop())  # one for epoll, four for pipes, and one of another's
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)
    assert open_descriptors() == before
    assert not zombies()
