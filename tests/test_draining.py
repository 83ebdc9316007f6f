"""When events are read."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from qmail_exporter.draining import FEW, REST, Drain
from rig import Rig, settle

MakeRig = Callable[..., Rig]


async def until(what: Callable[[], object]) -> None:
    """Wait until something is so, for ten seconds at most."""
    end = monotonic() + 10
    while not what():
        assert monotonic() < end
        await asyncio.sleep(0.001)


def test_events_are_left_to_a_tick_that_comes_first(rig: MakeRig) -> None:
    """No timer is set for events that the next tick will read sooner; when it has, the loop listens again."""
    made = rig()
    collection = made.collection()
    settle(collection)

    async def main() -> None:
        drain: Any = Drain(lambda: collection.queues)
        drain.next_tick = monotonic()
        drain.watch()
        for _ in range(2):
            before = drain.events()
            made.send(b"x@y.example")
            await until(lambda: drain._resting)
            assert list(drain._resting.values()) == [None]
            collection.queues[0].read_events()
            drain.drained(before)
            assert drain.events() > before
        drain.unwatch()

    asyncio.run(main())


def test_the_more_events_come_the_shorter_they_rest(rig: MakeRig) -> None:
    """How long events rest is told by how many had come, within bounds."""
    collection = rig().collection()
    settle(collection)
    watch = collection.queues[0]

    async def main() -> None:
        drain: Any = Drain(lambda: collection.queues)
        for came, rest in ((0, REST[1]), (FEW, REST[1]), (4 * FEW, REST[1] / 4), (1000 * FEW, REST[0])):
            before = drain.events()
            watch.events += came
            drain.drained(before)
            assert drain._rest_for == rest
        drain.unwatch()

    asyncio.run(main())
