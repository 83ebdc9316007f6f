"""The messages, one fixed-size row each, found by number.

A Python object and a dict entry a message would cost over 200 bytes; a queue of a million messages is what an exporter
must bear on the day when everything goes wrong.  A row here takes 64 bytes, and finding it 12 more.  Rows stay where
they were put, in slabs that the next flood finds again; the numbers stand in buckets, in order, so that finding one is
a bisection and adding one moves a few kilobytes.
"""

import struct
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

BUCKETS = 1024
# Message numbers are inode numbers, which come in steps; a multiplicative hash (Knuth) spreads them evenly.
_SPREAD = 0x9E3779B1
_SHIFT = 20
_SLAB_BITS = 12  # 4096 rows, 256 KiB
_IN_SLAB = (1 << _SLAB_BITS) - 1
_ROW = struct.Struct("=qqqqqqqIBBBB")  # without gaps, and in this machine's order, as arrays are
_ROW_SIZE = _ROW.size
_pack_into = _ROW.pack_into
pack = _ROW.pack
"""A row's bytes."""
unpack = _ROW.unpack_from
"""The row at a place, as a plain tuple."""
unpack_schedule = struct.Struct("=q8xqqqqq4xBxBx").unpack_from
"""Of the row at a place what tells when it is tried: arrival_ns, birth, changed, mtime, attempt, due, flags, channel."""
_new = tuple.__new__  # a NamedTuple made of a tuple, at half the price of calling its class
_TIMES = struct.Struct("=qq")  # attempt and due,
_TIMES_AT = 40  # which stand here in a row
_KIND = struct.Struct("=I")
_DOMAIN_AT, _FLAGS_AT, _SENDER_AT, _CHANNEL_AT, _REASON_AT = 56, 60, 61, 62, 63

Place: TypeAlias = tuple[bytearray, int]
"""Where a row is: the slab, and where in it."""

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


