"""The qmail-send that owns a queue: found, made sure of, and signalled.

A qmail-send holds a lock on its queue's `lock/sendmutex` as long as it lives (qmail-send.c, main), and /proc/locks tells
everybody who holds which lock. Where it does not (the holder's pid is of another namespace), the process whose working
directory is the queue is taken, if it may be looked at.

A pid is a number that another process may have a moment later. So the process is held by a pidfd, and only then is it
made sure that it is the owner; the signal goes to what the pidfd holds.
"""

import errno
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from qmail_exporter.sources.host import lock_holders

PROGRAMS = frozenset((b"qmail-send", b"qmta-send", b"slowq-send"))
"""What qmail-send is called; the last two are indimail's other schedulers."""
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class NotRunningError(Exception):
    """No qmail-send owns the queue."""


class UncertainError(Exception):
    """Which process owns the queue cannot be told, so none is signalled."""


@contextmanager
def holding(queue: str) -> Iterator[tuple[int, int | None]]:
    """Hold the qmail-send that owns the queue directory `queue`: its pid, and its pidfd where the kernel has those.

    Raises:
        NotRunningError: there is none.
        UncertainError: it cannot be told which it is, or the process does not handle SIGALRM, which would end it.
        OSError: the queue or /proc cannot be read.
    """
    pid = find(queue)
    pidfd = _pidfd(pid)
    try:
        if find(queue) != pid:
            raise UncertainError("qmail-send was replaced just now")
        if not _handles(pid, signal.SIGALRM):
            raise UncertainError(f"process {pid} does not handle SIGALRM, so it is no qmail-send at work")
        yield pid, pidfd
    finally:
        if pidfd is not None:
            os.close(pidfd)


def send_alarm(pid: int, pidfd: int | None) -> None:
    """Send SIGALRM to a process that is held.

    Raises:
        NotRunningError: it has ended.
        PermissionError: this user may not.
    """
    try:
        if pidfd is None:
            os.kill(pid, signal.SIGALRM)
        else:
            signal.pidfd_send_signal(pidfd, signal.SIGALRM)
    except ProcessLookupError:
        raise NotRunningError("qmail-send has ended") from None
    except PermissionError as error:
        raise PermissionError(error.errno, f"may not signal qmail-send, process {pid}") from None


def find(queue: str) -> int:
    """Return the pid of the qmail-send that owns the queue directory.

    Raises as `holding` does.
    """
    root = os.open(queue, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        pids = _by_lock(root, queue) or _by_directory(root)
    finally:
        os.close(root)
    if len(pids) > 1:
        raise UncertainError(
            f"several processes seem to be the queue's qmail-send: {' '.join(map(str, sorted(pids)))}"
        )
    for pid in pids:
        return pid
    raise NotRunningError("no qmail-send runs on this queue")


def _by_lock(root: int, queue: str) -> set[int]:
    try:
        mutex = os.open("lock/sendmutex", _PATH, dir_fd=root)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{queue}/lock/sendmutex") from None
    try:
        found = os.fstat(mutex)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", f"{queue}/lock/sendmutex")
        # Another file system's file may have the same inode number, so the device counts too.
        ends = tuple(b"%b:%d" % (device, found.st_ino) for device in _devices(mutex, found))
    finally:
        os.close(mutex)
    with open("/proc/locks", "rb") as file:
        lines = [line for line in file.read().splitlines() if any(end in line.split() for end in ends)]
    return {pid for pid in lock_holders(b"\n".join(lines), found.st_ino) if _name(pid) in PROGRAMS}


def _devices(fd: int, found: os.stat_result) -> set[bytes]:
    """Return the file's device as /proc/locks writes it.

    On btrfs and overlayfs, stat shows one that is made up for a part of the file system; the mount has the real one.
    """
    devices = {(os.major(found.st_dev), os.minor(found.st_dev))}
    with suppress(OSError, StopIteration, ValueError):
        mount = next(
            line.split()[1] for line in _lines(f"/proc/self/fdinfo/{fd}") if line.startswith(b"mnt_id:")
        )
        words = next(line.split() for line in _lines("/proc/self/mountinfo") if line.split()[0] == mount)
        major, minor = map(int, words[2].split(b":"))
        devices.add((major, minor))
    return {b"%02x:%02x" % device for device in devices}


def _by_directory(root: int) -> set[int]:
    queue = os.fstat(root)
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return {pid for pid in pids if _name(pid) in PROGRAMS and _works_in(pid, queue)}


def _works_in(pid: int, directory: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/cwd"), directory)
    except OSError:
        return False


def _name(pid: int) -> bytes:
    """Return the name of a process, empty if there is none; pid 0 stands for one of another namespace."""
    return b"".join(_lines(f"/proc/{pid}/comm")) if pid > 1 else b""


def _handles(pid: int, number: int) -> bool:
    caught = next(
        (line.split()[1] for line in _lines(f"/proc/{pid}/status") if line.startswith(b"SigCgt:")), b"0"
    )
    return bool(int(caught, 16) >> (number - 1) & 1)


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []  # the process has ended


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise NotRunningError("qmail-send has ended") from None
    except OSError as error:
        # Linux before 5.3, or a sandbox that does not know the call.
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return None
        raise
