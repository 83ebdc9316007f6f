import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats import FormatError
from qmail_exporter.sources.logs import Batch, Journal, open_log
from qmail_exporter.sources.logs.entry import Entry, parse_entry
from soak.held import open_descriptors

DEADLINE = 20.0

# Written by journalctl 252 for what qmail-send's standard output and native clients sent to a journald.
CURSOR = "s=a8d78b170dd54c96908669ef51030df5;i=7;b=91558413505447aea1ef04eefbee50d4;m=63ebc54d;t=660ed2f4ca090;x=4f68"
RECORDED = (
    b'{"__MONOTONIC_TIMESTAMP":"1676395853","__REALTIME_TIMESTAMP":"1795421677330576","__CURSOR":"'
    + CURSOR.encode()
    + b'","_BOOT_ID":"91558413505447aea1ef04eefbee50d4"%s}'
)

# A stand-in for journalctl(1): it reads a file of entries, a JSON string each, as the journal, and knows the options
# that are used of it. It ends when told to by a file's presence, and notes how it was called.
JOURNALCTL = """
import json, os, sys, time
here = os.path.dirname(os.path.abspath(sys.argv[0]))
def path(name): return os.path.join(here, name)
def option(name):
    return next((a.partition("=")[2] for a in sys.argv[1:] if a.startswith(name + "=")), None)
with open(path("calls"), "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
if os.path.exists(path("fail")):
    sys.exit(open(path("fail")).read())
follow = "--follow" in sys.argv
def entries():
    with open(path("journal")) as file:
        return [json.loads(line) for line in file if line.endswith("\\n")]
def show(number, entry):
    if entry is None:
        return
    fields = {"__CURSOR": "c%06d" % number, "__REALTIME_TIMESTAMP": str((1000 + number) * 10**6), "MESSAGE": entry}
    print(entry["raw"] if isinstance(entry, dict) else json.dumps(fields), flush=True)
shown = entries()
first = 0
if option("--cursor"):
    first = int(option("--cursor")[1:])
elif option("--lines"):
    first = max(0, len(shown) - int(option("--lines")))
at = first
parent = os.getppid()
while True:
    shown = entries()
    for at in range(at, len(shown)):
        show(at, shown[at])
    at = max(at, len(shown))
    if not follow or os.path.exists(path("die")) or os.getppid() != parent:
        break
    time.sleep(0.002)
if os.path.exists(path("half")):
    sys.stdout.write('{"__CURSOR": "c9')
    sys.exit("killed")
"""


