import io
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter import record
from qmail_exporter.commands.record import record_double_bounce
from qmail_exporter.demo.qmail import Outcome
from qmail_exporter.double_bounce import MAX_LINE, DoubleBounces, Failure, parse_entry
from qmail_exporter.flags.option import Option
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.qsbmf import DoubleBounce, parse
from stage import answer, simulation

NOW = 1_800_000_000.25
SOURCE = str(Path(record.__file__).parents[1])
SORRY = b"""I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.
"""
BOUNCED = b"I tried to deliver a bounce message to this address, but the bounce bounced!\n"
HEADER = (
    b"Date: 22 Nov 2026 10:45:41 -0000\nFrom: MAILER-DAEMON@mail.test\nTo: %b\nSubject: failure notice\n\n"
)
INTRO = b"Hi. This is the qmail-send program at mail.test.\n"


def bounce(*failures: bytes, sender: bytes = b"s@mail.test", intro: bytes = INTRO + SORRY) -> bytes:
    """The bounce that injectbounce() makes of a message from `sender`, with these paragraphs."""
    return (
        HEADER % sender
        + intro
        + b"\n"
        + b"".join(failure + b"\n\n" for failure in failures)
        + b"--- Below this line is a copy of the message.\n\nReturn-Path: <%b>\n" % sender
        + b"Received: by mail.test\nSubject: hello\n\n<quoted@mail.test>:\nHello.\n"
    )


def double(inner: bytes, *, why: bytes = b"No way. (#5.1.2)", to: bytes = b"s@mail.test") -> bytes:
    """The double bounce that injectbounce() makes of a bounce to `to`."""
    return (
        b"Received: (qmail 1 invoked for bounce); 22 Nov 2026 10:45:42 -0000\n"
        + HEADER % b"postmaster@mail.test"
        + INTRO
        + BOUNCED
        + b"\n<%b>:\n%b\n\n" % (to, why)
        + b"--- Below this line is the original bounce.\n\nReturn-Path: <>\n"
        + b"Received: (qmail 2 invoked for bounce); 22 Nov 2026 10:45:41 -0000\n"
        + inner
    )


