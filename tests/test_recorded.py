"""A recorded qmail: what the model holds of each round must be what qmail's own tools printed, and a plain count of files and lines."""

import calendar
import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from qmail_exporter.demo.multilog import Style, stamped
from qmail_exporter.formats.envelope import Sender
from qmail_exporter.formats.log import Record, parse
from qmail_exporter.formats.prefix import Prefixes
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.formats.tcpto import parse_tcpto
from qmail_exporter.queue import Flow, Queue
from qmail_exporter.sources.scan import Tree
from unpack import unpack

RECORDED = Path(__file__).parent / "data" / "recorded"
ROUNDS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())
LOGS = [RECORDED / name / "log" for name in ROUNDS] + [RECORDED / "final.log"]


# --- the recordings, read plainly


class Entry(NamedTuple):
    """A line of the log: its time, and its text as words."""

    time: float
    text: bytes
    words: list[bytes]


def entries(through: str | None = None) -> list[Entry]:
    """The lines of all rounds, or of those up to one."""
    found = []
    for path in LOGS:
        for line in path.read_bytes().splitlines():
            stamp, text = line.split(b" ", 1)
            seconds, nanoseconds = int(stamp[9:17], 16), int(stamp[17:], 16)
            found.append(Entry(seconds - 10 + nanoseconds / 1e9, text, text.split()))
        if path.parent.name == through:
            break
    return found


class File(NamedTuple):
    """A file of the queue: its content and mtime."""

    content: bytes
    mtime: float


def files(root: Path, area: str) -> dict[int, File]:
    """The files of one area of a restored queue, by message number."""
    return {
        int(path.name): File(path.read_bytes(), path.stat().st_mtime)
        for path in (root / area).rglob("*")
        if path.is_file()
    }


def recipients(content: bytes) -> list[tuple[str, bytes]]:
    """The records of a channel's file: kind and address."""
    return [(chr(record[0]), record[1:]) for record in content.split(b"\0")[:-1]]


@pytest.fixture(params=ROUNDS)
def round_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(round_name: str, tmp_path: Path) -> Path:
    """The queue as it was at the end of the round."""
    unpack(RECORDED / round_name / "queue.tar.gz", tmp_path)
    return tmp_path / "queue"


@pytest.fixture
def queue(root: Path) -> Queue:
    """The model of that queue, scanned."""
    model = Queue()
    tree = Tree(str(root))
    for step in tree.scan(model.__contains__):
        for msg, message in step.found:
            assert model.apply(msg, message)
    assert not tree.broken
    tree.close()
    return model


def told(round_name: str, name: str) -> str:
    """What a tool of qmail printed at the end of the round."""
    return (RECORDED / round_name / name).read_text()


# --- the queue


class Listed(NamedTuple):
    """A message as qmail-qread lists it."""

    birth: int
    msg: int
    size: int
    sender: str
    bouncing: bool
    lines: list[tuple[bool, str, str]]  # done, channel, address


def qread(text: str) -> list[Listed]:
    """The messages that qmail-qread listed."""
    found: list[Listed] = []
    for line in text.splitlines():
        if head := re.fullmatch(r"(.{20,21}) GMT  #(\d+)  (\d+)  <(.*)> ( bouncing)?", line):
            birth = calendar.timegm(time.strptime(head[1], "%d %b %Y %H:%M:%S"))
            found.append(Listed(birth, int(head[2]), int(head[3]), head[4], bool(head[5]), []))
        else:
            done, channel, address = line.split("\t")
            assert done in ("", "  done")
            found[-1].lines.append((bool(done), channel, address))
    return found


def test_queue_is_what_qread_lists(round_name: str, queue: Queue) -> None:
    """Messages, sizes, ages, senders, bouncing messages and recipients are those that qmail-qread lists."""
    listed = qread(told(round_name, "qread.txt"))
    sums = queue.sums
    assert sorted(queue) == sorted(message.msg for message in listed)
    assert sums.bytes == sum(message.size for message in listed)
    assert sums.failed == sum(message.bouncing for message in listed)
    assert sums.senders[Sender.BOUNCE] == sum(message.sender == "" for message in listed)
    assert sums.senders[Sender.DOUBLE] == sum(message.sender == "#@[]" for message in listed)
    assert sum(sums.senders) == len(listed)
    for number, channel in enumerate(sums.channels):
        lines = [done for message in listed for done, name, _ in message.lines if name == channel]
        assert (sums.pending[number], sums.done[number]) == (lines.count(False), lines.count(True))
    assert sums.domains.pending == sum(
        not done for message in listed for done, channel, _ in message.lines if channel == "remote"
    )


