"""Stopping anywhere: the ledger and the files agree after each call, and a kill costs no mail."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmail_exporter.demo.deliveries import Respond
from qmail_exporter.demo.qmail import Outcome, Qmail
from qmail_exporter.formats import envelope

if TYPE_CHECKING:
    from qmail_exporter.demo.host import Steps

RECIPIENTS = (
    b"ok@x",
    b"fail@x",
    b"defer@y",
    b"ok-90@y",
    b"hole-30@z",
    b"joe",
    b"fail@mail.test",
    b"defer@mail.test",
)
SENDERS = (b"a@mail.test", b"", b"#@[]", b"fail@x", b"list-@mail.test-@[]")


def names(directory: Path) -> set[int]:
    """Return the numbers of the files in a directory or, one level down, in its parts."""
    return {int(path.name) for path in directory.rglob("*") if path.is_file()}


def check(qmail: Qmail) -> None:
    """Compare the ledger with the files, both whole."""
    queue = Path(qmail.host.queue)
    messages = qmail.ledger.messages
    todo = names(queue / "todo")
    assert names(queue / "mess") == set(messages)
    assert todo == {number for number, message in messages.items() if message.state == "todo"}
    assert names(queue / "info") - todo == set(qmail.ledger.queued())
    assert names(queue / "bounce") == {number for number, message in messages.items() if message.failed}
    for number, message in messages.items():
        assert qmail.path("mess", number).stat().st_size == message.size
        if message.state != "queued":
            continue
        assert envelope.parse_info(qmail.path("info", number).read_bytes()) == message.sender
        assert int(qmail.path("info", number).stat().st_mtime) == message.birth
        for name in ("local", "remote"):
            path = qmail.path(name, number)
            assert path.exists() == (name in message.channels)
            if path.exists():
                recipients = envelope.parse_channel(path.read_bytes())
                channel = message.channels[name]
                assert [r.address for r in recipients if not r.done] == list(channel.pending.values())
                assert sum(r.done for r in recipients) == channel.done
                assert channel.deferred.keys() <= channel.pending.keys()


ACTIONS = st.one_of(
    st.tuples(st.just("inject"), st.sampled_from(SENDERS), st.lists(st.sampled_from(RECIPIENTS), min_size=1)),
    st.tuples(st.just("queue"), st.integers(1, 12)),
    st.tuples(st.just("step"), st.integers(1, 30)),
    st.tuples(st.just("wait"), st.sampled_from((0.1, 20, 500, 100000, 700000))),
    st.tuples(st.just("signal"), st.sampled_from(("stop", "kill", "alarm"))),
    st.tuples(st.sampled_from(("start", "touch", "give_up"))),
)


DEATH = 86400
"""Seconds after which a qmail-queue ends itself where it stands (qmail-queue.c), before qmail-send takes its files for orphans."""


class Play:
    """A simulation on which actions are performed by name, and the ledger checked after every call."""

    def __init__(self, simulation: Any) -> None:
        self.qmail: Qmail = simulation.qmail
        self.clock = simulation.clock
        self.queues: list[Steps[int]] = []
        self.begun: list[float] = []

    def inject(self, sender: bytes, recipients: list[bytes]) -> None:
        """Start a qmail-queue."""
        self.queues.append(self.qmail.inject(sender, recipients))
        self.begun.append(self.clock.now)

    def queue(self, calls: int) -> None:
        """Let the oldest qmail-queue go on."""
        for _ in range(calls if self.queues else 0):
            if next(self.queues[0], None) is None:
                self.queues.pop(0)
                self.begun.pop(0)
                break
            check(self.qmail)

    def give_up(self) -> None:
        """Kill the newest qmail-queue."""
        if self.queues:
            self.queues.pop().close()
            self.begun.pop()

    def step(self, calls: int) -> None:
        """Let qmail-send go on."""
        for _ in range(calls):
            self.qmail.step()
            check(self.qmail)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds
        while self.begun and self.begun[0] + DEATH <= self.clock.now:
            self.begun.pop(0)
            self.queues.pop(0).close()

    def start(self) -> None:
        """Start qmail-send if it does not run."""
        if not self.qmail.running:
            self.qmail.start()

    def touch(self) -> None:
        """Make a message look too old."""
        for number in list(self.qmail.ledger.queued())[:1]:
            self.qmail.touch(number, self.clock.now - 8 * 86400)

    def signal(self, name: str) -> None:
        """Stop, kill or alarm qmail-send."""
        getattr(self.qmail, name)()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=st.lists(ACTIONS, max_size=40), reuse=st.booleans())
def test_ledger_agrees_with_the_files_after_every_call(
    actions: list[Any], reuse: bool, simulate: Any
) -> None:
    """Whatever runs in whatever order, and is killed wherever, the ledger says what is in the queue."""
    play = Play(simulate(reuse_numbers=reuse, split=3))
    for action, *details in actions:
        getattr(play, action)(*details)
        check(play.qmail)
    for queue in play.queues:
        queue.close()
    play.qmail.kill()


def test_ledger_agrees_through_whole_lives(simulate: Any) -> None:
    """From the first call to the last of mail of every kind, bounces and all, ledger and files agree after each."""
    play = Play(simulate(split=3))
    for sender in SENDERS:
        play.inject(sender, [b"ok@x", b"fail@x", b"joe", b"fail@mail.test"])
    while play.queues:
        play.queue(1)
    while play.qmail.ledger.messages:
        play.step(20)
        play.wait(0.1)
    assert play.qmail.ledger.bounces == {"single": 3, "double": 2, "triple": 1}


@pytest.mark.parametrize("calls", range(60))
def test_kill_after_any_call_costs_no_mail_and_repeats_no_marked_one(
    calls: int, simulate: Any, respond: Respond
) -> None:
    """After a kill at any point just those recipients are tried again whose records are not marked."""
    attempts: list[bytes] = []

    def noting(channel: str, recipient: bytes, now: float) -> Outcome:
        attempts.append(recipient)
        return respond(channel, recipient, now)

    simulation = simulate(respond=noting)
    qmail: Qmail = simulation.qmail
    number = simulation.send(b"ok@x", b"fail@x", b"joe", b"ok-2@y")
    for _ in range(calls):
        if qmail.step() is None:
            simulation.clock.now += 0.5
    message = qmail.ledger.messages.get(number)
    pending = {b"ok@x", b"fail@x", b"joe@mail.test", b"ok-2@y"}
    if message is None or message.state != "todo":
        channels = message.channels.values() if message else ()
        pending = {address for channel in channels for address in channel.pending.values()}
    qmail.kill()
    qmail.start()
    attempts.clear()
    qmail.run_until(simulation.clock.now + 100)
    assert sorted(attempt for attempt in attempts if attempt != b"a@mail.test") == sorted(pending)
    # What a killed qmail-queue left stays: qmail removes it after 36 hours.
    assert {path.partition("/")[0] for path in simulation.files()} <= {"pid", "mess", "intd"}
