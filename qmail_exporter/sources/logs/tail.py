"""One regular file, held open and read forwards."""

import errno
import os
import stat

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CHECKED = 64


def open_regular(path: str) -> int:
    """Open a regular file for reading, following symbolic links, and return its descriptor.

    Raises:
        OSError: As open(2), or EINVAL for anything but a regular file; the path is in it.
    """
    # Asked before opening as well as after: opening a FIFO lets its writer go on, opening a tape moves it.
    _check_regular(os.stat(path), path)
    descriptor = os.open(path, _FLAGS)
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def identity(path: str) -> tuple[int, int] | None:
    """Return device and inode number of what is at `path`, or None if nothing is."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


class Tail:
    """A file that is written to while it is read.

    As long as this object holds its descriptor the inode number cannot be given to another file, so equal device and
    inode mean the same file, also after it was renamed or deleted.

    Args:
        path: The file's path. Reading starts at its first byte.

    Raises:
        OSError: As `open_regular`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = open_regular(path)
        found = os.fstat(self.descriptor)
        self.identity = (found.st_dev, found.st_ino)
        self.offset = 0
        self._before = b""

    def read(self, size: int) -> bytes | None:
        """Return at most `size` bytes from the offset on, b"" if there are none yet, None if the file was truncated.

        After None the offset is 0 again and the next call reads from there.

        Raises:
            OSError: As pread(2), with the path.
        """
        # Truncation: the last bytes before the offset are read again with each block. If they are not there the file
        # became shorter; if they differ it was truncated and has grown beyond the offset since. Either way what it
        # holds now is new from the first byte, as after logrotate's copytruncate.
        expected = self._before
        data = self.head(len(expected) + size, self.offset - len(expected))
        if not data.startswith(expected):
            self.offset = 0
            self._before = b""
            return None
        data = data[len(expected) :]
        self.offset += len(data)
        self._before = (data if len(data) >= _CHECKED else expected + data)[-_CHECKED:]
        return data

    def head(self, size: int, offset: int = 0) -> bytes:
        """Return at most `size` bytes at `offset` without moving the position."""
        try:
            return os.pread(self.descriptor, size, offset)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error

    def to_end(self) -> bool:
        """Go to the present end; return whether that is in the middle of a line."""
        size = self.stat().st_size
        self._before = self.head(min(size, _CHECKED), max(0, size - _CHECKED))
        self.offset = size
        return bool(self._before) and not self._before.endswith(b"\n")

    def stat(self) -> os.stat_result:
        """Return the file's present size, times and mode."""
        return os.fstat(self.descriptor)

    def waiting(self) -> int:
        """Return how many bytes stand after the offset."""
        return max(0, self.stat().st_size - self.offset)

    def close(self) -> None:
        """Let the file go."""
        os.close(self.descriptor)


def _check_regular(found: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)