def parsed(message: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    found = parse(message)
    assert found is not None
    return found.sender, found.why, found.failures


# --- the message


def test_a_double_bounce() -> None:
    """Sender, why the bounce failed, and each recipient with its report come out."""
    inner = bounce(
        b"<r@one.example>:\n192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 No such user\nGiving up on 192.0.2.1.",
        b"<r@two.example>:\nSorry, no mailbox here by that name. (#5.1.1)",
    )
    assert parsed(double(inner)) == (
        b"s@mail.test",
        b"No way. (#5.1.2)",
        [
            (
                b"r@one.example",
                b"192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 No such user\nGiving up on 192.0.2.1.",
            ),
            (b"r@two.example", b"Sorry, no mailbox here by that name. (#5.1.1)"),
        ],
    )


def test_what_the_simulated_qmail_sends(tmp_path: Path) -> None:
    """A message whose bounce fails ends as a double bounce that is understood."""

    def respond(channel: str, recipient: bytes, now: float) -> Outcome:
        return answer("remote", b"defer@x" if channel == "local" else recipient, now)

    with simulation(tmp_path / "home", respond=respond) as simulated:
        simulated.send(b"fail-1@example.org", sender=b"fail-2@example.net")
        simulated.qmail.run_until(simulated.clock.now + 5)
        (message,) = (path for path in (simulated.queue / "mess").rglob("*") if path.is_file())
        sender, why, failures = parsed(message.read_bytes())
    assert sender == b"fail-2@example.net"
    assert [address for address, _ in failures] == [b"fail-1@example.org"]
    assert all(text.startswith(b"192.0.2.1 does not like recipient.\n") for text in (why, failures[0][1]))


@pytest.mark.parametrize("paragraph", [b"<r@mail.test>:", b"<r@mail.test>:\n"])
def test_an_empty_report(paragraph: bytes) -> None:
    """A program in a .qmail file that fails without a word leaves an empty report."""
    assert parsed(double(bounce(paragraph)))[2] == [(b"r@mail.test", b"")]


def test_a_quoted_sender() -> None:
    """A sender with a space is quoted in Return-Path, and comes out as it was."""
    inner = bounce(b"<r@mail.test>:\nNo.").replace(
        b"Return-Path: <s@mail.test>", rb'Return-Path: <"a \"b\\\" c"@mail.test>'
    )
    assert parsed(double(inner))[0] == rb'a "b\" c@mail.test'


def test_hostile_addresses_stay_whole() -> None:
    """An address that holds what ends others is taken up to the end of its line."""
    for address in (
        b'"a>:b"@mail.test',
        b"<<>>@mail.test",
        b"--- Below this line@mail.test",
        b"",
        b"\xff\x1b[2J",
    ):
        assert parsed(double(bounce(b"<%b>:\nNo." % address)))[2] == [(address, b"No.")]


def test_another_introduction() -> None:
    """The introduction may be any text (control/doublebouncemessage)."""
    message = double(bounce(b"<r@mail.test>:\nNo.", intro=b"Pech gehabt.\n\nWirklich.\n")).replace(
        BOUNCED, b"Ach.\n"
    )
    assert parsed(message)[2] == [(b"r@mail.test", b"No.")]


def test_parts_in_mime() -> None:
    """With indimail's MIME boundaries and its words before the parts, the same comes out."""
    boundary = b"--1795344341mail.test42"

    def wrap(message: bytes, before: bytes, after: bytes) -> bytes:
        head, _, body = message.partition(b"\n\n")
        part = b"\n%b\nContent-Type: message/rfc822\n\nReturn" % boundary
        body = body.replace(before + b"\n\nReturn", after + b"\n" + part, 1)
        return head + b"\nMIME-Version: 1.0\n\n" + boundary + b"\n\n" + body + b"\n" + boundary + b"--\n"

    inner = wrap(
        bounce(b"<r@mail.test>:\nNo."),
        b"--- Below this line is a copy of the message.",
        b"--- Enclosed is a copy of the message.",
    )
    outer = wrap(
        double(inner), b"--- Below this line is the original bounce.", b"--- Enclosed is the original bounce."
    )
    assert parsed(outer) == (b"s@mail.test", b"No way. (#5.1.2)", [(b"r@mail.test", b"No.")])


def test_another_systems_bounce() -> None:
    """Of a bounce that came from elsewhere, the fields of RFC 3464 tell recipients and reasons; the sender is whom it was for."""
    report = (
        b"From: MAILER-DAEMON@mx.example\nContent-Type: multipart/report\n\nSorry.\n\n--x\n"
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        b"Final-Recipient: rfc822; r@one.example\nAction: failed\nDiagnostic-Code: smtp; 550 5.1.1\n  unknown user\n\n"
        b"Final-Recipient: rfc822; r@two.example\n\n--x--\n"
    )
    assert parsed(double(report)) == (
        b"s@mail.test",
        b"No way. (#5.1.2)",
        [(b"r@one.example", b"550 5.1.1  unknown user"), (b"r@two.example", b"")],
    )
    assert parsed(double(b"Subject: hm\n\nHm.\n"))[2] == []


@pytest.mark.parametrize(
    "message", [b"", b"\n", b"Subject: hello\n\nHello.\n", bounce(b"<r@mail.test>:\nNo.")]
)
def test_other_mail(message: bytes) -> None:
    """What is no double bounce is not taken for one, not even a bounce."""
    assert parse(message) is None


def test_a_message_that_is_cut() -> None:
    """However early the message is cut, there is no error, and what was understood does not change any more."""
    message = double(bounce(b"<r@mail.test>:\nNo.", b"<t@mail.test>:\nNo."))
    counts = [
        len(found.failures) if (found := parse(message[:end])) else -1 for end in range(len(message) + 1)
    ]
    assert counts == sorted(counts)
    assert counts[-1] == 2


@given(st.binary(max_size=2000), st.binary(max_size=200))
def test_no_bytes_are_an_error(noise: bytes, address: bytes) -> None:
    """Any bytes give a double bounce or none, and a line that is read back."""
    for message in (
        noise,
        double(noise),
        double(bounce(b"<%b>:\n%b" % (address.replace(b"\n", b"_"), noise))),
    ):
        found = parse(message)
        for line_of in (record.json_line, record.text_line):
            line = line_of(found, NOW)
            assert line.count(b"\n") == 1
            assert line.endswith(b"\n")
            assert line[:-1].isascii()
            assert line[:-1].decode().isprintable()
            assert len(line) <= MAX_LINE
            assert parse_entry(line[:-1]).double == (found is not None)


@given(
    st.binary(max_size=300),
    st.binary(max_size=400),
    st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=400)), max_size=3),
)
def test_json_is_what_json_reads(sender: bytes, why: bytes, failures: list[tuple[bytes, bytes]]) -> None:
    """The JSON line, which is made by hand, reads as the strings that went in."""
    fields = json.loads(record.json_line(DoubleBounce(sender, why, failures), NOW))
    assert (fields["time"], fields["kind"]) == (NOW, "double")
    assert fields["sender"] == sender.decode("utf-8", "backslashreplace")
    assert fields["failure"] == why.decode("utf-8", "backslashreplace")
    assert fields["recipients"] == [
        {
            "address": address.decode("utf-8", "backslashreplace"),
            "failure": text.decode("utf-8", "backslashreplace"),
        }
        for address, text in failures
    ]


