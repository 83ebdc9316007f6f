"""The table of hosts to which a connection timed out."""

import json
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.tcpto import Host, Table, is_dead, parse_tcpto, skipped_until

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
ROUNDS = sorted(path.parent for path in RECORDED.glob("*/tcpto.bin"))

NOW = 1_795_344_242


def record(address: str, timeouts: int, last: int) -> bytes:
    """Write one record as qmail's tcpto_err() does."""
    ip = bytes(map(int, address.split(".")))
    return ip + bytes([timeouts, 0, 0, 0]) + struct.pack("<L", last) + bytes(4)


def indimail_record(family: int, address: bytes, timeouts: int, last: int) -> bytes:
    """Write one record as indimail's tcpto_err() does."""
    head = bytes([family, 0, 0, 0, timeouts, 0, 0, 0]) + struct.pack("<L", last) + bytes(4)
    return head + address.ljust(16, b"\0")


def test_hosts_in_their_order() -> None:
    """The table's hosts are those whose count is not 0; a freed slot keeps its address and is no host."""
    content = (record("192.0.2.1", 2, NOW) + record("192.0.2.2", 0, NOW) + record("192.0.2.3", 1, 7)).ljust(
        1024, b"\0"
    )
    assert parse_tcpto(content) == Table((Host("192.0.2.1", 2, NOW), Host("192.0.2.3", 1, 7)), 64)


def test_empty_table() -> None:
    """An empty file, as an installation makes it, and a zeroed table are tables without hosts."""
    assert parse_tcpto(b"") == Table((), 0)
    assert parse_tcpto(bytes(1024)) == Table((), 64)


def test_short_table() -> None:
    """A table with fewer slots than usual is read as far as it goes."""
    assert parse_tcpto(record("192.0.2.1", 1, NOW)) == Table((Host("192.0.2.1", 1, NOW),), 1)


def test_full_table() -> None:
    """Every slot may hold a host."""
    content = b"".join(record(f"192.0.2.{index}", 1 + index % 10, NOW) for index in range(64))
    assert len(parse_tcpto(content).hosts) == parse_tcpto(content).slots == 64


def test_hostile_values_are_given_as_they_stand() -> None:
    """A count that qmail would not write, a time in the future and an address twice are not made to fit."""
    content = record("0.0.0.0", 255, 2**32 - 1) + record("255.255.255.255", 11, 0) + record("0.0.0.0", 1, 1)
    assert parse_tcpto(content).hosts == (
        Host("0.0.0.0", 255, 2**32 - 1),
        Host("255.255.255.255", 11, 0),
        Host("0.0.0.0", 1, 1),
    )


def test_indimail_table() -> None:
    """The larger records of indimail hold IPv4 and IPv6; another address family is passed over."""
    content = b"".join(
        [
            indimail_record(2, bytes([192, 0, 2, 1]), 2, NOW),
            indimail_record(10, bytes.fromhex("20010db8") + bytes(11) + b"\1", 1, NOW),
            indimail_record(28, bytes(15) + b"\1", 3, NOW),
            indimail_record(1, b"/run/lmtp.socket", 3, NOW),
            indimail_record(2, bytes([192, 0, 2, 2]), 0, NOW),
        ]
    ).ljust(2048, b"\0")
    assert parse_tcpto(content) == Table(
        (Host("192.0.2.1", 2, NOW), Host("2001:db8::1", 1, NOW), Host("::1", 3, NOW)), 64
    )


@pytest.mark.parametrize("size", [1, 15, 17, 1023, 1025, 2047, 2049, 2064, 4096, 1_000_000])
def test_no_table(size: int) -> None:
    """A length that no table has is an error rather than a guess."""
    with pytest.raises(FormatError, match=str(size)):
        parse_tcpto(b"\1" * size)


@given(st.binary(max_size=2100))
def test_any_bytes(content: bytes) -> None:
    """Any bytes whatever give a table or a FormatError, and no more hosts than slots."""
    try:
        table = parse_tcpto(content)
    except FormatError:
        return
    assert len(table.hosts) <= table.slots
    assert all(1 <= host.timeouts <= 255 and 0 <= host.last < 2**32 for host in table.hosts)


@given(
    st.lists(
        st.builds(Host, st.ip_addresses(v=4).map(str), st.integers(1, 10), st.integers(0, 2**32 - 1)),
        max_size=64,
    )
)
def test_table_reads_back(hosts: list[Host]) -> None:
    """What qmail-remote writes is read as it was meant."""
    assert parse_tcpto(b"".join(map(record, *zip(*hosts, strict=True))) if hosts else b"").hosts == tuple(
        hosts
    )


@pytest.mark.parametrize(("timeouts", "dead"), [(1, False), (2, True), (10, True), (255, True)])
def test_dead_from_the_second_timeout(timeouts: int, dead: bool) -> None:
    """One timeout makes a suspect, two a host that qmail-remote passes over."""
    assert is_dead(Host("192.0.2.1", timeouts, NOW)) is dead


def test_skipped_for_64_to_97_minutes() -> None:
    """The bounds are those that the pids of qmail-remote give, whatever the pid."""
    earliest, latest = skipped_until(Host("192.0.2.1", 2, NOW))
    until = [NOW + ((60 + (pid & 31)) << 6) for pid in range(1000)]
    assert (earliest, latest) == (min(until), max(until))
    assert ((earliest - NOW) // 60, (latest - NOW) // 60) == (64, 97)


@pytest.mark.parametrize("directory", ROUNDS, ids=lambda path: path.name)
def test_recorded_tables(directory: Path) -> None:
    """A real table reads as qmail-tcpto lists it, which ran within two seconds of the recording."""
    table = parse_tcpto((directory / "tcpto.bin").read_bytes())
    taken_at = json.loads((directory / "meta.json").read_text())["taken_at"]
    listed = re.findall(
        r"(\S+) timed out (\d+) seconds ago; # recent timeouts: (\d+)", (directory / "tcpto.txt").read_text()
    )
    assert table.slots == 64
    assert [(host.address, str(host.timeouts)) for host in table.hosts] == [
        (ip, count) for ip, _, count in listed
    ]
    for host, (_, ago, _) in zip(table.hosts, listed, strict=True):
        assert abs(taken_at - int(ago) - host.last) <= 2