class Columns:
    """Rows as they come from a pipe, seen by what stands in them."""

    def __init__(self, rows: bytes) -> None:
        moments = array("q", rows)
        numbers = array("I", rows)
        self.rows = bytearray(rows)
        self.arrivals_ns, self.sizes, self.births = moments[0::8], moments[1::8], moments[2::8]
        self.dues = moments[6::8]
        self.domains = numbers[_DOMAIN_AT // 4 :: 16]
        self.flags, self.senders = rows[_FLAGS_AT::_ROW_SIZE], rows[_SENDER_AT::_ROW_SIZE]
        self.channels = rows[_CHANNEL_AT::_ROW_SIZE]
        self._kinds = numbers[_FLAGS_AT // 4 :: 16]  # flags, sender, channel and reason as one

    def kinds(self) -> Iterator[tuple[int, int, int, int]]:
        """Count the rows by flags, sender and channel: these three, and how many."""
        for kind, count in Counter(self._kinds).items():
            flags, sender, channel, _ = _KIND.pack(kind)
            yield flags, sender, channel, count

    def renumber(self, channels: Sequence[int], domains: Sequence[int]) -> None:
        """Write other numbers into the rows; what the columns say stays as it was."""
        self.rows[_CHANNEL_AT::_ROW_SIZE] = bytes([channels[number] for number in self.channels])
        numbers = array("I", [domains[number] for number in self.domains]).tobytes()
        for byte in range(4):
            self.rows[_DOMAIN_AT + byte :: _ROW_SIZE] = numbers[byte::4]


def is_told(place: Place) -> bool:
    """Whether the log has told of an attempt at the one recipient of the row at a place, or of a deferral."""
    slab, start = place
    return slab[start + _REASON_AT] != NOT_DEFERRED or _TIMES.unpack_from(slab, start + _TIMES_AT)[0] != NEVER


def put_times(place: Place, attempt: int, due: int) -> None:
    """Store these two in the row at a place."""
    slab, start = place
    _TIMES.pack_into(slab, start + _TIMES_AT, attempt, due)


def put_reason(place: Place, reason: int) -> None:
    """Store the reason in the row at a place."""
    slab, start = place
    slab[start + _REASON_AT] = reason


TODO, FAILED, SEVERAL, DONE = 1, 2, 4, 8
UNKNOWN_SENDER = NO_CHANNEL = NOT_DEFERRED = 255


class Table:
    """Rows by message number; iteration gives the numbers, in no order."""

    __slots__ = ("_found", "_free", "_ids", "_place", "_slabs", "_slots")

    def __init__(self) -> None:
        self._ids = [array("q") for _ in range(BUCKETS)]
        self._slots = [array("I") for _ in range(BUCKETS)]  # beside each number, where its row is
        self._slabs: list[bytearray] = []
        self._free = array("I")
        self._found = 0  # no message has this number
        self._place: Place | None = None

    def __len__(self) -> int:
        return (len(self._slabs) << _SLAB_BITS) - len(self._free)

    def __iter__(self) -> Iterator[int]:
        for ids in self._ids:
            yield from ids

    def __contains__(self, msg: int) -> bool:
        ids = self._ids[(msg * _SPREAD >> _SHIFT) % BUCKETS]
        at = bisect_left(ids, msg)
        return at < len(ids) and ids[at] == msg

    def find(self, msg: int) -> Place | None:
        """Where the row of message `msg` is, or None; valid until the message is dropped."""
        if msg == self._found:  # a log tells several things of one message in a row
            return self._place
        bucket = (msg * _SPREAD >> _SHIFT) % BUCKETS
        ids = self._ids[bucket]
        at = bisect_left(ids, msg)
        if at < len(ids) and ids[at] == msg:
            slot = self._slots[bucket][at]
            self._found, self._place = msg, (self._slabs[slot >> _SLAB_BITS], (slot & _IN_SLAB) * _ROW_SIZE)
            return self._place
        return None

    def get(self, msg: int) -> Row | None:
        """The row of message `msg`, or None."""
        place = self.find(msg)
        return None if place is None else _new(Row, unpack(*place))

    def put(self, msg: int, row: Row) -> None:
        """Store `row` for message `msg`, in place of the one that may be there."""
        place = self.find(msg)
        if place is None:
            self.insert(msg, row)
        else:
            _pack_into(*place, *row)

    def insert(self, msg: int, row: Row) -> None:
        """Store `row` for message `msg`; that none is there is the caller's duty."""
        bucket = (msg * _SPREAD >> _SHIFT) % BUCKETS
        ids = self._ids[bucket]
        at = bisect_left(ids, msg)
        if not self._free:
            self._grow()
        slot = self._free.pop()
        ids.insert(at, msg)
        self._slots[bucket].insert(at, slot)
        _pack_into(self._slabs[slot >> _SLAB_BITS], (slot & _IN_SLAB) * _ROW_SIZE, *row)

    def adopt(self, ids: Sequence[int], rows: bytearray) -> None:
        """Store one row for each of these messages, none of which is there.

        Until `sort` has come to its end, only what it has come to, and nothing that is adopted, is surely found.
        """
        for begin in range(0, len(ids), _IN_SLAB + 1):
            base = len(self._slabs) << _SLAB_BITS
            part = ids[begin : begin + _IN_SLAB + 1]
            slab = rows[begin * _ROW_SIZE : (begin + len(part)) * _ROW_SIZE]
            unused = _IN_SLAB + 1 - len(part)
            self._slabs.append(slab + bytes(unused * _ROW_SIZE))
            self._free.extend(range(base + _IN_SLAB, base + _IN_SLAB - unused, -1))
            for slot, msg in enumerate(part, base):
                bucket = (msg * _SPREAD >> _SHIFT) % BUCKETS
                self._ids[bucket].append(msg)
                self._slots[bucket].append(slot)

    def sort(self) -> Iterator[None]:
        """Bring in order what was adopted, in steps of well under a millisecond each."""
        for bucket in range(BUCKETS):
            slots = dict(zip(self._ids[bucket], self._slots[bucket], strict=True))
            ids = sorted(slots)
            self._ids[bucket] = array("q", ids)
            self._slots[bucket] = array("I", map(slots.__getitem__, ids))
            yield

    def drop(self, msg: int) -> None:
        """Forget message `msg`; that it is there is the caller's duty."""
        bucket = (msg * _SPREAD >> _SHIFT) % BUCKETS
        ids = self._ids[bucket]
        at = bisect_left(ids, msg)
        self._found, self._place = 0, None
        del ids[at]
        self._free.append(self._slots[bucket].pop(at))

    def bucket(self, number: int) -> list[int]:
        """The message numbers in one of the `BUCKETS` parts, for walks in steps."""
        return list(self._ids[number])

    def places(self, number: int) -> Iterator[tuple[int, Place]]:
        """The messages in one of the `BUCKETS` parts, and where their rows are; none may come or go before its end."""
        slabs = self._slabs
        for msg, slot in zip(self._ids[number], self._slots[number], strict=True):
            yield msg, (slabs[slot >> _SLAB_BITS], (slot & _IN_SLAB) * _ROW_SIZE)

    def _grow(self) -> None:
        first = len(self._slabs) << _SLAB_BITS
        self._slabs.append(bytearray(_ROW_SIZE << _SLAB_BITS))
        self._free.extend(range(first + _IN_SLAB, first - 1, -1))
