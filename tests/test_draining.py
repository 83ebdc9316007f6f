"""When events are read."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from qmail_exporter import draining
from qmail_exporter.demo.qmail import Clock
from qmail_exporter.draining import FEW, REST, Drain
from rig import Rig, settle

MakeRig = Callable[..., Rig]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which events rest, which the test moves."""
    made = Clock(0.0)
    monkeypatch.setattr(draining, "monotonic", made)
    return made


async def until(what: Callable[[], object]) -> None:
    """Wait until something is so, for ten seconds at most."""
    end = monotonic() + 10
    while not what():
        assert monotonic() < end
        await asyncio.sleep(0.001)


def test_events_are_left_to_a_tick_that_comes_first(rig: MakeRig) -> None:
    """No timer is set for events that the next tick will read sooner."""
    made = rig()
    collection = made.collection()
    settle(collection)

    async def main() -> None:
        drain: Any = Drain(lambda: collection.queues)
        drain.next_tick = monotonic() + 3600
        drain.watch()
        drain.next_tick = monotonic()
        made.send(b"x@y.example")
        await until(lambda: drain._resting)
        assert list(drain._resting.values()) == [None]
        drain.unwatch()

    asyncio.run(main())


def test_no_wake_for_events_that_a_tick_reads_as_soon(rig: MakeRig, clock: Clock) -> None:
    """The loop does not listen for events at all while a tick comes before they would have rested; then it does again."""
    collection = rig().collection()
    settle(collection)

    async def main() -> None:
        drain: Any = Drain(lambda: collection.queues)
        for seconds, listens in ((REST[1], False), (REST[1] * 4, True)):
            clock.now += 3600.0
            drain.next_tick = clock.now + seconds
            drain.drained()
            assert bool(drain._watched) == listens
        drain.unwatch()

    asyncio.run(main())


def test_the_more_events_come_the_shorter_they_rest(rig: MakeRig, clock: Clock) -> None:
    """How long events rest is told by how many had come in how long, within bounds."""
    collection = rig().collection()
    settle(collection)
    watch = collection.queues[0]

    async def main() -> None:
        drain: Any = Drain(lambda: collection.queues)
        drain.drained()
        for seconds, came, rest in (
            (1, 0, REST[1]),
            (1, FEW, REST[1]),
            (4, 4 * FEW, REST[1]),
            (1, 4 * FEW, REST[1] / 4),
            (1, 1000 * FEW, REST[0]),
        ):
            clock.now += seconds
            watch.events += came
            drain.drained()
            assert drain._rest_for == rest
        drain.unwatch()

    asyncio.run(main())


def test_a_burst_after_a_calm_is_told_from_its_first_event(rig: MakeRig, clock: Clock) -> None:
    """Seconds in which nothing came do not make the events that came then look few."""
    made = rig()
    collection = made.collection()
    settle(collection)
    watch = collection.queues[0]

    async def main() -> None:
        drain: Any = Drain(lambda: collection.queues)
        drain.next_tick = 3600.0
        drain.drained()
        clock.now = 100.0
        made.send(b"x@y.example")
        await until(lambda: drain._resting)
        clock.now = 101.0
        watch.events += 4 * FEW
        drain.drained()
        assert drain._rest_for == REST[1] / 4
        drain.unwatch()

    asyncio.run(main())
