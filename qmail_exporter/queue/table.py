"""The messages, one fixed-size row each, found by number.

A Python object and a dict entry a message would cost over 200 bytes; a queue of a million messages is what an exporter
must bear on the day when everything goes wrong.  A row here takes 64 bytes and its key 8.  Rows stand in buckets, in
order of number, so that finding one is a bisection and adding one moves a few kilobytes.
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
_ROW = struct.Struct("<qqqqqqqIBBBB")

NEVER = -(1 << 63)
"""A moment that is not known, or did not come; it sorts before all others."""


class Row(NamedTuple):
    """What the model keeps of one message.

    `mtime`, `attempt`, `due`, `domain`, `channel` and `reason` describe its one recipient; a message with more of them has the
    flag `SEVERAL` and its `Recipients` elsewhere, one without has the channel `NO_CHANNEL`.
    """

    arrival_ns: int  # mess mtime
    size: int  # bytes
    birth: int  # info mtime, or NEVER
    changed: int  # info ctime, or NEVER
    mtime: int  # of the channel's file
    attempt: int  # start of the last attempt, or NEVER
    due: int  # the next attempt's time, or NEVER where it is not known
    domain: int  # index into the model's domains
    flags: int
    sender: int  # envelope.Sender, or UNKNOWN_SENDER
    channel: int  # index into the model's channels
    reason: int  # index into the reasons, or NOT_DEFERRED


TODO, FAILED, SEVERAL, DONE = 1, 2, 4, 8
UNKNOWN_SENDER = NO_CHANNEL = NOT_DEFERRED = 255


class _Bucket:
    __slots__ = ("ids", "rows")

    def __init__(self) -> None:
        self.ids = array("q")
        self.rows = bytearray()


class Table:
    """Rows by message number; iteration gives the numbers, in no order."""

    __slots__ = ("_buckets", "_size")

    def __init__(self) -> None:
        self._buckets = [_Bucket() for _ in range(BUCKETS)]
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        for bucket in self._buckets:
            yield from bucket.ids

    def __contains__(self, msg: int) -> bool:
        return self.get(msg) is not None

    def get(self, msg: int) -> Row | None:
        """The row of message `msg`, or None."""
        bucket = self._buckets[(msg * _SPREAD >> _SHIFT) % BUCKETS]
        ids = bucket.ids
        at = bisect_left(ids, msg)
        if at < len(ids) and ids[at] == msg:
            return Row._make(_ROW.unpack_from(bucket.rows, at * _ROW.size))
        return None

    def put(self, msg: int, row: Row) -> None:
        """Store `row` for message `msg`, in place of the one that may be there."""
        bucket = self._buckets[(msg * _SPREAD >> _SHIFT) % BUCKETS]
        ids = bucket.ids
        at = bisect_left(ids, msg)
        start = at * _ROW.size
        if at < len(ids) and ids[at] == msg:
            _ROW.pack_into(bucket.rows, start, *row)
            return
        ids.insert(at, msg)
        bucket.rows[start:start] = _ROW.pack(*row)
        self._size += 1

    def drop(self, msg: int) -> None:
        """Forget message `msg`; that it is there is the caller's duty."""
        bucket = self._buckets[(msg * _SPREAD >> _SHIFT) % BUCKETS]
        at = bisect_left(bucket.ids, msg)
        del bucket.ids[at]
        del bucket.rows[at * _ROW.size : (at + 1) * _ROW.size]
        self._size -= 1

    def bucket(self, number: int) -> list[int]:
        """The message numbers in one of the `BUCKETS` parts, for walks in steps."""
        return list(self._buckets[number].ids)

