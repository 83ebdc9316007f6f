import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qmail_exporter.actions import NoMessageError, Spool
from stage import Command, Simulated, StandIn

DAY = 86400.0


def birth(simulated: Simulated, msg: int) -> float:
    return simulated.info(msg).stat().st_mtime


def is_old(simulated: Simulated, msg: int) -> bool:
    """Whether the message's next attempt is its last."""
    return birth(simulated, msg) < time.time() - 7 * DAY


def test_bounce_leads_to_a_bounce_at_the_next_attempt(
    simulated: Simulated, command: Command, audit: list[str]
) -> None:
    """The message that was named fails at its next attempt and bounces; the other one is only deferred again."""
    msg, other = simulated.send(b"defer@example.org"), simulated.send(b"defer@example.org")
    done = command("bounce", "--qmail.home", simulated.home, msg)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"default {msg}: will be tried once more (from <a@mail.test>, age ")
    assert audit[0].startswith("action=bounce queue=default uid=")
    assert audit[0].endswith(f" messages=1 ids={msg}")
    simulated.alarm()
    assert b"bounce msg %d qp " % msg in b"\n".join(simulated.lines)
    assert simulated.info(other).exists()


def test_rejuvenate_leads_to_a_longer_life(simulated: Simulated, command: Command) -> None:
    """A message that would bounce at its next attempt does not, once it is young again."""
    msg = simulated.send(b"defer@example.org", age=8 * DAY)
    assert not simulated.info(msg).exists()
    msg = simulated.send(b"defer@example.org", age=6.99 * DAY)
    done = command("rejuvenate", "--qmail.home", simulated.home, msg)
    assert f"default {msg}: is young again (from <a@mail.test>, age 6d " in done.out
    simulated.clock.now += DAY
    simulated.alarm()
    assert simulated.info(msg).exists()


def test_dry_run_changes_nothing(simulated: Simulated, command: Command, audit: list[str]) -> None:
    """A dry run tells the same messages, and changes and logs nothing."""
    msg = simulated.send(b"defer@example.org")
    before = birth(simulated, msg)
    done = command("bounce", "--qmail.home", simulated.home, msg, "--dry-run", "--json", "--now")
    assert done.objects[0] | {"new_birth": 0} == {
        "queue": "default",
        "id": msg,
        "sender": "a@mail.test",
        "birth": before,
        "new_birth": 0,
        "changed": False,
        "dry_run": True,
    }
    assert (birth(simulated, msg), audit) == (before, [])


def test_what_is_old_enough_stays(simulated: Simulated, command: Command, audit: list[str]) -> None:
    """A message that is older than it need be is not touched again."""
    msg = simulated.send(b"defer@example.org")
    os.utime(simulated.info(msg), (1000, 1000))
    done = command("bounce", "--qmail.home", simulated.home, msg)
    assert (done.code, birth(simulated, msg), audit) == (0, 1000, [])
    assert "is that old already" in done.out


def test_bounce_goes_by_a_longer_queuelifetime(simulated: Simulated, command: Command) -> None:
    """The age is past control/queuelifetime, whatever that is, and past the default that qmail-send may still go by."""
    msg = simulated.send(b"defer@example.org")
    for days, least in ((30, 30), (1, 7)):
        (simulated.home / "control/queuelifetime").write_text(f"{days * 86400}\n")
        os.utime(simulated.info(msg))
        assert command("bounce", "--qmail.home", simulated.home, msg).code == 0
        assert least < (time.time() - birth(simulated, msg)) / DAY < least + 2


def test_without_control_files_nothing_bounces(simulated: Simulated, command: Command) -> None:
    """If queuelifetime cannot be known, that is said, and no message is touched."""
    msg = simulated.send(b"defer@example.org")
    (simulated.home / "control").rename(simulated.home / "away")
    before = birth(simulated, msg)
    done = command("bounce", "--qmail.home", simulated.home, msg)
    assert (done.code, done.out, birth(simulated, msg)) == (1, "", before)
    assert "queuelifetime is not known" in done.err


