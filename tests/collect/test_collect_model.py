"""The model beside a simulated qmail, whatever that does and however badly the exporter is told of it."""

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from qmail_exporter.collect import Collection
from qmail_exporter.sources.inotify import News, Watcher
from rig import Rig, attempts_due, attempts_shown, family, ledger_state, settle, shown, state

if TYPE_CHECKING:
    from qmail_exporter.demo.host import Steps

RECIPIENTS = (
    b"ok@x.example",
    b"fail@x.example",
    b"defer@Y.example",
    b"ok-90@y.example",
    b"hole-30@z.example",
    b"full@z.example",
    b"defer@w.example.",
    b"mangle@w.example",
    b"defer-5@[192.0.2.7]",
    b"white space@x.example",
    b"joe",
    b"fail@mail.test",
    b"defer@mail.test",
)
SENDERS = (b"a@mail.test", b"", b"#@[]", b"fail@x.example", b"defer@x.example", b"list-@mail.test-@[]")

number = st.integers(1, 12)
op = st.one_of(
    st.tuples(
        st.just("inject"),
        st.lists(st.sampled_from(RECIPIENTS), min_size=1, max_size=5, unique=True),
        st.sampled_from(SENDERS),
    ),
    st.tuples(st.just("receive"), number),
    st.tuples(st.just("work"), number),
    st.tuples(st.just("work"), st.just(60)),
    st.tuples(st.just("wait"), st.sampled_from((1, 30, 400, 3600, 50000, 700000))),
    st.tuples(st.just("touch"), st.integers(0, 99), st.sampled_from((-700000, -1000, 0, 500))),
    *(st.tuples(st.just(name)) for name in ("stop", "kill", "start", "alarm", "tcpok", "rotate")),
    *(st.tuples(st.just(name)) for name in ("events", "tick", "step", "scrape", "lose", "twice", "lag")),
)
ops = st.one_of(st.lists(op, max_size=60), st.lists(op, min_size=25, max_size=80))


class Play:
    """One qmail, its programs under way, and a collection that is told of them late, twice, or not at all."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.clock.now = float(
            int(time.time())
        )  # the access times of files that are being received are the kernel's
        rig.qmail.start()
        self.programs: list[Steps[int]] = []
        self.collection = rig.collection()
        self.touched = False
        self.chance = random.Random(0)

    def do(self, name: str, *how: object) -> None:
        """Do one thing by its name."""
        getattr(self, f"_{name}")(*how)

    # --- qmail

    def _inject(self, recipients: list[bytes], sender: bytes) -> None:
        self.programs.append(self.rig.qmail.inject(sender, recipients))

    def _receive(self, calls: int) -> None:
        if self.programs:
            program = self.chance.choice(self.programs)
            try:
                for _ in range(calls):
                    next(program)
            except (
                StopIteration,
                OSError,
            ):  # qmail-send removed its file, which had the kernel's time for a moment
                self.programs.remove(program)

    def _work(self, calls: int) -> None:
        self.rig.qmail.pump(calls)

    def _wait(self, seconds: int) -> None:
        self.rig.clock.now += seconds
        if seconds > 3600:  # a qmail-queue gives up in time, before qmail-send removes its file
            while self.programs:
                self.programs.pop().close()

    def _touch(self, pick: int, seconds: int) -> None:
        queued = sorted(self.rig.qmail.ledger.queued())
        if queued:
            self.touched = True
            self.rig.qmail.touch(queued[pick % len(queued)], self.rig.clock.now + seconds)

    def _stop(self) -> None:
        self.rig.qmail.stop()

    def _kill(self) -> None:
        self.rig.qmail.kill()

    def _start(self) -> None:
        if not self.rig.qmail.running:
            self.rig.clock.now += 1  # the model goes by whole seconds, as qmail does
            self.rig.qmail.start()

    def _alarm(self) -> None:
        self.touched = True
        self.rig.qmail.alarm()

    def _tcpok(self) -> None:
        self.rig.qmail.tcpok()

    def _rotate(self) -> None:
        self.rig.log.rotate()

    # --- the exporter

    def _events(self) -> None:
        self.collection.queues[0].read_events()

    def _tick(self) -> None:
        self.collection.tick()

    def _step(self) -> None:
        self.collection.step()

    def _scrape(self) -> None:
        self.collection.refresh(60.0)
        self.rig.series(self.collection)

    def _lose(self) -> None:
        """Drop the events that wait, as the kernel does when there are too many; the next read reports it."""
        watcher = self.collection.queues[0].watcher
        if watcher is not None:
            read = Watcher.read
            read(watcher)
            watcher.read = lambda: self._overflow(watcher)  # type: ignore[method-assign]

    def _overflow(self, watcher: Watcher) -> News:
        del watcher.__dict__["read"]
        return watcher.read()._replace(overflow=True)

    def _twice(self) -> None:
        watch = self.collection.queues[0]
        watch.pending |= {*watch.queue, 1, 424242}

    def _lag(self) -> None:
        """Look with no time to do so: the log is read, and no message is looked at."""
        self.collection.refresh(0.0, exact=False)


def fresh(play: Play) -> Iterator[Collection]:
    """Yield a collection that comes to the queue and the log as they are now."""
    collection = play.rig.collection()
    settle(collection)
    yield collection
    collection.close()


def compare(play: Play) -> None:
    """Compare the model with the simulator's ledger, and with a model made anew from files and log."""
    watch = play.collection.queues[0]
    # Of a message that is being received there is no event until it is queued: its size may be that of an earlier look.
    watch.pending |= {
        msg for msg, message in play.rig.qmail.ledger.messages.items() if message.state == "arriving"
    }
    settle(play.collection)
    seen = play.rig.series(play.collection)
    assert shown(seen) == ledger_state(play.rig.qmail)
    assert family(seen, "qmail_up") == {(): 1.0}
    assert watch.sweeps.drift == 0
    if not play.touched and (due := attempts_due(play.rig.qmail)) is not None:
        assert attempts_shown(seen) == due
    for other in fresh(play):
        assert state(seen) == state(play.rig.series(other))


