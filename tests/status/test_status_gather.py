"""The facts of a simulated qmail, and the page of a daemon's collection."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.collect import Collection
from qmail_exporter.config import HookConfig
from qmail_exporter.hook import Hook
from qmail_exporter.readings import views
from qmail_exporter.sources.host import read_tcpto
from qmail_exporter.status import STEP, Status, document
from qmail_exporter.status.facts import Ages, Expiring, QueueFacts, Source, Unknown, Use, Waiting
from qmail_exporter.status.gather import queue_facts, step
from qmail_exporter.status.history import History
from rig import NOW, Rig, settle

MakeRig = Callable[..., Rig]
DAY = 86400
DESTINATIONS = 25


def facts(made: Rig, collection: Collection, **hooks: Hook) -> QueueFacts:
    """Return the facts of a rig's queue, at its own time."""
    (view,) = views(collection, hooks, made.clock.now)
    history = History()
    step(history, view)
    return queue_facts(view, history, DESTINATIONS)


def test_facts_of_a_busy_queue(rig: MakeRig) -> None:
    """Depth, ages, expiry, concurrency, deferrals by domain with reason, age and last words are what the queue and the log say."""
    made = rig()
    made.send(b"full@x.example", age=6.5 * DAY)
    made.send(b"defer@x.example", b"defer@y.example", b"joe", age=7200)
    made.send(b"fail@z.example")
    made.qmail.pump()
    collection = made.collection()
    settle(collection)
    found = facts(made, collection)
    assert found.messages == len(collection.queues[0].queue)
    assert (found.todo, found.oldest) == (0, NOW - 6.5 * DAY)
    assert found.expiring == Expiring(0, 0, 0, 1)
    assert isinstance(found.ages, Ages)
    assert sum(found.ages.mail) + sum(found.ages.bounces) == found.messages
    assert found.use == (Use("local", 0, 10), Use("remote", 0, 20))
    assert isinstance(found.waiting, Waiting)
    first, second = found.waiting.destinations
    assert (first.name, first.deferred, first.pending, first.oldest) == ("x.example", 2, 2, NOW - 6.5 * DAY)
    assert dict(first.reasons) == {"mailbox_full": 1, "greylist": 1}
    assert first.words is not None
    assert first.words.remote in {"451 4.7.1 Greylisted", "452 4.2.2 Mailbox full"}
    assert (second.name, second.reasons, second.said) == ("y.example", (("greylist", 1),), NOW)
    assert (found.waiting.elsewhere, found.waiting.deferred) == (0, 3)
    assert all(source.up for source in found.sources)
    assert found.own.pending == 0
    assert not found.own.in_doubt


def test_words_come_from_the_retained_log(rig: MakeRig) -> None:
    """What a host said before the exporter started is told, as the log of it was kept."""
    made = rig()
    made.send(b"defer@x.example")
    made.qmail.pump()
    made.clock.now += 5000
    collection = made.collection()
    settle(collection)
    waiting = facts(made, collection).waiting
    assert isinstance(waiting, Waiting)
    assert waiting.destinations[0].words is not None
    assert waiting.destinations[0].said == NOW


def test_no_more_domains_than_fit(rig: MakeRig) -> None:
    """The domains with most come, and those left out are counted, with those that have no series of their own."""
    made = rig()
    for place in range(DESTINATIONS + 10):
        made.send(*[b"defer@d%d.example" % place] * (2 if place % 2 else 1))
    made.qmail.pump()
    collection = made.collection(seats=DESTINATIONS + 5)
    settle(collection)
    waiting = facts(made, collection).waiting
    assert isinstance(waiting, Waiting)
    assert len(waiting.destinations) == DESTINATIONS
    counts = [each.deferred for each in waiting.destinations]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) + waiting.elsewhere == waiting.deferred == DESTINATIONS + 10 + (DESTINATIONS + 10) // 2


def test_dead_hosts(rig: MakeRig) -> None:
    """Hosts that qmail passes over are told with the times between which they are tried again, and others counted."""
    made = rig()
    made.send(b"hole-1@x.example")
    made.qmail.run_until(made.clock.now + 10)
    collection = made.collection()
    settle(collection)
    timeouts = facts(made, collection).timeouts
    assert not isinstance(timeouts, Unknown)
    assert (timeouts.dead, timeouts.suspects, timeouts.slots) == ((), 1, 64)
    made.qmail.run_until(made.clock.now + 900)
    settle(collection)
    timeouts = facts(made, collection).timeouts
    assert not isinstance(timeouts, Unknown)
    (host,) = timeouts.dead
    assert (host.address, host.earliest - host.last, host.latest - host.last) == ("192.0.2.9", 3840, 5824)


