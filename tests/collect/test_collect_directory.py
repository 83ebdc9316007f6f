"""Queues that come, go, are replaced, or cannot be watched."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.collect import Collection, directory, everywhere
from qmail_exporter.collect.sweeps import Sweeps
from qmail_exporter.demo.qmail import Clock
from qmail_exporter.queue.share import Share
from qmail_exporter.sources import inotify
from qmail_exporter.sources.apart import ApartError, Step
from qmail_exporter.sources.inotify import Watcher, WatchError
from qmail_exporter.sources.scan import Tree
from queuedir import copy_queue
from rig import NOW, Rig, family, ledger_state, series, settle, shown, state, watching
from soak.held import open_descriptors
from soak.rights import bound_by_modes

MakeRig = Callable[..., Rig]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at every tick what could not be opened, read or watched."""
    monkeypatch.setattr(directory, "PATIENCE", 0.0)
    monkeypatch.setattr(directory, "RARELY", 0)


@pytest.fixture
def watched(rig: MakeRig) -> tuple[Rig, Collection]:
    """A queue with some messages, and a collection that has read it."""
    made = rig()
    for _ in range(5):
        made.send(b"defer@x.example", b"fail@y.example")
    made.qmail.pump()
    collection = made.collection()
    settle(collection)
    return made, collection


def check_equals_fresh(made: Rig, collection: Collection) -> None:
    """Check a collection against the simulator, and a collection that comes new to the same queue."""
    settle(collection)
    seen = made.series(collection)
    assert shown(seen) == ledger_state(made.qmail)
    fresh = made.collection()
    settle(fresh)
    assert state(seen) == state(made.series(fresh))


