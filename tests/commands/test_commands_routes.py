import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmail_exporter.commands.refusals import Refusals
from qmail_exporter.formats.log import parse
from stage import Command

BLOCKED = b"failure: Connected_to_192.0.2.1_but_sender_was_rejected./Remote_host_said:_550_5.7.1_Blocked_by_blocklist/"
TAKEN = b"success: 192.0.2.2_accepted_message./Remote_host_said:_250_2.0.0_Ok/"
UNKNOWN = b"failure: 192.0.2.3_does_not_like_recipient./Remote_host_said:_550_5.1.1_No_such_user/"
UNREACHABLE = b"deferral: Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/"


def lines(*attempts: tuple[bytes, bytes, int], channel: bytes = b"remote") -> Iterator[bytes]:
    """The log of attempts: domain, outcome, how many."""
    number = 0
    for domain, outcome, count in attempts:
        for _ in range(count):
            number += 1
            yield b"starting delivery %d: msg 7 to %b a@%b" % (number, channel, domain)
            yield b"delivery %d: %b" % (number, outcome)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for directory in ("control", "queue/mess/0"):
        (tmp_path / directory).mkdir(parents=True)
    return tmp_path


def suggest(command: Command, home: Path, *words: str) -> tuple[int, list[str], str]:
    done = command(
        "routes",
        "suggest",
        "--qmail.home",
        home,
        "--qmail.log",
        home / "log",
        "--relay",
        "relay.mail.test:2525",
        *words,
    )
    return done.code, done.out.splitlines(), done.err


def write(home: Path, *attempts: tuple[bytes, bytes, int]) -> None:
    (home / "log").write_bytes(b"".join(line + b"\n" for line in lines(*attempts)))


def test_a_destination_that_refuses_by_policy(home: Path, command: Command) -> None:
    """Its line for smtproutes is printed, with what it said on stderr; the files are as they were."""
    write(home, (b"Blocked.example", BLOCKED, 5), (b"ok.example", TAKEN, 1))
    before = sorted(home.rglob("*"))
    code, out, err = suggest(command, home)
    assert (code, out) == (0, ["blocked.example:relay.mail.test:2525"])
    assert "blocked.example: 5 refusals, 100% of its answers: Connected_to_192.0.2.1_but_sender" in err
    assert sorted(home.rglob("*")) == before


def test_as_json(home: Path, command: Command) -> None:
    """One object a suggestion."""
    write(home, (b"blocked.example", BLOCKED, 9), (b"blocked.example", UNKNOWN, 1), (b"ok.example", TAKEN, 1))
    done = command(
        "routes", "suggest", "--qmail.home", home, "--qmail.log", home / "log", "--relay", "r.test", "--json"
    )
    assert [each | {"said": ""} for each in done.objects] == [
        {
            "domain": "blocked.example",
            "route": "blocked.example:r.test",
            "refusals": 9,
            "share": 0.9,
            "said": "",
        }
    ]


@pytest.mark.parametrize(
    "attempts",
    [
        [(b"few.example", BLOCKED, 4)],
        [(b"mixed.example", BLOCKED, 8), (b"mixed.example", UNKNOWN, 1)],
        [(b"taken.example", BLOCKED, 99), (b"taken.example", TAKEN, 1)],
        [(b"unknown.example", UNKNOWN, 50)],
        [(b"away.example", UNREACHABLE, 50)],
        [(b"routed.example", BLOCKED, 50)],
        [(b"a.below.example", BLOCKED, 50)],
        [(b"evil:relay.example", BLOCKED, 50)],
        [(b"#evil.example", BLOCKED, 50)],
        [(b"[192.0.2.1]", BLOCKED, 50)],
        [(b"", BLOCKED, 50)],
    ],
)
def test_what_is_not_suggested(
    attempts: list[tuple[bytes, bytes, int]], home: Path, command: Command
) -> None:
    """Too few, not enough of its answers, something taken, other reasons, a route already, or no name of a host."""
    (home / "control/smtproutes").write_text("routed.example:x.test\n.below.example:\n")
    write(home, *attempts, (b"ok.example", TAKEN, 1))
    assert suggest(command, home) == (0, [], "")


def test_unreachable_attempts_do_not_count(home: Path, command: Command) -> None:
    """The share is of the attempts that a host answered."""
    write(
        home,
        (b"blocked.example", BLOCKED, 5),
        (b"blocked.example", UNREACHABLE, 50),
        (b"ok.example", TAKEN, 1),
    )
    assert suggest(command, home)[1] == ["blocked.example:relay.mail.test:2525"]


def test_thresholds(home: Path, command: Command) -> None:
    """Both can be set."""
    write(home, (b"b.example", BLOCKED, 2), (b"b.example", UNKNOWN, 2), (b"ok.example", TAKEN, 1))
    assert suggest(command, home, "--min-refusals", "2")[1] == []
    assert suggest(command, home, "--min-refusals", "2", "--min-share", "0.5")[1] == [
        "b.example:relay.mail.test:2525"
    ]


def test_when_nobody_accepts(home: Path, command: Command) -> None:
    """If no destination takes mail, no route would be the answer, and that is said."""
    write(home, (b"blocked.example", BLOCKED, 50))
    code, out, err = suggest(command, home)
    assert (code, out) == (0, [])
    assert "no destination accepted anything" in err


def test_no_further_back_than_asked(home: Path, command: Command) -> None:
    """Deliveries before --since do not count."""
    old = b"@4000000060000000" + b"00000000 "
    log = home / "log"
    write(home, (b"blocked.example", BLOCKED, 5))
    log.write_bytes(b"".join(old + line for line in log.read_bytes().splitlines(keepends=True)))
    with log.open("ab") as file:
        file.write(b"\n".join(lines((b"ok.example", TAKEN, 1))) + b"\n")
    assert suggest(command, home)[1] == ["blocked.example:relay.mail.test:2525"]
    assert suggest(command, home, "--since", "1d")[1] == []


@pytest.mark.parametrize("relay", ["", "a b", "x:0", "x:70000", "x:25:25", "-x", "x\n", "x:", "[x", "#x"])
def test_a_relay_that_is_none(relay: str, home: Path, command: Command) -> None:
    """What would make another line than it seems is refused."""
    done = command("routes", "suggest", "--qmail.home", home, "--relay", relay)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_a_log_that_is_not_there(home: Path, command: Command) -> None:
    """That is one line, and status 1."""
    code, out, err = suggest(command, home)
    assert (code, out, err.count("\n")) == (1, [], 1)


def test_a_log_that_cannot_be_read(home: Path, command: Command) -> None:
    """What is no log is one line, and status 1."""
    os.mkfifo(home / "log")
    code, out, err = suggest(command, home)
    assert (code, out, err.count("\n")) == (1, [], 1)


def test_local_deliveries_and_restarts(home: Path) -> None:
    """Local deliveries do not count, and a number that is used again after a restart is another delivery."""
    assert home.exists()
    counted = Refusals(0.0)
    for text in (
        *lines((b"mail.test", BLOCKED, 3), channel=b"local"),
        b"starting delivery 9: msg 7 to remote a@one.example",
        b"status: exiting",
        b"starting delivery 1: msg 7 to remote a@two.example",
        b"delivery 9: " + BLOCKED,
        b"delivery 1: " + BLOCKED,
        b"delivery 1: " + BLOCKED,
    ):
        counted.observe(parse(text, 5.0))
    assert [(each.domain, each.refusals) for each in counted.found(at_least=1, share=0)] == [
        ("two.example", 1)
    ]
