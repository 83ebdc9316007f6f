"""inotify on a queue: which messages to look at, and when to look everywhere.

An event names a file, and a file's name is a message's number; nothing else of it is used, so a lost, doubled or late
event can do no more harm than a look too few or too many.  Too few happens when the kernel's queue is full (it holds
`fs.inotify.max_queued_events`, 16,384 by default, and then drops events and says so once), or when a watched directory
is replaced: then everything is to be looked at.

pyinotify's WatchManager makes and keeps the watches.  Its event objects cost 17 µs each, so the descriptor is read and
unpacked here, in one pass.
"""

import ctypes
import errno
import fcntl
import os
import struct
import sys
import termios
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports asyncore, and 3.12 finds fault with its string literals
    import pyinotify

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import message_id

_HEADER = struct.Struct("iIII")
# A message number of up to 15 digits makes an event of exactly this form: inotify(7) pads names to 16 bytes.
_SHORT = struct.Struct("iIII16s")

_MOVED = pyinotify.IN_MOVED_FROM | pyinotify.IN_MOVED_TO
_COME_AND_GO = pyinotify.IN_CREATE | pyinotify.IN_DELETE | _MOVED
_SELF = pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF
_ALWAYS = _SELF | pyinotify.IN_ONLYDIR | pyinotify.IN_DONT_FOLLOW | pyinotify.IN_EXCL_UNLINK

# mess, todo and bounce files matter by being there.  An info file becomes valid when todo goes, so that its creation
# needs no event, but a touch of it (ATTRIB) does.  In a channel's file recipients are marked done (MODIFY: CLOSE_WRITE
# would come late, and the kernel folds equal events that follow each other), and a qmail-send that exits touches it.
_MASKS = {
    "mess": _COME_AND_GO,
    "todo": _COME_AND_GO,
    "bounce": _COME_AND_GO,
    "info": pyinotify.IN_ATTRIB | pyinotify.IN_DELETE | _MOVED,
}
_CHANNEL_MASK = pyinotify.IN_MODIFY | pyinotify.IN_ATTRIB | pyinotify.IN_DELETE | _MOVED
_ODD = (
    pyinotify.IN_ISDIR | pyinotify.IN_Q_OVERFLOW | pyinotify.IN_IGNORED | pyinotify.IN_UNMOUNT | _SELF
)  # fmt: skip
_MOST = 1 << 18  # bytes in one read
ANYTHING = _COME_AND_GO | _SELF | pyinotify.IN_MODIFY | pyinotify.IN_ATTRIB
"""All that changes a file, its name or its directory; ATTRIB is also the removal of a file that somebody has open."""


class Event(NamedTuple):
    """One event: the watch's descriptor, the mask, and the name without padding; inotify(7)."""

    wd: int
    mask: int
    name: bytes


class News(NamedTuple):
    """What the events since the last read tell."""

    messages: set[int]
    events: int
    overflow: bool
    replaced: bool  # a watched directory has gone, or one has come


class WatchError(OSError):
    """A directory cannot be watched; the message says what to do."""


def parse_events(buffer: bytes) -> Iterator[Event]:
    """The events in what a read of an inotify descriptor returned.

    Raises:
        FormatError: the buffer ends within an event.
    """
    offset = 0
    while offset < len(buffer):
        if len(buffer) - offset < _HEADER.size:
            raise FormatError("inotify: an event is cut short")
        wd, mask, _, length = _HEADER.unpack_from(buffer, offset)
        offset += _HEADER.size
        name = buffer[offset : offset + length]
        if len(name) < length:
            raise FormatError("inotify: a name is cut short")
        offset += length
        yield Event(wd, mask, name.rstrip(b"\0"))