def test_the_text_line() -> None:
    """Time in UTC, sender, recipients, and why the first of them failed; in one line, without a space in an address."""
    found = DoubleBounce(
        b"a b@mail.test", b"x", [(b"r@one.example", b"No.\nNo\x1b way."), (b"t>@two.example", b"z")]
    )
    assert record.text_line(found, NOW) == (
        b"2027-01-15 08:00:00 double bounce: from <a_b@mail.test> to <r@one.example> <t_@two.example>: No./No_ way.\n"
    )
    assert record.text_line(None, NOW) == b"2027-01-15 08:00:00 not a double bounce\n"


def test_the_longest_line_can_be_followed() -> None:
    """With every character escaped, a line stays below what the follower of a log reads."""
    found = DoubleBounce(b"\1" * 9999, b"\1" * 9999, [(b"\xff" * 9999, b"\1" * 9999)] * 99)
    assert len(record.json_line(found, NOW)) < 64 * 1024


# --- the program

DOUBLE = double(bounce(b"<r@one.example>:\nSorry, no mailbox here by that name. (#5.1.1)"))


def deliver(
    *words: str | Path, message: bytes = DOUBLE, **given: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Run the program as qmail-local does."""
    command = [sys.executable, "-m", "qmail_exporter", "record-double-bounce", *map(str, words)]
    return subprocess.run(command, input=message, capture_output=True, check=False, timeout=60, **given)


def test_a_delivery_appends_a_line(tmp_path: Path) -> None:
    """Each delivery exits 0 without a word and adds one line, which others of the group may read."""
    log = tmp_path / "log"
    before = time.time()
    for form in ("json", "text"):
        done = deliver("--file", log, f"--format={form}", umask=0o077)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    entries = [parse_entry(line) for line in log.read_bytes().splitlines()]
    assert [entry.failures[0].address for entry in entries] == [b"r@one.example"] * 2
    assert all(before - 1 <= entry.time <= time.time() for entry in entries)
    assert log.stat().st_mode & 0o777 == 0o640


def test_other_mail_is_no_error(tmp_path: Path) -> None:
    """What comes to the address and is no double bounce is noted, and the delivery succeeds."""
    assert deliver("--file", tmp_path / "log", message=b"Subject: hello\n\nHello.\n").returncode == 0
    assert not parse_entry((tmp_path / "log").read_bytes()[:-1]).double


@pytest.mark.parametrize(
    "words",
    [(), ("--file",), ("--file", ""), ("--fil", "x"), ("--format", "xml", "--file", "x"), ("--file", "no/x")],
)
def test_trouble_is_temporary(words: tuple[str, ...], tmp_path: Path) -> None:
    """A mistake in the .qmail file, too, keeps the message in the queue: status 111, and one line that says why."""
    done = deliver(*words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (111, b"", 1)
    assert done.stderr.startswith(b"qmail-record-double-bounce: ")


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "device"])
def test_the_log_is_a_regular_file(kind: str, tmp_path: Path) -> None:
    """Anything else in its place is temporary trouble, and left alone."""
    log = Path("/dev/full") if kind == "device" else tmp_path / "log"
    if kind == "directory":
        log.mkdir()
    elif kind == "fifo":
        os.mkfifo(log)
    elif kind == "link":
        log.symlink_to(tmp_path / "other")
    assert deliver("--file", log).returncode == 111
    assert not (tmp_path / "other").exists()


def append_all(log: str, lines: list[bytes]) -> None:
    for each in lines:
        record.append(log, each)


def test_deliveries_at_once_leave_whole_lines(tmp_path: Path) -> None:
    """However many deliver at the same time, each line is whole."""
    log = str(tmp_path / "log")
    lines = [b"%d:" % number + b"x" * 20_000 + b"\n" for number in range(8)]
    threads = [threading.Thread(target=append_all, args=(log, [line] * 20)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    written = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    assert sorted(written) == sorted(lines * 20)


def test_deliveries_while_the_log_is_rotated(tmp_path: Path) -> None:
    """If the log is renamed all the while, each line is in one of the files, once."""
    log, count = str(tmp_path / "log"), 300
    writer = threading.Thread(target=append_all, args=(log, [b"%d\n" % number for number in range(count)]))
    writer.start()
    rotation = 0
    while writer.is_alive():
        # Not while it is empty: a writer that never finds its file where it opened it gives up.
        if os.path.exists(log) and os.path.getsize(log):
            os.rename(log, f"{log}.{rotation}")
            rotation += 1
    writer.join()
    numbers = [int(line) for path in tmp_path.iterdir() for line in path.read_bytes().splitlines()]
    assert sorted(numbers) == list(range(count))


def test_what_a_killed_writer_left_is_ended(tmp_path: Path) -> None:
    """A line without an end does not swallow the next one."""
    log = tmp_path / "log"
    log.write_bytes(b'{"time":1')
    record.append(str(log), b"next\n")
    assert log.read_bytes() == b'{"time":1\nnext\n'


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that fits only in part is taken back, and the delivery is tried again later."""
    log = tmp_path / "log"
    log.write_bytes(b"first\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, line: write(fd, line[: len(line) // 2]))
    monkeypatch.setattr(record, "_read", lambda _: DOUBLE)
    monkeypatch.setattr(sys, "stderr", said := io.StringIO())
    assert record.main(["--file", str(log)]) == 111
    assert "No space left" in said.getvalue()
    assert log.read_bytes() == b"first\n"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help says how it is used."""
    assert record.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: qmail-record-double-bounce --file FILE")


def test_help_of_the_program_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """The manual page and shells show the flags that the program takes."""
    record.main(["--help"])
    said = capsys.readouterr().out
    options = [param for param in record_double_bounce.params if isinstance(param, Option)]
    assert " ".join(" ".join(option.synopsis) for option in options) == "--file FILE --format json|text"
    assert all(" ".join(option.synopsis) in said for option in options)


def test_a_long_message_is_read_in_part(tmp_path: Path) -> None:
    """Of a message of any length only the beginning is read."""
    assert deliver("--file", tmp_path / "log", message=DOUBLE + b"x" * (8 << 20)).returncode == 0
    assert len((tmp_path / "log").read_bytes()) < 1000


_LOADED = "import sys; from qmail_exporter.record import main; print(*sorted(sys.modules)) if not main(sys.argv[1:]) else 0"


def test_it_starts_fast(tmp_path: Path) -> None:
    """A delivery takes less than four times what Python takes to do nothing, because next to nothing is imported for it."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {SOURCE!r}); {_LOADED}", "--file", str(tmp_path / "log")],
        input=DOUBLE, capture_output=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.decode().split())
    assert not loaded & {
        "re",
        "json",
        "typing",
        "click",
        "enum",
        "collections",
        "subprocess",
        "socket",
        "logging",
    }
    took, least = [], []
    for _ in range(10):
        before = _used()
        assert deliver("--file", tmp_path / "log").returncode == 0
        took.append(_used() - before)
        before = _used()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        least.append(_used() - before)
    # It takes twice as much; with click it would be five times.
    assert min(took) < 4 * min(least)


