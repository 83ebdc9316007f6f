"""The status page: what somebody who is called at night has to know, in one look.

`history` keeps the last hour; `gather` reads the facts, and `sources` why some cannot be had; `mail` and `health` say in words
what is wrong; `text` makes strangers' words fit to be shown; `chart` draws; `document` makes the page.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import time

from qmail_exporter import __version__
from qmail_exporter.collect import Collection
from qmail_exporter.hook import Hook
from qmail_exporter.readings import View, views
from qmail_exporter.status.document import POLICY, prepare, render
from qmail_exporter.status.facts import Facts
from qmail_exporter.status.gather import queue_facts, step
from qmail_exporter.status.history import History

__all__ = ["POLICY", "Status"]

FEWEST, MOST, ROWS = 8, 25, 60
"""Domains that are shown of a queue, and of all together: one who is called at night reads no more."""
STEP = 4.5
"""Seconds between two steps of the last hour at least."""


class Status:
    """The page of a running exporter, and the last hour that it shows.

    Args:
        collection: what is watched.
        hooks: of the queues, by name.
        host: this machine's name.
        telemetry_path: where the metrics are.
        clock: Unix seconds.
    """

    def __init__(
        self,
        collection: Collection,
        hooks: Mapping[str, Hook],
        *,
        host: str,
        telemetry_path: str = "/metrics",
        clock: Callable[[], float] = time,
    ) -> None:
        self._collection = collection
        self._hooks = hooks
        self._host = host
        self._telemetry_path = telemetry_path
        self._clock = clock
        self._started = clock()
        self._stepped = 0.0
        self._preparing = prepare()
        self._histories: dict[
            object, History
        ] = {}  # by the watch, as another of the same name is another queue

    def step(self) -> None:
        """Let the last hour go on, if it is time to; when there is time, have ready what the page is made with."""
        now = self._clock()
        if not 0 <= now - self._stepped < STEP:
            self._stepped = now
            self._step(now)
        if self._collection.ready:
            # There may be no descriptor to be had: whoever asks for the page waits for it then.
            with suppress(OSError):
                next(self._preparing, None)

    def page(self) -> str:
        """Return the page, as HTML, of what is known now; it reads nothing but sums, and takes some milliseconds."""
        now = self._clock()
        found = self._step(now)
        room = max(FEWEST, min(MOST, ROWS // max(len(found), 1)))
        return render(
            Facts(
                now=now,
                host=self._host,
                version=__version__,
                started=self._started,
                telemetry_path=self._telemetry_path,
                queues=tuple(queue_facts(view, history, room) for view, history in found),
            )
        )

    def _step(self, now: float) -> list[tuple[View, History]]:
        """Return each queue as it is now, with its last hour."""
        present = views(self._collection, self._hooks, now)
        self._histories = {view.watch: self._histories.get(view.watch) or History() for view in present}
        found = [(view, self._histories[view.watch]) for view in present]
        for view, history in found:
            step(history, view)
        return found
