"""What is wrong, in words: with the mail, and with the exporter's picture of it."""

import shlex
from typing import Any

import click
import pytest

from facts import NETWORK, NOW, OWN, destination, down, page, queue
from qmail_exporter import cli
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.status import health, mail
from qmail_exporter.status.document import attention, summed_up
from qmail_exporter.status.facts import DeadHost, Expiring, Room, Run, Source, Timeouts, Unknown, Use, Waiting
from qmail_exporter.status.trouble import Trouble, count, duration

DEAD = tuple(DeadHost(f"192.0.2.{n}", 2, NOW - 60, NOW + 3780, NOW + 5764) for n in range(7))
OUT = NETWORK._replace(state="outage", outages=1, started=NOW - 300)
ABSENT = (Source("queue", False, "/var/qmail/queue", "No such file or directory"),)

OF_MAIL: list[tuple[dict[str, Any], str, str]] = [
    ({"sending": False, "heard": NOW - 900}, "act", "No qmail-send is running"),
    ({"sending": False, "heard": None}, "look", "No qmail-send is seen to run"),
    ({"overdue": 7, "heard": NOW - 900}, "act", "qmail-send does nothing, though 7 messages should have been tried"),
    ({"network": OUT}, "act", "The network seems to be out"),
    ({"network": OUT._replace(state="settling")}, "look", "Hosts answer again after an outage"),
    ({"timeouts": Timeouts(DEAD, 0, 64)}, "look", "qmail passes over 7 hosts"),
    ({"timeouts": Timeouts(DEAD[:1], 0, 64)}, "note", "qmail passes over 1 host that"),
    ({"network": NETWORK._replace(runs=(Run("tcpok", NOW - 9, "failed"),))}, "act", "The hook's action tcpok failed"),
    ({"room": Room(1000, 50, 10, 9)}, "look", "5.0% of its space"),
    ({"room": Room(1000, 900, 1000, 1)}, "act", "0.1% of its inodes"),
    ({"expiring": Expiring(0, 4, 9, 20)}, "look", "4 messages will bounce within an hour"),
    ({"expiring": Expiring(0, 0, 1, 20)}, "note", "1 message will bounce within 6 hours"),
    ({"expiring": Expiring(0, 0, 0, 20)}, "note", "20 messages will bounce within the day"),
    ({"todo": 80}, "look", "80 messages wait to be preprocessed"),
    ({"use": (Use("remote", 20, 20),)}, "look", "All 20 remote deliveries are in use"),
    ({"use": (Use("local", 0, 0),)}, "act", "concurrencylocal is 0"),
    ({"waiting": Waiting((destination(),), 50, 200)}, "look", "150 of 200 deferred recipients wait for x.example: greylisting"),
    ({"waiting": Waiting((destination(deferred=11),), 0, 20)}, "note", "11 of 20 deferred recipients wait for x.example"),
    ({"alerts": (("disk", 3),)}, "look", "qmail-send has logged 3 alerts of kind disk"),
]  # fmt: skip
OF_THE_EXPORTER: list[tuple[dict[str, Any], str, str]] = [
    ({"sources": ABSENT}, "act", "The queue directory cannot be opened"),
    ({"sources": down("info")}, "act", "info is not read"),
    ({"sources": down("log", "no log of qmail-send was found")}, "act", "qmail-send's log is not read"),
    ({"sources": down("inotify")}, "look", "not wholly watched"),
    ({"sources": down("tcpto")}, "look", "table of hosts"),
    ({"sources": down("control")}, "look", "control files"),
    ({"sources": down("filesystem")}, "look", "file system"),
    ({"sources": down("processes")}, "look", "list of processes"),
    ({"own": OWN._replace(in_doubt=True, scan=0.4)}, "note", "The queue is being read"),
    ({"own": OWN._replace(pending=1)}, "note", "1 changed message is still to be looked at"),
    ({"own": OWN._replace(overflows=2)}, "note", "dropped events 2 times"),
    ({"own": OWN._replace(drift=1)}, "look", "1 message had changed without an event"),
    ({"own": OWN._replace(malformed=2)}, "look", "2 messages have files"),
    ({"own": OWN._replace(recalling=True, recalled=None)}, "note", "retained log is being read back: "),
    (
        {"own": OWN._replace(recalling=True, recalled=0.25)},
        "note",
        "retained log is being read back, 25% done: ",
    ),
    ({"own": OWN._replace(lag=75.0)}, "note", "The log is read 1 min late"),
    ({"own": OWN._replace(unparsed=1)}, "note", "1 line of the log was not understood"),
    ({"own": OWN._replace(lost=3)}, "look", "3 lines or files of the log could not be read"),
    ({"sending": False}, "note", "No qmail-send is seen to run, though its log speaks"),
]


def test_calm_queue_has_no_trouble() -> None:
    """Where all is known and nothing is wrong, nothing is said."""
    assert attention(page(queue())) == ([], [])
    assert summed_up(page(queue()), []) == ("Nothing to act on", "ok")


