import grp
import json
import os
import pwd
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.commands import queue as queue_command
from qmail_exporter.formats.retry import next_attempt
from rig import Rig
from stage import Command, Done, in_terminal
from unpack import unpack

MakeRig = Callable[..., Rig]
RECORDED = Path(__file__).parents[1] / "data" / "recorded"
ROUNDS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())
SOURCE = str(Path(queue_command.__file__).parents[2])
_HEAD = re.compile(rb"(?m)^(?=\d)")


def listed(command: Command, rig: Rig, *words: object) -> Done:
    """Run `queue` on a simulated qmail."""
    return command("queue", "--qmail.home", rig.home, "--qmail.log", rig.home / "log", *words)


def by_id(done: Done) -> dict[int, dict[str, Any]]:
    assert done.code == 0, done.err
    return {each["id"]: each for each in done.objects}


# --- as qmail-qread


@pytest.fixture(params=ROUNDS)
def restored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A recorded queue, with what qmail-qread printed of it beside."""
    unpack(RECORDED / request.param / "queue.tar.gz", tmp_path)
    (tmp_path / "qread.txt").write_bytes((RECORDED / request.param / "qread.txt").read_bytes())
    return tmp_path


def test_qread_is_what_qmail_qread_printed(restored: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """On each recorded queue --qread prints, message for message and byte for byte, what qmail-qread did."""
    argv = [sys.executable, "-m", "qmail_exporter", "queue", "--qread", f"--qmail.queue={restored}/queue"]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Counter(_HEAD.split(done.stdout)) == Counter(_HEAD.split((restored / "qread.txt").read_bytes()))
    assert capfdbinary.readouterr() == (b"", b"")


def test_recordings_hold_all_that_qmail_qread_shows() -> None:
    """There are twelve recorded rounds, none of an empty queue, with bouncing messages and recipients that are done."""
    told = [(RECORDED / each / "qread.txt").read_bytes() for each in ROUNDS]
    assert len(told) == 12
    assert all(b" GMT  #" in each and b"\tremote\t" in each for each in told)
    assert all(
        any(word in each for each in told) for word in (b"\tlocal\t", b"  done\t", b" bouncing\n", b"<>")
    )


def test_qread_tells_on_stdout_what_it_cannot_read(
    rig: MakeRig, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A message whose mess file has gone is a warning among the others, and an unreadable queue is fatal, as there."""
    made = rig()
    msg = made.send(b"defer@a.example")
    made.qmail.pump()
    made.qmail.path("mess", msg).unlink()
    argv = [sys.executable, "-m", "qmail_exporter", "queue", "--qread", f"--qmail.queue={made.queue}"]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.stdout == b"warning: trouble with #%d: file does not exist\n" % msg
    assert done.returncode == 0
    done = subprocess.run(
        [*argv[:-1], f"--qmail.queue={made.home}/nothing"], capture_output=True, check=False
    )
    assert done.returncode == 111
    assert done.stdout.startswith(b"fatal: unable to opendir ")
    assert capfdbinary.readouterr() == (b"", b"")


@pytest.mark.parametrize(
    "more", ["--json", "--sort=age", "--top=domains", "--deferred", "--id=5", "--limit=1"]
)
def test_qread_goes_alone(command: Command, tmp_path: Path, more: str) -> None:
    """qmail-qread has no choices, so --qread takes none."""
    assert command("queue", "--qread", more, "--qmail.queue", tmp_path).code == 2


# --- next attempts


def due(rig: Rig) -> dict[tuple[int, str], int]:
    """When the simulated qmail-send will try which message in which channel."""
    assert rig.qmail._send is not None
    schedule = rig.qmail._send.schedule.due
    return {(msg, channel): moment for channel, heap in schedule.items() for moment, msg in heap}


def shown(done: Done) -> dict[tuple[int, str], int | None]:
    """The next attempts that `queue --json` shows."""
    assert done.code == 0, done.err
    return {
        (each["id"], recipient["channel"]): recipient["next_attempt"]
        for each in done.objects
        for recipient in each["recipients"]
        if recipient["channel"] and not recipient["done"]
    }


BOXES = [
    b"defer@a.example",
    b"full@b.example",
    b"hole@c.example",
    b"ok@d.example",
    b"fail@e.example",
    b"defer@mail.test",
]


