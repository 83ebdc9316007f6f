"""What tells the loop of a log's news while ticks come seldom."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmail_exporter.collect import LogWatch
    from qmail_exporter.sources.bell import Bell


class Ear:
    """Listens to the queues' logs in the running loop, until one has news.

    Args:
        logs: gives the logs that there are now.
        on_news: called once when any has news; it then listens no longer.
    """

    def __init__(self, logs: Callable[[], Sequence["LogWatch"]], on_news: Callable[[], object]) -> None:
        self._logs = logs
        self._on_news = on_news
        self._listening = False
        self._bells: list[Bell] = []

    def listen(self) -> bool:
        """Listen from now on, and return whether it has since an earlier call, without news from any log.

        So the logs are to be read between two calls: what came before the first is not told of.
        """
        if self._listening:
            return True
        try:
            self._listening = self._begin()
        finally:
            if not self._listening:
                self.stop()
        return False

    def stop(self) -> None:
        """Listen no longer."""
        loop = asyncio.get_running_loop()
        for bell in self._bells:
            loop.remove_reader(bell.fd)
            bell.close()
        self._bells.clear()
        self._listening = False

    def _begin(self) -> bool:
        """Return whether every log tells of its news."""
        for log in self._logs():
            bell = log.follower.listen()
            if bell is None:
                return False
            self._bells.append(bell)
            asyncio.get_running_loop().add_reader(bell.fd, self._heard)
        return True

    def _heard(self) -> None:
        self.stop()
        self._on_news()
