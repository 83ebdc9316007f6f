"""A log beside the queue: read back once, then followed; missing, unreadable, behind, shared by several queues."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from qmail_exporter.collect import Collection, HostWatch, LogWatch, QueueWatch
from qmail_exporter.collect import log as log_module
from qmail_exporter.demo.multilog import Multilog
from qmail_exporter.queue import Flow, Queue
from qmail_exporter.sources.logs import Batch, open_log
from rig import NOW, Rig, family, ledger_state, settle, shown

MakeRig = Callable[..., Rig]


class Feed:
    """A follower that gives what it is told to give: lists of lines, or errors to raise."""

    path = "/log"
    present = True
    behind = False

    def __init__(self, *old: bytes | OSError) -> None:
        self.losses: Counter[str] = Counter()
        self.old = list(old)
        self.new: list[bytes | OSError] = []
        self.closed = False

    def backfill(self) -> Iterator[Batch]:
        """Give the old lines, or the error that stands first."""
        if self.old and isinstance(self.old[0], OSError):
            raise self.old.pop(0)  # type: ignore[misc]
        return self._fill()

    def _fill(self) -> Iterator[Batch]:
        while self.old:
            yield self._batch(self.old)

    def read(self, limit: int = 0) -> Batch:
        """Give the next new line, or raise the error that stands there."""
        del limit
        return self._batch(self.new) if self.new else Batch([])

    def _batch(self, lines: list[bytes | OSError]) -> Batch:
        line = lines.pop(0)
        if isinstance(line, OSError):
            raise line
        return Batch([line], [NOW])

    def listen(self) -> None:
        """There is nothing to listen to."""

    def lag_bytes(self) -> int:
        """Tell how much is left."""
        return len(self.new)

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def watch_feed(feed: Feed) -> tuple[LogWatch, Flow]:
    """Return a log of one queue that is fed by the test."""
    flow = Flow(Queue())
    return LogWatch(lambda: feed, {"default": flow}), flow


def read_back(log: LogWatch) -> None:
    """Read the retained log back."""
    log.begin()
    while not log.recall():
        assert log.error is None


def test_retained_lines_tell_but_do_not_count() -> None:
    """Lines from before the start give the state they tell of, and no counter; later ones count, each once."""
    feed = Feed(b"status: local 0/10 remote 0/20", b"starting delivery 1: msg 5 to remote x@y", b"gibberish")
    log, flow = watch_feed(feed)
    read_back(log)
    assert list(flow.open) == [1]
    assert not flow.traffic.lines
    assert log.unparsed == 0
    feed.new += [b"delivery 1: success: ok/", b"gibberish"]
    for _ in range(3):
        log.observe(log.read())
    assert flow.traffic.results == {("remote", "success"): 1}
    assert log.unparsed == 1


def test_unreadable_log_is_tried_again_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that cannot be read is down, told once and counted, left alone for a while, and nothing of it is lost."""
    denied = PermissionError(13, "Permission denied", "/log/current")
    feed = Feed(
        denied, PermissionError(13, "Permission denied", "/log/current"), b"status: local 1/10 remote 0/20"
    )
    log, flow = watch_feed(feed)
    assert log.begin()
    assert not log.up
    assert not log.due
    monkeypatch.setattr(log_module, "PATIENCE", 0.0)
    log._next_try = 0.0
    log.begin()
    read_back(log)
    assert log.up
    assert log.losses == {"read": 2}
    assert len([record for record in caplog.records if "cannot read the log" in record.getMessage()]) == 1
    assert flow.use[0].used == 1
    feed.new += [OSError(5, "Input/output error", "/log/current"), b"end msg 5"]
    assert log.read() == []
    assert log.error is not None
    log.observe(log.read())
    assert log.error is None
    assert flow.traffic.messages_ended == 1


@pytest.mark.parametrize(
    ("present", "told"), [(True, "log is being followed"), (False, "no log to be read yet")]
)
def test_log_that_is_not_there_is_told(present: bool, told: str, caplog: pytest.LogCaptureFixture) -> None:
    """A log of which nothing is there is not said to be followed."""
    caplog.set_level("INFO")
    feed = Feed()
    feed.present = present
    log, _ = watch_feed(feed)
    read_back(log)
    assert log.up == present
    assert [record.getMessage().partition(" log=")[0] for record in caplog.records] == [told]