@pytest.mark.parametrize("seed", range(12))
def test_next_attempts_are_those_of_qmail_send(rig: MakeRig, command: Command, seed: int) -> None:
    """After attempts, starts, exits, kills and SIGALRM, every next attempt shown is the one in qmail-send's own schedule."""
    chance = random.Random(seed)
    made = rig()
    for _ in range(25):
        way = chance.random()
        if way < 0.6:
            made.send(*chance.choices(BOXES, k=chance.choice((1, 1, 2, 5))))
        elif way < 0.7 and made.qmail.running:
            made.qmail.stop()
            made.qmail.pump()
            made.clock.now += chance.randint(1, 5000)
        elif way < 0.75:
            made.qmail.kill()
        elif way < 0.8:
            made.qmail.alarm()
        if not made.qmail.running:
            made.qmail.start()
        made.qmail.run_until(made.clock.now + chance.choice((1, 60, 700, 5000)))
    expected = due(made)
    assert len(expected) > 3
    assert shown(listed(command, made, "--json")) == expected


@pytest.fixture
def aged(rig: MakeRig) -> Callable[..., Rig]:
    """Make a simulated qmail whose clock is hours behind the kernel's, which gives files their ctime."""

    def make() -> Rig:
        made = rig(start=False)
        made.clock.now = time.time() - 4 * 3600
        made.qmail.start()
        return made

    return make


def test_next_attempts_of_touched_messages(aged: MakeRig, command: Command) -> None:
    """A touch leaves the next attempt as it is; the attempt after that goes by the new age."""
    made = aged()
    messages = [made.send(b"defer@a.example") for _ in range(4)]
    messages.append(made.send(b"defer@a.example", b"full@b.example", b"ok@c.example"))
    made.qmail.run_until(made.clock.now + 3 * 3600)
    before = due(made)
    for msg, age in zip(messages, (86400, 0, 3600, 8 * 86400), strict=False):
        made.qmail.touch(msg, made.clock.now - age)
    assert shown(listed(command, made, "--json")) == due(made) == before
    made.clock.now = time.time() + 5
    made.qmail.run_until(made.clock.now + 5 * 3600)
    after = due(made)
    assert after.keys() <= before.keys()
    assert all(after[key] != before[key] for key in after)
    assert shown(listed(command, made, "--json")) == after


def test_next_attempt_is_unknown_without_log(rig: MakeRig, command: Command) -> None:
    """Without the log no attempt, reason or next attempt is shown as anything but unknown."""
    made = rig()
    msg = made.send(b"defer@a.example")
    made.qmail.run_until(made.clock.now + 100)
    found = by_id(listed(command, made, "--json", "--no-log"))[msg]
    assert (found["next_attempt"], found["attempts"], found["log_complete"]) == (None, None, False)
    plain = listed(command, made, "--no-log").out.splitlines()[1].split("\t")
    assert [plain[6], plain[7], plain[9]] == ["?", "?", "?"]


# --- attempts and reasons


def test_attempts_are_those_of_the_simulator(rig: MakeRig, command: Command) -> None:
    """Attempts so far and the last reason are what the simulated qmail did, for each recipient."""
    made = rig()
    msg = made.send(b"defer@a.example", b"ok@b.example", b"full@c.example")
    made.qmail.run_until(made.clock.now + 3000)  # at 0, 400, 1600
    found = by_id(listed(command, made, "--json"))[msg]
    told = {r["address"]: (r["done"], r["attempts"], r["reason"]) for r in found["recipients"]}
    assert told == {
        "defer@a.example": (False, 3, "greylist"),
        "ok@b.example": (True, None, None),
        "full@c.example": (False, 3, "mailbox_full"),
    }
    assert (found["attempts"], found["state"], found["expires"]) == (3, "deferred", found["birth"] + 604800)


def test_attempts_older_than_the_log_are_at_least(rig: MakeRig, command: Command) -> None:
    """Of a message older than the log only a lower bound is shown, marked as one."""
    made = rig()
    msg = made.send(b"defer@a.example")
    made.qmail.run_until(made.clock.now + 500)
    (made.home / "log" / "current").write_bytes(b"")
    made.qmail.run_until(made.clock.now + 3000)
    found = by_id(listed(command, made, "--json"))[msg]
    assert (found["attempts"], found["attempts_at_least"], found["log_complete"]) == (None, 1, False)
    assert listed(command, made).out.splitlines()[1].split("\t")[7] == "1+"


