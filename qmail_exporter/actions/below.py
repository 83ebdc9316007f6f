"""Files below a directory that others may write to, opened one step at a time: no symbolic link is followed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
READ_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def opened(path: str, *names: str, flags: int | None = None) -> Iterator[int]:
    """Open the directory `path`, then each of `names` below the one before; gives the last one's descriptor.

    All are directories, but for the last if `flags` are given, with which it is opened. `path` itself may be a symbolic
    link: it is what the caller was told.

    Raises:
        OSError: one cannot be opened; its path is in the error.
    """
    fd = os.open(path, _DIRECTORY)
    for number, name in enumerate(names, 1):
        path = f"{path}/{name}"
        how = _DIRECTORY | os.O_NOFOLLOW if flags is None or number < len(names) else flags
        try:
            inner = os.open(name, how, dir_fd=fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(fd)
        fd = inner
    try:
        yield fd
    finally:
        os.close(fd)
