"""The only code that changes qmail: forget the hosts that timed out, wake qmail-send, set the age of a message.

Nothing here decides that something should be done; each function does one thing once. Below the queue directory no
symbolic link is followed, because the directories there belong to users other than root, and root may be who runs this.

Of a message only `info` is touched, and of that only its times, through a descriptor of the file that was checked: a regular
file with one name, in the right directory, of the message that was meant. If that message ends meanwhile and another
gets its number, the descriptor still holds the old file, and touching it touches nothing.
"""

import errno
import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import NamedTuple

from qmail_exporter.actions import owner
from qmail_exporter.actions.below import READ, READ_WRITE, opened
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import message_id, parse_info
from qmail_exporter.formats.tcpto import parse_tcpto

TIMEOUT = 30.0
"""Seconds that emptying the table may take; qmail-remote holds its lock for microseconds."""
_MAX_INFO = 1 << 16
_TABLE = 1024
_INDIMAIL_TABLE = 2048
_STRANGE = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO)
_TODO = "it has not been preprocessed yet, so it has no age"


class ActionError(Exception):
    """It was not done; the text says why."""


class NoMessageError(ActionError):
    """There is no such message, or no longer."""


class Cleared(NamedTuple):
    """What `tcpok` did: hosts that were in the table, and whether qmail's own program emptied it."""

    hosts: int
    own_program: bool


class Letter(NamedTuple):
    """A message that qmail-send has preprocessed, as it was found.

    Attributes:
        msg: its number.
        sender: its envelope sender.
        birth: mtime of its `info` file, Unix seconds: since when it is in the queue, as far as qmail is concerned.
        identity: tells it from any other message that has had, or will have, its number.
    """

    msg: int
    sender: bytes
    birth: float
    identity: tuple[int, int, int]


# --- hosts that timed out


def tcpok(queue: str, home: str | None = None, *, timeout: float = TIMEOUT) -> Cleared:
    """Empty the table of hosts that timed out.

    If the queue is the one of `home`, its own `bin/qmail-tcpok` does it. Else, and where that is not there or was built
    for another home, it is done the way that program does it (qmail-tcpok.c): zeros are written under the table's lock.

    Raises:
        ActionError: it took too long, or qmail's program failed.
        OSError: the table is not there, may not be written, or is no regular file.
    """
    hosts = timed_out(queue)
    program = _program(queue, home)
    if program is not None:
        _run(program, timeout)
        # The program's home was built into it. If this queue is another's, its table is as it was.
        if not hosts or not timed_out(queue):
            return Cleared(hosts, own_program=True)
    with _table(queue, READ_WRITE) as table:
        _lock(table, timeout)
        size = _INDIMAIL_TABLE if os.fstat(table).st_size > _TABLE else _TABLE
        os.pwrite(table, bytes(size), 0)
    return Cleared(hosts, own_program=False)


def timed_out(queue: str) -> int:
    """Return how many hosts are in the table, which is read without its lock.

    Raises:
        ActionError: it is no table.
        OSError: it cannot be read.
    """
    with _table(queue, READ) as table:
        try:
            return len(parse_tcpto(os.read(table, 4096)).hosts)
        except FormatError as error:
            raise ActionError(str(error)) from None


