"""How far long work has got, on one line of stderr that is written over, where that is a terminal."""

import sys
from time import monotonic

PATIENCE = 0.5
"""Seconds of work before the first line."""
INTERVAL = 0.1


class Progress:
    """The line; nothing is shown of work that is done soon.

    Args:
        command: the command's name, which begins the line.
    """

    def __init__(self, command: str) -> None:
        self._prefix = f"qmail-exporter {command}: "
        self._terminal = sys.stderr.isatty()
        self._next = monotonic() + PATIENCE
        self._shown = False

    def show(self, text: str) -> None:
        """Say what is being done, in printable ASCII."""
        if self._terminal and (now := monotonic()) >= self._next:
            self._next = now + INTERVAL
            self._shown = True
            sys.stderr.write(f"\r\x1b[K{self._prefix}{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away, before anything else is written that may go to the same terminal."""
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
