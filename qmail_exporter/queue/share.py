"""A share of a queue's messages, made into rows where they were found, and taken into the model as a whole.

The first scan of a large queue is done by other processes.  What they do here is not done again by the one that holds the
model, which would otherwise be at work for as long as they are.  A share goes through a pipe, so it is of plain values.
"""

from array import array
from collections.abc import Callable
from typing import TypeAlias

from qmail_exporter.formats.envelope import State
from qmail_exporter.queue.domains import domain_of
from qmail_exporter.queue.table import DONE, FAILED, NEVER, NO_CHANNEL, NOT_DEFERRED, pack

Packed: TypeAlias = tuple[bytes, bytes, list[str], list[str]]
"""Message numbers of eight bytes each, as many rows, and the names of the channels and domains that these have by number.

A row's domain is 0 where nothing waits for it, else one more than the place of its name.
"""
Due: TypeAlias = Callable[[str, int, int, tuple[int, int, int]], int]
"""`Queue.due_of`: when a message is tried next, by channel, the mtime of its file, the last attempt, and its ages."""

MOST = 1 << 15
"""Rows of a full share: so many take the model some ten milliseconds."""
_LONG = 256
_TO_DO, _IS_DONE = b"TD"


class Share:
    """Messages with one recipient, which is what most are; all others are left to `Queue.apply`."""

    def __init__(self, due: Due | None) -> None:
        self._due = due
        self._begin()

    def _begin(self) -> None:
        self._ids = array("q")
        self._rows = bytearray()
        self._channels: dict[str, int] = {}
        self._domains: dict[str, int] = {}
        self._known: dict[bytes, int] = {}  # the same, by what follows the "@"

    @property
    def full(self) -> bool:
        """Whether it is time to pack it."""
        return len(self._ids) >= MOST

    def add(self, msg: int, state: State) -> bool:
        """Make a row of a message that no share has yet; returns False, and does nothing, where that takes more than a row."""
        arrival_ns, size, todo, sender, birth, changed, files, failed = state
        if len(files) != 1 or todo or birth is None or sender is None:
            return False
        name, content, mtime = files[0]
        if content.count(b"\0") != 1 or content[-1]:
            return False
        flags, domain = FAILED if failed else 0, 0
        if content[0] == _TO_DO:
            if name != "local":
                _, _, end = content.rpartition(b"@")
                domain = self._known.get(end) or self._domain(content, end)
        elif content[0] == _IS_DONE:
            flags |= DONE
        else:
            return False
        channel = self._channels.setdefault(name, len(self._channels))
        if channel >= NO_CHANNEL:
            return False
        due = NEVER if self._due is None else self._due(name, mtime, NEVER, (arrival_ns, birth, changed))
        self._ids.append(msg)
        self._rows += pack(
            arrival_ns, size, birth, changed, mtime, NEVER, due, domain, flags, sender, channel, NOT_DEFERRED
        )
        return True

    def _domain(self, content: bytes, end: bytes) -> int:
        """The number of the domain of a file's one address, which ends so; remembered, unless it has no "@" or is a long one."""
        domain = self._domains.setdefault(domain_of(content[1:-1]), len(self._domains) + 1)
        if len(end) < min(len(content), _LONG):
            self._known[end] = domain
        return domain

    def pack(self) -> Packed:
        """Return what was added, and begin anew."""
        packed = self._ids.tobytes(), bytes(self._rows), list(self._channels), list(self._domains)
        self._begin()
        return packed