@contextmanager
def _table(queue: str, flags: int) -> Iterator[int]:
    with opened(queue, "lock", "tcpto", flags=flags) as table:
        if not stat.S_ISREG(os.fstat(table).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", f"{queue}/lock/tcpto")
        yield table


def _lock(fd: int, timeout: float) -> None:
    until = monotonic() + timeout
    while not _try_lock(fd):
        if monotonic() >= until:
            raise ActionError("the lock of the table is held by another program")
        sleep(0.01)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _program(queue: str, home: str | None) -> str | None:
    if home is None:
        return None
    path = f"{home}/bin/qmail-tcpok"
    with suppress(OSError):
        if os.path.samefile(queue, f"{home}/queue") and os.access(path, os.X_OK):
            return path
    return None


def _run(program: str, timeout: float) -> None:
    try:
        done = subprocess.run(
            [program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ActionError(f"{program} took more than {timeout:g} s") from None
    if done.returncode:
        said = done.stderr[:200].decode("ascii", "replace").strip()
        raise ActionError(f"{program} failed with status {done.returncode}" + (f": {said}" if said else ""))


# --- qmail-send


def redeliver(queue: str, *, dry_run: bool = False) -> int:
    """Make every message of the queue due now (SIGALRM); returns the pid of the qmail-send that owns the queue.

    Raises as `owner.holding` and `owner.send_alarm` do.
    """
    with owner.holding(queue) as (pid, pidfd):
        if not dry_run:
            owner.send_alarm(pid, pidfd)
        return pid


# --- messages


class Spool:
    """A queue directory whose messages are looked at and given another age.

    Attributes:
        broken: directories that `messages` could not read, as errors.

    Raises:
        OSError: it cannot be read, or is no queue.
    """

    def __init__(self, queue: str) -> None:
        self.path = queue
        self.broken: list[OSError] = []
        with opened(queue, "mess") as mess:
            self._split = sum(name.isascii() and name.isdecimal() for name in os.listdir(mess))
        if not self._split:
            raise OSError(errno.EINVAL, "no numbered directories in mess", queue)

    def messages(self) -> Iterator[int]:
        """Yield the number of every message that has an `info` file now, in no order."""
        for number in range(self._split):
            try:
                with opened(self.path, "info", str(number)) as directory:
                    names = os.listdir(directory)
            except OSError as error:
                self.broken.append(error)
                continue
            for name in names:
                msg = message_id(os.fsencode(name))
                if msg is not None and msg % self._split == number:
                    yield msg

    def read(self, msg: int) -> Letter:
        """Return the message as it is now.

        Raises:
            NoMessageError: there is none.
            ActionError: it has not been preprocessed, or its files are not as qmail makes them.
            OSError: it cannot be read.
        """
        with self._info(msg) as info:
            return self._letter(msg, info)

    def set_birth(self, letter: Letter, birth: float) -> None:
        """Set since when a message is in the queue, in qmail's eyes; Unix seconds.

        qmail-send looks at it at the message's next attempt.

        Raises:
            NoMessageError: the message has ended, or another one has its number.
            ActionError, OSError: as `read`; or it may not be done.
        """
        with self._info(letter.msg) as info:
            if self._letter(letter.msg, info).identity != letter.identity:
                raise NoMessageError("another message has that number now")
            os.utime(info, (birth, birth))
            if not os.fstat(info).st_nlink:
                raise NoMessageError("the message ended meanwhile")

    @contextmanager
    def _info(self, msg: int) -> Iterator[int]:
        try:
            with opened(self.path, "info", str(msg % self._split), str(msg), flags=READ) as info:
                yield info
        except FileNotFoundError:
            raise (ActionError(_TODO) if self._has_todo(msg) else NoMessageError("no such message")) from None
        except OSError as error:
            if error.errno in _STRANGE:
                raise ActionError("its files are not as qmail makes them: one is not regular") from None
            raise

    def _letter(self, msg: int, info: int) -> Letter:
        found = os.fstat(info)
        if not stat.S_ISREG(found.st_mode):
            raise ActionError("its files are not as qmail makes them: info is not regular")
        # A second name may be anywhere, so the file may be none of the queue's.
        if found.st_nlink > 1:
            raise ActionError("its files are not as qmail makes them: info has another name")
        # As long as there is a todo, info is not valid. There is none now, after info was opened, so info is the message's.
        if self._has_todo(msg):
            raise ActionError(_TODO)
        try:
            sender = parse_info(os.pread(info, _MAX_INFO, 0))
        except FormatError as error:
            raise ActionError(f"its files are not as qmail makes them: {error}") from None
        with opened(self.path, "mess", str(msg % self._split)) as directory:
            mess = os.stat(str(msg), dir_fd=directory, follow_symlinks=False)
        # The inode numbers of mess are used again, but not with the same times.
        return Letter(msg, sender, found.st_mtime, (mess.st_ino, mess.st_mtime_ns, mess.st_ctime_ns))

    def _has_todo(self, msg: int) -> bool:
        """Tell whether there is a todo, where qmail has it or where the big-todo patch has it."""
        name = str(msg)
        with suppress(FileNotFoundError), opened(self.path, "todo") as directory:
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            return True
        # Without the patch, what has such a name is a message's file, if its number is small.
        number = str(msg % self._split)
        with suppress(FileNotFoundError, NotADirectoryError), opened(self.path, "todo", number) as directory:
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            return True
        return False
