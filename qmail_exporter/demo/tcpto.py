"""`lock/tcpto`, the table of hosts that timed out, as qmail-remote keeps it (tcpto.c, tcpto_clean.c).

No step ends while the table's lock is held: whoever steps a program could otherwise wait for itself.
"""

import fcntl
import ipaddress
import os

from qmail_exporter.demo.host import Host, Steps

_RECORD = 16


def look_up(host: Host, address: str, pid: int) -> Steps[tuple[bool, bool]]:
    """Tell whether the host is in the table, and whether it is dead to this process: not to be tried."""
    table = _open(host)
    records = _read(host)
    os.close(table)
    yield "tcpto close"
    place = _find(records, ipaddress.IPv4Address(address).packed)
    if place is None:
        return False, False
    patience = (60 + (pid & 31)) << 6
    return True, records[place + 4] >= 2 and int(host.clock()) - _when(records, place) < patience


def note(host: Host, address: str, *, timed_out: bool) -> Steps[None]:
    """Count a time-out of the host, or forget those it had: it answered or refused."""
    table = _open(host)
    try:
        _update(
            table, _read(host), ipaddress.IPv4Address(address).packed, int(host.clock()), timed_out=timed_out
        )
    finally:
        os.close(table)
    yield "tcpto close"


def clear(host: Host) -> Steps[None]:
    """Zero the table, as qmail-tcpok does, and qmail-rspawn when it starts."""
    table = os.open(host.tcpto, os.O_WRONLY)
    try:
        os.write(table, bytes(1024))
        yield "tcpto write"
    finally:
        os.close(table)
    yield "tcpto close"


def _open(host: Host) -> int:
    table = os.open(host.tcpto, os.O_WRONLY)
    fcntl.flock(table, fcntl.LOCK_EX)
    return table


def _read(host: Host) -> bytes:
    reading = os.open(host.tcpto, os.O_RDONLY)
    try:
        return os.read(reading, 1024)
    finally:
        os.close(reading)


def _update(table: int, records: bytes, address: bytes, now: int, *, timed_out: bool) -> None:
    place = _find(records, address)
    if place is None:
        if not timed_out:
            return
        place, count = _place_for_another(records), 1
    elif not timed_out:
        count, now = 0, _when(records, place)
    elif records[place + 4] and now < 120 + _when(records, place):
        return
    else:
        count = min(records[place + 4] + 1, 10)
    os.lseek(table, place, os.SEEK_SET)
    os.write(table, address + bytes((count, 0, 0, 0)) + now.to_bytes(4, "little") + bytes(4))


def _find(records: bytes, address: bytes) -> int | None:
    """Return where the first record of that address begins."""
    place = records.find(address)
    while place >= 0:
        if place % _RECORD == 0:
            return place
        place = records.find(address, place + 1)
    return None


def _place_for_another(records: bytes) -> int:
    """Return the first free record, or the one whose count and last time weigh least."""
    places = range(0, len(records), _RECORD)
    free = next((place for place in places if not records[place + 4]), None)
    if free is not None:
        return free
    return min(places, key=lambda place: _when(records, place) + (records[place + 4] << 10))


def _when(records: bytes, place: int) -> int:
    """Return the time of a record's last time-out, Unix seconds."""
    return int.from_bytes(records[place + 8 : place + 12], "little")
