"""What the host tells beside the queue and the log: tcpto, control files, file system, processes.

All is read anew when asked for; only control files, which may be long, are kept until they change.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil

from qmail_exporter.formats.control import (
    CONCURRENCY_LOCAL,
    CONCURRENCY_REMOTE,
    QUEUE_LIFETIME,
    parse_int,
    parse_routes,
)
from qmail_exporter.formats.tcpto import Table, parse_tcpto

PROGRAMS = ("qmail-send", "qmail-lspawn", "qmail-rspawn", "qmail-clean")
_DELIVERING = {"qmail-local": "local", "qmail-remote": "remote"}
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MOST = 1 << 22


class Controls(NamedTuple):
    """The control files that metrics show; a file that is not there has qmail's default."""

    queuelifetime: int = QUEUE_LIFETIME
    concurrencylocal: int = CONCURRENCY_LOCAL
    concurrencyremote: int = CONCURRENCY_REMOTE
    smtproutes: int = 0  # lines


class FileSystem(NamedTuple):
    """Bytes and inodes of the file system that holds the queue; free is what an unprivileged program can have."""

    size: int
    free: int
    inodes: int
    free_inodes: int


class Process(NamedTuple):
    """One of qmail's processes; None where this user may not know."""

    program: str
    cpu: float | None  # seconds
    memory: int | None  # resident bytes
    fds: int | None
    started: float | None  # Unix seconds


class Processes(NamedTuple):
    """The processes of one queue's qmail-send, and the deliveries that run, by channel."""

    found: list[Process]
    deliveries: dict[str, int]


class ControlFiles:
    """The control files below one home.

    A file is read again when its inode, size or one of its times has changed.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._kept: dict[str, tuple[tuple[int, ...], int | None]] = {}

    def read(self) -> Controls:
        """The present values.

        Raises:
            OSError: the directory, or a file in it, cannot be read, or is too large.
        """
        os.close(os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        default = Controls()
        return Controls(
            self._value("queuelifetime", parse_int, default.queuelifetime),
            self._value("concurrencylocal", parse_int, default.concurrencylocal),
            self._value("concurrencyremote", parse_int, default.concurrencyremote),
            self._value("smtproutes", _count_routes, default.smtproutes),
        )

    def _value(self, name: str, parse: Callable[[bytes], int | None], default: int) -> int:
        path = f"{self.directory}/{name}"
        try:
            found = os.stat(path)
            signature = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            if name not in self._kept or self._kept[name][0] != signature:
                content = read_regular(path, _MOST + 1)
                if len(content) > _MOST:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
                self._kept[name] = signature, parse(content)
        except FileNotFoundError:
            self._kept.pop(name, None)
            return default
        value = self._kept[name][1]
        return default if value is None else value


def _count_routes(content: bytes) -> int:
    return len(parse_routes(content))


def read_regular(path: str, most: int) -> bytes:
    """The content of a regular file, at most `most` bytes of it.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    fd = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return os.read(fd, most)
    finally:
        os.close(fd)


def read_tcpto(queue: str) -> Table:
    """The table of hosts that timed out, read without its lock: qmail-remote needs that for every connection.

    Raises:
        OSError: it cannot be read.
        FormatError: it is no table.
    """
    return parse_tcpto(read_regular(f"{queue}/lock/tcpto", 4096))


def read_file_system(path: str) -> FileSystem:
    """Size and free space of the file system that holds `path`.

    Raises:
        OSError: there is no such path.
    """
    found = os.statvfs(path)
    return FileSystem(
        found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail
    )  # fmt: skip


def read_processes(queue: str, *, alone: bool) -> Processes:
    """The qmail processes that serve the queue directory `queue`.

    Its qmail-send is the one that holds the lock on `lock/sendmutex`, which /proc/locks tells to everybody.  Where that
    cannot be told, and `alone` says that this is the host's only queue, any qmail-send is it.

    Raises:
        OSError: /proc cannot be read.
    """
    send = _lock_holder(f"{queue}/lock/sendmutex")
    if send is None and alone:
        send = next((pid for pid in psutil.pids() if _name(pid) == PROGRAMS[0]), None)
    if send is None:
        return Processes([], {})
    helpers = _children(send)
    # One of each: qmail-send and its helpers fork, and a child has its parent's name until it runs another program.
    of: dict[str, int] = {PROGRAMS[0]: send}
    for pid in helpers:
        if (name := _name(pid)) in PROGRAMS:
            of.setdefault(name, pid)
    found = [_facts(pid, name) for name, pid in of.items()]
    deliveries = dict.fromkeys(_DELIVERING.values(), 0)
    for helper in helpers:
        for child in _children(helper):
            channel = _DELIVERING.get(_name(child))
            if channel is not None:
                deliveries[channel] += 1
    return Processes(found, deliveries)


def lock_holders(locks: bytes, inode: int) -> list[int]:
    """The pids, in the text of /proc/locks (proc(5)), of those who hold a lock on a file with that inode number.

    The device is not compared: overlay and btrfs show another one there than stat does.
    """
    lines = (line.split() for line in locks.splitlines())
    held = (words for words in lines if len(words) > 5 and words[1] != b"->")
    return [int(words[4]) for words in held if words[5].endswith(b":%d" % inode) and words[4].isdigit()]


def _lock_holder(path: str) -> int | None:
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", "rb") as file:
            pids = lock_holders(file.read(), inode)
    except OSError:
        return None
    return next((pid for pid in pids if _name(pid) == PROGRAMS[0]), None)


def _children(pid: int) -> list[int]:
    """The kernel's own list where it keeps one, else the result of a walk over all processes."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:  # not kept, hidden, or it has ended
        pass
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def _name(pid: int) -> str:
    try:  # `open` takes twice the time, which counts where all processes are gone through
        fd = os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""  # it has ended
    try:
        return os.read(fd, 64).rstrip(b"\n").decode("ascii", "replace")
    except OSError:  # as above
        return ""
    finally:
        os.close(fd)


def _facts(pid: int, name: str) -> Process:
    try:
        process = psutil.Process(pid)
    except psutil.Error:
        return Process(name, None, None, None, None)
    with process.oneshot():
        cpu, memory = _told(process, "cpu_times"), _told(process, "memory_info")
        return Process(
            name,
            cpu.user + cpu.system if cpu else None,
            memory.rss if memory else None,
            _told(process, "num_fds"),
            _told(process, "create_time"),
        )


def _told(process: psutil.Process, what: str) -> Any:
    try:
        return getattr(process, what)()
    except (psutil.Error, OSError):
        return None
