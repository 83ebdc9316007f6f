"""The files of a queue and of `control`, and what qmail-send says of itself: bytes become values, or a FormatError."""

import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

from fuzz import seeds
from fuzz.target import Target, is_label
from qmail_exporter.double_bounce import DoubleBounces, parse_entry
from qmail_exporter.formats import FormatError, log
from qmail_exporter.formats.complaint import KINDS
from qmail_exporter.formats.control import parse_int, parse_list, parse_routes, parse_value, route_for
from qmail_exporter.formats.envelope import (
    MAX_DOMAIN,
    NO_DOMAIN,
    Recipient,
    count_channel,
    domain,
    log_safe,
    message_id,
    parse_channel,
    parse_info,
    parse_todo,
    pending_addresses,
)
from qmail_exporter.formats.qsbmf import parse as parse_bounce
from qmail_exporter.formats.reason import REASONS, answered, reason
from qmail_exporter.formats.retry import attempts, gives_up, next_attempt
from qmail_exporter.formats.tcpto import is_dead, parse_tcpto, skipped_until
from qmail_exporter.record import json_line, text_line
from qmail_exporter.sources.scan import _numbers

T = 1_795_344_242.5


def info(data: bytes) -> None:
    """A sender stands between the first two marks; the numbers of a message are written in one way."""
    with suppress(FormatError):
        assert data.startswith(b"F" + parse_info(data) + b"\0")
    number = message_id(data)
    assert number is None or (number > 0 and b"%d" % number == data)
    names = data.replace(b"\0", b"").split(b"/")
    assert _numbers([os.fsdecode(name) for name in names]) == {
        msg: name for name in names if (msg := message_id(name)) is not None
    }


def todo(data: bytes) -> None:
    """A todo file lists as many recipients as it has records of them, and none twice as many as bytes."""
    try:
        found = parse_todo(data)
    except FormatError:
        return
    assert list(found.recipients) == [record[1:] for record in data.split(b"\0") if record[:1] == b"T"]
    assert min(found.uid, found.pid) >= 0
    assert b"F" + found.sender + b"\0" in data


def channel(data: bytes) -> None:
    """The quick ways to read a channel's file agree with the slow one; so does each file that ends at a record."""
    try:
        listed = parse_channel(data)
    except FormatError:
        assert _is_refused(count_channel, data)
        assert _is_refused(pending_addresses, data)
        return
    pending = [each.address for each in listed if not each.done]
    counted = count_channel(data)
    assert (counted.pending, counted.done) == (len(pending), len(listed) - len(pending))
    assert counted.domains == Counter(map(domain, pending))
    assert pending_addresses(data) == list(map(log_safe, pending))
    assert b"".join(b"%b%b\0" % (b"D" if each.done else b"T", each.address) for each in listed) == data
    for each in listed:
        _check_domain(each)
    half = len(listed) // 2
    start = sum(len(each.address) + 2 for each in listed[:half])
    assert parse_channel(data[:start]) + parse_channel(data[start:]) == listed


def _is_refused(read: Callable[[bytes], object], data: bytes) -> bool:
    with suppress(FormatError):
        read(data)
        return False
    return True


def _check_domain(recipient: Recipient) -> None:
    key = domain(recipient.address)
    assert is_label(key)
    assert key.isascii()
    assert len(key) <= MAX_DOMAIN
    assert key == NO_DOMAIN or key[0] != "("
    assert domain(log_safe(recipient.address)) == key


def control(data: bytes) -> None:
    """Nothing in a control file is an error, no number leaves C's int, and no entry spans lines or keeps a blank end."""
    assert b"\n" not in parse_value(data)
    number = parse_int(data)
    assert number is None or -(2**31) <= number < 2**31
    entries = parse_list(data)
    assert all(not set(entry) & set(b"\0\n") for entry in entries)
    assert all(entry in data for entry in entries)
    half = data.rfind(b"\n", 0, len(data) // 2) + 1
    assert parse_list(data[:half]) + parse_list(data[half:]) == entries
    routes = parse_routes(data)
    for route in routes[:8]:
        assert 0 <= route.port < 2**16
        assert not set(route.relay) & set(b" \t|:\n\0")
        found = route_for(routes, route.domain)
        assert found is not None
        assert found.domain.lower() == route.domain.lower()


def tcpto(data: bytes) -> None:
    """A table holds no more hosts than it has room for, with addresses that are some and counts above 0."""
    try:
        table = parse_tcpto(data)
    except FormatError:
        return
    assert len(table.hosts) <= table.slots <= 128
    for host in table.hosts:
        assert str(ip_address(host.address)) == host.address
        assert 1 <= host.timeouts <= 255
        assert 0 <= host.last < 2**32
        assert is_dead(host) == (host.timeouts > 1)
        first, latest = skipped_until(host)
        assert host.last < first < latest


def retry(data: bytes) -> None:
    """An attempt is never followed by one that is not later, and the one that gives up is the last."""
    numbers = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in range(0, 16, 8)]
    birth, attempt = (number >> 16 for number in numbers)
    skip = 20 if data[16:17] < b"\x80" else 10
    due = next_attempt(birth, attempt, skip)
    assert due > birth
    assert due > attempt or attempt - birth > 0xFFFF**2
    lifetime = int.from_bytes(data[17:20], "little")
    planned = list(attempts(birth, skip, lifetime))
    assert planned == sorted(set(planned))
    assert [gives_up(birth, time, lifetime) for time in planned] == [False] * (len(planned) - 1) + [True]


