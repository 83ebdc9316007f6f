"""A descriptor that tells that something has happened, and not what; of a path, by inotify.

It is for a log that is hardly written to.  Of one that is, the writer would pay for each line, and the reader for each wake.
"""

from collections.abc import Callable
from typing import NamedTuple

from qmail_exporter.sources.inotify import ANYTHING, Manager


class Bell(NamedTuple):
    """`fd` is readable when it has rung, and stays so; to `close` it is up to whoever has it."""

    fd: int
    close: Callable[[], object]


def hang(path: str) -> Bell | None:
    """Return a bell that rings when something happens to a file, or to anything in a directory, after this call.

    There is None if there is nothing at the path, or the kernel gives no inotify instance or no more watches.
    """
    try:
        manager = Manager()
    except OSError:
        return None
    try:
        manager.watch(path, ANYTHING)
    except OSError:
        manager.close()
        return None
    return Bell(manager.get_fd(), manager.close)