SAVED_TIMES = [("inject", [b"fail@x.example", b"ok@x.example", b"defer@mail.test", b"full@z.example"], b"#@[]"), ("receive", 10),
               ("tick",), ("step",), ("work", 60), ("lag",), ("wait", 3600), ("stop",), ("work", 60), ("start",)]  # fmt: skip
"""A clean exit leaves next attempts in files whose content stays the same."""
CUT_PASS = [("inject", [b"mangle@w.example", b"defer@mail.test", b"hole-30@z.example"], b"#@[]"), ("receive", 8), ("work", 60),
            ("wait", 700000), ("work", 60), ("kill",), ("start",), ("work", 60), ("wait", 700000), ("work", 60)]  # fmt: skip
"""A kill ends a pass before it came to every recipient."""
LOST_WHILE_EMPTY = [("inject", [b"ok-90@y.example"], b"a@mail.test"), ("lose",), ("receive", 8), ("work", 10), ("events",),
                    ("step",)]  # fmt: skip
"""Events are lost of the first message after a time without any, and its log comes while everything is looked at."""


@example(ops=SAVED_TIMES, reuse=True, compare_at=set())
@example(ops=CUT_PASS, reuse=False, compare_at=set())
@example(ops=LOST_WHILE_EMPTY, reuse=False, compare_at={0})
@settings(max_examples=80)
@given(ops=ops, reuse=st.booleans(), compare_at=st.sets(st.integers(0, 60), max_size=2))
def test_model_equals_a_fresh_scan_and_the_ledger(
    ops: list[tuple[object, ...]], reuse: bool, compare_at: set[int]
) -> None:
    """After any calls of qmail's programs, and events late, twice or lost, the model is what a fresh one would be."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Rig(Path(directory), start=False, reuse_numbers=reuse) as rig,
    ):
        play = Play(rig)
        for place, (name, *how) in enumerate(ops):
            play.do(str(name), *how)
            if place in compare_at:
                compare(play)
        compare(play)