def test_broken_sources_make_their_facts_unknown(rig: MakeRig) -> None:
    """Each fact is unknown while its source is not there, with that source and the reason."""
    made = rig()
    made.send(b"defer@x.example")
    made.qmail.pump()
    os.rename(made.home / "control", made.home / "aside")
    (made.queue / "lock" / "tcpto").unlink()
    collection = made.collection(log=made.home / "nowhere")
    settle(collection)
    found = facts(made, collection)
    assert found.messages == 1
    for fact in (found.waiting, found.use, found.rate, found.network, found.overdue):
        assert fact == Unknown("log: there is no such log")
    assert found.expiring == found.lifetime == Unknown("control: No such file or directory")
    assert found.timeouts == Unknown("tcpto: No such file or directory")
    assert [source.name for source in found.sources if not source.up] == ["log", "tcpto", "control"]


def test_absent_queue_is_unknown(tmp_path: Path) -> None:
    """Of a queue that is not there nothing is known, and why is said."""
    with Rig(tmp_path / "qmail") as made:
        collection = made.collection()
        os.rename(made.queue, made.home / "aside")
        collection.tick()
        collection.refresh(1.0)
        found = facts(made, collection)
        assert found.sources[0] == Source("queue", False, str(made.queue), "No such file or directory")
        for fact in (found.messages, found.todo, found.oldest, found.ages):
            assert fact == Unknown("queue: No such file or directory")


def test_before_the_scan_nothing_is_zero(rig: MakeRig) -> None:
    """While the queue is being scanned its figures are unknown, and how far that has got is said."""
    made = rig()
    made.send(b"defer@x.example")
    collection = made.collection()
    collection.tick()
    assert facts(made, collection).messages == Unknown("the queue is being scanned, 0% done")
    assert facts(made, collection).use == Unknown("the retained log is still being read back, 0% done")


def status(made: Rig, collection: Collection, **hooks: Hook) -> Status:
    return Status(collection, hooks, host="mx1.example.com", clock=made.clock)


def test_page_of_a_running_qmail(rig: MakeRig) -> None:
    """The page has the last hour as it went by, and no address of anybody, though the log and the queue are full of them."""
    made = rig()
    collection = made.collection()
    settle(collection)
    shown = status(made, collection)
    for _ in range(30):
        made.send(b"secret.name@x.example", b"defer@y.example", sender=b"private.sender@mail.test")
        made.qmail.run_until(made.clock.now + 5)
        collection.refresh(1.0)
        shown.step()
    html = shown.page()
    assert "y.example" in html
    assert "30 messages; 30 at last." in html
    assert 'class="bar success"' in html
    for secret in ("secret.name", "private.sender", "@x.example", "@y.example", "@mail.test"):
        assert secret not in html


def test_step_without_a_descriptor(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file can be opened to have the page's template ready, the last hour goes on; it is read when it is asked for."""
    made = rig()
    collection = made.collection()
    settle(collection)
    asked: list[None] = []

    def refused() -> None:
        asked.append(None)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(document, "template", refused)
    shown = status(made, collection)
    for _ in range(3):
        made.clock.now += 5
        shown.step()
    assert len(asked) == 1
    monkeypatch.undo()
    assert "<html" in shown.page()


def test_hook_is_told_of(rig: MakeRig) -> None:
    """The page tells the hook's state, its actions and the last decision not to act."""
    made = rig()
    collection = made.collection()
    hook = Hook(
        "default",
        HookConfig(tcpok=True),
        {},
        table=lambda: read_tcpto(str(made.queue)),
        ports=dict,
        clock=made.clock,
    )
    hook.record.started = NOW - 100
    hook.record.last_skip = NOW - 50, "no_dead_hosts"
    settle(collection)
    network = facts(made, collection, default=hook).network
    assert not isinstance(network, Unknown)
    assert (network.state, network.started, network.skip) == ("clear", NOW - 100, (NOW - 50, "no_dead_hosts"))


def test_history_is_of_the_queue_that_is_there(rig: MakeRig) -> None:
    """When a collection's queues are replaced, the hours of those that went go with them, at the next step that is due."""
    made, other = rig(), rig()
    collection, second = made.collection(), other.collection()
    settle(collection)
    shown = status(made, collection)
    shown.step()
    first, collection.queues = collection.queues, second.queues
    shown.step()
    assert list(shown._histories) == first
    made.clock.now += STEP
    shown.step()
    assert list(shown._histories) == second.queues
    assert [len(history.points()) for history in shown._histories.values()] == [1]


@pytest.mark.parametrize("depth", [3, 60])
def test_cost_does_not_grow_with_the_queue(rig: MakeRig, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make the page no message is read: neither from the disk nor from the table that holds them."""
    made = rig()
    for _ in range(depth):
        made.send(b"defer@x.example")
    made.qmail.pump()
    collection = made.collection()
    settle(collection)

    def refuse(*_: Any) -> Any:
        raise AssertionError("a message was read")

    for name in ("get", "__iter__", "bucket"):
        monkeypatch.setattr(f"qmail_exporter.queue.table.Table.{name}", refuse)
    monkeypatch.setattr("qmail_exporter.sources.scan.Tree.look", refuse)
    assert f">{depth}<" in status(made, collection).page()