class Fake:
    """A journal that the stand-in shows, a clock, and a follower."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        program = path / "journalctl"
        program.write_text(f"#!{sys.executable} -S\n{JOURNALCTL}")
        program.chmod(0o755)
        (path / "journal").touch()
        self.journal = Journal("qmail-send.service", program=str(program), clock=lambda: self.now)

    def add(self, *entries: object) -> None:
        """Append texts to the journal; null is an entry that does not match, `raw` stands for itself."""
        with (self.path / "journal").open("a") as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in entries))

    def backfill(self) -> Batch:
        """Return the whole backfill."""
        whole = Batch([], [])
        for batch in self.journal.backfill():
            extend(whole, batch)
        return whole

    def read(self, count: int) -> Batch:
        """Read until there are `count` lines."""
        whole = Batch([], [])
        self.until(lambda: len(extend(whole, self.journal.read()).lines) >= count)
        return whole

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, which must come true in time."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline
            os.sched_yield()

    def mark(self, name: str, text: str = "") -> None:
        """Tell the stand-in something by a file."""
        (self.path / name).write_text(text)

    def calls(self) -> list[list[str]]:
        """Return the arguments of each call so far."""
        calls = self.path / "calls"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    def die(self) -> None:
        """Let the running journalctl end and the follower notice it."""
        self.mark("die")
        self.until(lambda: self.journal.read().lines == [] and not self.journal.present)
        (self.path / "die").unlink()


def extend(whole: Batch, batch: Batch) -> Batch:
    assert whole.times is not None
    assert batch.times is not None
    assert len(batch.lines) == len(batch.times)
    whole.lines.extend(batch.lines)
    whole.times.extend(batch.times)
    return whole


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    fake = Fake(tmp_path)
    yield fake
    fake.journal.close()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (b',"MESSAGE":"new msg 1"', b"new msg 1"),
        (b',"MESSAGE":[104,105,32,128,255,32,98,121,116,101,115]', b"hi \x80\xff bytes"),
        (b',"MESSAGE":[101,115,99,32,27,91,49,109]', b"esc \x1b[1m"),
        ('","MESSAGE":"ümlaut"'.encode()[1:], "ümlaut".encode()),
        (b',"MESSAGE":"two\\nlines"', b"two\nlines"),
        (b',"MESSAGE":["one","two"]', b"one"),
        (b',"MESSAGE":[[111,110,101],null]', b"one"),
        (b',"MESSAGE":null', None),
        (b',"MESSAGE":[null,"two"]', None),
        (b',"MESSAGE":""', b""),
        (b',"MESSAGE":[]', b""),
        (b',"MESSAGE":"\\ud800"', b"\xed\xa0\x80"),
    ],
)
def test_an_entry_is_read(field: bytes, message: bytes | None) -> None:
    """Each form that journalctl gives a text in is read; the time is in seconds."""
    assert parse_entry(RECORDED % field) == Entry(CURSOR, 1795421677.330576, message)


def test_an_entry_without_a_text_is_none() -> None:
    """An entry that has no MESSAGE at all gives nothing."""
    assert parse_entry(RECORDED % b"") is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"-- No entries --",
        b"[]",
        b"[" * 100_000,
        b'"x"',
        b"{}",
        b'{"__CURSOR":"c","MESSAGE":"x"}',
        b'{"__CURSOR":"c","__REALTIME_TIMESTAMP":"-1","MESSAGE":"x"}',
        b'{"__CURSOR":"c","__REALTIME_TIMESTAMP":"' + b"9" * 21 + b'","MESSAGE":"x"}',
        b'{"__CURSOR":"c","__REALTIME_TIMESTAMP":1,"MESSAGE":"x"}',
        b'{"__CURSOR":"a\\u0000b","__REALTIME_TIMESTAMP":"1","MESSAGE":"x"}',
        b'{"__CURSOR":["c"],"__REALTIME_TIMESTAMP":"1","MESSAGE":"x"}',
        RECORDED % b',"MESSAGE":7',
        RECORDED % b',"MESSAGE":{"a":1}',
        RECORDED % b',"MESSAGE":[256]',
        RECORDED % b',"MESSAGE":[-1]',
        RECORDED % b',"MESSAGE":[1,"x"]',
        RECORDED % b',"MESSAGE":[[["x"]]]',
        b"\xff" + RECORDED % b"",
    ],
)
def test_what_is_no_entry_is_a_format_error(line: bytes) -> None:
    """Anything else is a FormatError, however malicious."""
    with pytest.raises(FormatError):
        parse_entry(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["MESSAGE", "x"]), inner),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={"__CURSOR": st.just("c") | JSON, "__REALTIME_TIMESTAMP": st.just("1") | JSON, "MESSAGE": JSON},
)


@given(st.binary() | (JSON | FIELDS).map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_an_entry_nothing_or_a_format_error(line: bytes) -> None:
    """No bytes raise anything but FormatError, and what is returned has the types that it says."""
    try:
        entry = parse_entry(line)
    except FormatError:
        return
    if entry is not None:
        assert isinstance(entry.cursor, str)
        assert entry.time >= 0
        assert entry.message is None or isinstance(entry.message, bytes)


def test_backfill_then_read(fake: Fake) -> None:
    """The journal's entries come first, each line with its time, then what is added, without one missing or doubled."""
    fake.add("a", [98, 255], None, "c\nd")
    assert fake.backfill() == ([b"a", b"b\xff", b"c", b"d"], [1000.0, 1001.0, 1003.0, 1003.0])
    fake.add("e")
    assert fake.read(1) == ([b"e"], [1004.0])
    fake.add("f", "g")
    assert fake.read(2).lines == [b"f", b"g"]
    assert not fake.journal.losses