def test_ages_are_what_qread_lists(round_name: str, queue: Queue) -> None:
    """At each moment, as many messages are that old as qmail-qread's dates say, for mail and for bounces."""
    listed = qread(told(round_name, "qread.txt"))
    for bounce, births in enumerate(queue.sums.births):
        dates = [message.birth for message in listed if (message.sender in ("", "#@[]")) == bool(bounce)]
        assert (births.total, births.sum, births.first()) == (
            len(dates),
            sum(dates),
            min(dates, default=None),
        )
        for moment in {date + step for date in dates for step in (-1, 0, 1)}:
            assert births.count(moment) == sum(date <= moment for date in dates)


def test_queue_is_what_qstat_counts(round_name: str, queue: Queue) -> None:
    """Messages in queue, and those not yet preprocessed, are qmail-qstat's numbers."""
    messages, todo = re.findall(r": (\d+)", told(round_name, "qstat.txt"))
    assert (len(queue), queue.sums.todo) == (int(messages), int(todo))


def test_hosts_are_what_tcpto_lists(round_name: str) -> None:
    """The hosts that timed out are those that qmail-tcpto lists, with their counts and the age of the last timeout."""
    taken_at = json.loads(told(round_name, "meta.json"))["taken_at"]
    lines = told(round_name, "tcpto.txt").splitlines()
    hosts = parse_tcpto((RECORDED / round_name / "tcpto.bin").read_bytes()).hosts
    assert len(hosts) == len(lines)
    for host, line in zip(hosts, lines, strict=True):
        found = re.fullmatch(r"(\S+) timed out (\d+) seconds ago; # recent timeouts: (\d+)", line)
        assert found is not None
        assert (host.address, host.timeouts) == (found[1], int(found[3]))
        assert abs(taken_at - host.last - int(found[2])) <= 1


def test_arrivals_are_those_of_mess(root: Path, queue: Queue) -> None:
    """When a message was queued is the mtime of its `mess` file, whatever became of the age that qmail sees."""
    arrivals = {msg: int(file.mtime) for msg, file in files(root, "mess").items()}
    assert queue.sums.arrivals.total == len(queue)
    assert queue.sums.arrivals.sum == sum(arrivals.values())
    assert queue.sums.unqueued.total == 0
    for msg, moment in arrivals.items():
        assert int(queue.arrival(msg) or 0) == moment


def test_removing_what_was_scanned_leaves_nothing(queue: Queue) -> None:
    """When every message has gone, every sum is zero."""
    for msg in list(queue):
        assert queue.apply(msg, None)
    sums = queue.sums
    assert len(queue) == 0
    assert (sums.bytes, sums.failed, sums.todo, *sums.senders) == (0, 0, 0, 0, 0, 0)
    assert [*sums.pending, *sums.done, *(due.total for due in sums.due)] == [0] * 3 * len(sums.channels)
    assert (len(sums.domains), sums.domains.pending) == (0, 0)


# --- the log


def replay(flow: Flow, lines: list[bytes]) -> list[Record]:
    """Give a log's lines to the model as the exporter does; return their records."""
    records = [parse(text, moment) for text, moment in Prefixes().strip(lines, None, 0.0)]
    flow.observe(records)
    return records


def log_lines(through: str | None = None) -> list[bytes]:
    found: list[bytes] = []
    for path in LOGS:
        found += path.read_bytes().splitlines()
        if path.parent.name == through:
            break
    return found


def log_form(address: bytes) -> bytes:
    """An address as qmail-send logs it."""
    return bytes(47 if c == 10 else c if 33 <= c <= 126 and c != 37 else 95 for c in address)


WHY = {
    b"Sorry,_I_wasn't_able_to_establish_an_SMTP_connection": "connect",
    b"_but_connection_died._": "connection_died",
    b"_but_greeting_failed./Remote_host_said:_554_5.7.1_No_SMTP": "greeting",
    b"_but_my_name_was_rejected./Remote_host_said:_451_4.3.0": "greeting",
    b"Remote_host_said:_421_4.3.2_Service_not_available,_too_many_connections": "rate_limit",
    b"Remote_host_said:_451_4.7.1_Greylisted": "greylist",
    b"Remote_host_said:_452_4.2.2_Mailbox_full": "mailbox_full",
    b"Remote_host_said:_451_4.1.8_Sender_domain_does_not_resolve": "policy",
    b"Remote_host_said:_452_4.3.1_Insufficient_system_storage": "system",
    b"Remote_host_said:_451_4.3.0_Temporary_failure_on_DATA": "system",
}
"""Why the deliveries to remote hosts were deferred: all that the recorded hosts said, judged by hand."""