def test_error_in_the_middle_of_a_read_back_begins_it_again() -> None:
    """When the retained log fails halfway it is asked for again later; until then nothing is known."""
    feed = Feed(b"status: local 1/10 remote 0/20", OSError(5, "Input/output error", "/log/current"))
    log, _ = watch_feed(feed)
    log.begin()
    assert not log.recall()
    assert not log.recall()
    assert not log.recalled
    assert log.error is not None
    log._next_try = 0.0
    read_back(log)
    assert log.recalled


def test_log_that_fails_while_behind_does_not_keep_the_loop_busy(rig: MakeRig) -> None:
    """Neither a log that cannot be read, with more waiting, nor one that cannot be read back is something to do now."""
    made = rig()
    collection = made.collection()
    settle(collection)
    (log,) = collection.logs
    feed = Feed(b"")
    feed.behind = True
    feed.new = [OSError(5, "Input/output error", "/log/current")]
    log.follower = feed
    assert collection.busy
    collection.refresh(60.0)
    assert not collection.busy
    log.recalled = False
    log._next_try = 0.0
    feed.old = [OSError(5, "Input/output error", "/log/current")]
    assert collection.busy
    collection.step()
    assert not collection.busy


def test_only_the_first_lines_not_understood_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    """However many lines are not understood, all are counted and few are shown, cut short."""
    feed = Feed()
    log, _ = watch_feed(feed)
    read_back(log)
    feed.new += [b"what? " + b"x" * 1000] * 50
    for _ in range(50):
        log.observe(log.read())
    assert log.unparsed == 50
    shown_lines = [record for record in caplog.records if "not understood" in record.getMessage()]
    assert len(shown_lines) == log_module.TOLD


def test_long_backlog_is_read_within_the_budget(rig: MakeRig) -> None:
    """A scrape reads a long log only as long as it may; the lag shows, and the rest is read in steps."""
    made = rig()
    collection = made.collection()
    settle(collection)
    for number in range(30_000):
        made.log(b"warning: trouble opening %d" % number)
    made.clock.now += 100
    collection.refresh(0.0)
    lag = family(made.series(collection), "qmail_exporter_log_lag_seconds")[()]
    assert lag == 100
    assert collection.busy
    while collection.busy:
        collection.step()
    seen = made.series(collection)
    assert family(seen, "qmail_exporter_log_lines_total")["complaint",] == 30_000
    assert family(seen, "qmail_exporter_log_lag_seconds") == {(): 0.0}


def test_progress_of_reading_back(rig: MakeRig) -> None:
    """While the retained log is read back it is told how much has been, which grows from 0 to 1 by what was read."""
    made = rig()
    for number in range(20_000):
        made.log(b"warning: trouble opening %d" % number)
    collection = made.collection()
    log = collection.logs[0]
    seen = [log.progress]
    collection.tick()
    while collection.busy:
        collection.step()
        seen.append(family(made.series(collection), "qmail_exporter_log_backfill_progress_ratio").get(()))
    assert all(progress is not None for progress in seen)
    assert seen == sorted(seen, key=float)  # type: ignore[arg-type]
    assert seen[0] == 0
    assert seen[-1] == 1
    assert len({progress for progress in seen if 0 < float(progress or 0) < 1}) >= 2


def test_progress_of_a_journal_cannot_be_told(rig: MakeRig) -> None:
    """Of what does not know how much there is, as a journal, the progress is absent until all of it has been read back."""
    made = rig()
    made.log(b"warning: trouble opening 1")
    collection = made.collection()
    log = collection.logs[0]
    log.follower.lag_bytes = lambda: 0  # type: ignore[method-assign]
    assert log.begin()
    assert log.progress is None
    assert not family(made.series(collection), "qmail_exporter_log_backfill_progress_ratio")
    settle(collection)
    assert family(made.series(collection), "qmail_exporter_log_backfill_progress_ratio") == {(): 1.0}