def _used() -> float:
    """Return the processor's seconds of the programs that have ended: those on the wall are of all that the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- counting


def line(*failures: tuple[bytes, bytes], at: float = NOW) -> bytes:
    return record.json_line(DoubleBounce(b"s@mail.test", b"No.", list(failures)), at)[:-1]


def test_counts_by_domain_of_the_recipient() -> None:
    """A double bounce counts once for each domain of its recipients, and once in all."""
    counts = DoubleBounces()
    counts.observe(line((b"a@one.example", b"x"), (b"b@ONE.example", b"x"), (b"c@two.example", b"x")), NOW)
    counts.observe(line((b"d@two.example", b"x")), NOW)
    counts.observe(line(), NOW)
    assert counts.total == 3
    shown = {name: dict(results) for name, results in counts.domains.shown().items() if results}
    assert shown == {"one.example": {"first": 1}, "two.example": {"first": 2}, "(none)": {"first": 1}}
    assert counts.last == NOW


def test_duplicates_are_the_same_recipient_and_reason_soon_after() -> None:
    """Case and details of the report do not count; another reason, another recipient or a later time do."""
    counts = DoubleBounces(window=100)
    full, gone = b"Mailbox full (#5.2.2)", b"Sorry, no mailbox here by that name. (#5.1.1)"
    for number, (address, text, at, duplicate) in enumerate(
        (
            (b"a@mail.test", gone, 0, False),
            (b"A@Mail.test", b"550 5.1.1 user unknown, queue id 4F2A (#5.1.1)", 10, True),
            (b"a@mail.test", full, 20, False),
            (b"b@mail.test", gone, 30, False),
            (b"a@mail.test", gone, 110, True),
            (b"a@mail.test", gone, 211, False),
            (b"a@mail.test", gone, 150, True),  # the clock was set back
            (b"a@mail.test", gone, -9999, False),
        ),
        1,
    ):
        before = counts.duplicates
        counts.observe(line((address, text), at=NOW + at), NOW + 10_000)
        assert (counts.total, counts.duplicates - before) == (number, duplicate)


def test_only_all_of_it_again_is_a_duplicate() -> None:
    """With one recipient that is new, a double bounce is none."""
    counts = DoubleBounces()
    counts.observe(line((b"a@mail.test", b"x")), NOW)
    counts.observe(line((b"a@mail.test", b"x"), (b"b@mail.test", b"x")), NOW)
    assert counts.duplicates == 0
    counts.observe(line((b"b@mail.test", b"x"), (b"a@mail.test", b"x")), NOW)
    assert counts.duplicates == 1


def test_memory_is_bounded() -> None:
    """The oldest recipients are forgotten, and only so many domains have counts of their own."""
    counts = DoubleBounces(seats=2, remembered=10)
    for number in range(100):
        counts.observe(line((b"a@d%d.example" % number, b"x")), NOW)
        counts.elect()
    assert len(counts._seen) == 10
    assert len(counts.domains.seated) <= 2
    assert sum(sum(results.values()) for results in counts.domains.shown().values()) <= counts.total == 100
    counts.observe(line((b"a@d0.example", b"x")), NOW)
    assert counts.duplicates == 0


def test_both_forms_count_alike() -> None:
    """A log in either form, or in both, gives the same counts."""
    counts = DoubleBounces()
    found = DoubleBounce(b"s@mail.test", b"No.", [(b"a@one.example", b"Mailbox full (#5.2.2)")])
    counts.observe(record.json_line(found, NOW)[:-1], NOW)
    counts.observe(record.text_line(found, NOW)[:-1], NOW)
    assert (counts.total, counts.duplicates, counts.unparsed) == (2, 1, 0)
    counts.observe(record.text_line(None, NOW)[:-1], NOW)
    counts.observe(record.json_line(None, NOW)[:-1], NOW)
    assert (counts.total, counts.others) == (2, 2)


def test_a_line_from_the_future_is_of_now() -> None:
    """A time that has not come is not believed."""
    counts = DoubleBounces()
    counts.observe(line((b"a@mail.test", b"x"), at=NOW + 1e9), NOW)
    assert counts.last == NOW


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"{}", b'{"kind":"double"}', b'{"kind":"x","time":1}', b'{"kind":"other","time":NaN}',
     b'{"kind":"other","time":1e999}', b'{"kind":"double","time":1,"sender":1,"recipients":[]}',
     b'{"kind":"double","time":1,"sender":"","recipients":[1]}', b"[" * 100_000, b"{" * 60_000, b"x" * (MAX_LINE + 1),
     b"9999-99-99 99:99:99 double bounce: from <a b> to <c>: x", b"2027-01-15 08:00:00 double bounce"],
)  # fmt: skip
def test_lines_that_are_not_understood(text: bytes) -> None:
    """They are counted, and nothing else is."""
    counts = DoubleBounces()
    counts.observe(text, NOW)
    assert (counts.unparsed, counts.total, counts.others, counts.last) == (1, 0, 0, None)
    with pytest.raises(FormatError):
        parse_entry(text)


@given(st.binary(max_size=300))
def test_no_line_is_an_error(text: bytes) -> None:
    """Any bytes are counted as something."""
    counts = DoubleBounces()
    counts.observe(text, NOW)
    assert counts.unparsed + counts.others + counts.total == 1


def test_an_entry_has_what_was_written() -> None:
    """Sender and failures are those of the message."""
    entry = parse_entry(line((b"a@mail.test", b"No.\nNever.")))
    assert (entry.sender, entry.failures) == (b"s@mail.test", (Failure(b"a@mail.test", b"No.\nNever."),))
