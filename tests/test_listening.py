"""What tells the loop of a log's news."""

import asyncio
from collections.abc import Callable
from typing import Any

from qmail_exporter.listening import Ear
from rig import Rig, settle
from soak.held import open_descriptors

MakeRig = Callable[..., Rig]


class Deaf:
    """A follower of which nothing tells when there is news."""

    def listen(self) -> None:
        """There is nothing to listen to."""


def test_news_are_told_of_once(rig: MakeRig) -> None:
    """The first news since it listens are told of, and no others until it listens again; that it does so only the next call tells."""
    made = rig()
    collection = made.collection()
    settle(collection)
    told = 0

    async def main() -> None:
        heard = asyncio.Event()

        def hear() -> None:
            nonlocal told
            told += 1
            heard.set()

        ear = Ear(lambda: collection.logs, hear)
        assert not ear.listen()
        before = len(open_descriptors())
        for turn in range(1, 4):
            assert ear.listen()
            assert ear.listen()
            made.log(b"status: local 1/10 remote 2/20")
            made.log(b"status: local 1/10 remote 3/20")
            await heard.wait()
            heard.clear()
            await asyncio.sleep(0)
            assert told == turn
            assert not ear.listen()
            assert len(open_descriptors()) == before
        ear.stop()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_one_log_that_cannot_be_listened_to_is_too_many(rig: MakeRig) -> None:
    """It says so, and does not listen to the others either."""
    collection = rig().collection()
    settle(collection)
    deaf: Any = type("Log", (), {"follower": Deaf()})

    async def main() -> None:
        ear: Any = Ear(lambda: [*collection.logs, deaf], lambda: None)
        assert not ear.listen()
        assert not ear.listen()
        assert not ear._bells

    asyncio.run(main())


def test_no_log_has_no_news() -> None:
    """Where there is no log, there is nothing that it could miss."""

    async def main() -> None:
        ear = Ear(list, lambda: None)
        assert not ear.listen()
        assert ear.listen()
        ear.stop()

    asyncio.run(main())