def test_what_journalctl_is_asked(fake: Fake) -> None:
    """A unit is asked for without what systemd says about it, in full, and followed from the last entry on."""
    fake.add("a")
    fake.backfill()
    fake.read(0)
    fake.until(lambda: len(fake.calls()) == 2)
    common = ["--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE"]
    unit = ["--unit=qmail-send.service", "_TRANSPORT=stdout", "_TRANSPORT=syslog"]
    assert fake.calls() == [
        [*common, *unit, "--lines=2000000"],
        [*common, *unit, "--follow", "--no-tail", "--cursor=c000000"],
    ]


def test_a_field_may_be_matched_instead_of_a_unit() -> None:
    """`FIELD=VALUE` is given to journalctl as it stands; it can be no option."""
    assert Journal("SYSLOG_IDENTIFIER=qmail")._command[-1] == "SYSLOG_IDENTIFIER=qmail"
    assert Journal("--rotate=x")._command[6] == "--unit=--rotate=x"


def test_an_empty_journal_is_followed_from_its_start(fake: Fake) -> None:
    """If the backfill found nothing, what is there when following begins is new."""
    assert fake.backfill().lines == []
    fake.add("a")
    assert fake.read(1).lines == [b"a"]


def test_reading_without_a_backfill_begins_at_the_end(fake: Fake) -> None:
    """The first read starts behind what is there."""
    fake.add("old")
    assert fake.read(0).lines == []
    fake.until(lambda: len(fake.calls()) == 1)
    assert fake.calls()[0][-1] == "--lines=0"


def test_a_restarted_journalctl_goes_on_behind_the_last_entry(fake: Fake) -> None:
    """When journalctl ends it is started again, and the entry that it then begins with is not given out twice."""
    fake.add("a")
    fake.backfill()
    fake.read(0)
    for number in range(3):
        fake.add(f"before {number}")
        assert fake.read(1).lines == [b"before %d" % number]
        fake.die()
        fake.add(f"meanwhile {number}")
        assert fake.journal.read().lines == []
        assert fake.journal.listen() is None
        fake.now += 1.0
        assert fake.read(1).lines == [b"meanwhile %d" % number]
        assert fake.journal.present


def test_an_entry_that_is_gone_at_the_restart_hides_no_other(fake: Fake) -> None:
    """If the last entry was rotated away, the first one shown after the restart is new and is given out."""
    fake.add("a", "b")
    fake.backfill()
    fake.read(0)
    fake.die()
    (fake.path / "journal").write_text("null\nnull\n")
    fake.add("c")
    fake.now += 1.0
    assert fake.read(1).lines == [b"c"]


def test_the_delay_doubles_and_ends_with_an_entry(fake: Fake) -> None:
    """A journalctl is started after 1, 2, 4 … 60 s without an entry, and after 1 s again once there was one."""
    fake.backfill()
    delays = []
    for _ in range(8):
        fake.now = fake.journal._start_at
        fake.read(0)
        delays.append(fake.journal._start_at - fake.now)
        fake.die()
    assert delays == [2, 4, 8, 16, 32, 60, 60, 60]
    fake.add("a")
    fake.now = fake.journal._start_at
    fake.read(1)
    fake.die()
    fake.now += 60.0
    fake.read(0)
    assert fake.journal._start_at - fake.now == 1.0


def test_an_entry_cut_by_journalctl_s_death_is_no_loss(fake: Fake) -> None:
    """A journalctl that dies after an entry is no error, and half an entry at its end is neither joined nor counted."""
    fake.backfill()
    fake.mark("half")
    fake.add("a")
    assert fake.read(1).lines == [b"a"]
    fake.die()
    fake.add("b")
    fake.now = 100.0
    assert fake.read(1).lines == [b"b"]
    assert not fake.journal.losses


def test_a_journal_that_may_not_be_read(fake: Fake) -> None:
    """The last words of journalctl are in the error, safe to print, with what was followed; later all is well."""
    fake.add("a")
    fake.mark("fail", "Hint: x\nNo journal files were opened\x1b[m due to insufficient permissions.")
    with pytest.raises(
        OSError, match=r"status 1: No journal files were opened\?\[m due to .*journal:qmail-send"
    ):
        fake.backfill()
    assert not fake.journal.present
    (fake.path / "fail").unlink()
    assert fake.backfill().lines == [b"a"]