def why(report: bytes) -> str:
    """The reason of a remote deferral, by `WHY` alone."""
    (found,) = {name for text, name in WHY.items() if text in report}
    return found


def outcomes(round_name: str) -> dict[tuple[int, bytes, bytes], str]:
    """The reason of the last deferral of each message, channel and recipient, where nothing came after it."""
    opened: dict[bytes, tuple[int, bytes, bytes]] = {}
    last: dict[tuple[int, bytes, bytes], str] = {}
    for entry in entries(round_name):
        words = entry.words
        if entry.text.startswith(b"new msg "):
            for key in [key for key in last if key[0] == int(words[2])]:
                del last[key]
        elif entry.text.startswith(b"starting delivery "):
            opened[words[2].rstrip(b":")] = (int(words[4]), words[6], b" ".join(words[7:]))
        elif entry.text.startswith(b"delivery "):
            key = opened.pop(words[1].rstrip(b":"))
            if words[2] == b"deferral:":
                last[key] = why(b"".join(words[3:])) if key[1] == b"remote" else "local"
            else:
                last.pop(key, None)
    return last


def expected_deferrals(round_name: str, root: Path) -> Counter[tuple[str, str]]:
    """Deferred recipients by domain and reason: those in the files to do whose last delivery was deferred."""
    last = outcomes(round_name)
    return Counter(
        (address.rpartition(b"@")[2].decode("ascii").lower().rstrip(".") or "(none)", last[key])
        for msg, file in files(root, "remote").items()
        for kind, address in recipients(file.content)
        if kind == "T" and (key := (msg, b"remote", log_form(address))) in last
    )


def test_deferrals_are_those_of_files_and_log(round_name: str, root: Path, queue: Queue) -> None:
    """After the scan and the log so far, who is deferred and why is what files and log say together."""
    flow = Flow(queue)
    with flow.recalling():
        replay(flow, log_lines(round_name))
    queue.settle()
    expected = expected_deferrals(round_name, root)
    shown = {domain.name: domain.deferred for domain in queue.sums.domains.shown()}
    assert len(shown) == len(queue.sums.domains)
    found = Counter(
        {
            (name, REASONS[number]): count
            for name, reasons in shown.items()
            for number, count in (reasons or {}).items()
        }
    )
    assert found == expected
    total = Counter({REASONS[number]: n for number, n in queue.sums.domains.deferred.items()})
    assert total == Counter(name for _, name in expected.elements())
    if round_name != ROUNDS[0]:
        assert sum(expected.values()) > 0


def test_oldest_deferred_are_those_of_files_and_log(round_name: str, root: Path, queue: Queue) -> None:
    """The oldest deferred message of each domain has the earliest `info` mtime among its deferred ones."""
    flow = Flow(queue)
    replay(flow, log_lines(round_name))
    queue.settle()
    last, births = outcomes(round_name), files(root, "info")
    oldest: dict[str, float] = {}
    for msg, file in files(root, "remote").items():
        for kind, address in recipients(file.content):
            if kind == "T" and (msg, b"remote", log_form(address)) in last:
                name = address.rpartition(b"@")[2].decode().lower().rstrip(".") or "(none)"
                oldest[name] = min(oldest.get(name, 1e18), int(births[msg].mtime))
    shown = queue.sums.domains.shown()
    assert {d.name: d.births.first() for d in shown if d.births is not None} == oldest


def test_counts_are_those_of_grep() -> None:
    """Every counter that the whole log makes is the number of lines that say so."""
    flow = Flow(Queue())
    replay(flow, log_lines())
    every, traffic = entries(), flow.traffic
    texts = [entry.text for entry in every]

    def count(pattern: bytes) -> int:
        return sum(re.match(pattern, text) is not None for text in texts)

    assert traffic.messages == count(rb"new msg")
    assert traffic.messages_ended == count(rb"end msg")
    assert traffic.message_bytes == sum(int(e.words[4]) for e in every if e.text.startswith(b"info msg"))
    for channel in ("local", "remote"):
        assert traffic.started[channel] == count(rb"starting delivery .* to %b " % channel.encode())
        results = [n for (name, _), n in traffic.results.items() if name == channel]
        assert sum(results) == traffic.started[channel]
    for result in ("success", "failure", "deferral"):
        number = count(rb"delivery \d+: %b: " % result.encode())
        assert sum(n for (_, name), n in traffic.results.items() if name == result) == number > 0
        problems = sum(n for (_, name, _), n in traffic.problems.items() if name == result)
        assert problems == (0 if result == "success" else number)
        assert sum(sum(h.counts) for (_, name), h in traffic.durations.items() if name == result) == number
    assert sum(traffic.bounced.values()) == count(rb"delivery \d+: failure: ")
    assert sum(traffic.domains.other.values()) + sum(
        sum(counts.values()) for counts in traffic.domains.seated.values()
    ) == count(rb"starting delivery .* to remote ")
    assert sum(traffic.lines.values()) == len(texts)
    assert traffic.lines["status"] + traffic.lines["exiting"] == count(rb"status: ")
    assert (traffic.restarts, traffic.forgotten, len(flow.open)) == (1, 0, 0)
    assert not traffic.complaints


