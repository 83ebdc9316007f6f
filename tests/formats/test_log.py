import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmail_exporter.formats import FormatError, log
from qmail_exporter.formats.complaint import KINDS, kind_of
from qmail_exporter.formats.log import (
    Bounce,
    Complaint,
    Delivery,
    Discard,
    End,
    Exiting,
    Info,
    New,
    Record,
    Remark,
    Starting,
    Status,
    Use,
    parse,
)

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
T = 1_795_344_242.5
BOTH = (Use("local", 0, 10), Use("remote", 3, 20))

QMAIL = {
    b"new msg 1467090": New(T, 1467090, b""),
    b"info msg 1467090: bytes 241 from <a@mail.test> qp 10330 uid 0": Info(
        T, 1467090, 241, b"a@mail.test", 10330, b""
    ),
    b"info msg 1467090: bytes 241 from <> qp 10330 uid 1000": Info(T, 1467090, 241, b"", 10330, b""),
    b"info msg 7: bytes 0 from <#@[]> qp 1 uid 0": Info(T, 7, 0, b"#@[]", 1, b""),
    b"info msg 7: bytes 0 from <a>_<b> qp 1 uid 0": Info(T, 7, 0, b"a>_<b", 1, b""),
    b"starting delivery 3: msg 1467090 to remote y@defer.example": Starting(
        T, 3, 1467090, "remote", b"y@defer.example", b""
    ),
    b"starting delivery 3: msg 7 to local me": Starting(T, 3, 7, "local", b"me", b""),
    b"starting delivery 3: msg 7 to slow-1 y@d.example": Starting(T, 3, 7, "slow-1", b"y@d.example", b""),
    b"starting delivery 3: msg 7 to remote ": Starting(T, 3, 7, "remote", b"", b""),
    b"starting delivery 3: msg 7 to remote": Starting(T, 3, 7, "remote", b"", b""),
    b"delivery 3: success: did_0+0+1/": Delivery(T, 3, "success", b"did_0+0+1/", b""),
    b"delivery 3: failure: no/": Delivery(T, 3, "failure", b"no/", b""),
    b"delivery 3: deferral: later/": Delivery(T, 3, "deferral", b"later/", b""),
    b"delivery 3: deferral: ": Delivery(T, 3, "deferral", b"", b""),
    b"delivery 3: deferral:": Delivery(T, 3, "deferral", b"", b""),
    b"delivery 3: report mangled, will defer": Delivery(T, 3, "mangled", b"", b""),
    b"bounce msg 1467094 qp 10340": Bounce(T, 1467094, 10340, b""),
    b"triple bounce: discarding bounce/1467094": Discard(T, "triple", b""),
    b"end msg 1467094": End(T, 1467094, b""),
    b"status: local 0/10 remote 3/20": Status(T, BOTH, False, b"", False),
    b"status: local 0/10 remote 3/20 exitasap": Status(T, BOTH, True, b"", False),
    b"status: local 0/10 remote 3/20 slow-1 4/5": Status(T, (*BOTH, Use("slow-1", 4, 5)), False, b"", False),
    b"status: exiting": Exiting(T, b""),
    b"warning: trouble in select": Complaint(T, "warning", "other", b"trouble in select", b""),
    b"alert: out of memory, sleeping...": Complaint(
        T, "alert", "out_of_memory", b"out of memory, sleeping...", b""
    ),
}
"""Lines as qmail-send of netqmail and notqmail writes them; a logger may have cut a space off the end."""

