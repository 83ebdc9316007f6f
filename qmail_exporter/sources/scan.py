"""The queue directory: a look at one message, or at all of them in steps.

A look reads the present state of one message whole; it needs no other state, so it may come late, twice or for nothing.
It stats `mess` and `info`, reads the channels' files and the head of `todo`, and opens nothing else: opening a `mess`
file to read it would change the access time by which qmail-send finds orphans.

What cannot be read makes its area broken, and a look goes on without it; whoever asks must then treat what depends on
that area as unknown.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from qmail_exporter.formats.envelope import ChannelFile, Message, Sender, message_id, sender_kind

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_FILE = 1 << 26
"""Bytes of a channel's file that are read; 64 MiB are more than two million recipients."""
_MAX_NS = (1 << 62) - 1  # a hostile mtime must fit where times are kept
_STEP = 500
_TODO_HEAD = 4096
_NOT_CHANNELS = frozenset(("mess", "info", "todo", "intd", "bounce", "lock", "pid", "bigtodo"))
_TODO_SENDER = re.compile(rb"(?:[a-z][^\0]*\0){0,8}F([^\0]*)\0")


class Absent(OSError):
    """There is no queue there."""


class Scanned(NamedTuple):
    """One step of a scan: what was found, and how much of the whole is done, from 0 to 1."""

    found: list[tuple[int, Message]]
    progress: float