def test_reasons_of_deferrals_are_those_of_grep() -> None:
    """Every remote deferral of the recordings counts for the reason that what the host said was given by hand."""
    flow = Flow(Queue())
    replay(flow, log_lines())
    counted = {
        name: n
        for (channel, kind, name), n in flow.traffic.problems.items()
        if (channel, kind) == ("remote", "deferral")
    }
    remote = [
        b"".join(e.words[3:])
        for e in entries()
        if e.text.startswith(b"delivery ") and e.words[2] == b"deferral:" and len(e.words) > 3
    ]
    assert counted == Counter(map(why, remote))
    assert set(counted) == set(WHY.values())


def test_bounces_are_those_that_were_preprocessed() -> None:
    """A bounce counts when its `info` line comes: one sent by qmail-send, by the process number, with a bounce's sender."""
    flow = Flow(Queue())
    replay(flow, log_lines())
    qps = {entry.words[4] for entry in entries() if entry.text.startswith(b"bounce msg ")}
    senders = Counter(
        entry.words[6] for entry in entries() if entry.text.startswith(b"info msg ") and entry.words[8] in qps
    )
    assert flow.traffic.bounces["single"] == senders[b"<>"] > 0
    assert flow.traffic.bounces["double"] == senders[b"<#@[]>"] > 0


def test_queue_times_are_those_between_new_and_end() -> None:
    """Each message's time in the queue is that between its `new` and its `end` line."""
    flow = Flow(Queue())
    replay(flow, log_lines())
    began: dict[bytes, float] = {}
    times = []
    for entry in entries():
        if entry.text.startswith(b"new msg "):
            began[entry.words[2]] = entry.time
        elif entry.text.startswith(b"end msg ") and entry.words[2] in began:
            times.append(entry.time - began.pop(entry.words[2]))
    assert sum(flow.traffic.queue_time.counts) == len(times) > 100
    assert flow.traffic.queue_time.sum == pytest.approx(sum(times), abs=1e-3)


@pytest.mark.parametrize(
    ("style", "exact"), [("multilog", 1e-6), ("svlogd", 1e-5), ("syslog", 1e-6), ("iso", 1e-6)]
)
def test_every_style_tells_the_same(style: Style, exact: float) -> None:
    """The same lines with another logger's prefix, cut up by splogger where long, give the same records."""
    plain = replay(Flow(Queue()), log_lines())
    written = [line for e in entries() for line in stamped(style, e.time, e.text)]
    prefixes = Prefixes()
    stripped = list(prefixes.strip([line[:-1] for line in written], None, 0.0))
    assert prefixes.foreign == 0
    assert [parse(text, 0.0) for text, _ in stripped] == [record._replace(time=0.0) for record in plain]
    for record, (_, moment) in zip(plain, stripped, strict=True):
        assert moment == pytest.approx(record.time, abs=exact + 1e-6)


def test_lines_without_prefix_have_the_time_of_their_source() -> None:
    """Lines without a prefix, as the journal has them, give the same records with the times that came beside them."""
    plain = replay(Flow(Queue()), log_lines())
    times = [entry.time for entry in entries()]
    stripped = Prefixes().strip([entry.text for entry in entries()], times, 0.0)
    assert [parse(text, moment) for text, moment in stripped] == [
        record._replace(time=moment) for record, moment in zip(plain, times, strict=True)
    ]


def test_mtimes_were_restored(root: Path) -> None:
    """The archive's mtimes are on the files, or the tests above would compare nothing."""
    assert all(
        os.stat(path).st_mtime < 1_795_400_000 for path in (root / "mess").rglob("*") if path.is_file()
    )