INDIMAIL = {
    b"new msg 7 queue1": New(T, 7, b"queue1"),
    b"info msg 7: bytes 24 from <a@mail.test> qp 1 uid 0 queue1": Info(
        T, 7, 24, b"a@mail.test", 1, b"queue1"
    ),
    b"starting delivery 3: msg 7 to remote y@d.example queue1": Starting(
        T, 3, 7, "remote", b"y@d.example", b"queue1"
    ),
    b"starting delivery 3.4: msg 7 to remote y@d.example queue1": Starting(
        T, 3, 7, "remote", b"y@d.example", b"queue1"
    ),
    b"starting delivery 3.queue2: msg 7 to local me": Starting(T, 3, 7, "local", b"me", b"queue2"),
    b"delivery 3: success: ok/ queue1": Delivery(T, 3, "success", b"ok/", b"queue1"),
    b"delivery 3: deferral:  queue1": Delivery(T, 3, "deferral", b"", b"queue1"),
    b"delivery 12.4: failure: no/ queue1": Delivery(T, 12, "failure", b"no/", b"queue1"),
    b"delivery 12.queue2: failure: no/": Delivery(T, 12, "failure", b"no/", b"queue2"),
    b"delivery 3: report mangled, will defer: queue1": Delivery(T, 3, "mangled", b"", b"queue1"),
    b"bounce msg 7 qp 8 queue1": Bounce(T, 7, 8, b"queue1"),
    b"triple bounce: discarding bounce/3/7 queue1": Discard(T, "triple", b"queue1"),
    b"double bounce: discarding bounce/7 queue1": Discard(T, "double", b"queue1"),
    b"delete bounce: discarding bounce/7 queue1": Discard(T, "delete", b"queue1"),
    b"info: qmail-send: delete bounce: discarding bounce/7 queue1": Discard(T, "delete", b"queue1"),
    b"end msg 7 queue1": End(T, 7, b"queue1"),
    b"end msg 7 qmail-send: queue1": End(T, 7, b"queue1"),
    b"end msg 7 slowq-send: slowq": End(T, 7, b"slowq"),
    b"status: local 0/10 remote 3/20 queue1": Status(T, BOTH, False, b"queue1", False),
    b"status: local 0/10 remote 3/20 queue1 exitasap": Status(T, BOTH, True, b"queue1", False),
    b"status: local 0/10 (held) remote 3/20 (held) delayed jobs=12 queue1 exitasap": Status(
        T, BOTH, True, b"queue1", False, 12
    ),
    b"status: local 0/10 remote 3/20 delayed jobs=1 queue1": Status(T, BOTH, False, b"queue1", False, 1),
    b"status: queue1 queue1 qmail-send exiting": Exiting(T, b"queue1"),
    b"info: qmail-send: pid 4711 queue1 exiting": Exiting(T, b"queue1"),
    b"info: todo-proc: pid 4711 queue1 exiting": Remark(T, b""),
    b"status: queue1 qmail-todo exiting": Remark(T, b"queue1"),
    b"status: queue1: qmail-send executing function init": Remark(T, b"queue1"),
    b"info: qmail-send: queue1: ratelimit=ON, conf split=151": Remark(T, b"queue1"),
    b"info: qmail-send: pid 7: /var/indimail/queue/queue1: ratelimit=ON": Remark(T, b""),
    b"info: queue1: loglock enabled": Remark(T, b"queue1"),
    b"local: <> b@c.example 7 512 bytes queue1": Remark(T, b"queue1"),
    b"remote: a@b.example b@c.example 7 512 bytes": Remark(T, b""),
    b"todo: queue1: subdir=todo/3 fn=todo/3/7": Remark(T, b"queue1"),
    b"bounce processor sender <> recipient <a> messfn <mess/7> bouncefn <bounce/7> exit=0 queue1": Remark(
        T, b"queue1"
    ),
    b"warning: queue1: unable to stat mess/7; will try again later": Complaint(
        T, "warning", "file", b"queue1: unable to stat mess/7; will try again later", b"queue1"
    ),
    b"warn: qmail-send: queue1: unable to stat mess/7": Complaint(
        T, "warning", "file", b"qmail-send: queue1: unable to stat mess/7", b"queue1"
    ),
    b"alert: qmail-send: out of memory, sleeping...": Complaint(
        T, "alert", "out_of_memory", b"qmail-send: out of memory, sleeping...", b""
    ),
}
"""Lines as indimail-mta's programs write them."""