def test_progress_of_a_log_that_cannot_be_read(rig: MakeRig) -> None:
    """Of a log that was not read back, as it cannot be read, the progress is absent and not 0."""
    made = rig()
    collection = made.collection()
    log = collection.logs[0]

    def refused() -> None:
        raise PermissionError(13, "Permission denied", log.follower.path)

    log.follower.backfill = refused  # type: ignore[assignment, method-assign]
    collection.tick()
    while collection.busy and log.error is None:
        collection.step()
    assert log.error is not None
    assert not family(made.series(collection), "qmail_exporter_log_backfill_progress_ratio")


@pytest.fixture
def several(tmp_path: Path) -> Iterator[tuple[list[Rig], Collection]]:
    """An indimail home with two queues that write to one log, their names at the ends of its lines."""
    home = tmp_path / "indimail"
    home.mkdir()
    clock_of: list[Rig] = []
    log = Multilog(home / "log", lambda: clock_of[0].clock.now if clock_of else NOW)
    for name in ("queue1", "queue2"):
        rig = Rig(home, start=False, log=log, queue=name, queue_name=name.encode())
        rig.clock = clock_of[0].clock if clock_of else rig.clock
        rig.qmail.clock = rig.qmail.host.clock = rig.clock
        clock_of.append(rig)
        rig.qmail.start()
    watches = [QueueWatch(rig.queue.name, str(rig.queue), seats=10, rescan_interval=0) for rig in clock_of]
    hosts = {watch.name: HostWatch(watch.path, str(home / "control"), alone=False) for watch in watches}
    logs = [LogWatch(partial(open_log, str(home / "log")), {watch.name: watch.flow for watch in watches})]
    collection = Collection(watches, logs, hosts)
    yield clock_of, collection
    collection.close()
    for rig in clock_of:
        rig.qmail.kill()


def test_shared_log_is_told_apart(several: tuple[list[Rig], Collection]) -> None:
    """Each queue has its own state and counters, though message and delivery numbers of both stand in one log."""
    rigs, collection = several
    settle(collection)
    for rig, boxes in zip(
        rigs,
        ((b"defer@x.example", b"ok@x.example"), (b"full@y.example", b"fail@y.example", b"joe")),
        strict=True,
    ):
        for box in boxes:
            rig.send(box, sender=b"")
        rig.qmail.pump()
        rig.clock.now += 1
    collection.refresh(5.0)
    seen = rigs[0].series(collection)
    for rig in rigs:
        own = {key: value for key, value in seen.items() if ("queue", rig.queue.name) in key[1]}
        assert shown(own) == ledger_state(rig.qmail)
        counted = {key: count for key, count in family(own, "qmail_deliveries_total").items() if count}
        assert counted == dict(rig.qmail.ledger.results)
        assert family(own, "qmail_exporter_log_unparsed_lines_total") == {(): 0.0}


def test_shared_log_is_read_back_for_each(several: tuple[list[Rig], Collection]) -> None:
    """What the retained log told is kept apart too; a queue that comes later gets its part, and the others keep theirs."""
    rigs, collection = several
    for rig, box in zip(rigs, (b"defer@x.example", b"full@y.example"), strict=True):
        rig.send(box)
        rig.qmail.pump()
    os.rename(rigs[1].queue, rigs[1].home / "aside")
    settle(collection)
    os.rename(rigs[1].home / "aside", rigs[1].queue)
    collection.queues[1]._next_try = 0.0
    settle(collection)
    seen = rigs[0].series(collection)
    for rig in rigs:
        own = {key: value for key, value in seen.items() if ("queue", rig.queue.name) in key[1]}
        assert shown(own) == ledger_state(rig.qmail)


def test_line_of_no_queue_is_not_understood(several: tuple[list[Rig], Collection]) -> None:
    """In a shared log a line that names no queue that is known counts as not understood."""
    rigs, collection = several
    settle(collection)
    rigs[0].log(b"end msg 7 queue9")
    collection.refresh(1.0)
    assert collection.logs[0].unparsed == 1
