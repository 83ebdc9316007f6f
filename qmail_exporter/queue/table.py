"""The messages, one fixed-size row each, found by number.

A Python object and a dict entry a message would cost over 200 bytes; a queue of a million messages is what an exporter
must bear on the day when everything goes wrong.  A row here takes 64 bytes, and finding it 12 more.  Rows stay where
they were put, in slabs that the next flood finds again; the numbers stand in buckets, in order, so that finding one is
a bisection and adding one moves a few kilobytes.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

BUCKETS = 1024
# Message numbers are inode numbers, which come in steps; a multiplicative hash (Knuth) spreads them evenly.
_SPREAD = 0x9E3779B1
_SHIFT = 20
_SLAB_BITS = 12  # 4096 rows, 256 KiB
_IN_SLAB = (1 << _SLAB_BITS) - 1
_ROW = struct.Struct("<qqqqqqqIBBBB")
_ROW_SIZE = _ROW.size
_unpack, _pack_into = _ROW.unpack_from, _ROW.pack_into
_new = tuple.__new__  # a NamedTuple made of a tuple, at half the price of calling its class
_TIMES = struct.Struct("<qq")  # attempt and due,
_TIMES_AT = 40  # which stand here in a row
_REASON_AT = 63

NEVER = -(1 << 63)
"""A moment that is not known, or did not come; it sorts before all others."""


class Row(NamedTuple):
    """What the model keeps of one message.

    `mtime`, `attempt`, `due`, `domain`, `channel` and `reason` describe its one recipient; a message with more of them
    has the flag `SEVERAL` and its `Recipients` elsewhere, one without has the channel `NO_CHANNEL`.
    """

    arrival_ns: int  # mess mtime
    size: int  # bytes
    birth: int  # info mtime, or NEVER
    changed: int  # info ctime
    mtime: int = NEVER  # of the channel's file
    attempt: int = NEVER  # start of the last attempt
    due: int = NEVER  # the next attempt's time, where it is known
    domain: int = 0  # index into the model's domains
    flags: int = 0
    sender: int = 255  # envelope.Sender, or UNKNOWN_SENDER
    channel: int = 255  # index into the model's channels, or NO_CHANNEL
    reason: int = 255  # index into the reasons, or NOT_DEFERRED


TODO, FAILED, SEVERAL, DONE = 1, 2, 4, 8
UNKNOWN_SENDER = NO_CHANNEL = NOT_DEFERRED = 255


class Table:
    """Rows by message number; iteration gives the numbers, in no order."""

    __slots__ = ("_free", "_ids", "_slabs", "_slots")

    def __init__(self) -> None:
        self._ids = [array("q") for _ in range(BUCKETS)]
        self._slots = [array("I") for _ in range(BUCKETS)]  # beside each number, where its row is
        self._slabs: list[bytearray] = []
        self._free = array("I")

    def __len__(self) -> int:
        return (len(self._slabs) << _SLAB_BITS) - len(self._free)

    def __iter__(self) -> Iterator[int]:
        for ids in self._ids:
            yield from ids

    def __contains__(self, msg: int) -> bool:
        ids = self._ids[(msg * _SPREAD >> _SHIFT) % BUCKETS]
        at = bisect_left(ids, msg)
        return at < len(ids) and ids[at] == msg

    def get(self, msg: int) -> Row | None:
        """The row of message `msg`, or None."""
        bucket = (msg * _SPREAD >> _SHIFT) % BUCKETS
        ids = self._ids[bucket]
        at = bisect_left(ids, msg)
        if at < len(ids) and ids[at] == msg:
            slot = self._slots[bucket][at]
            return _new(Row, _unpack(self._slabs[slot >> _SLAB_BITS], (slot & _IN_SLAB) * _ROW_SIZE))
        return None

    def put(self, msg: int, row: Row) -> None:
        """Store `row` for message `msg`, in place of the one that may be there."""
        bucket = (msg * _SPREAD >> _SHIFT) % BUCKETS
        ids = self._ids[bucket]
        at = bisect_left(ids, msg)
        if at < len(ids) and ids[at] == msg:
            slot = self._slots[bucket][at]
        else:
            if not self._free:
                self._grow()
            slot = self._free.pop()
            ids.insert(at, msg)
            self._slots[bucket].insert(at, slot)
        _pack_into(self._slabs[slot >> _SLAB_BITS], (slot & _IN_SLAB) * _ROW_SIZE, *row)

    def put_times(self, msg: int, attempt: int, due: int) -> None:
        """Store these two of message `msg`; that it is there is the caller's duty, as with `put_reason`."""
        slab, start = self._place(msg)
        _TIMES.pack_into(slab, start + _TIMES_AT, attempt, due)

    def put_reason(self, msg: int, reason: int) -> None:
        """Store the reason of message `msg`."""
        slab, start = self._place(msg)
        slab[start + _REASON_AT] = reason

    def drop(self, msg: int) -> None:
        """Forget message `msg`; that it is there is the caller's duty."""
        bucket = (msg * _SPREAD >> _SHIFT) % BUCKETS
        ids = self._ids[bucket]
        at = bisect_left(ids, msg)
        del ids[at]
        self._free.append(self._slots[bucket].pop(at))

    def bucket(self, number: int) -> list[int]:
        """The message numbers in one of the `BUCKETS` parts, for walks in steps."""
        return list(self._ids[number])

    def _place(self, msg: int) -> tuple[bytearray, int]:
        bucket = (msg * _SPREAD >> _SHIFT) % BUCKETS
        slot = self._slots[bucket][bisect_left(self._ids[bucket], msg)]
        return self._slabs[slot >> _SLAB_BITS], (slot & _IN_SLAB) * _ROW_SIZE

    def _grow(self) -> None:
        first = len(self._slabs) << _SLAB_BITS
        self._slabs.append(bytearray(_ROW_SIZE << _SLAB_BITS))
        self._free.extend(range(first + _IN_SLAB, first - 1, -1))
