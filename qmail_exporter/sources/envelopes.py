"""The queue's messages with their addresses, for those who list them: a look at each, and the file that names its sender.

What cannot be read is in `broken`, as in any `Layout`.  `mess` files are not opened.
"""

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import Message, message_id, parse_info, parse_todo
from qmail_exporter.sources.layout import DIRECTORY, FILE, MAX_FILE
from qmail_exporter.sources.scan import Tree

CHANNELS = ("local", "remote")
"""Those that qmail-qread knows."""


class Envelope(NamedTuple):
    """One message.

    Attributes:
        msg: its number.
        message: its present state.
        sender: None where that cannot be told.
        todo: the recipients of a message that qmail-send has not preprocessed, as they were given.
    """

    msg: int
    message: Message
    sender: bytes | None
    todo: tuple[bytes, ...]


class Preprocessed(NamedTuple):
    """What qmail-qread reads of one message.

    Attributes:
        msg: its number.
        size: of the `mess` file, bytes.
        birth: mtime of the `info` file, Unix seconds.
        info: the content of the `info` file.
        failed: there is a `bounce` file.
        channels: for each of `CHANNELS` the file's content, None if there is none, or why it cannot be read.
    """

    msg: int
    size: int
    birth: int
    info: bytes
    failed: bool
    channels: tuple[bytes | OSError | None, ...]


Listed: TypeAlias = Preprocessed | tuple[int, OSError]
"""A message, or the number of one that cannot be read and why."""


class Envelopes(Tree):
    """An open queue directory, and the envelopes in it."""

    def every(self) -> Iterator[tuple[list[Envelope], float]]:
        """Read every message, in steps: some of them, and how much of the whole is done, from 0 to 1.

        What is guaranteed is what `Tree.scan` guarantees.
        """
        for found, progress in self.scan(lambda _: False):
            yield [self._envelope(msg, message) for msg, message in found], progress

    def one(self, msg: int) -> Envelope | None:
        """Read one message; None where there is none."""
        message = self.look(msg)
        return None if message is None else self._envelope(msg, message)

    def _envelope(self, msg: int, message: Message) -> Envelope:
        if not message.todo:
            return Envelope(msg, message, self._sender(msg), ())
        name = f"{msg % self.split}/{msg}" if self.big_todo else f"{msg}"
        read = self._read(self._at("todo"), f"todo/{name}")
        try:
            todo = parse_todo(read[1]) if read else None
        except FormatError:
            todo = None
        if todo is not None:
            return Envelope(msg, message, todo.sender, todo.recipients)
        # It may have been preprocessed just now, or have gone.
        again = self.look(msg) or message
        return Envelope(msg, again, None if again.todo else self._sender(msg), ())

    def _sender(self, msg: int) -> bytes | None:
        read = self._read(self._at("info"), f"info/{msg % self.split}/{msg}")
        try:
            return parse_info(read[1]) if read else None
        except FormatError:
            return None

    # --- as qmail-qread does

    def preprocessed(self) -> Iterator[tuple[Listed, float]]:
        """Read what qmail-qread reads, in its order: that of `info`'s directories, each as the file system lists it.

        Yields with each message how much of the whole is done.

        Raises:
            OSError: a directory cannot be listed, at which qmail-qread ends.
        """
        for number in range(self.split):
            names = self._listed(f"info/{number}")
            for place, name in enumerate(names, 1):
                # scan_ulong, too, takes leading zeros.
                msg = message_id(name.lstrip("0").encode()) if name.isascii() else None
                if msg is not None:
                    yield self._preprocessed(msg), (number + place / len(names)) / self.split

    def _listed(self, directory: str) -> list[str]:
        fd = os.open(directory, DIRECTORY, dir_fd=self._root)
        try:
            with os.scandir(fd) as entries:
                return [entry.name for entry in entries]
        finally:
            os.close(fd)

    def _preprocessed(self, msg: int) -> Listed:
        name = f"{msg % self.split}/{msg}"
        try:
            size = os.stat(f"mess/{name}", dir_fd=self._root, follow_symlinks=False).st_size
            birth, info = self._content(f"info/{name}")
        except OSError as error:
            return msg, error
        failed = self._stat(self._at("bounce"), f"bounce/{msg}") is not None
        return Preprocessed(msg, size, birth, info, failed, tuple(self._try(f"{c}/{name}") for c in CHANNELS))

    def _try(self, name: str) -> bytes | OSError | None:
        try:
            return self._content(name)[1]
        except FileNotFoundError:
            return None
        except OSError as error:
            return error

    def _content(self, name: str) -> tuple[int, bytes]:
        """The mtime, in Unix seconds, and the content of a regular file; what is none is not there."""
        fd = os.open(name, FILE, dir_fd=self._root)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            if found.st_size >= MAX_FILE:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
            return found.st_mtime_ns // 10**9, os.read(fd, found.st_size + 1)
        finally:
            os.close(fd)