LINES: dict[bytes, Record] = {**QMAIL, **INDIMAIL}  # type: ignore[dict-item]
NO_LINES = (
    b"",
    b"new msg ",
    b"new msg x",
    b"new msg 1_0",
    b"new msg 12345678901234567890",
    b"new msg 7 queue1 more",
    b"new message 7",
    b" new msg 7",
    b"end msg",
    b"end msg -7",
    b"info msg 7: bytes 24 from <a b> qp 1 uid 0",
    b"info msg 7: bytes 24 from a qp 1 uid 0",
    b"starting delivery 3: msg 7",
    b"starting delivery 3: msg 7 to REMOTE a@b",
    b"starting delivery 3: msg 7 to remote a b c",
    b"starting delivery 3 msg 7 to remote a",
    b"starting  delivery 3: msg 7 to remote a",
    b"delivery 3: shrug: x",
    b"delivery +3: success: x",
    b"delivery 3: success: x queue1 y",
    b"delivery 3: success: x\ty z q",
    b"bounce msg 7",
    b"triple bounce: 7",
    b"quadruple bounce: discarding bounce/7",
    b"status:",
    b"status: local 0/10 local 1/10",
    b"status: local 0 remote 3/20",
    b"status: local 0/10 remote 3/20 exitasap queue1",
    b"status: local 0/10 remote 3/20 queue1 more",
    b"status: local 0/1234567890",
    b"status:" + b" a 1/2" * 33,
    b"alert",
    b"alert:",
    b"alerts: x",
    b"starting up",
    b"info",
    b"local deliveries temporarily held",
    b"\xff\xfe",
)


@pytest.mark.parametrize("line", [*QMAIL, *INDIMAIL])
def test_every_line_is_its_record(line: bytes) -> None:
    """Each line that qmail-send writes is taken for what it is, with every field."""
    expected = LINES[line]
    for _ in range(2):  # what is remembered of a status line is the same
        found = parse(line, T)
        assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize("line", NO_LINES)
def test_what_is_no_line_is_an_error(line: bytes) -> None:
    """What qmail-send does not write is an error, not a guess."""
    with pytest.raises(FormatError):
        parse(line, T)


def by_the_full_pattern(text: bytes) -> Record | None:
    """A `starting` or `delivery` line as the patterns for all their forms have it."""
    if m := log._STARTING.fullmatch(text):
        number, ident, msg, channel, recipient, queue = m.groups(b"")
        return Starting(T, int(number), int(msg), channel.decode(), recipient, queue or ident)
    if m := log._DELIVERY.fullmatch(text):
        number, ident, result, report, queue = m.groups(b"")
        return Delivery(T, int(number), result.decode() or "mangled", report, queue or ident)
    return None


WORDS = st.one_of(
    st.sampled_from(
        [b"starting", b"delivery", b"3", b"3:", b"3.q:", b"msg", b"to", b"local", b"remote", b"slow-1", b""]
    ),
    st.sampled_from(
        [b"success:", b"deferral:", b"failure", b"report", b"mangled,", b"will", b"defer:", b"a@b", b"\t"]
    ),
    st.binary(max_size=4),
)


@given(
    st.one_of(
        st.lists(WORDS, max_size=10).map(b" ".join),
        st.tuples(
            st.sampled_from(sorted({**QMAIL, **INDIMAIL})), st.integers(0, 60), st.binary(max_size=3)
        ).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]),
    )
)
@example(b"starting delivery 3: msg 7 to remote a@b\n")
@example(b"delivery 3: success: \x0b")
def test_usual_forms_are_taken_as_all_forms(text: bytes) -> None:
    """The patterns for the usual lines find in them what those for all forms do, and accept nothing else."""
    if not text.startswith((b"star", b"deli")):
        return
    expected = by_the_full_pattern(text)
    try:
        assert parse(text, T) == expected
    except FormatError:
        assert expected is None


@given(
    st.one_of(
        st.binary(max_size=200), st.tuples(st.sampled_from(sorted(log._PARSERS)), st.binary()).map(b"".join)
    )
)
def test_any_bytes_are_a_record_or_an_error(text: bytes) -> None:
    """Whatever a line is, it is a record of that time or a FormatError; numbers fit 64 bits."""
    try:
        record = parse(text, T)
    except FormatError:
        return
    assert record.time == T
    assert all(not isinstance(value, int) or value < 2**64 for value in record)