def test_an_error_while_following_is_raised_once_a_start(fake: Fake) -> None:
    """A journalctl that fails at once raises, then there is silence until it is started again."""
    fake.backfill()
    fake.mark("fail", "no")

    def fails() -> bool:
        try:
            fake.journal.read()
        except OSError:
            return True
        return False

    fake.until(fails)
    assert not fails()
    fake.now += 100.0
    fake.until(fails)


def test_journalctl_is_not_installed() -> None:
    """The error names the program, and comes once for each attempt to start it."""
    now = 0.0
    journal = Journal("x.service", program="/nonexistent/journalctl", clock=lambda: now)
    with pytest.raises(FileNotFoundError):
        list(journal.backfill())
    now = 1.0
    before = open_descriptors()
    with pytest.raises(FileNotFoundError) as caught:
        journal.read()
    assert caught.value.filename == "/nonexistent/journalctl"
    assert journal.read() == ([], [])
    now = 3.0
    with pytest.raises(FileNotFoundError):
        journal.read()
    assert open_descriptors() == before


def test_what_cannot_be_given_out_is_counted(fake: Fake) -> None:
    """Texts that are too long or were left out, and output that is no entry, are counted by kind."""
    fake.add(
        "x" * 65536, "x" * 65537, {"raw": "-- Boot --"}, {"raw": RECORDED.decode() % ',"MESSAGE":null'}, "end"
    )
    fake.add({"raw": "y" * 500_000}, "more")
    assert [len(line) for line in fake.backfill().lines] == [65536, 3, 4]
    assert fake.journal.losses == {"long_line": 3, "malformed": 1}


def test_reading_ends_at_its_limit(fake: Fake) -> None:
    """A read takes no more bytes than its limit, says that it is behind, and what waits is known."""
    fake.backfill()
    fake.add(*["x" * 100] * 100)
    fake.read(0)
    fake.until(lambda: fake.journal.lag_bytes() > 2000)
    assert len(fake.journal.read(1000).lines) < 10
    assert fake.journal.behind
    assert fake.read(90)
    assert not fake.journal.behind


def test_nothing_is_read_during_a_backfill(fake: Fake) -> None:
    """`read` gives nothing between the steps of a backfill; a closed one ends journalctl."""
    fake.add(*["x"] * 5000)
    backfill = fake.journal.backfill()
    next(backfill)
    assert fake.journal.read() == ([], [])
    backfill.close()  # type: ignore[attr-defined]
    assert not fake.journal.present


def test_tells_of_news_until_it_is_closed(fake: Fake) -> None:
    """What it gives to listen to is readable when there is an entry, and when journalctl has ended, whatever became of its pipe."""

    def add() -> None:
        fake.add("entry")

    fake.add("first")
    fake.backfill()
    fake.add("second")
    fake.read(1)
    for act in (add, fake.journal.close):
        bell = fake.journal.listen()
        assert bell is not None
        poll = select.poll()
        poll.register(bell.fd, select.POLLIN)
        assert not poll.poll(0)
        act()
        assert poll.poll(DEADLINE * 1000)
        bell.close()
        fake.journal.read()


def test_close_leaves_nothing_behind(fake: Fake) -> None:
    """Closing ends journalctl and closes its pipes."""
    before = open_descriptors()
    fake.read(0)
    assert fake.journal._child
    process = fake.journal._child._process
    fake.journal.close()
    assert process.returncode is not None
    assert fake.journal.listen() is None
    assert fake.journal.lag_bytes() == 0
    assert open_descriptors() == before


@pytest.mark.parametrize("spec", ["", "journal:", "a\0b", "journal:a\0b"])
def test_a_log_must_be_named(spec: str) -> None:
    """A specification that names nothing is a ValueError."""
    with pytest.raises(ValueError, match="must be"):
        open_log(spec)


def test_specifications() -> None:
    """`journal:` names a part of the journal, anything else a path; nothing is opened yet."""
    assert open_log("journal:qmail-send.service").path == "journal:qmail-send.service"
    assert open_log("/nonexistent/log").path == "/nonexistent/log"
