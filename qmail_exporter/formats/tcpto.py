"""The table `lock/tcpto` of hosts to which a connection timed out.

qmail-remote keeps it (tcpto.c; no manual page describes it): 64 records of 16 bytes, read and written in place.

    0-3    IPv4 address
    4      how many timeouts in a row, at most 10; 0 marks a free slot, whatever else is in it
    8-11   time of the last one that counted, Unix seconds, least significant byte first

indimail-mta's tcpto.c has 64 records of 32 bytes: byte 0 is the address family, 4 and 8-11 are as above, and the
address begins at byte 16. The two are told apart by their length, 1024 and 2048 bytes.

Only a connection attempt that times out counts, and only 120 s or more after the last that did. A connection that is
made sets the count of its host to 0; `qmail-tcpok` and a start of qmail-rspawn zero the whole table.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from qmail_exporter.formats import FormatError

DEAD = 2
"""The number of timeouts from which on qmail-remote leaves a host alone for a while."""

_INDIMAIL_SIZE = 2048
_QMAIL = struct.Struct("<4sB3xL4x")
_INDIMAIL = struct.Struct("<B3xB3xL4x16s")
_AF_INET = 2
# AF_INET6 on Linux, NetBSD and OpenBSD, FreeBSD, macOS.
_AF_INET6 = frozenset({10, 24, 28, 30})


class Host(NamedTuple):
    """A host that timed out: its address in text, the count as stored (1 … 255), the last time in Unix seconds."""

    address: str
    timeouts: int
    last: int


class Table(NamedTuple):
    """The hosts of the table in its order, and how many it has room for."""

    hosts: tuple[Host, ...]
    slots: int


def parse_tcpto(content: bytes) -> Table:
    """Read the table, which may be shorter than qmail makes it, or empty.

    Nothing is made of the values: a count above 10 and a time in the future are given as they stand. The same
    address twice, which qmail does not write, is given twice, as qmail-tcpto lists it.

    Raises:
        FormatError: the length is that of no table, so nothing in it can be relied on.
    """
    size = len(content)
    if size > _INDIMAIL_SIZE or size % _QMAIL.size:
        raise FormatError(f"tcpto: a table of {size} bytes")
    if size == _INDIMAIL_SIZE:
        return Table(tuple(_indimail_hosts(content)), size // _INDIMAIL.size)
    hosts = (
        Host(str(IPv4Address(address)), timeouts, last)
        for address, timeouts, last in _QMAIL.iter_unpack(content)
        if timeouts
    )
    return Table(tuple(hosts), size // _QMAIL.size)


def is_dead(host: Host) -> bool:
    """Tell whether qmail-remote passes the host over until `skipped_until`; a single timeout makes a suspect only."""
    return host.timeouts >= DEAD


def skipped_until(host: Host) -> tuple[int, int]:
    """Return from when a dead host may be tried and from when it will be, in Unix seconds.

    The time depends on the pid of the qmail-remote that asks, so that not all of them try at once: it passes the
    host over while fewer than `(60 + pid % 32) * 64` seconds have gone since the last timeout. A last timeout in the
    future is taken at its word, by qmail too.
    """
    return host.last + 60 * 64, host.last + (60 + 31) * 64


def _indimail_hosts(content: bytes) -> Iterator[Host]:
    """Yield the hosts of indimail's larger records, passing over families that its qmail-tcpto passes over."""
    for family, timeouts, last, address in _INDIMAIL.iter_unpack(content):
        if timeouts and family == _AF_INET:
            yield Host(str(IPv4Address(address[:4])), timeouts, last)
        elif timeouts and family in _AF_INET6:
            yield Host(str(IPv6Address(address)), timeouts, last)
