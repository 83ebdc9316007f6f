"""A share of a queue's messages, made into rows where they were found, and taken into the model as a whole.

The first scan of a large queue is done by other processes.  What they do here is not done again by the one that holds the
model, which would otherwise be at work for as long as they are.  A share goes through a pipe, so it is of plain values.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import TypeAlias

from qmail_exporter.formats.envelope import Glance
from qmail_exporter.queue.domains import domain_of
from qmail_exporter.queue.table import DONE, NEVER, NO_CHANNEL, NOT_DEFERRED, pack

Packed: TypeAlias = tuple[bytes, bytes, list[str], list[str]]
"""Message numbers of eight bytes each, as many rows, and the names of the channels and domains that these have by number.

A row's domain is 0 where nothing waits for it, else one more than the place of its name.
"""
Due: TypeAlias = Callable[[str, int, int, tuple[int, int, int]], int]
"""`Queue.due_of`: when a message is tried next, by channel, the mtime of its file, the last attempt, and its ages."""

MOST = 1 << 13
"""Rows of a full share, a multiple of a slab's: so many take the model ten to thirty milliseconds."""
_AT_ONCE = 256  # that a scan adds; a share that ends just above a multiple would leave most of a slab unused
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
        self._known: dict[bytes, int] = {}  # the same, by what follows the "@", with the NUL

    @property
    def full(self) -> bool:
        """Whether it is time to pack it."""
        return len(self._ids) > MOST - _AT_ONCE

    def add(self, channel: str, glances: list[Glance]) -> list[Glance]:
        """Make rows of messages that no share has yet; those of which that takes more than a row are returned, and left."""
        number = self._channels.setdefault(channel, len(self._channels))
        if number >= NO_CHANNEL or not glances:
            return glances
        left: list[Glance] = []
        flags: Iterable[int] = repeat(0)
        domains: Sequence[int] = self._recall(channel, [one[-1] for one in glances])
        if -1 in domains:
            told = [
                (0, domain) if domain >= 0 else self._tell(channel, one[-1])
                for one, domain in zip(glances, domains, strict=True)
            ]
            left = [one for one, row in zip(glances, told, strict=True) if row is None]
            glances = [one for one, row in zip(glances, told, strict=True) if row is not None]
            if not glances:
                return left
            flags, domains = zip(*filter(None, told), strict=True)
        ids, arrivals_ns, sizes, senders, births, changes, mtimes, _ = zip(*glances, strict=True)
        dues: Iterable[int] = repeat(NEVER)
        if self._due is not None:
            ages = zip(arrivals_ns, births, changes, strict=True)
            dues = map(self._due, repeat(channel), mtimes, repeat(NEVER), ages)
        self._ids.extend(ids)
        never, numbers, reasons = repeat(NEVER), repeat(number), repeat(NOT_DEFERRED)
        columns = (
            arrivals_ns,
            sizes,
            births,
            changes,
            mtimes,
            never,
            dues,
            domains,
            flags,
            senders,
            numbers,
            reasons,
        )
        self._rows += b"".join(map(pack, *columns))
        return left

    def _recall(self, channel: str, contents: list[bytes]) -> list[int]:
        """The number of the domain of each file's one address, which waits, as far as it is remembered; -1 for all others."""
        if channel == "local":
            return [
                0 if content.count(0) == 1 and content[0] == _TO_DO and not content[-1] else -1
                for content in contents
            ]
        known = self._known
        return [
            known.get(content.rpartition(b"@")[2], -1)
            if content.count(0) == 1 and content[0] == _TO_DO
            else -1
            for content in contents
        ]

    def _tell(self, channel: str, content: bytes) -> tuple[int, int] | None:
        """The flags, and the number of the domain, of a message with such a file; None if it does not have one recipient."""
        if content.count(0) != 1 or content[-1]:
            return None
        if content[0] == _IS_DONE:
            return DONE, 0
        if content[0] != _TO_DO:
            return None
        return 0, 0 if channel == "local" else self._domain(content)

    def _domain(self, content: bytes) -> int:
        """The number of the domain of a file's one address; remembered by its end, unless that has no "@" or is long."""
        _, _, end = content.rpartition(b"@")
        domain = self._domains.setdefault(domain_of(content[1:-1]), len(self._domains) + 1)
        if len(end) < min(len(content), _LONG):
            self._known[end] = domain
        return domain

    def pack(self) -> Packed:
        """Return what was added, and begin anew."""
        packed = self._ids.tobytes(), bytes(self._rows), list(self._channels), list(self._domains)
        self._begin()
        return packed