def test_no_queue_is_one_line_and_no_zero(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a queue one line says so, every source is down, and no state is shown; there is nothing to be busy with."""
    collection = watching([tmp_path])
    for _ in range(3):
        collection.tick()
        assert not collection.queues[0].sweeps.due
    settle(collection)
    (line,) = [record for record in caplog.records if record.name.endswith("directory")]
    assert "no queue to be read" in line.getMessage()
    seen = dict(family(shown_by(collection), "qmail_exporter_source_up"))
    assert {source for (source,), up in seen.items() if up} <= {"processes"}
    assert ("mess",) in seen
    names = {name for name, _ in shown_by(collection)}
    assert not any(name.startswith(("qmail_queue_", "qmail_domain_")) for name in names)
    assert collection.ready
    collection.close()


def shown_by(collection: Collection) -> dict[Any, float]:
    """Return a collection's series at some moment."""
    return series(collection, NOW)


def test_queue_and_log_that_appear_are_picked_up(rig: MakeRig, tmp_path: Path) -> None:
    """A queue that appears after its log, and a log that appears after its queue: all is known in the end."""
    made = rig()
    made.send(b"defer@x.example")
    made.qmail.pump()
    for late in ("queue", "log"):
        os.rename(made.home / late, tmp_path / late)
        collection = made.collection()
        settle(collection)
        seen = made.series(collection)
        assert not family(seen, "qmail_domain_deferred_recipients")
        assert bool(family(seen, "qmail_queue_messages")) == (late == "log")
        os.rename(tmp_path / late, made.home / late)
        check_equals_fresh(made, collection)


def test_restored_queue_is_read_anew(watched: tuple[Rig, Collection], tmp_path: Path) -> None:
    """A queue replaced by a copy of it is opened anew, watched, and exact, with what the log told of its messages."""
    made, collection = watched
    copy_queue(made.queue, tmp_path / "copy")
    os.rename(made.queue, tmp_path / "old")
    os.rename(tmp_path / "copy", made.queue)
    check_equals_fresh(made, collection)
    assert collection.queues[0].sweeps.done["replaced"] == 1
    made.send(b"defer@z.example")
    made.qmail.pump()
    collection.refresh(1.0)
    assert shown(made.series(collection)) == ledger_state(made.qmail)


def test_removed_queue_is_absent(watched: tuple[Rig, Collection]) -> None:
    """A queue that is removed has no series; its counters stay."""
    made, collection = watched
    shutil.rmtree(made.queue)
    collection.refresh(1.0)
    seen = made.series(collection)
    assert not any(name.startswith(("qmail_queue_m", "qmail_domain_p")) for name, _ in seen)
    assert family(seen, "qmail_up") == {(): 0.0}
    assert family(seen, "qmail_messages_total") == {(): 0.0}


@pytest.mark.parametrize("area", ["mess", "info", "remote/1", "todo", "bounce"])
def test_replaced_directory_is_noticed(watched: tuple[Rig, Collection], area: str, tmp_path: Path) -> None:
    """Any directory of the queue that is replaced by a copy is watched again."""
    made, collection = watched
    path = made.queue / area
    shutil.copytree(path, tmp_path / "copy")
    os.rename(path, tmp_path / "old")
    os.rename(tmp_path / "copy", path)
    check_equals_fresh(made, collection)
    made.send(b"defer@x.example")
    made.qmail.pump()
    collection.refresh(1.0)
    assert shown(made.series(collection)) == ledger_state(made.qmail)


def _counted(made: Rig, collection: Collection) -> dict[tuple[str, ...], float]:
    counts = family(made.series(collection), "qmail_deliveries_total")
    return {labels: count for labels, count in counts.items() if count}


def test_lines_that_come_while_a_replaced_queue_is_read_are_counted(
    watched: tuple[Rig, Collection], tmp_path: Path
) -> None:
    """However often the queue is replaced before the log has been read back again, each line counts, and just once."""
    made, collection = watched
    collection.refresh(1.0)
    before = dict(made.qmail.ledger.results)
    for number in range(3):
        made.send(b"ok@x.example", b"defer@y.example")
        made.qmail.pump(60)
        copy_queue(made.queue, tmp_path / f"copy{number}")
        os.rename(made.queue, tmp_path / f"old{number}")
        os.rename(tmp_path / f"copy{number}", made.queue)
        collection.tick()
        assert not collection.logs[0].recalled
        made.send(b"fail@z.example", b"ok@z.example", b"ok-90@z.example")
        made.qmail.pump()
        made.clock.now += 50
        collection.refresh(1.0)
    made.qmail.run_until(made.clock.now + 90)
    settle(collection)
    assert collection.queues[0].renewals == 4
    after = made.qmail.ledger.results
    assert _counted(made, collection) == {key: count - before.get(key, 0) for key, count in after.items()}
    check_equals_fresh(made, collection)


def test_log_is_read_to_its_end_before_it_is_read_back(
    watched: tuple[Rig, Collection], tmp_path: Path
) -> None:
    """A long log that waits when the queue is replaced is counted first, line by line."""
    made, collection = watched
    for number in range(10_000):
        made.log(b"warning: trouble opening %d" % number)
    os.rename(made.queue, tmp_path / "old")
    copy_queue(tmp_path / "old", made.queue)
    collection.tick()
    assert collection.logs[0].recalled
    assert collection.logs[0].behind
    settle(collection)
    counts = family(made.series(collection), "qmail_exporter_log_lines_total")
    assert counts["complaint",] == 10_000
    check_equals_fresh(made, collection)


def test_reopening_leaks_no_descriptor(watched: tuple[Rig, Collection], tmp_path: Path) -> None:
    """However often a queue goes and comes, the descriptors are as many as at first."""
    made, collection = watched
    before = len(open_descriptors())
    for _ in range(20):
        os.rename(made.queue, tmp_path / "aside")
        settle(collection)
        os.rename(tmp_path / "aside", made.queue)
        settle(collection)
    assert len(open_descriptors()) == before
    assert shown(made.series(collection)) == ledger_state(made.qmail)


def test_unwatched_queue_is_polled(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without inotify the queue is read whole every so often, its series stay, and up is 0; it is watched once it can be."""
    made = rig(start=False)
    made.send(b"x@y.example")

    def refuse(*_: object, **__: object) -> Watcher:
        raise WatchError(
            28, "no more inotify watches to be had: raise sysctl fs.inotify.max_user_watches", "/q"
        )

    monkeypatch.setattr(directory, "Watcher", refuse)
    collection = made.collection()
    settle(collection)
    watch = collection.queues[0]
    for _ in range(3):
        collection.tick()
        assert not watch.sweeps.due
    assert watch.scanned
    assert not watch.whole
    assert len([r for r in caplog.records if "not watched" in r.getMessage()]) == 1
    made.send(b"x@y.example")
    watch._next_audit = 0.0
    settle(collection)
    assert len(watch.queue) == 2
    assert watch.sweeps.done["poll"] == 1
    monkeypatch.setattr(directory, "Watcher", Watcher)
    settle(collection)
    assert watch.whole


def test_attempt_to_watch_that_takes_long_is_seldom_made(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that took half a second, as with a million names, is made again after a hundred; and then succeeds."""
    made = rig(start=False)
    clock = Clock(0.0)
    attempts: list[float] = []

    def refuse(*_: object, **__: object) -> Watcher:
        attempts.append(clock.now)
        clock.now += 0.5
        raise WatchError(28, "no more inotify watches to be had", "/q")

    monkeypatch.setattr(directory, "Watcher", refuse)
    monkeypatch.setattr(directory, "RARELY", 200)
    monkeypatch.setattr(directory, "monotonic", clock)
    collection = made.collection()
    settle(collection)
    watch = collection.queues[0]
    for _ in range(400):
        clock.now += 1
        watch.tick()
    waits = [after - before for before, after in pairwise(attempts[1:])]  # the first is that of the opening
    assert len(waits) >= 3
    assert all(100.5 <= wait <= 102 for wait in waits)
    monkeypatch.setattr(directory, "Watcher", Watcher)
    clock.now += 101
    settle(collection)
    assert watch.whole


def test_unwatched_area_does_not_rescan_for_ever(
    watched: tuple[Rig, Collection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a directory cannot be watched the rest stays known, and nothing is read again for it."""
    made, _ = watched
    watch_one = Watcher._watch
    denied = [True]

    def deny(self: Watcher, area: str, path: str, mask: int) -> None:
        if denied[0] and area == "bounce":
            self.unwatched.setdefault(area, OSError(13, "Permission denied", path))
        else:
            watch_one(self, area, path, mask)

    monkeypatch.setattr(inotify.Watcher, "_watch", deny)
    collection = made.collection()
    settle(collection)
    watch = collection.queues[0]
    for _ in range(3):
        settle(collection)
    assert watch.sweeps.done.total() == 1
    assert family(made.series(collection), "qmail_up") == {(): 0.0}
    assert family(made.series(collection), "qmail_queue_messages") == {(): 5.0}
    denied.clear()
    denied.append(False)
    settle(collection)
    assert family(made.series(collection), "qmail_up") == {(): 1.0}


def test_audit_counts_what_no_event_told_of(watched: tuple[Rig, Collection]) -> None:
    """A change whose event is lost without a word is found by the next audit, and is drift; others are none."""
    made, collection = watched
    watch = collection.queues[0]
    watch._next_audit = 0.0
    made.send(b"defer@x.example")
    made.qmail.pump()
    settle(collection)
    collection.tick()
    assert watch.sweeps.done["audit"] == 1
    assert watch.sweeps.drift == 0
    made.qmail.touch(next(iter(made.qmail.ledger.messages)), 5.0)
    assert watch.watcher is not None
    watch.watcher.read()
    watch._next_audit = 0.0
    settle(collection)
    collection.tick()
    assert watch.sweeps.drift == 1


def test_what_an_unreadable_area_hides_is_no_drift(watched: tuple[Rig, Collection]) -> None:
    """An audit while a directory cannot be read finds its recipients gone, which is no change that an event should tell of."""
    made, collection = watched
    watch = collection.queues[0]
    remote = made.queue / "remote"
    mode = remote.stat().st_mode
    remote.chmod(0)
    with bound_by_modes():
        watch._next_audit = 0.0
        settle(collection)
        collection.tick()
        assert watch.sweeps.done["audit"] == 1
        assert not watch.knows("remote")
    remote.chmod(mode)
    check_equals_fresh(made, collection)
    assert watch.sweeps.drift == 0


def test_message_being_received_is_no_drift(watched: tuple[Rig, Collection]) -> None:
    """A message that grows while qmail-queue receives it has no event for that, and is no drift."""
    made, collection = watched
    program = made.qmail.inject(b"a@mail.test", [b"x@y.example"], b"x" * 9000)
    while next(program) != "mess write":
        pass
    settle(collection)
    next(program)
    watch = collection.queues[0]
    watch._next_audit = 0.0
    settle(collection)
    collection.tick()
    assert watch.sweeps.done["audit"] == 1
    assert watch.sweeps.drift == 0
    program.close()


def test_malformed_message_is_told_once(
    watched: tuple[Rig, Collection], caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is not qmail's makes up 0 and one line, keeps what was known, and is read again until it is good."""
    made, collection = watched
    msg = next(iter(made.qmail.ledger.messages))
    path = made.qmail.path("remote", msg)
    good = path.read_bytes()
    path.write_bytes(b"nonsense")
    for _ in range(3):
        settle(collection)
    assert family(made.series(collection), "qmail_up") == {(): 0.0}
    assert family(made.series(collection), "qmail_exporter_source_errors_total")["format", "queue"] == 1
    assert len([record for record in caplog.records if "malformed" in record.getMessage()]) == 1
    path.write_bytes(good)
    settle(collection)
    assert family(made.series(collection), "qmail_up") == {(): 1.0}


def test_message_without_memory(
    watched: tuple[Rig, Collection], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A message for which there is no memory makes up 0 and one line, and is looked at again until there is."""
    made, collection = watched
    watch = collection.queues[0]

    def without(*_: object) -> bool:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(watch.queue, "apply", without)
        msg = made.send(b"defer@x.example")
        collection.refresh(1.0)
        collection.refresh(1.0)
    assert family(made.series(collection), "qmail_up") == {(): 0.0}
    assert family(made.series(collection), "qmail_exporter_source_errors_total")["memory", "queue"] == 1
    assert msg not in watch.queue
    assert [record.getMessage() for record in caplog.records] == ["no memory for a message"]
    settle(collection)
    assert family(made.series(collection), "qmail_up") == {(): 1.0}
    assert msg in watch.queue


def test_queue_replaced_while_its_log_is_away(watched: tuple[Rig, Collection]) -> None:
    """A log that is back counts from where it was read to, and tells of the messages of a queue that was replaced meanwhile."""
    made, collection = watched
    before = family(made.series(collection), "qmail_exporter_log_lines_total")
    away = made.home / "away"
    (made.home / "log").rename(away)
    collection.refresh(1.0)
    subprocess.run(["cp", "-a", str(made.queue), str(made.home / "copy")], check=True)
    made.queue.rename(made.home / "old")
    (made.home / "copy").rename(made.queue)
    settle(collection)
    away.rename(made.home / "log")
    settle(collection)
    settle(collection)
    assert family(made.series(collection), "qmail_exporter_log_lines_total") == before
    deferred = family(made.series(collection), "qmail_domain_deferred_recipients")
    assert deferred == {("x.example", "greylist"): 5.0}


def test_queue_replaced_during_a_sweep(watched: tuple[Rig, Collection], tmp_path: Path) -> None:
    """A sweep whose directory goes under it is given up, and the next one is whole."""
    made, collection = watched
    watch = collection.queues[0]
    watch.sweeps.want("overflow")
    watch.sweep()
    os.rename(made.queue, tmp_path / "aside")
    shutil.copytree(tmp_path / "aside", made.queue, ignore=shutil.ignore_patterns("trigger"))
    os.mkfifo(made.queue / "lock" / "trigger")
    watch.read_events()
    check_equals_fresh(made, collection)


def test_queue_without_permission_names_its_path(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When mess cannot be listed the line has its whole path, and the error is counted."""
    made = rig(start=False)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "mess")

    monkeypatch.setattr(Tree, "_survey", refuse)
    collection = made.collection()
    collection.tick()
    (record,) = [record for record in caplog.records if "no queue to be read" in record.getMessage()]
    assert record.fields["path"] == str(made.queue / "mess")  # type: ignore[attr-defined]
    assert collection.queues[0].errors["queue", "open"] == 1


def test_deferral_of_an_unknown_message_brings_a_look(watched: tuple[Rig, Collection]) -> None:
    """A message whose events were lost without a word is looked at when the log tells of its deferral."""
    made, collection = watched
    watch = collection.queues[0]
    made.send(b"full@late.example")
    made.qmail.pump()
    assert watch.watcher is not None
    watch.watcher.read()
    collection.refresh(1.0)
    assert (
        family(made.series(collection), "qmail_domain_deferred_recipients")["late.example", "mailbox_full"]
        == 1
    )


def test_unwatched_queue_that_is_replaced_is_noticed(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without events too: a tick sees that the path leads elsewhere."""
    made = rig(start=False)

    def refuse(*_: object, **__: object) -> Watcher:
        raise WatchError(28, "no more inotify watches to be had", "/q")

    monkeypatch.setattr(directory, "Watcher", refuse)
    collection = made.collection()
    settle(collection)
    shutil.copytree(made.queue, tmp_path / "copy", ignore=shutil.ignore_patterns("trigger"))
    os.rename(made.queue, tmp_path / "old")
    os.rename(tmp_path / "copy", made.queue)
    settle(collection)
    assert collection.queues[0].sweeps.done["replaced"] == 1


def test_area_that_can_be_read_again(
    watched: tuple[Rig, Collection], caplog: pytest.LogCaptureFixture
) -> None:
    """What an area's files could not tell while it was broken is read, and what the log told meanwhile, once it is not."""
    caplog.set_level("INFO")
    made, collection = watched
    watch = collection.queues[0]
    assert watch.tree is not None
    watch.tree.broken["remote"] = OSError(5, "Input/output error", str(made.queue / "remote" / "0"))
    watch._next_try = float("inf")
    collection.tick()
    seen = made.series(collection)
    assert family(seen, "qmail_exporter_source_up")["remote",] == 0
    assert not family(seen, "qmail_domain_pending_recipients")
    watch._next_try = 0.0
    check_equals_fresh(made, collection)
    assert watch.sweeps.done["readable"] == 1
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("cannot read remote: Input/output error") == 1
    assert messages.count("readable again") == 1


def test_reused_number_is_looked_at_though_put_off(watched: tuple[Rig, Collection]) -> None:
    """When the log names a message as new whose number's look was put off, it is looked at before that is taken in."""
    made, collection = watched
    watch = collection.queues[0]
    msg = next(iter(made.qmail.ledger.messages))
    watch._costly[msg] = float("inf")
    watch.pending = {msg}
    made.log(b"new msg %d" % msg)
    collection.refresh(1.0, exact=False)
    assert msg in watch.pending
    made.qmail.touch(msg, 77.0)
    made.log(b"new msg %d" % msg)
    collection.refresh(1.0, exact=False)
    assert family(made.series(collection), "qmail_queue_oldest_message_timestamp_seconds") == {(): 77.0}


# --- sweeps


def test_sweep_wanted_during_a_sweep_comes_after_it() -> None:
    """What is lost while one is under way is in doubt until the next has ended; an audit casts no doubt."""
    sweeps = Sweeps()
    sweeps.want("start")

    def walk(_: str) -> Iterator[float]:
        return iter((0.5,))

    assert not sweeps.step(walk)
    sweeps.want("audit")
    sweeps.want("overflow")
    sweeps.want("readable")
    assert sweeps.step(walk)
    assert sweeps.in_doubt
    assert sweeps.due
    assert not sweeps.step(walk)
    assert sweeps.step(walk)
    assert not sweeps.in_doubt
    assert not sweeps.due
    assert sweeps.done == {"start": 1, "overflow": 1}
    assert not sweeps.step(walk)


def test_sweep_that_fails_is_wanted_again() -> None:
    """A sweep that raises has not ended, whatever its iterator gives then: it is begun again, for the same reason or a better one."""
    sweeps = Sweeps()
    sweeps.want("start")
    failing = [True]

    def walk(_: str) -> Iterator[float]:
        yield 0.5
        if failing:
            raise MemoryError

    assert not sweeps.step(walk)
    with pytest.raises(MemoryError):
        sweeps.step(walk)
    assert sweeps.due
    assert sweeps.in_doubt
    failing.clear()
    assert not sweeps.step(walk)
    assert sweeps.step(walk)
    assert not sweeps.in_doubt
    assert sweeps.done == {"start": 2}


def test_abandoned_sweep_does_not_end() -> None:
    """A sweep that is abandoned in the middle of a step leaves doubt, and its end is not taken for one."""
    sweeps = Sweeps()
    sweeps.want("start")

    def walk(_: str) -> Any:
        sweeps.abandon()
        return
        yield

    assert not sweeps.step(walk)
    assert sweeps.in_doubt
    assert not sweeps.due


# --- other processes


def test_scan_in_other_processes_does_not_undo_looks(rig: MakeRig) -> None:
    """A message that changed, or went, since other processes looked at it is looked at when all that they found is here."""
    made = rig()
    msgs = [made.send(b"defer@x.example", b"defer@y.example") for _ in range(3)]
    msgs += [made.send(b"defer@x.example") for _ in range(3)]
    made.qmail.pump()
    collection = made.collection()
    collection.tick()
    watch = collection.queues[0]
    watch.sweep()
    assert watch.apart
    assert watch.tree is not None
    assert list(watch.cover(watch.tree)) == list(range(watch.tree.split))
    for first, second in ((msgs[0], msgs[1]), (msgs[3], msgs[4])):
        made.qmail.touch(first, NOW - 50)
        os.unlink(made.qmail.path("mess", second))
    made.qmail.path("remote", msgs[2]).write_bytes(b"Ddefer@x.example\0Tdefer@y.example\0")
    made.qmail.path("remote", msgs[5]).write_bytes(b"Ddefer@x.example\0")
    collection.refresh(1.0)
    assert watch.pending >= set(msgs)
    assert not watch.look_at(msgs[0])
    made.send(b"joe")
    settle(collection)
    assert set(watch.queue) == {int(path.name) for path in (made.queue / "mess").glob("*/*")}
    fresh = made.collection()
    settle(fresh)
    assert state(made.series(collection)) == state(made.series(fresh))
    assert not watch.apart


def test_log_waits_for_other_processes(rig: MakeRig) -> None:
    """While other processes scan for a queue that was empty, its log is left unread, and other queues' logs are not."""
    made, other = rig(), rig()
    collection = made.keep(watching([made.home, other.home]))
    settle(collection)
    watch = collection.queues[0]
    watch.sweeps.want("overflow")
    watch.sweep()
    assert watch.apart
    for one in (made, other):
        one.send(b"hole-60@x.example")
        one.qmail.pump()
    collection.refresh(1.0)
    assert watch.apart
    assert [queue.flow.traffic.messages for queue in collection.queues] == [0, 1]
    settle(collection)
    assert [queue.flow.traffic.messages for queue in collection.queues] == [1, 1]
    fresh = made.keep(watching([made.home, other.home]))
    settle(fresh)
    assert state(made.series(collection)) == state(made.series(fresh))


def test_reading_back_waits_for_other_processes(rig: MakeRig) -> None:
    """A log is not read back again while other processes scan, as nothing could be looked at of which it tells."""
    made = rig()
    collection = made.collection()
    settle(collection)
    watch, log = collection.queues[0], collection.logs[0]
    watch.sweeps.want("overflow")
    watch.sweep()
    assert watch.apart
    watch.renewals += 1  # as an area that has become readable makes it
    collection.refresh(1.0)
    assert watch.apart
    assert log.recalled
    settle(collection)
    assert collection._renewals == {watch.name: watch.renewals}
    assert log.recalled


def test_audit_of_a_model_without_messages_counts_drift(rig: MakeRig) -> None:
    """A message that came without an event to a queue that was empty is found by the next audit, and is drift."""
    made = rig()
    collection = made.collection()
    settle(collection)
    watch = collection.queues[0]
    made.send(b"defer@x.example")
    assert watch.watcher is not None
    watch.watcher.read()
    watch._next_audit = 0.0
    settle(collection)
    collection.tick()
    assert watch.sweeps.done["audit"] == 1
    assert watch.sweeps.drift == 1


def test_failed_other_process_is_made_up_for(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no other process can be had, or one dies in the middle, this one scans, and all is there."""
    caplog.set_level("INFO")
    made = rig()
    for _ in range(5):
        made.send(b"defer@x.example")
    made.qmail.pump()

    class Dying:
        def __init__(self, tree: Tree, gather: Callable[[], Share]) -> None:
            self._glances = [
                (msg, *message[:2], int(message.sender), message.birth, message.info_changed, *file[:0:-1])
                for step in tree.scan(lambda _: False)
                for msg, message in step.found
                for file in message.channels
                if message.sender is not None and message.birth is not None
            ]
            self._share = gather()
            self._left = 2

        def __iter__(self) -> "Dying":
            return self

        def __next__(self) -> Step:
            self._left -= 1
            if not self._left:
                raise ApartError(32, "a scanning process ended early", "/queue")
            assert not self._share.add("remote", self._glances[:3])
            assert len(self._glances) == 5
            return Step([], self._share.pack(), 0.5)

        def admit(self, number: int) -> None:
            pass

        def close(self) -> None:
            pass

    def refuse(_: Tree, __: object) -> Dying:
        raise ApartError(11, "no other process", "/queue")

    monkeypatch.setattr(everywhere, "_STEP", 1)
    for scan, held in (Dying, 3), (refuse, 0):
        monkeypatch.setattr(everywhere, "scan_apart", scan)
        watch = made.collection().queues[0]
        watch.tick()
        assert watch.tree is not None
        # A step for each message that was held by then, so that nobody waits for all of them.
        progress = set(everywhere.everywhere(watch, watch.tree, "start"))
        assert progress >= {looked / held / 2 for looked in range(1, held + 1)}
        collection = made.collection()
        settle(collection)
        assert shown(made.series(collection)) == ledger_state(made.qmail)
    assert len([record for record in caplog.records if "in one process" in record.getMessage()]) == 4


def test_queue_that_goes_during_a_scan_ends_its_processes(rig: MakeRig, tmp_path: Path) -> None:
    """A scan whose queue is removed leaves no process and no descriptor."""
    made = rig()
    made.send(b"defer@x.example")
    before = len(open_descriptors())
    collection = made.collection()
    collection.tick()
    collection.queues[0].sweep()
    os.rename(made.queue, tmp_path / "aside")
    collection.tick()
    assert not collection.queues[0].sweeps.due
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    collection.close()
    assert len(open_descriptors()) == before
    os.rename(tmp_path / "aside", made.queue)