class Tree:
    """An open queue directory.

    Attributes:
        path: the queue directory.
        split: N of the directories that are split by message number modulo N.
        channels: names of the channels, `local` and `remote` first.
        broken: what cannot be read, by area: `mess`, `todo`, `info`, `bounce` or a channel.

    Raises:
        Absent: the directory, or its `mess`, does not exist.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.broken: dict[str, OSError] = {}
        try:
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Absent(error.errno, error.strerror, path) from error
        try:
            self._survey()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._root)

    def _survey(self) -> None:
        try:
            numbers = self._subdirectories("mess")
        except FileNotFoundError as error:
            raise Absent(error.errno, error.strerror, self.path + "/mess") from error
        self.split = len(numbers)
        if not self.split:
            raise Absent(2, "no numbered directories in mess", self.path)
        self.channels = ["local", "remote"]
        with os.scandir(self._root) as entries:
            others = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        for name in others:
            if name not in _NOT_CHANNELS and name not in self.channels and self._is_split(name):
                self.channels.append(name)
        self.big_todo = self._is_split("todo")
        self.areas = ["mess", "todo", "info", "bounce", *self.channels]
        self._identity = self._identities()
        self.probe()

    def _subdirectories(self, area: str) -> list[str]:
        fd = os.open(area, _DIRECTORY, dir_fd=self._root)
        try:
            with os.scandir(fd) as entries:
                return [e.name for e in entries if e.name.isdecimal() and e.is_dir(follow_symlinks=False)]
        finally:
            os.close(fd)

    def _is_split(self, area: str) -> bool:
        try:
            return bool(self._subdirectories(area))
        except OSError:
            return False

    def directories(self, area: str) -> list[str]:
        """Paths, below the queue, of the directories that hold the area's files."""
        if area == "bounce" or (area == "todo" and not self.big_todo):
            return [area]
        return [f"{area}/{number}" for number in range(self.split)]

    def probe(self) -> bool:
        """Find out anew which areas can be read; returns whether any has become readable."""
        before, self.broken = self.broken, {}
        for area in self.areas:
            places = self.directories(area)
            if area in before and before[area].filename is not None:
                places.append(os.path.relpath(before[area].filename, self.path))
            for place in places:
                try:
                    os.close(os.open(place, _READ, dir_fd=self._root))
                except FileNotFoundError as error:
                    if place in self.directories(area):
                        self._break(area, place, error)
                except OSError as error:
                    self._break(area, place, error)
        return bool(before.keys() - self.broken.keys())

    def intact(self) -> bool:
        """Whether the path still leads to the directories that are open here."""
        return self._identity == self._identities()

    def _identities(self) -> list[tuple[int, int] | None]:
        return [_identity(self.path), *(_identity(f"{self.path}/{area}") for area in self.areas)]

    def _break(self, area: str, place: str, error: OSError) -> None:
        self.broken.setdefault(area, OSError(error.errno, error.strerror, f"{self.path}/{place}"))

    # --- one message

    def look(self, msg: int) -> Message | None:
        """The present state of message `msg`; None where there is no such message."""
        name = f"{msg % self.split}/{msg}"
        mess = self._stat("mess", f"mess/{name}")
        if mess is None:
            return None
        # todo before the rest: once it is gone, info and the channels' files are whole.
        todo = f"todo/{name if self.big_todo else msg}"
        failed = self._stat("bounce", f"bounce/{msg}") is not None
        if self._stat("todo", todo) is not None:
            return _unprocessed(mess, self._read("todo", todo, _TODO_HEAD), failed)
        return self._processed(mess, name, self.channels, failed)

    def _processed(
        self, mess: os.stat_result, name: str, channels: Iterable[str], failed: bool
    ) -> Message:
        info_place = f"info/{name}"
        info = self._stat("info", info_place)
        if info is None:
            return Message(min(mess.st_mtime_ns, _MAX_NS), mess.st_size, False, None, None, 0, (), failed)
        sender = Sender.MAIL
        if info.st_size == 2:  # F and NUL
            sender = Sender.BOUNCE
        elif info.st_size == 6 and (file := self._read("info", info_place, 6)):  # as long as F#@[] and NUL
            sender = sender_kind(file.content[1:-1])
        files = []
        for channel in channels:
            if file := self._read(channel, f"{channel}/{name}", MAX_FILE):
                files.append(file)
        return Message(
            min(mess.st_mtime_ns, _MAX_NS),
            mess.st_size,
            False,
            sender,
            int(info.st_mtime),
            int(info.st_ctime),
            tuple(files),
            failed,
        )

    def _stat(self, area: str, place: str) -> os.stat_result | None:
        try:
            found = os.stat(place, dir_fd=self._root, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._break(area, place, error)
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def _read(self, area: str, place: str, most: int) -> ChannelFile | None:
        try:
            fd = os.open(place, _READ, dir_fd=self._root)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._break(area, place, error)
            return None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return None
            content = os.read(fd, min(found.st_size, most) + 1)
            if len(content) > most:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return ChannelFile(area, content, int(found.st_mtime))
        except OSError as error:
            self._break(area, place, error)
            return None
        finally:
            os.close(fd)

    # --- every message

    def scan(self, known: Callable[[int], bool]) -> Iterator[Scanned]:
        """Look at every message that is not `known` by its number, some 500 a step.

        What has neither a todo, a bounce nor a channel's file when its directory is listed is not looked up there: a
        file that appears meanwhile comes through its event.
        """
        todo = set(chain.from_iterable(map(self._names, self.directories("todo"))))
        failed = set(self._names("bounce"))
        for number in range(self.split):
            present = [(channel, set(self._names(f"{channel}/{number}"))) for channel in self.channels]
            names = self._names(f"mess/{number}")
            while step := list(islice(names, _STEP)):
                found = []
                for name in step:
                    msg = message_id(name.encode(errors="surrogateescape"))
                    if msg is None or msg % self.split != number or known(msg):
                        continue
                    if name in todo:
                        message = self.look(msg)
                    else:
                        message = self._look_listed(f"{number}/{name}", name, present, failed)
                    if message is not None:
                        found.append((msg, message))
                yield Scanned(found, (number + 0.5) / self.split)

    def _look_listed(
        self, place: str, name: str, present: list[tuple[str, set[str]]], failed: set[str]
    ) -> Message | None:
        mess = self._stat("mess", f"mess/{place}")
        if mess is None:
            return None
        return self._processed(mess, place, [channel for channel, names in present if name in names], name in failed)

    def _names(self, directory: str) -> Iterator[str]:
        area = directory.partition("/")[0]
        try:
            fd = os.open(directory, _DIRECTORY, dir_fd=self._root)
        except OSError as error:
            self._break(area, directory, error)
            return
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    yield entry.name
        except OSError as error:
            self._break(area, directory, error)
        finally:
            os.close(fd)


def _unprocessed(mess: os.stat_result, head: ChannelFile | None, failed: bool) -> Message:
    sender = _TODO_SENDER.match(head.content) if head else None
    kind = sender_kind(sender[1]) if sender else None
    return Message(min(mess.st_mtime_ns, _MAX_NS), mess.st_size, True, kind, None, 0, (), failed)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