def test_delivery_under_way_is_shown(rig: MakeRig, command: Command) -> None:
    """A recipient whose delivery has not ended is being tried."""
    made = rig()
    msg = made.send(b"defer-500@a.example")
    made.qmail.run_until(made.clock.now + 10)
    found = by_id(listed(command, made, "--json"))[msg]
    assert (found["state"], found["recipients"][0]["trying"]) == ("trying", True)


def test_reused_number_has_no_past(rig: MakeRig, command: Command) -> None:
    """What the log told of an earlier message of the same number does not count for a new one."""
    made = rig(reuse_numbers=True)
    first = made.send(b"defer@a.example")
    made.qmail.run_until(made.clock.now + 500)
    made.qmail.touch(first, made.clock.now - 10**6)
    made.qmail.alarm()
    made.qmail.run_until(made.clock.now + 500)
    numbers = [made.send(b"defer@z.example") for _ in range(3)]
    assert first in numbers
    found = by_id(listed(command, made, "--json"))[first]
    assert (found["state"], found["attempts"]) == ("todo", 0)


# --- filters


@pytest.fixture
def busy(rig: MakeRig) -> tuple[Rig, dict[str, int]]:
    made = rig()
    ids = {
        "a": made.send(b"defer@a.example"),
        "sub": made.send(b"full@mx.a.example", b"ok@b.example", sender=b"X@Other.test"),
        "bounce": made.send(b"hole@c.example", sender=b""),
        "double": made.send(b"defer@mail.test", sender=b"#@[]"),
    }
    made.qmail.run_until(made.clock.now + 500)
    ids["trying"] = made.send(b"defer-999@a.example")
    made.qmail.run_until(made.clock.now + 1)
    ids["todo"] = made.send(b"x@d.example")
    return made, ids


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "a sub bounce double trying todo"),
        ("--domain a.example", "a trying"),
        ("--domain A.example. --domain c.example", "a bounce trying"),
        ("--domain .a.example", "sub"),
        ("--domain b.example", ""),
        ("--sender a@mail.test", "a trying todo"),
        ("--sender @other.TEST", "sub"),
        ("--sender <>", "bounce"),
        ("--channel local", "double"),
        ("--channel remote", "a sub bounce trying"),
        ("--deferred", "a sub bounce double"),
        ("--deferred --domain a.example", "a"),
        ("--bounces", "bounce double"),
    ],
)
def test_filters(busy: tuple[Rig, dict[str, int]], command: Command, words: str, expected: str) -> None:
    """Each filter lists what its help says, and several together what fits all."""
    made, ids = busy
    found = by_id(listed(command, made, "--json", *words.split()))
    assert set(found) == {ids[name] for name in expected.split()}


def test_channel_that_is_not_there(rig: MakeRig, command: Command) -> None:
    """A channel that the queue does not have is a mistake, and no empty list."""
    made = rig()
    made.send(b"defer@a.example")
    made.qmail.pump()
    done = listed(command, made, "--channel", "remte")
    assert (done.code, done.out) == (1, "")
    assert done.err == "qmail-exporter queue: default: there is no channel 'remte', only local, remote\n"


def test_older_than(rig: MakeRig, command: Command) -> None:
    """--older-than goes by the age that qmail sees."""
    made = rig()
    now = made.clock.now = time.time()
    old, touched, new = (made.send(b"defer@a.example", age=age) for age in (7200, 7200, 60))
    made.qmail.pump()
    made.qmail.touch(touched, now)
    assert set(by_id(listed(command, made, "--json", "--older-than", "1h"))) == {old}
    assert set(by_id(listed(command, made, "--json"))) == {old, touched, new}


def test_deferred_needs_the_log(rig: MakeRig, command: Command) -> None:
    """Without the log nobody is known to be deferred, and that is no empty list."""
    made = rig()
    done = listed(command, made, "--deferred", "--no-log")
    assert (done.code, done.out) == (1, "")
    assert "needs the log" in done.err