@pytest.mark.parametrize(("given", "level", "what"), OF_MAIL)
def test_trouble_of_mail(given: dict[str, Any], level: str, what: str) -> None:
    """Each thing that can be wrong with the mail is said once, as bad as it is, and nothing else is said because of it."""
    (found,) = mail.troubles(queue(**given), NOW)
    assert (found.level, what in found.what) == (level, True), found


@pytest.mark.parametrize(("given", "level", "what"), OF_THE_EXPORTER)
def test_trouble_of_the_exporter(given: dict[str, Any], level: str, what: str) -> None:
    """Each thing that can be wrong with the picture is said once, as bad as it is."""
    (found,) = health.troubles(queue(**given), NOW)
    assert (found.level, what in found.what) == (level, True), found


@pytest.mark.parametrize("name", ["mess", "log", "inotify", "tcpto", "control", "filesystem", "processes"])
def test_broken_source_has_path_reason_and_advice(name: str) -> None:
    """Of a source that cannot be read the path, the reason and what to do are said."""
    (found,) = health.troubles(queue(sources=down(name)), NOW)
    assert f"/var/qmail/queue/{name}: Permission denied." == found.why
    assert "qmails" in found.do
    assert "qmail-exporter doctor" in found.commands


def test_what_cannot_be_read_cannot_be_watched() -> None:
    """Where an area cannot be read, that it cannot be watched either is no trouble of its own."""
    sources = tuple(
        each._replace(up=False, path="/q/info/0", why="Permission denied", denied=True)
        if each.name in {"info", "inotify"}
        else each
        for each in queue().sources
    )
    (found,) = health.troubles(queue(sources=sources), NOW)
    assert found.what.startswith("info is not read")


def test_areas_of_one_directory_are_one_trouble() -> None:
    """Several areas of the queue that cannot be read are told of together."""
    sources = tuple(
        each._replace(up=False, why="Permission denied", denied=True) for each in queue().sources[2:6]
    )
    (found,) = health.troubles(queue(sources=(*queue().sources[:2], *sources)), NOW)
    assert found.what.startswith("info, local, remote and bounce are not read")


@pytest.mark.parametrize(
    "fact", ["todo", "expiring", "overdue", "waiting", "use", "timeouts", "network", "room", "sending"]
)
def test_unknown_is_no_trouble_of_mail(fact: str) -> None:
    """What is not known is not said to be wrong with the mail: the exporter's own health says it."""
    assert list(mail.troubles(queue(**{fact: Unknown("log: gone")}, heard=None), NOW)) == []


def test_absent_queue_has_one_trouble() -> None:
    """Of a queue that is not there nothing else is said, whatever its facts are."""
    urgent, notes = attention(page(queue(sources=ABSENT, todo=99)))
    assert [trouble.what for _, trouble in urgent] == [
        "The queue directory cannot be opened: nothing is known of it."
    ]
    assert notes == []
    assert summed_up(page(queue(sources=ABSENT)), urgent) == ("No queue to be read", "act")


def test_worst_comes_first() -> None:
    """What is to be acted on stands first, of whatever queue, and the summary counts."""
    calm, out = queue(name="a", todo=80), queue(name="b", network=OUT, own=OWN._replace(unparsed=1))
    urgent, notes = attention(page(calm, out))
    assert [(name, trouble.level) for name, trouble in urgent] == [("b", "act"), ("a", "look")]
    assert [name for name, _ in notes] == ["b"]
    assert summed_up(page(calm, out), urgent) == ("1 thing to act on, 1 to look at", "act")
    assert summed_up(page(calm), urgent[1:]) == ("1 thing to look at", "look")


def test_hostile_domain_makes_no_command() -> None:
    """A domain with characters that a shell would take for its own is in no command."""
    hostile = Waiting((destination("$(reboot).example"),), 0, 150)
    (found,) = mail.troubles(queue(waiting=hostile), NOW)
    assert found.commands == ()


def test_every_reason_has_words() -> None:
    """Each reason there is can be said."""
    assert set(mail.REASONS) == set(REASONS)


def _commands() -> list[str]:
    found: list[Trouble] = []
    for given, _, _ in OF_MAIL:
        found += mail.troubles(queue(**given), NOW)
    for given, _, _ in OF_THE_EXPORTER:
        found += health.troubles(queue(**given), NOW)
    return sorted({command for trouble in found for command in trouble.commands})


@pytest.mark.parametrize("command", [each for each in _commands() if each.startswith("qmail-exporter")])
def test_commands_exist(command: str) -> None:
    """Each command of this package that the page names takes the arguments that stand there."""
    name, *arguments = shlex.split(command)[1:]
    arguments = ["1" if argument == "ID" else argument for argument in arguments]
    with click.Context(cli.main, info_name="qmail-exporter") as above:
        found = cli.main.get_command(above, name)
        assert found is not None
        found.make_context(name, arguments, parent=above).close()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (86_400, "1 d"),
        (97_200, "1 d 3 h"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    """A duration is said in its two greatest units."""
    assert duration(seconds) == said


def test_count() -> None:
    """One is one, and others are many."""
    assert [count(1, "message"), count(2000, "message"), count(0, "bus", "buses")] == [
        "1 message",
        "2,000 messages",
        "0 buses",
    ]