@pytest.fixture
def mixed(simulated: Simulated) -> dict[str, int]:
    """Messages that differ in what can be asked for."""
    send = simulated.send
    return {
        "plain": send(b"defer@example.org"),
        "upper": send(b"defer@EXAMPLE.org.", sender=b"B@Mail.Test"),
        "below": send(b"defer@mx.example.org", sender=b"c@other.test"),
        "list": send(b"defer@example.org", b"defer@example.net", sender=b"list@mail.test"),
        "partly": send(b"defer@example.org", b"ok@example.net", sender=b"list@mail.test"),
        "old": send(b"defer@example.net", age=3 * DAY),
        "bounce": send(b"defer@example.com", sender=b""),
        "oldbounce": send(b"defer@example.com", sender=b"", age=3 * DAY),
        "double": send(b"defer@example.com", sender=b"#@[]", age=3 * DAY),
    }


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--domain example.org", "plain upper partly"),
        ("--domain EXAMPLE.ORG.", "plain upper partly"),
        ("--domain .example.org", "below"),
        ("--domain example.org --any-recipient", "plain upper partly list"),
        ("--domain example.org --domain example.net", "plain upper partly list old"),
        ("--sender a@mail.test", "plain old"),
        ("--sender b@mail.test", "upper"),
        ("--sender @mail.test", "plain upper list partly old"),
        ("--sender <>", "bounce oldbounce"),
        ("--sender #@[]", "double"),
        ("--older-than 2d", "old oldbounce double"),
        ("--older-than 2d --sender <>", "oldbounce"),
        ("--domain example.net --older-than 2d --sender @mail.test", "old"),
        ("--older-than 4d", ""),
        ("--domain xample.org", ""),
    ],
)
def test_selectors(
    words: str, names: str, simulated: Simulated, mixed: dict[str, int], command: Command
) -> None:
    """What is said in one way may be any of its values, what is said in several ways must all hold."""
    done = command("bounce", "--qmail.home", simulated.home, *words.split(), "--json")
    assert done.code == 0
    assert {each["id"] for each in done.objects} == {mixed[name] for name in names.split()}
    assert {msg for msg in mixed.values() if is_old(simulated, msg)} == {
        mixed[name] for name in names.split()
    }
    assert ("no message is such" in done.err) == (not names)


def test_expire_bounces(
    simulated: Simulated, mixed: dict[str, int], command: Command, audit: list[str]
) -> None:
    """Bounces and double bounces older than that are tried once more, and nothing else is."""
    done = command("expire-bounces", "--qmail.home", simulated.home, "--older-than", "2d")
    assert done.code == 0
    chosen = {msg for msg in mixed.values() if is_old(simulated, msg)}
    assert chosen == {mixed["oldbounce"], mixed["double"]}
    assert " messages=2 " in audit[0]
    simulated.alarm()
    lines = b"\n".join(simulated.lines)
    assert b"bounce msg %d qp " % mixed["oldbounce"] in lines
    assert b"triple bounce: discarding bounce/%d" % mixed["double"] in lines
    assert command("expire-bounces", "--qmail.home", simulated.home).code == 0


def test_many_messages_fit_into_lines_of_syslog(
    simulated: Simulated, command: Command, audit: list[str]
) -> None:
    """The numbers of all changed messages are logged, in lines that syslog does not cut."""
    sent = {simulated.send(b"defer@example.org") for _ in range(120)}
    assert command("rejuvenate", "--qmail.home", simulated.home, "--domain", "example.org").code == 0
    logged = [int(number) for line in audit for number in line.rpartition("ids=")[2].split(",")]
    assert set(logged) == sent
    assert len(logged) == 120
    assert max(map(len, audit)) < 1000


def test_now_wakes_qmail_send_where_something_changed(
    simulate: Callable[..., Simulated], stand_in: Callable[..., StandIn], command: Command
) -> None:
    """With --now the qmail-send of a queue with a changed message is told to try, and that of another queue is not."""
    first, second = simulate(), simulate()
    msg = first.send(b"defer@example.org")
    for simulated in (first, second):
        simulated.qmail.kill()
    sends = stand_in(first.queue), stand_in(second.queue)
    flags = (
        "--qmail.home",
        first.home,
        "--qmail.queue",
        f"a={first.queue}",
        "--qmail.queue",
        f"b={second.queue}",
    )
    done = command("rejuvenate", *flags, msg, "--now")
    assert done.code == 0
    assert f"a: qmail-send, process {sends[0].pid}, was told" in done.out
    assert (sends[0].line(), sends[1].end()) == (b"alarm\n", b"")


def test_now_without_a_qmail_send(simulated: Simulated, command: Command) -> None:
    """The age is changed all the same, and the status is 3."""
    msg = simulated.send(b"defer@example.org")
    simulated.qmail.kill()
    done = command("bounce", "--qmail.home", simulated.home, msg, "--now")
    assert done.code == 3
    assert is_old(simulated, msg)
    assert "no qmail-send runs" in done.err


def test_ids_that_are_not_there(simulated: Simulated, command: Command) -> None:
    """Each number without a message is a line on stderr, the others are done, and the status is 3."""
    msg = simulated.send(b"defer@example.org")
    done = command("bounce", "--qmail.home", simulated.home, "12345678901", msg, msg)
    assert (done.code, done.out.count("\n")) == (3, 1)
    assert done.err == "qmail-exporter bounce: 12345678901: no such message\n"
    assert is_old(simulated, msg)