def nominate(buffer: bytes) -> News:
    """What a buffer of events tells.

    Raises:
        FormatError: as `parse_events`.
    """
    names: set[bytes] = set()
    add = names.add
    if len(buffer) % _SHORT.size == 0:
        for _, mask, _, length, name in _SHORT.iter_unpack(buffer):
            if length != 16 or mask & _ODD:
                break
            add(name)
        else:
            return News(_numbers(names), len(buffer) // _SHORT.size, overflow=False, replaced=False)
    names.clear()
    events, masks = 0, 0
    for event in parse_events(buffer):
        events += 1
        masks |= event.mask
        add(event.name)
    replaced = bool(masks & (_ODD & ~pyinotify.IN_Q_OVERFLOW))
    return News(_numbers(names), events, bool(masks & pyinotify.IN_Q_OVERFLOW), replaced)


def _numbers(names: Iterable[bytes]) -> set[int]:
    numbers = {message_id(name.rstrip(b"\0")) for name in names}
    numbers.discard(None)
    return numbers  # type: ignore[return-value]


class Watcher:
    """The watches on one queue.

    Args:
        path: the queue directory.
        areas: for each area, the directories below it that hold its files, as `Tree.directories` gives them.
        later: leave the numbered directories to `cover`.  To begin a watch on a directory takes the kernel as long as
            there are names of it in its cache: half a microsecond each.

    Attributes:
        unwatched: why a directory of an area is not watched, by area.

    Raises:
        WatchError: the kernel gives no inotify instance, or no more watches.
    """

    def __init__(self, path: str, areas: dict[str, list[str]], *, later: bool = False) -> None:
        self.unwatched: dict[str, OSError] = {}
        self._path = path
        self._left: dict[int, list[tuple[str, str]]] = {}  # areas and directories by number
        # WatchManager takes ".." out of a path as if there were no links in it, and links are not followed here.
        self._real = os.path.realpath(path)
        try:
            self._manager = Manager()
        except OSError as error:
            raise WatchError(error.errno, _no_instance(error), path) from error
        self.fd: int = self._manager.get_fd()
        try:
            self._watch("queue", "", _COME_AND_GO)
            for area, directories in areas.items():
                if directories != [area]:
                    self._watch(area, area, _COME_AND_GO)
                self._begin(area, directories, later=later and area != "todo")
        except BaseException:
            self.close()
            raise

    def _begin(self, area: str, directories: list[str], *, later: bool) -> None:
        for number, directory in enumerate(directories):
            if later and directory != area:
                self._left.setdefault(number, []).append((area, directory))
            else:
                self._watch(area, directory, _MASKS.get(area, _CHANNEL_MASK))

    def cover(self, number: int) -> None:
        """Watch the directories of that number, unless they are watched.

        Raises:
            WatchError: the kernel gives no more watches.
        """
        for area, directory in self._left.pop(number, ()):
            self._watch(area, directory, _MASKS.get(area, _CHANNEL_MASK))

    def close(self) -> None:
        """Give the watches back."""
        self._manager.close()

    def read(self) -> News:
        """What the events that the kernel holds now tell; never waits, and leaves those that come meanwhile."""
        messages: set[int] = set()
        events, overflow, replaced = 0, False, False
        held = _readable(self.fd)
        while held > 0:
            try:
                buffer = os.read(self.fd, _MOST)
            except BlockingIOError:
                break
            if not buffer:
                break
            held -= len(buffer)
            try:
                news = nominate(buffer)
            except FormatError:  # not the kernel's way, but then anything may have happened
                overflow = True
                continue
            messages |= news.messages
            events += news.events
            overflow |= news.overflow
            replaced |= news.replaced
        return News(messages, events, overflow, replaced)

    def _watch(self, area: str, directory: str, mask: int) -> None:
        path = os.path.join(self._path, directory) if directory else self._path
        try:
            self._manager.watch(os.path.join(self._real, directory), mask | _ALWAYS)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise WatchError(
                    error.errno,
                    "no more inotify watches to be had: raise sysctl fs.inotify.max_user_watches",
                    path,
                ) from error
            self.unwatched.setdefault(area, OSError(error.errno, error.strerror, path))


class _Libc(pyinotify._CtypesLibcINotifyWrapper):  # type: ignore[misc]  # noqa: SLF001 - see Manager
    """pyinotify's binding, to the C library that this process has loaded."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
        self._get_errno_func = ctypes.get_errno

    def _inotify_init(self) -> int:
        return int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def _inotify_add_watch(self, fd: int, pathname: str, mask: int) -> int:
        return int(self._libc.inotify_add_watch(fd, os.fsencode(pathname), mask))


class Manager(pyinotify.WatchManager):  # type: ignore[misc]
    """A WatchManager that starts no other program and takes any path.

    pyinotify asks ctypes for the name of the C library, which for that runs ldconfig, and gcc or ld where there is none:
    that takes longer than all else at start, and a unit with a strict sandbox forbids it.  Nor can pyinotify encode a
    path that is not UTF-8.
    """

    def __init__(self) -> None:
        create = pyinotify.INotifyWrapper.create
        pyinotify.INotifyWrapper.create = staticmethod(_Libc)
        try:
            super().__init__()
        except OSError as error:  # which tells its number only in its text
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number)) from error
        finally:
            pyinotify.INotifyWrapper.create = staticmethod(create)

    def watch(self, path: str, mask: int) -> None:
        """Watch a directory or file.

        Raises:
            OSError: the kernel refuses.
        """
        try:
            self.add_watch(path, mask, quiet=False)
        except pyinotify.WatchManagerError as error:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number)) from error

    def unwatch(self) -> None:
        """Watch nothing any more."""
        for wd in list(self.watches):
            # The kernel has ended it already where what it was on has gone.
            with suppress(pyinotify.WatchManagerError):
                self.rm_watch(wd, quiet=False)
            if wd in self.watches:
                self.del_watch(wd)


def _no_instance(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return "no inotify instance to be had: raise sysctl fs.inotify.max_user_instances, or the limit of open files"
    return f"no inotify instance to be had: {error.strerror}"


def _readable(fd: int) -> int:
    """How many bytes of events the kernel holds."""
    held = fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(held, sys.byteorder)
