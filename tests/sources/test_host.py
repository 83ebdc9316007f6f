import errno
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats import FormatError
from qmail_exporter.sources import host
from qmail_exporter.sources.host import (
    ControlFiles,
    Controls,
    Process,
    Processes,
    lock_holders,
    read_file_system,
    read_processes,
    read_regular,
    read_tcpto,
)

PATIENCE = 30.0

# --- control files


@pytest.fixture
def control(tmp_path: Path) -> Path:
    path = tmp_path / "control"
    path.mkdir()
    return path


@pytest.fixture
def files(control: Path) -> ControlFiles:
    return ControlFiles(str(control))


def test_defaults(files: ControlFiles) -> None:
    """Without files the values are those that qmail's programs have built in."""
    assert files.read() == Controls(604800, 10, 20, 0)


def test_values(control: Path, files: ControlFiles) -> None:
    """Numbers are read as qmail reads them, and routes are counted."""
    (control / "queuelifetime").write_bytes(b"1000 \n")
    (control / "concurrencylocal").write_bytes(b"-1\n")
    (control / "concurrencyremote").write_bytes(b"255")
    (control / "smtproutes").write_bytes(b"# x:y\n:relay.test\n.a.test:relay.test:26\nnothing\n")
    assert files.read() == Controls(1000, 10, 255, 2)


def test_changes(control: Path, files: ControlFiles) -> None:
    """A file that is changed, in place or by renaming, with another size or not, is read anew; removed, the default is back."""
    path = control / "concurrencyremote"
    path.write_bytes(b"30\n")
    os.utime(path, (1, 1))
    assert files.read().concurrencyremote == 30
    deadline = monotonic() + PATIENCE
    while files.read().concurrencyremote != 31:  # the file system's clock may be coarse
        assert monotonic() < deadline
        path.write_bytes(b"31\n")
        os.utime(path, (1, 1))
    (control / "new").write_bytes(b"32\n")
    (control / "new").rename(path)
    assert files.read().concurrencyremote == 32
    path.unlink()
    assert files.read().concurrencyremote == 20


