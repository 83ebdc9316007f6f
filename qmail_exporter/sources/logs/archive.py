"""Finished log files: read once, from the first byte to the last, plain or gzip."""

import gzip
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmail_exporter.sources.logs.tail import Tail, open_regular

if TYPE_CHECKING:
    from io import FileIO

_GZIP = b"\x1f\x8b"
_OTHERS = (
    b"\xfd7zXZ",
    b"BZh",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\x1f\x9d",
)  # xz bzip2 zstd lz4 compress
_HEAD = 512


class CompressedError(Exception):
    """The file is compressed in a way that is not read here, or its gzip stream is broken."""


@dataclass(frozen=True)
class Archive:
    """A finished file as a listing showed it.

    Attributes:
        key: Its place in the order of the log: greater is newer. It survives a change of name and compression.
        path: Where it was.
        inode: Its inode number.
        size: Its size on disk in bytes.
        descriptor: Its open descriptor, where the name is known to go away; else None.
    """

    key: str
    path: str
    inode: int
    size: int
    descriptor: int | None = None

    def deleted(self) -> bool:
        """Whether the file, held by its descriptor, has no name left."""
        return self.descriptor is not None and os.fstat(self.descriptor).st_nlink == 0

    def close(self) -> None:
        """Close the descriptor, if it has one."""
        if self.descriptor is not None:
            os.close(self.descriptor)


class ArchiveReader:
    """Reads a finished file forwards.

    Args:
        descriptor: An open descriptor, which belongs to this object from now on.
        mode: The mode to report instead of the file's.

    Raises:
        CompressedError: It is compressed, but not by gzip.
    """

    def __init__(self, descriptor: int, mode: int | None = None) -> None:
        self._raw = os.fdopen(descriptor, "rb", buffering=0)
        magic = os.pread(descriptor, 6, 0)
        if magic.startswith(_OTHERS):
            self._raw.close()
            raise CompressedError
        self._file: gzip.GzipFile | FileIO = self._raw
        if magic.startswith(_GZIP):
            self._file = gzip.GzipFile(fileobj=self._raw)
        found = os.fstat(descriptor)
        self.inode = found.st_ino
        self.mode = found.st_mode if mode is None else mode

    def read(self, size: int) -> bytes:
        """Return at most `size` of the next bytes, b"" at the end.

        Raises:
            CompressedError: The gzip stream is broken; what was returned before is good.
            OSError: As read(2).
        """
        try:
            return self._file.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CompressedError from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()


def open_same(path: str, inode: int) -> ArchiveReader | None:
    """Open the file at `path` if it has that inode number; return None if it has not or nothing is there.

    Raises:
        CompressedError: As `ArchiveReader`.
        OSError: As `open_regular`.
    """
    try:
        reader = ArchiveReader(open_regular(path))
    except FileNotFoundError:
        return None
    if reader.inode == inode:
        return reader
    reader.close()
    return None


def same_head(archive: Archive, held: Tail) -> bool:
    """Whether the archive, once decompressed, begins with the first bytes of the held file."""
    mine = held.head(_HEAD)
    if not mine:
        return False
    with suppress(OSError, CompressedError):
        reader = ArchiveReader(open_regular(archive.path))
        try:
            return reader.read(len(mine)) == mine
        finally:
            reader.close()
    return False
