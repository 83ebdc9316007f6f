"""A descriptor that tells that something has happened, and not what; of a path, by inotify.

It is for a log that is hardly written to.  Of one that is, the writer would pay for each line, and the reader for each wake.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from qmail_exporter.sources.inotify import ANYTHING, Manager

_MOST = 1 << 16


class Bell(NamedTuple):
    """`fd` is readable when it has rung, and stays so; to `close` it is up to whoever has it."""

    fd: int
    close: Callable[[], object]


class Belfry:
    """Where one bell at a time hangs.  Its inotify instance is kept: to close one, the kernel takes some 20 ms.

    `build` it early where the number of open descriptors is not to grow later; else the first bell does.
    """

    def __init__(self) -> None:
        self._manager: Manager | None = None

    def hang(self, path: str) -> Bell | None:
        """Return a bell that rings when something happens to a file, or to anything in a directory, after this call.

        There is None if there is nothing at the path, or the kernel gives no inotify instance or no more watches.
        """
        manager = self.build()
        try:
            if manager is not None:
                manager.watch(path, ANYTHING)
        except OSError:
            return None
        return Bell(manager.get_fd(), self._take_down) if manager is not None else None

    def build(self) -> Manager | None:
        """Return the inotify instance, or None if the kernel gives none."""
        if self._manager is None:
            with suppress(OSError):
                self._manager = Manager()
        return self._manager

    def close(self) -> None:
        """Give the instance back; a bell that hangs may be closed afterwards."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _take_down(self) -> None:
        if self._manager is None:
            return
        self._manager.unwatch()
        with suppress(BlockingIOError):
            while os.read(self._manager.get_fd(), _MOST):
                pass