def test_unchanged_files_are_not_read(
    control: Path, files: ControlFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read once as long as it stays as it is."""
    (control / "smtproutes").write_bytes(b"a:b\n" * 1000)
    assert files.read().smtproutes == 1000
    monkeypatch.delattr(host, "read_regular")
    assert files.read().smtproutes == 1000


def test_removed_while_it_is_read(
    control: Path, files: ControlFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that goes between being seen and being opened has the default."""
    path = control / "queuelifetime"
    path.write_bytes(b"5\n")

    def late(name: str, most: int) -> bytes:
        path.unlink()
        return read_regular(name, most)

    monkeypatch.setattr(host, "read_regular", late)
    assert files.read() == Controls()


def test_hostile_sizes(control: Path, files: ControlFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond the limit is an error that names it, not the beginning of a value."""
    monkeypatch.setattr(host, "_MOST", 100)
    (control / "queuelifetime").write_bytes(b"7" * 100)
    (control / "smtproutes").write_bytes(b"a:b\n" * 25)
    assert files.read().smtproutes == 25
    (control / "smtproutes").write_bytes(b"a:b\n" * 26)
    with pytest.raises(OSError, match="too large") as caught:
        files.read()
    assert caught.value.filename == str(control / "smtproutes")
    (control / "smtproutes").unlink()
    assert files.read().smtproutes == 0


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_no_regular_file(control: Path, files: ControlFiles, make: Callable[[Path], None]) -> None:
    """What is no regular file is an error, and nothing waits for a FIFO's writer."""
    make(control / "smtproutes")
    with pytest.raises(OSError, match=r"not a regular file|Is a directory") as caught:
        files.read()
    assert caught.value.filename == str(control / "smtproutes")


def test_no_directory(control: Path, files: ControlFiles) -> None:
    """Without the directory nothing is known, which is not the same as defaults."""
    control.rmdir()
    with pytest.raises(FileNotFoundError):
        files.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_unreadable(in_memory: Path) -> None:
    """A file that may not be read is an error that names it, and once it may, its value is there."""
    in_memory.chmod(0o755)
    path = in_memory / "concurrencylocal"
    path.write_bytes(b"5\n")
    path.chmod(0o600)
    files = ControlFiles(str(in_memory))
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError) as caught:
            files.read()
        assert caught.value.filename == str(path)
        os.seteuid(0)
        path.chmod(0o644)
        os.seteuid(65534)
        assert files.read().concurrencylocal == 5
    finally:
        os.seteuid(0)


# --- tcpto, file system


def test_tcpto(tmp_path: Path) -> None:
    """The table is read from below the queue's lock directory."""
    (tmp_path / "lock").mkdir()
    path = tmp_path / "lock/tcpto"
    path.write_bytes(struct.pack("<4sB3xL4x", bytes((192, 0, 2, 1)), 3, 1_700_000_000).ljust(1024, b"\0"))
    table = read_tcpto(str(tmp_path))
    assert table.slots == 64
    assert [tuple(entry) for entry in table.hosts] == [("192.0.2.1", 3, 1_700_000_000)]
    path.write_bytes(b"\1" * 5000)
    with pytest.raises(FormatError):
        read_tcpto(str(tmp_path))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_tcpto(str(tmp_path))
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        read_tcpto(str(tmp_path))


def test_file_system(tmp_path: Path) -> None:
    """Sizes are in bytes, free is what an unprivileged program can have, and no path is an error."""
    found = read_file_system(str(tmp_path))
    usage = psutil.disk_usage(str(tmp_path))
    assert found.size == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert abs(found.free - usage.free) < 1 << 30
    assert 0 <= found.free_inodes <= found.inodes
    with pytest.raises(FileNotFoundError):
        read_file_system(str(tmp_path / "none"))


# --- locks

LOCKS = b"""\
1: FLOCK  ADVISORY  WRITE 708 08:01:1234 0 EOF
1: -> FLOCK  ADVISORY  WRITE 709 08:01:1234 0 EOF
2: POSIX  ADVISORY  READ  710 00:2d:1234 128 128
3: OFDLCK ADVISORY  READ  -1 00:06:1234 0 EOF
4: LEASE  ACTIVE    READ  711 08:01:12345 0 EOF
5: FLOCK  ADVISORY  WRITE 0 08:01:1234 0 EOF
6: FLOCK  ADVISORY  WRITE 712 08:01:234 0 EOF
"""


@pytest.mark.parametrize(
    ("inode", "pids"),
    [(1234, [708, 710, 0]), (12345, [711]), (234, [712]), (4, []), (34, [])],
)
def test_lock_holders(inode: int, pids: list[int]) -> None:
    """Those who hold a lock are told by the whole inode number; who waits for one, and a lock without a pid, are not."""
    assert lock_holders(LOCKS, inode) == pids


@given(st.binary() | st.text("0123456789:-> \nFLOCKWRITEx").map(str.encode), st.integers(0, 99))
def test_any_locks(text: bytes, inode: int) -> None:
    """Any text gives pids, or none."""
    assert all(pid >= 0 for pid in lock_holders(text, inode))


# --- processes

QMAIL = """
import ctypes, fcntl, os, sys
def be(name, *children):
    ctypes.CDLL(None).prctl(15, name.encode())  # PR_SET_NAME
    for child in children:
        if os.fork() == 0:
            be(*child)
    os.write(1, b".")
    os.read(0, 1)
    os._exit(0)
if sys.argv[1]:
    lock = os.open(sys.argv[1] + "/lock/sendmutex", os.O_WRONLY | os.O_CREAT, 0o600)
    getattr(fcntl, sys.argv[2])(lock, fcntl.LOCK_EX)
be("qmail-send",
   ("qmail-lspawn", ("qmail-local",), ("sh",)),
   ("qmail-rspawn", ("qmail-remote",), ("qmail-remote",), ("qmail-rspawn",)),
   ("qmail-clean",), ("multilog",), ("qmail-send",))
"""
COUNT = 11


@contextmanager
def pretend(queue: str, lock: str = "flock") -> Iterator[int]:
    """Run processes that have the names and the places of qmail's; `queue` is the one that they hold, if any."""
    with subprocess.Popen(
        [sys.executable, "-c", QMAIL, queue, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.read(COUNT) == b"." * COUNT
            yield process.pid
        finally:
            process.stdin.close()


@pytest.fixture
def queue(tmp_path: Path) -> str:
    (tmp_path / "lock").mkdir()
    return str(tmp_path)


def check(processes: Processes, pid: int) -> None:
    assert [process.program for process in processes.found] == list(host.PROGRAMS)
    assert processes.deliveries == {"local": 1, "remote": 2}
    send = processes.found[0]
    assert send.started == pytest.approx(psutil.Process(pid).create_time())
    assert send.cpu is not None
    assert send.cpu >= 0
    assert send.memory
    assert send.memory > 1 << 20
    assert send.fds
    assert send.fds >= 3


@pytest.mark.parametrize("lock", ["flock", "lockf"])
def test_processes(queue: str, lock: str) -> None:
    """The qmail-send that holds the queue's lock, by either kind, is found with its helpers and their deliveries, each once.

    It has a child of its own name while that has not yet become qmail-queue.
    """
    with pretend(queue, lock) as pid:
        check(read_processes(queue, alone=False), pid)
        check(read_processes(queue, alone=True), pid)


def test_of_another_queue(queue: str, tmp_path: Path) -> None:
    """A qmail-send that holds another queue's lock is not this one's, unless nothing tells and there is one queue only."""
    (tmp_path / "other/lock").mkdir(parents=True)
    Path(queue, "lock/sendmutex").touch()
    with pretend(str(tmp_path / "other")):
        assert read_processes(queue, alone=False) == Processes([], {})
        found = read_processes(queue, alone=True)
        assert found.found[0].program == "qmail-send"


def test_two_queues(queue: str, tmp_path: Path) -> None:
    """Each queue has its own qmail-send."""
    (tmp_path / "other/lock").mkdir(parents=True)
    with pretend(queue) as first, pretend(str(tmp_path / "other")) as second:
        check(read_processes(queue, alone=False), first)
        check(read_processes(str(tmp_path / "other"), alone=False), second)


def test_the_children_are_not_listed(queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel keeps no list of children they are found all the same."""
    real = open

    def refuse(path: str, *args: str, **kwargs: str) -> object:
        if path.endswith("/children"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *args, **kwargs)  # type: ignore[call-overload]

    with pretend(queue) as pid:
        monkeypatch.setattr(host, "open", refuse, raising=False)
        found = read_processes(queue, alone=False)
        assert sorted(process.program for process in found.found) == sorted(host.PROGRAMS)
        assert found.deliveries == {"local": 1, "remote": 2}
        assert pid in {process.pid for process in psutil.process_iter()}


def test_what_may_not_be_known(queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process that is another user's what may not be known is None, and the rest is there."""

    def refuse(process: psutil.Process) -> int:
        raise psutil.AccessDenied(process.pid)

    with pretend(queue) as pid:
        monkeypatch.setattr(psutil.Process, "num_fds", refuse)
        monkeypatch.setattr(psutil.Process, "create_time", refuse)
        send = read_processes(queue, alone=False).found[0]
        assert send == Process("qmail-send", send.cpu, psutil.Process(pid).memory_info().rss, None, None)


def test_none_runs(queue: str) -> None:
    """Without qmail-send, with or without its lock's file, there are no processes and no deliveries."""
    assert read_processes(queue, alone=False) == Processes([], {})
    Path(queue, "lock/sendmutex").touch()
    assert read_processes(queue, alone=False) == Processes([], {})


def test_a_lock_of_somebody_else(queue: str) -> None:
    """Whoever else holds the lock, such as a script that waits its turn, is no qmail-send."""
    work = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('.', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", work, f"{queue}/lock/sendmutex"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.read(2) == b".\n"
        assert read_processes(queue, alone=False) == Processes([], {})
        assert process.stdin
        process.stdin.close()


def test_it_ends_meanwhile(queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that end while they are being looked at raise nothing."""
    with ExitStack() as stack:
        pid = stack.enter_context(pretend(queue))
        real = host._children

        def late(of: int) -> list[int]:
            children = real(of)
            if of == pid:
                for child in children:
                    process = psutil.Process(child)
                    process.kill()
                    deadline = monotonic() + PATIENCE
                    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                        assert monotonic() < deadline
                        sleep(0.001)
            return children

        monkeypatch.setattr(host, "_children", late)
        found = read_processes(queue, alone=False)
        assert found.found[0].program == "qmail-send"


@pytest.mark.qmail
@pytest.mark.skipif("QMAIL_HOME" not in os.environ or os.geteuid() != 0, reason="needs QMAIL_HOME and root")
def test_a_real_qmail() -> None:
    """A real qmail-send is found with its three helpers, by its lock alone; when it has stopped, nothing is."""
    home = os.environ["QMAIL_HOME"]
    queue = f"{home}/queue"
    if read_processes(queue, alone=False).found:
        pytest.skip("a qmail-send runs there already")
    process = subprocess.Popen(
        [f"{home}/bin/qmail-start", "./Mailbox"],
        cwd="/",
        env={"PATH": f"{home}/bin:/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = monotonic() + PATIENCE
        while len((found := read_processes(queue, alone=False)).found) < 4:
            assert process.poll() is None, "it did not start"
            assert monotonic() < deadline
            sleep(0.01)
        assert [one.program for one in found.found] == [
            "qmail-send",
            "qmail-lspawn",
            "qmail-rspawn",
            "qmail-clean",
        ]
        assert found.deliveries == {"local": 0, "remote": 0}
        assert all(one.memory and one.fds and one.started for one in found.found)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)
    assert read_processes(queue, alone=False) == Processes([], {})
