"""A scrape shows what had happened when it began, at a cost that does not follow the number of marks."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qmail_exporter.collect import Collection
from qmail_exporter.demo.qmail import run
from qmail_exporter.formats.envelope import Message
from qmail_exporter.sources.scan import Tree
from rig import NOW, Rig, family, ledger_state, settle, shown

MakeRig = Callable[..., Rig]


@pytest.fixture
def watched(rig: MakeRig) -> tuple[Rig, Collection]:
    """A queue with a waiting message, and a collection that has read it."""
    made = rig()
    made.send(b"defer@x.example", b"ok-60@y.example")
    made.qmail.pump()
    collection = made.collection()
    settle(collection)
    return made, collection


def value(made: Rig, collection: Collection, name: str, *labels: str) -> float:
    """Scrape, and return one value."""
    collection.refresh(0.5)
    return family(made.series(collection), name)[labels]


def test_every_call_of_qmail_shows_at_once(rig: MakeRig) -> None:
    """After each single call of qmail-queue and qmail-send, from first to last, a scrape equals the simulator's ledger."""
    made = rig()
    collection = made.collection()
    settle(collection)
    calls = 0
    for sender in (b"a@mail.test", b"", b"#@[]"):
        program = made.qmail.inject(sender, [b"ok@x.example", b"fail@y.example", b"defer@z.example", b"joe"])
        while next(program, None) is not None or made.qmail.step() is not None:
            collection.refresh(0.5)
            assert shown(made.series(collection)) == ledger_state(made.qmail)
            calls += 1
    assert calls > 60
    assert collection.queues[0].sweeps.done.total() == 1


def test_touch_shows_at_once(watched: tuple[Rig, Collection]) -> None:
    """A touched info file changes the age, both ways, and leaves the arrival."""
    made, collection = watched
    (msg,) = made.qmail.ledger.messages
    for birth in (NOW - 700_000, NOW + 60):
        made.qmail.touch(msg, birth)
        assert value(made, collection, "qmail_queue_oldest_message_timestamp_seconds") == birth
        assert value(made, collection, "qmail_queue_oldest_arrival_timestamp_seconds") == NOW
        assert value(made, collection, "qmail_queue_expiring_messages", "0") == (birth < NOW)


def test_control_files_and_tcpto_show_at_once(watched: tuple[Rig, Collection]) -> None:
    """So do a control file and the tcpto table."""
    made, collection = watched
    (made.home / "control" / "queuelifetime").write_text("1234\n")
    assert value(made, collection, "qmail_control_queuelifetime_seconds") == 1234
    (made.home / "control" / "queuelifetime").unlink()
    assert value(made, collection, "qmail_control_queuelifetime_seconds") == 604800
    made.send(b"hole@z.example")
    made.qmail.pump()
    assert value(made, collection, "qmail_tcpto_hosts", "suspect") == 1
    made.qmail.tcpok()
    assert value(made, collection, "qmail_tcpto_hosts", "suspect") == 0


def test_restart_and_rotation_show_at_once(watched: tuple[Rig, Collection]) -> None:
    """A restart of qmail-send counts, and moves next attempts to the files' times; a rotated log goes on."""
    made, collection = watched
    made.clock.now += 60
    made.qmail.pump()
    made.qmail.stop()
    made.qmail.pump()
    made.log.rotate()
    made.qmail.start()
    made.log.rotate()
    assert value(made, collection, "qmail_send_restarts_total") == 1
    settle(collection)
    name = "qmail_queue_next_attempt_seconds_gsum"
    (remote,) = (due for due, _ in made.qmail._send.schedule.due["remote"])  # type: ignore[union-attr]
    assert value(made, collection, name, "remote") == remote - made.clock.now


def test_removed_and_moved_files_show_at_once(watched: tuple[Rig, Collection]) -> None:
    """Whatever else an administrator does to a message's files: unlink, rename away, put back."""
    made, collection = watched
    (msg,) = made.qmail.ledger.messages
    for kind, name in (("remote", "qmail_domain_pending_recipients"), ("mess", "qmail_queue_messages")):
        path = made.qmail.path(kind, msg)
        labels = ("x.example",) if kind == "remote" else ()
        assert value(made, collection, name, *labels) == 1
        os.rename(path, made.home / "aside")
        collection.refresh(0.5)
        assert not family(made.series(collection), name).get(labels)
        os.rename(made.home / "aside", path)
        assert value(made, collection, name, *labels) == 1
    made.qmail.path("bounce", msg).write_bytes(b"<x@y>:\nno\n")
    assert value(made, collection, "qmail_queue_failed_messages") == 1
    made.qmail.path("bounce", msg).unlink()
    assert value(made, collection, "qmail_queue_failed_messages") == 0