def test_parsing_stays_linear() -> None:
    """A long hostile line costs no more than its length."""
    for head in QMAIL | INDIMAIL:
        for filler in (b" a", b": ", b"9", b" 1/2", b" bytes", b" exit=0 q", b"a-a: "):
            with suppress(FormatError):
                parse(head + filler * 20_000, T)


def test_recorded_logs_have_no_other_lines() -> None:
    """Every line that a real qmail-send wrote is understood, and is what its first words say."""
    kinds: dict[type, int] = {}
    lines = [line[26:] for path in sorted(RECORDED.rglob("*log")) for line in path.read_bytes().splitlines()]
    for line in lines:
        kind = type(parse(line, T))
        kinds[kind] = kinds.get(kind, 0) + 1
    words = [re.split(rb"[ :]", line)[0] for line in lines]
    for kind, word in (
        (New, b"new"),
        (Info, b"info"),
        (Starting, b"starting"),
        (End, b"end"),
        (Bounce, b"bounce"),
    ):
        assert kinds[kind] == words.count(word) > 0
    assert kinds[Delivery] == words.count(b"delivery")
    assert kinds[Status] + kinds[Exiting] == words.count(b"status")


def test_remembered_status_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of status lines so many are remembered and no more, and no long one."""
    monkeypatch.setattr(log, "_MOST", 3)
    monkeypatch.setattr(log, "_STATUSES", {})
    for used in range(10):
        line = b"status: local %d/10 remote 0/20" % used
        for _ in range(2):
            record = parse(line, T)
            assert isinstance(record, Status)
            assert record.use[0].used == used
        assert len(log._STATUSES) <= 3
    before = dict(log._STATUSES)
    parse(b"status: local 1/10 " + b"q" * 300, T)
    assert before == log._STATUSES


@pytest.mark.parametrize(
    ("severity", "text", "kind"),
    [
        ("alert", b"cannot start: unable to switch to home directory", "cannot_start"),
        ("alert", b"cannot start: hath the daemon spawn no fire?", "cannot_start"),
        ("alert", b"cannot start: qmail-send is already running", "cannot_start"),
        ("alert", b"oh no! lost qmail-clean connection! dying...", "lost_connection"),
        ("alert", b"oh no! lost spawn connection! dying...", "lost_connection"),
        ("alert", b"unable to append to bounce message; HELP! sleeping...", "bounce_unwritable"),
        ("alert", b"out of memory, sleeping...", "out_of_memory"),
        ("alert", b"unable to reread control/locals", "controls"),
        ("alert", b"unable to reread controls: unable to switch to home directory", "controls"),
        ("alert", b"unable to switch back to queue directory; HELP! sleeping...", "controls"),
        ("alert", b"unable to opendir todo, sleeping...", "queue_unreadable"),
        ("alert", b"something new", "other"),
        ("warning", b"trouble marking remote/3/7; message will be delivered twice!", "marking"),
        ("warning", b"trouble injecting bounce message, will try later", "bounce_injection"),
        ("warning", b"unable to start qmail-queue, will try later", "bounce_injection"),
        ("warning", b"qmail-clean unable to clean up mess/3/7", "cleanup"),
        ("warning", b"internal error: delivery report out of range", "report_range"),
        ("warning", b"unknown record type in remote/3/7!", "unknown_record"),
        ("warning", b"unable to utime remote/3/7; message will be retried too soon", "retried_too_soon"),
        ("warning", b"unable to stat mess/3/7; will try again later", "file"),
        ("warning", b"trouble fsyncing info/3/7", "file"),
        ("warning", b"trouble in select", "other"),
    ],
)
def test_complaints_have_kinds(severity: str, text: bytes, kind: str) -> None:
    """Each warning and alert of qmail-send.c is of the kind that an administrator would look for."""
    assert kind_of(severity, text) == kind
    assert kind in KINDS[severity]
    record = parse(severity.encode() + b": " + text, T)
    assert record == Complaint(T, severity, kind, text, b"")
