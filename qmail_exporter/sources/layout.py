"""An open queue directory: how it is laid out, and what of it cannot be read.

Where the layout leaves a choice it is the one that shows: a numbered directory that is missing makes its area broken,
rather than another number be taken for the split.
"""

import errno
import os
import stat
from typing import Any, NamedTuple, TypeAlias

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
MAX_FILE = 1 << 26
"""Bytes of a file that are read; 64 MiB are more than two million recipients.  A larger file makes its area broken."""
_SPLIT_DIGITS = 5  # conf-split is compiled into qmail, and a few hundred in those who raise it
_NOT_CHANNELS = frozenset(("mess", "info", "todo", "intd", "bounce", "lock", "pid", "bigtodo"))
# What is opened without following links or waiting, and is no file for a reason that is not a failure to read one.
_NO_FILE = frozenset((errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENODEV))
_STATTED = ("mess", "bounce")  # areas whose files are never opened

Plain: TypeAlias = tuple[str, bytes, int]
"""A `ChannelFile` as a plain tuple: area, content, mtime in Unix seconds."""


class Absent(OSError):  # noqa: N818 - it is a state as much as an error
    """There is no queue there."""


class Place(NamedTuple):
    """Where files are looked up: the area, a descriptor, and the path of what it is open on, below the queue."""

    area: str
    fd: int
    below: str


class Layout:
    """An open queue directory.

    Attributes:
        path: the queue directory.
        split: N of the directories that are split by message number modulo N.
        channels: names of the channels, `local` and `remote` first.
        big_todo: whether `todo` is split as well.
        areas: `mess`, `todo`, `info`, `bounce` and the channels.
        broken: what cannot be read, by area; each error names one directory or file in the way.

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
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def fileno(self) -> int:
        """The descriptor that is open on the queue directory."""
        return self._root

    def directories(self, area: str) -> list[str]:
        """Paths, below the queue, of the directories that hold the area's files."""
        if area == "bounce" or (area == "todo" and not self.big_todo):
            return [area]
        return [f"{area}/{number}" for number in range(self.split)]

    def probe(self) -> bool:
        """Find out anew which areas can be read; returns whether any has become readable."""
        before, self.broken = self.broken, {}
        for area in self.areas:
            directories = self.directories(area)
            for directory in directories:
                self._try_directory(area, directory)
            if area in before:
                place = str(before[area].filename).removeprefix(f"{self.path}/")
                if place not in directories:
                    self._try_file(area, place)
        return bool(before.keys() - self.broken.keys())

    def intact(self) -> bool:
        """Whether the path still leads to the directories that are open here."""
        return self._identity == [
            _identity(self.path),
            *(_identity(f"{self.path}/{area}") for area in self.areas),
        ]

    # --- the survey

    def _survey(self) -> None:
        try:
            numbers = self._numbers("mess")
        except FileNotFoundError as error:
            raise Absent(error.errno, error.strerror, f"{self.path}/mess") from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{self.path}/mess") from error
        if not numbers:
            raise Absent(errno.ENOENT, "no numbered directories", f"{self.path}/mess")
        self.split = max(numbers) + 1
        self.channels = ["local", "remote"]
        with os.scandir(self._root) as entries:
            others = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        self.channels += [name for name in others if name not in self.channels and self._is_channel(name)]
        self.big_todo = self._is_split("todo")
        self.areas = ["mess", "todo", "info", "bounce", *self.channels]
        # Through the descriptor, so that a queue which is replaced at this moment is not taken for the open one.
        self._identity = [_identity(".", self._root), *(_identity(area, self._root) for area in self.areas)]
        self.probe()

    def _numbers(self, area: str) -> set[int]:
        """The numbered directories of an area."""
        fd = os.open(area, DIRECTORY, dir_fd=self._root)
        try:
            with os.scandir(fd) as entries:
                names = [
                    e.name
                    for e in entries
                    if len(e.name) <= _SPLIT_DIGITS and e.is_dir(follow_symlinks=False)
                ]
        finally:
            os.close(fd)
        return {int(name) for name in names if name.isdecimal() and str(int(name)) == name}

    def _is_channel(self, name: str) -> bool:
        return name not in _NOT_CHANNELS and name.isascii() and name.isprintable() and self._is_split(name)

    def _is_split(self, area: str) -> bool:
        try:
            return self._numbers(area).issuperset(range(self.split))
        except OSError:
            return False

    # --- what cannot be read

    def _break(self, area: str, place: str, error: OSError) -> None:
        self.broken.setdefault(area, OSError(error.errno, error.strerror, f"{self.path}/{place}"))

    def _try_directory(self, area: str, place: str) -> None:
        try:
            fd = os.open(place, DIRECTORY, dir_fd=self._root)
            try:
                os.stat(".", dir_fd=fd)  # may its files be looked up?
            finally:
                os.close(fd)
        except OSError as error:
            self._break(area, place, error)

    def _try_file(self, area: str, place: str) -> None:
        where = Place(area, self._root, "")
        if area in _STATTED:
            self._stat(where, place)
        else:
            self._read(where, place)

    # --- one file

    def _stat(self, where: Place, name: str) -> Any:
        """What `os.stat` tells of a regular file; None where there is none, or where that cannot be told."""
        try:
            found = os.stat(name, dir_fd=where.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._break(where.area, where.below + name, error)
            return None
        return found if stat.S_ISREG(found[0]) else None

    def _read(self, where: Place, name: str, most: int | None = None) -> Plain | None:
        """A regular file, or its first `most` bytes; None where there is none, or where it cannot be read."""
        try:
            fd = os.open(name, FILE, dir_fd=where.fd)
        except OSError as error:
            if error.errno not in _NO_FILE:
                self._break(where.area, where.below + name, error)
            return None
        try:
            found: Any = os.fstat(fd)  # its times are integers by number, which typeshed does not know
            if not stat.S_ISREG(found[0]):
                return None
            # One byte more than there should be, lest a file that grows end in the middle of a record unseen.
            size = found[6] + 1 if most is None else most
            if size > MAX_FILE:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # noqa: TRY301 - as any other failure to read it
            return where.area, os.read(fd, size), found[8]
        except OSError as error:
            self._break(where.area, where.below + name, error)
            return None
        except MemoryError:  # for what one file needs there may be room again soon
            lack = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            self._break(where.area, where.below + name, lack)
            return None
        finally:
            os.close(fd)


def _identity(path: str, root: int | None = None) -> tuple[int, int] | None:
    try:
        found = os.stat(path, dir_fd=root)
    except OSError:
        return None
    return found.st_dev, found.st_ino
