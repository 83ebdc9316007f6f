"""What tells the loop of a log's news while ticks come seldom."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmail_exporter.collect import LogWatch
    from qmail_exporter.sources.bell import Bell


class Ear:
    """Listens to all logs in the running loop, until one has news.

    Args:
        logs: gives the logs that there are now.
        on_news: called once when any has news; `listen` is then to be called again.
    """

    def __init__(self, logs: Callable[[], Sequence["LogWatch"]], on_news: Callable[[], object]) -> None:
        self._logs = logs
        self._on_news = on_news
        self._listening = False
        self._bells: list[Bell] = []

    def listen(self) -> bool:
        """Listen from now on, unless it does; returns whether every log tells of its news.

        What came before is not told of: the logs are to be read after this call.
        """
        if not self._listening:
            bells = [log.follower.listen() for log in self._logs()]
            self._bells = [bell for bell in bells if bell is not None]
            loop = asyncio.get_running_loop()
            for bell in self._bells:
                loop.add_reader(bell.fd, self._heard)
            self._listening = len(self._bells) == len(bells)
            if not self._listening:
                self.stop()
        return self._listening

    def stop(self) -> None:
        """Listen no longer."""
        loop = asyncio.get_running_loop()
        for bell in self._bells:
            loop.remove_reader(bell.fd)
            bell.close()
        self._bells.clear()
        self._listening = False

    def _heard(self) -> None:
        self.stop()
        self._on_news()