def test_by_number(busy: tuple[Rig, dict[str, int]], command: Command) -> None:
    """--id lists the messages of these numbers; one that is not there is said, with status 3."""
    made, ids = busy
    assert set(by_id(listed(command, made, "--json", "--id", ids["a"], "--id", ids["todo"]))) == {
        ids["a"],
        ids["todo"],
    }
    done = listed(command, made, "--id", ids["a"], "--id", 999999999)
    assert (done.code, len(done.out.splitlines())) == (3, 2)
    assert "999999999: no such message" in done.err
    assert listed(command, made, "--id", "0").code == listed(command, made, "--id", "9" * 30).code == 2


# --- order and counts


def test_sort(rig: MakeRig, command: Command) -> None:
    """--sort orders by what it names, what is not known last; --reverse turns it round; --limit ends it."""
    made = rig()
    first = made.send(b"defer@z.example", b"ok@x.example", body=b"x" * 500)
    made.qmail.run_until(made.clock.now + 2000)
    second = made.send(b"defer@m.example")
    made.qmail.run_until(made.clock.now + 10)
    third = made.send(b"defer@a.example", body=b"x")

    def order(*words: object) -> list[int]:
        return [each["id"] for each in listed(command, made, "--json", *words).objects]

    assert order("--sort", "age") == [first, second, third]
    assert order("--sort", "age", "--reverse", "--limit", 1) == [third]
    assert order("--sort", "next") == [second, first, third]
    assert order("--sort", "attempts") == [first, second, third]
    assert order("--sort", "expiry", "--reverse") == [second, first, third]
    assert order("--sort", "size") == [first, second, third]
    assert order("--sort", "domain") == [third, second, first]
    assert order("--sort", "id") == sorted((first, second, third))
    assert listed(command, made, "--reverse").code == 2


def test_top(busy: tuple[Rig, dict[str, int]], command: Command) -> None:
    """--top counts domains, senders and reasons over the messages that fit."""
    made, _ = busy
    domains = {each["domain"]: each for each in listed(command, made, "--json", "--top", "domains").objects}
    assert {name: (each["recipients"], each["deferred"]) for name, each in domains.items()} == {
        "a.example": (2, 1),
        "mx.a.example": (1, 1),
        "c.example": (1, 1),
        "mail.test": (1, 1),
        "d.example": (1, 0),
    }
    senders = [
        (e["sender"], e["messages"]) for e in listed(command, made, "--json", "--top", "senders").objects
    ]
    assert senders[0] == ("a@mail.test", 3)
    assert len(senders) == 4
    reasons = {
        e["reason"]: e["recipients"] for e in listed(command, made, "--json", "--top", "reasons").objects
    }
    assert reasons == {"greylist": 1, "local": 1, "mailbox_full": 1, "connect": 1, "(not deferred)": 2}
    unknown = listed(command, made, "--json", "--top", "reasons", "--no-log").objects
    assert [each["reason"] for each in unknown] == ["(unknown)"]
    plain = listed(command, made, "--top", "domains", "--deferred", "--domain", "a.example").out.splitlines()
    assert plain[0].split("\t") == ["DOMAIN", "RECIPIENTS", "DEFERRED", "MESSAGES", "OLDEST", "REASON"]
    assert plain[1].split("\t")[:4] == ["a.example", "1", "1", "1"]
    assert plain[1].endswith("\tgreylist: 451 4.7.1 Greylisted")


def test_top_shows_a_report_of_the_reason_it_shows(rig: MakeRig, command: Command) -> None:
    """The most common reason and the words beside it belong together, and --json has words for each reason."""
    made = rig()
    for box in (b"hole", b"full", b"hole", b"defer", b"mangle", b"mangle", b"mangle"):
        made.send(box + b"@a.example")
    made.qmail.run_until(made.clock.now + 10)
    lines = listed(command, made, "--top", "domains").out.splitlines()
    assert lines[1].split("\t")[-1] == "system"  # of a mangled report no word is known
    made.send(b"hole@a.example", b"hole-0@a.example")
    made.qmail.run_until(made.clock.now + 10)
    lines = listed(command, made, "--top", "domains").out.splitlines()
    assert (
        lines[1].split("\t")[-1] == "connect: Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)"
    )
    (found,) = listed(command, made, "--top", "domains", "--json").objects
    assert {reason: "Remote_host_said" in text for reason, text in found["examples"].items()} == {
        "connect": False,
        "mailbox_full": True,
        "greylist": True,
    }