def line(data: bytes) -> None:
    """A line is read alike the first and the second time; its numbers are not negative, its texts come out of it."""
    try:
        record = log.parse(data, T)
    except FormatError:
        return
    assert log.parse(data, T) == record
    assert record.time == T
    assert record.queue in data
    for name, value in zip(record._fields, record, strict=True):
        if isinstance(value, int):
            assert 0 <= value < 10**19
        elif isinstance(value, bytes):
            assert value in data
        elif isinstance(value, str):
            assert is_label(value), name
    if isinstance(record, log.Complaint):
        assert record.kind in KINDS[record.severity]
    elif isinstance(record, log.Status):
        assert record.idle == (not any(use.used for use in record.use))
        assert all(use.used >= 0 and use.limit >= 0 and is_label(use.channel) for use in record.use)
        assert len({use.channel for use in record.use}) == len(record.use)
    _check_quick_way(data, record)


def _check_quick_way(data: bytes, record: log.Record) -> None:
    """What has a quick way of its own is read as what has not, which a queue's name at the end sees to."""
    if isinstance(record, log.Starting):
        quick = bool(record.recipient)
    elif isinstance(record, log.Delivery):
        quick = bool(record.report)
    else:
        quick = isinstance(record, log.New | log.End)
    if quick and not record.queue:
        assert log.parse(data + b" queue1", T) == record._replace(queue=b"queue1")


def report(data: bytes) -> None:
    """A report has one of the reasons, the same in the log's form; only what another host said shows the network up."""
    for which in ("remote", "local"):
        found = reason(data, which)
        assert found in REASONS
        assert reason(log_safe(data), which) == found
        assert which == "remote" or found in ("no_such_user", "mailbox_full", "expired", "local")
    assert answered(data) == answered(log_safe(data))


def bounce(data: bytes) -> None:
    """What is written down of a double bounce is one line without a control character, and is read as it was meant."""
    found = parse_bounce(data)
    for write in (json_line, text_line):
        written = write(found, T)
        assert written.endswith(b"\n")
        assert all(32 <= byte < 127 for byte in written[:-1])
        entry = parse_entry(written[:-1])
        assert entry.double == (found is not None)
        assert abs(entry.time - T) <= 1
    if found is not None:
        assert sum(len(address) + len(text) for address, text in found.failures) + len(found.sender) <= len(
            data
        )


def bounce_log(data: bytes) -> None:
    """Each line of the log of double bounces counts once: as one, as a duplicate of one, as other mail, or as not read."""
    counts = DoubleBounces(seats=3, remembered=4)
    read = data.split(b"\n")
    for each in read:
        counts.observe(each, T)
    counts.elect()
    assert counts.total + counts.others + counts.unparsed == len(read)
    assert 0 <= counts.duplicates <= counts.total
    assert counts.last is None or counts.last <= T
    assert all(is_label(name) for name in counts.domains.shown())


def _envelopes() -> list[bytes]:
    areas = ("info", "todo", "intd", "local", "remote")
    return [
        *dict.fromkeys(seeds.files(*areas)),
        b"1467090",
        b"9223372036854775807",
        b"u0\0p123\0Fa@b\0Tc@d\0eh\0",
    ]


def _controls() -> list[bytes]:
    return [
        b"604800\n",
        b"# a comment\nlocalhost\nmail.test \t\n",
        b".example:relay.test:26 user password\n:smart.test\nA.example:\nb:|c\n",
        b"x:relay:99999999999\n\0y:z\n",
    ]


def _times() -> list[bytes]:
    return [
        *seeds.tcpto(),
        bytes(2048),
        b"\x02\0\0\0\x03" + bytes(2043),
        (1_795_344_242 << 16).to_bytes(8, "little") * 2 + b"\x01\x80\x3a\x09",
        bytes(20),
        b"\xff" * 20,
    ]


def _bounces() -> list[bytes]:
    inner = (
        b"Return-Path: <>\nFrom: MAILER-DAEMON@mail.test\n\nHi.\n\n<b@there.example>:\nNo such user.\n\n"
        b"--- Below this line is a copy of the message.\n\nReturn-Path: <a@mail.test>\nSubject: x\n\ny\n"
    )
    return [
        b"To: postmaster\n\nHi.\n\n<a@mail.test>:\nThat box is full.\n\n--- Below this line is the original bounce.\n\n"
        + inner,
        b"To: x\n\n<a>:\n\n--- \n\nReturn-Path: <>\n\nFinal-Recipient: rfc822; b@c\nDiagnostic-Code: smtp; 550\n no\n",
        b'To: x\n\n<a>:\n\n---\n\nReturn-Path: <>\n\n<b>:\n\n---\n\nReturn-Path: <"a\\"b"@c>\n',
    ]


def _bounce_log() -> list[bytes]:
    found = [parse_bounce(each) for each in _bounces()]
    return [
        write(each, T + at)[:-1] for at, each in enumerate([*found, None]) for write in (json_line, text_line)
    ]


def envelope(data: bytes) -> None:
    """The bytes as each of a message's files."""
    info(data)
    todo(data)
    channel(data)


def words(data: bytes) -> None:
    """The bytes as a report, as a message with reports in it, and as the log of such messages."""
    report(data)
    bounce(data)
    bounce_log(data)


def host(data: bytes) -> None:
    """The bytes as a control file, as the table of hosts, and as numbers of the schedule."""
    control(data)
    tcpto(data)
    retry(data)


TARGETS = {
    "envelope": Target(envelope, _envelopes),
    "host": Target(host, lambda: [*_controls(), *_times()]),
    "line": Target(line, seeds.texts),
    "words": Target(words, lambda: [*seeds.reports(), *_bounces(), *_bounce_log()]),
}