def test_a_number_in_two_queues(simulate: Callable[..., Simulated], command: Command) -> None:
    """A number that two queues have is ambiguous, and neither message is touched."""
    first, second = simulate(), simulate()
    msg = first.send(b"defer@example.org")
    for kind in ("mess", "info", "remote"):
        path = second.qmail.path(kind, msg)
        path.write_bytes(first.qmail.path(kind, msg).read_bytes())
    done = command(
        "bounce",
        "--qmail.home",
        first.home,
        "--qmail.queue",
        f"a={first.queue}",
        "--qmail.queue",
        f"b={second.queue}",
        msg,
    )
    assert (done.code, done.out) == (1, "")
    assert "the queues a and b both have it" in done.err
    assert not is_old(first, msg)
    assert not is_old(second, msg)


@pytest.mark.parametrize(
    "words",
    ["", "0", "01", "-1", "1.5", "1e3", "x", "٣", "../../etc", "99999999999999999999", "1 --older-than 2d", "--any-recipient",
     "1 --any-recipient", "--older-than soon"],
)  # fmt: skip
def test_wrong_usage(words: str, simulated: Simulated, command: Command) -> None:
    """What is no number as qmail writes it, no selector, or both, is refused with status 2 and one line."""
    done = command("bounce", "--qmail.home", simulated.home, *words.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_a_path_is_no_message(simulated: Simulated, command: Command) -> None:
    """A number that leads out of the queue cannot be said."""
    assert command("bounce", "--qmail.home", simulated.home, "1/../../x").code == 2


def test_control_characters_do_not_reach_the_terminal(simulated: Simulated, command: Command) -> None:
    """A sender is shown escaped, in JSON too, and can still be named by its log form."""
    sender = b"\x1b]0;x\x07\n\xff\xe2\x80\xae@mail.test"
    simulated.send(b"defer@example.org", sender=sender)
    for flag in ((), ("--json",)):
        done = command("rejuvenate", "--qmail.home", simulated.home, "--older-than", "0", *flag)
        assert done.code == 0
        assert done.out.count("\n") == 1
        assert all(char == "\n" or char.isprintable() for char in done.out)
        assert "\u202e" not in done.out
    found = command(
        "rejuvenate", "--qmail.home", simulated.home, "--sender", "_]0;x_/____@mail.test", "--json"
    )
    assert found.objects[0]["sender"] == "\x1b]0;x\x07\n\\xff\u202e@mail.test"


def test_strange_files_are_told_and_the_rest_is_done(
    simulated: Simulated, command: Command, tmp_path: Path
) -> None:
    """A link in place of one message's `info` is a line on stderr; other messages are done, and status is 1."""
    msg, other = simulated.send(b"defer@example.org"), simulated.send(b"defer@example.org")
    outside = tmp_path / "outside"
    outside.write_bytes(b"Fa@mail.test\0")
    os.utime(outside, (5, 5))
    simulated.info(msg).unlink()
    simulated.info(msg).symlink_to(outside)
    done = command("rejuvenate", "--qmail.home", simulated.home, "--older-than", "0", "--json")
    assert done.code == 1
    assert {each["id"]: "error" in each for each in done.objects} == {msg: True, other: False}
    assert outside.stat().st_mtime == 5


def test_a_message_that_vanishes_meanwhile(
    simulated: Simulated, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that ends before its turn is a line on stderr, and status 3."""
    msg = simulated.send(b"defer@example.org")

    def vanish(*_: object) -> None:
        raise NoMessageError("the message ended meanwhile")

    monkeypatch.setattr(Spool, "set_birth", vanish)
    done = command("bounce", "--qmail.home", simulated.home, msg)
    assert (done.code, done.out) == (3, "")
    assert done.err == f"qmail-exporter bounce: default: {msg}: the message ended meanwhile\n"


def test_what_may_not_be_done(
    simulated: Simulated, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this user may not change the file, that is one line, and status 1."""
    msg = simulated.send(b"defer@example.org")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    done = command("rejuvenate", "--qmail.home", simulated.home, msg)
    assert (done.code, done.err) == (
        1,
        f"qmail-exporter rejuvenate: default: {msg}: Operation not permitted\n",
    )


def test_a_broken_channel_is_no_empty_one(simulated: Simulated, command: Command, tmp_path: Path) -> None:
    """If a channel's files cannot be read, no message is chosen by its recipients' domains."""
    msg = simulated.send(b"defer@example.org")
    (simulated.queue / "local").rename(tmp_path / "moved")
    (simulated.queue / "local").symlink_to(tmp_path / "loop")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    done = command("bounce", "--qmail.home", simulated.home, "--domain", "example.org")
    assert (done.code, is_old(simulated, msg)) == (1, False)


def test_help_of_every_command(command: Command) -> None:
    """Each command explains itself."""
    for name in ("tcpto", "tcpok", "redeliver", "bounce", "rejuvenate", "expire-bounces", "routes suggest"):
        done = command(*name.split(), "--help")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"Usage: qmail-exporter {name} ")