def test_sort_with_limit_is_the_beginning_of_all(
    rig: MakeRig, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is dropped on the way because of --limit would not have been shown."""
    monkeypatch.setattr(queue_command, "_CHUNK", 1)
    made = rig()
    for number in range(30):
        made.send(b"defer@a%d.example" % (number * 7 % 30))
    made.qmail.pump()
    every = listed(command, made, "--sort", "domain", "--no-log", "--json").objects
    first = listed(command, made, "--sort", "domain", "--no-log", "--json", "--limit", 2).objects
    assert [each["id"] for each in first] == [each["id"] for each in every][:2]


# --- what it looks like


HOSTILE = b"defer@a\x1b]0;x\x07\n\xff\t\\\xc3\xbc.example"


def test_hostile_addresses_are_made_visible(rig: MakeRig, command: Command) -> None:
    """No byte of an address reaches the output but as printable ASCII, one line a message, whatever the form."""
    made = rig()
    msg = made.send(HOSTILE, sender=HOSTILE)
    made.qmail.run_until(made.clock.now + 10)
    visible = "defer@a\\x1b]0;x\\x07\\n\\xff\\t\\\\\\xc3\\xbc.example"
    plain = listed(command, made).out
    assert plain.isascii()
    assert plain.replace("\n", "").replace("\t", "").isprintable()
    assert plain.splitlines()[1].split("\t")[4:6] == [f"<{visible}>", visible]
    found = by_id(listed(command, made, "--json"))[msg]
    assert (found["sender"], found["recipients"][0]["address"]) == (visible, visible)
    assert found["recipients"][0]["reason"] == "greylist"
    assert (
        listed(command, made, "--top", "domains").out.splitlines()[1].startswith("a_]0;x_/__\\__.example\t")
    )


def test_states(rig: MakeRig, command: Command) -> None:
    """A message shows whether it is being received, waits in todo, or has failed recipients."""
    made = rig()
    failed = made.send(b"defer@a.example", b"fail@b.example")
    made.qmail.run_until(made.clock.now + 10)
    todo = made.send(b"x@a.example", b"y@b.example")
    arriving = made.send(b"x@a.example")
    made.qmail.path("todo", arriving).unlink()
    rows = {
        int(row[0]): row for row in map(str.split, listed(command, made, "--no-log").out.splitlines()[1:])
    }
    assert rows[failed][3] == "waiting,bouncing"
    assert rows[todo][3:9] == ["todo", "<a@mail.test>", "x@a.example", "+1", "-", "?"]
    assert rows[arriving][3] == "arriving"


def test_table_in_a_terminal(rig: MakeRig) -> None:
    """In a terminal there is a table that fits it; what finds no room is cut, never wrapped."""
    made = rig()
    made.send(b"defer@" + b"[bold]:smile:" * 20 + b".example", b"fail@b.example", sender=HOSTILE)
    made.qmail.run_until(made.clock.now + 10)
    argv = ("queue", f"--qmail.home={made.home}", f"--qmail.log={made.home}/log")
    wide = in_terminal(160, *argv).splitlines()
    assert wide[0].split() == [
        "ID",
        "AGE",
        "SIZE",
        "STATE",
        "FROM",
        "TO",
        "NEXT",
        "TRIES",
        "EXPIRES",
        "REASON",
    ]
    assert len(wide) == 2
    assert all(len(line) <= 160 for line in wide)
    assert "deferred*" in wide[1]
    assert "greylist: 451 4.7.1 Greylisted" in wide[1]
    assert "\x1b" not in wide[1]
    narrow = in_terminal(80, *argv).splitlines()
    assert "FROM" not in narrow[0]
    assert all(len(line) <= 80 for line in narrow)


def test_nothing_to_show_in_a_terminal(rig: MakeRig) -> None:
    """Who looks at a terminal is told that nothing fits, or that the queue is empty; a pipe gets nothing."""
    made = rig()
    argv = ("queue", f"--qmail.home={made.home}", f"--qmail.log={made.home}/log")
    assert in_terminal(100, *argv) == "qmail-exporter queue: the queue is empty\n"
    msg = made.send(b"defer@a.example")
    made.qmail.run_until(made.clock.now + 10)
    none = "qmail-exporter queue: none of the messages fits, of 1 that were read\n"
    assert in_terminal(100, *argv, "--domain=b.example") == none
    assert in_terminal(100, *argv, f"--id={msg}", "--domain=b.example") == none


def test_what_is_past_in_a_terminal(rig: MakeRig) -> None:
    """A time that has come is due, an age beyond queuelifetime has passed; a pipe gets negative seconds."""
    made = rig(start=False)
    made.clock.now = time.time() - 9 * 86400
    made.qmail.start()
    made.send(b"defer@a.example")
    made.qmail.run_until(made.clock.now + 10)
    argv = ("queue", f"--qmail.home={made.home}", f"--qmail.log={made.home}/log")
    row = in_terminal(160, *argv).splitlines()[1].split()
    assert (row[6], row[8]) == ("due", "passed")


def test_several_queues(rig: MakeRig, command: Command) -> None:
    """With several queues each line names its own, and each queue has its own log."""
    one, two = rig(), rig()
    ids = [made.send(b"defer@a.example") for made in (one, two)]
    for made in (one, two):
        made.qmail.run_until(made.clock.now + 10)
    words = [
        f"--qmail.queue=one={one.queue}",
        f"--qmail.queue=two={two.queue}",
        f"--qmail.log=two={two.home}/log",
    ]
    done = command("queue", f"--qmail.home={one.home}", "--json", *words)
    found = {each["queue"]: each for each in done.objects}
    assert [found[name]["id"] for name in ("one", "two")] == ids
    assert [found[name]["attempts"] for name in ("one", "two")] == [None, 1]
    plain = command("queue", f"--qmail.home={one.home}", *words).out.splitlines()
    assert [line.split("\t")[0] for line in plain] == ["QUEUE", "one", "two"]


def test_hostile_queue_name(rig: MakeRig, command: Command) -> None:
    """A queue that is named by its path shows that as harmlessly as an address, and keeps the columns."""
    made = rig()
    made.send(b"defer@a.example")
    made.qmail.pump()
    other = made.home / "a\tb\x1b[31m"
    shutil.copytree(made.queue, other, ignore=shutil.ignore_patterns("trigger"))
    words = [f"--qmail.queue={made.queue}", f"--qmail.queue={other}", "--no-log"]
    rows = [line.split("\t") for line in command("queue", *words).out.splitlines()]
    assert [row[0] for row in rows] == ["QUEUE", "queue", "a\\tb\\x1b[31m"]
    assert {len(row) for row in rows} == {11}


# --- what cannot be read


def test_no_queue(command: Command, tmp_path: Path) -> None:
    """Where there is no queue it says so and fails."""
    done = command("queue", "--qmail.home", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert f"no queue in {tmp_path}" in done.err


def test_log_that_is_named_and_not_there(rig: MakeRig, command: Command) -> None:
    """A named log that is not there is a failure, but the queue is listed all the same, without what the log tells."""
    made = rig()
    made.send(b"defer@a.example")
    made.qmail.pump()
    done = command("queue", "--qmail.home", made.home, "--qmail.log", made.home / "other")
    assert done.code == 1
    assert "there is no such log" in done.err
    assert done.out.splitlines()[1].split("\t")[7] == "?"


def test_malformed_message(rig: MakeRig, command: Command) -> None:
    """A message whose files are no qmail's is listed as unknown, beside the others."""
    made = rig()
    broken, whole = made.send(b"defer@a.example"), made.send(b"defer@b.example")
    made.qmail.run_until(made.clock.now + 1)
    made.qmail.path("remote", broken).write_bytes(b"Xno record\0")
    made.qmail.path("info", broken).write_bytes(b"no sender")
    found = by_id(listed(command, made, "--json"))
    assert (found[broken]["state"], found[broken]["sender"]) == ("unknown", None)
    assert found[whole]["state"] == "deferred"
    row = next(line for line in listed(command, made).out.splitlines() if line.startswith(f"{broken}\t"))
    assert row.split("\t")[3:7] == ["unknown", "?", "?", "?"]


@pytest.fixture
def closed(rig: MakeRig) -> Iterator[Rig]:
    """A simulated qmail that everybody may read, but for the areas that are qmail-send's: those nobody may but root."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        made = rig(home=Path(directory) / "home")
        made.send(b"defer@a.example")
        made.qmail.pump()
        for path in (made.home, *made.home.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        for area in ("bounce", "info", "local", "remote"):
            os.chown(made.queue / area, 1, 2)
            (made.queue / area).chmod(0)
        yield made


def forbidden(refused: list[str], made: Rig, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """Run `queue` as somebody who may not read the queue."""
    argv = [*refused, sys.executable, "-m", "qmail_exporter", "queue", f"--qmail.home={made.home}", *words]
    return subprocess.run(argv, capture_output=True, check=False, cwd="/", env={"PYTHONPATH": SOURCE})


def test_queue_that_may_not_be_read(refused: list[str], closed: Rig) -> None:
    """A user who may not read the queue gets one line that says what and who may, and status 1."""
    who = (
        f"{pwd.getpwuid(1).pw_name} with group {grp.getgrgid(os.stat(closed.queue / 'mess').st_gid).gr_name}"
    )
    done = forbidden(refused, closed, "--no-log")
    assert done.returncode == 1
    assert done.stderr.startswith(
        b"qmail-exporter queue: default: cannot read all of bounce, info, local, remote: "
    )
    assert done.stderr.endswith(b": Permission denied; run it as root, or as " + who.encode() + b"\n")
    assert done.stderr.count(b"\n") == 1
    closed.queue.chmod(0)
    done = forbidden(refused, closed, "--no-log")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"qmail-exporter queue: default: ")
    assert done.stderr.endswith(b": Permission denied; run it as root, or as qmails with group qmail\n")
    assert done.stderr.count(b"\n") == 1


def test_qread_of_a_queue_that_may_not_be_read(refused: list[str], closed: Rig) -> None:
    """--qread then prints what qmail-qread does, and says on stderr who may read it."""
    done = forbidden(refused, closed, "--qread")
    assert (done.returncode, done.stdout) == (111, b"fatal: unable to opendir info/0: access denied\n")
    assert b"Permission denied; run it as root, or as " in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_reader_that_has_seen_enough(rig: MakeRig) -> None:
    """When what reads the output has ended, the command ends without a word, as by SIGPIPE."""
    made = rig()
    made.send(b"defer@a.example")
    made.qmail.pump()
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "qmail_exporter", "queue", f"--qmail.home={made.home}", "--no-log"]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_json_is_one_object_a_line(busy: tuple[Rig, dict[str, int]], command: Command) -> None:
    """Each line of --json is one object, with the same keys."""
    made, ids = busy
    lines = listed(command, made, "--json").out.splitlines()
    assert len(lines) == len(ids)
    assert len({tuple(json.loads(line)) for line in lines}) == 1


# --- a real qmail


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the installed qmail, which ran alone, says of its queue, and what `queue` does."""
    home = os.environ.get("QMAIL_HOME")
    if not home or os.geteuid() != 0 or not shutil.which("multilog"):
        pytest.skip("needs QMAIL_HOME, root and multilog")
    script = Path(__file__).parent / "own_qmail.py"
    # With the first process of a pid namespace all others end.
    apart = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*apart, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs namespaces")
    argv = [*apart, sys.executable, str(script), home, str(tmp_path_factory.mktemp("own"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    done = subprocess.run(argv, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.qmail
def test_qread_is_that_of_the_real_one(told: dict[str, Any]) -> None:
    """On a queue that rests, --qread and the real qmail-qread print the same, order and all."""
    theirs = bytes.fromhex(told["qread"])
    assert bytes.fromhex(told["our_qread"]) == theirs
    assert theirs.count(b" GMT  #") == len(told["first"])
    assert all(
        word in theirs for word in (b"  done\t", b" bouncing\n", b"<a_@mail.test>", b"\tx__@b.example\n")
    )


def channels(messages: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By channel and number: birth, arrival, the next attempt shown, and when the last pass began."""
    found: dict[str, dict[str, Any]] = {}
    for message in messages:
        for recipient in (each for each in message["recipients"] if not each["done"]):
            channel = found.setdefault(
                f"{recipient['channel']}/{message['id']}", message | {"next": recipient["next_attempt"]}
            )
            channel["began"] = min(channel.get("began", sys.maxsize), int(recipient["last_attempt"]))
    return found


@pytest.mark.qmail
@pytest.mark.parametrize(
    ("shows", "leaves"),
    [
        ("first", "first_mtimes"),
        ("touched", "first_mtimes"),
        ("stopped", "first_mtimes"),
        ("restarted", "first_mtimes"),
        ("alarmed", "alarmed_mtimes"),
        ("killed", "killed_mtimes"),
    ],
)
def test_next_attempts_are_those_of_the_real_one(told: dict[str, Any], shows: str, leaves: str) -> None:
    """What is shown as next attempt, in both channels, is what a real qmail-send leaves in its files when it exits.

    qmail-send counts from the second in which it began the attempt, and multilog may write the line in the next one. Of a
    message that was touched since, the birth by which qmail-send has reckoned is told by nothing but the arrival, which
    may have been in the second before.
    """
    found = channels(told[shows])
    assert found.keys() == told[leaves].keys()
    assert {key.partition("/")[0] for key in found} == {"local", "remote"}
    first = {each["id"]: each["birth"] for each in told["first"]}
    for key, each in found.items():
        skip = 10 if key.startswith("local") else 20
        before_touch = shows in ("touched", "stopped", "restarted")
        birth = first[each["id"]] if before_touch else each["birth"]
        known = int(each["arrival"]) if birth != each["birth"] else birth
        left = {next_attempt(birth, each["began"] - late, skip) for late in (0, 1)}
        assert shows == "killed" or told[leaves][key] in left
        assert each["next"] in {told[leaves][key], next_attempt(known, each["began"], skip)}, key


@pytest.mark.qmail
def test_real_messages_were_touched_and_killed(told: dict[str, Any]) -> None:
    """The cases above are what they are called: births changed, a message bounced, and a kill lost what an alarm brought."""
    births = [{each["id"]: each["birth"] for each in told[name]} for name in ("first", "touched")]
    changed = {msg: births[1][msg] - birth for msg, birth in births[0].items() if births[1][msg] != birth}
    assert len(changed) == 3
    assert sorted(map(abs, changed.values()))[1] > 80000
    (bounced,) = {each["id"] for each in told["touched"]} - {each["id"] for each in told["alarmed"]}
    assert changed[bounced] < -604800
    assert told["first_mtimes"] != told["alarmed_mtimes"]
    alarmed, killed = channels(told["alarmed"]), channels(told["killed"])
    assert len(killed.keys() - alarmed.keys()) == 1
    assert all(killed[key]["began"] > each["began"] for key, each in alarmed.items())
    assert all(killed[key]["next"] == each["next"] for key, each in alarmed.items())


@pytest.mark.qmail
def test_real_attempts_come_when_they_were_shown(told: dict[str, Any]) -> None:
    """A real qmail-send tries each message in the seconds after the next attempt that was shown, and no other."""
    planned, done = channels(told["planned"]), channels(told["done"])
    tried = {key for key in done if done[key]["began"] != planned[key]["began"]}
    soon = {
        key for key, each in planned.items() if each["next"] < min(e["next"] for e in planned.values()) + 1000
    }
    assert tried == soon
    assert {key.partition("/")[0] for key in tried} == {"local", "remote"}
    # qmail-send sleeps until a second after the time that it waits for.
    assert all(0 <= done[key]["began"] - planned[key]["next"] <= 2 for key in tried)
    assert all(done[key]["next"] == planned[key]["next"] for key in done.keys() - tried)


@pytest.mark.qmail
def test_doctor_finds_no_fault_in_a_real_queue_at_work(told: dict[str, Any]) -> None:
    """While a real qmail receives, delivers, defers and bounces, the doctor sees messages come and go, and no fault."""
    assert len(told["doctor"]) > 1
    for findings in told["doctor"]:
        assert [each for each in findings if each["level"] != "ok"] == []
    counts = [int(findings[-1]["text"].split()[0]) for findings in told["doctor"]]
    assert counts[0] < counts[-1] <= told["messages"]