def test_long_list_costs_by_looks_and_not_by_marks(
    rig: MakeRig, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message's 100,000 recipients are marked one by one: its file is read at scrapes, and rarely at ticks."""
    made = rig(home=in_memory / "qmail", start=False)
    msg = made.send(b"defer@x.example")
    made.qmail.start()
    made.qmail.pump()
    path = made.qmail.path("remote", msg)
    record = b"Treader%05d@list%02d.example\0"
    path.write_bytes(b"".join(record % (n, n % 50) for n in range(100_000)))
    collection = made.collection()
    settle(collection)
    began = time.process_time()
    collection.queues[0].look_at(msg)
    one_look = time.process_time() - began
    looks: list[int] = []
    look = Tree.look

    def counted(tree: Tree, msg: int) -> Message | None:
        looks.append(msg)
        return look(tree, msg)

    monkeypatch.setattr(Tree, "look", counted)
    size = path.stat().st_size // 100_000
    ticks = scrapes = 0
    spent = 0.0
    with path.open("r+b", buffering=0) as file:
        for mark in range(20_000):
            file.seek(mark * size)
            file.write(b"D")
            if mark % 200 == 0:
                began = time.process_time()
                collection.tick()
                ticks += 1
                if mark % 2000 == 0:
                    collection.refresh(5.0)
                    pending = family(made.series(collection), "qmail_queue_recipients")["remote", "pending"]
                    assert pending == 100_000 - mark - 1
                    scrapes += 1
                spent += time.process_time() - began
    assert (ticks, scrapes) == (100, 10)
    assert len(looks) <= scrapes + 3
    # Beside the looks only events are read: two a mark, where the kernel does not fold them.
    assert spent < 4 * one_look * (scrapes + 3) + 20_000 * 50e-6


def test_put_off_look_comes_in_the_end(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that takes long is put off by ticks, not by scrapes, and comes when its time has come."""
    monkeypatch.setattr("qmail_exporter.collect.directory.COSTLY", 0.0)
    monkeypatch.setattr("qmail_exporter.collect.directory.LONG", 0)
    made = rig()
    msg = made.send(b"defer@x.example", b"defer@y.example")
    made.qmail.pump()
    collection = made.collection()
    settle(collection)
    watch = collection.queues[0]
    made.qmail.touch(msg, NOW - 5)
    watch.read_events()
    watch.look_at(msg)
    watch.pending = {msg}
    watch._costly[msg] = time.monotonic() + 60
    collection.tick()
    assert watch.pending == {msg}
    assert not watch.behind
    watch._costly[msg] = 0.0
    collection.tick()
    assert not watch.pending


def test_budget_leaves_the_rest_for_later(rig: MakeRig) -> None:
    """Looks for which the time did not suffice are shown as pending, in every queue, and are done in steps."""
    made = rig(start=False)
    for _ in range(50):
        made.send(b"ok@x.example")
    collection = made.collection()
    settle(collection)
    watch = collection.queues[0]
    watch.pending |= set(watch.queue)
    collection.refresh(0.0)
    assert family(made.series(collection), "qmail_exporter_pending_looks") == {(): 50.0}
    assert collection.busy
    while collection.busy:
        collection.step()
    assert not watch.pending


def test_scrape_during_the_first_scan_shows_no_zero(rig: MakeRig) -> None:
    """Until the scan is done the queue's series are absent, the exporter's own are there, and it is not ready."""
    made = rig(start=False)
    run(made.qmail.inject(b"a@mail.test", [b"x@y.example"]))
    collection = made.collection()
    assert not collection.ready
    collection.tick()
    seen = made.series(collection)
    assert not collection.ready
    assert not family(seen, "qmail_queue_messages")
    assert family(seen, "qmail_up") == {(): 0.0}
    assert family(seen, "qmail_exporter_scan_progress_ratio") == {(): 0.0}
    settle(collection)
    assert collection.ready
