"""Draw docs/status.png, the picture of the status page in README.md: `make picture`.

An hour of the demo's mail is played in fast motion, on a clock of its own, and a headless Chromium shows the page as it is at
its end, when an outage of the network has lasted for some minutes.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import Browser
from qmail_exporter.collect import Collection, HostWatch, LogWatch, QueueWatch
from qmail_exporter.config import HookConfig
from qmail_exporter.demo.scenario import OUTAGE_EVERY, OUTAGE_FIRST, Scenario
from qmail_exporter.hook import Hook
from qmail_exporter.hook.runs import Action, Outcome
from qmail_exporter.sources.host import read_tcpto
from qmail_exporter.sources.logs import open_log
from qmail_exporter.status import Status

PICTURE = Path(__file__).with_name("status.png")
SIZE = (1200, 1240)
END = 1_800_000_000.0
LENGTH = OUTAGE_FIRST + 7 * OUTAGE_EVERY + 95
TICK = 0.5
"""Seconds between two looks at the simulation."""


class Hour:
    """The demo's scenario in fast motion, watched as the daemon watches it."""

    def __init__(self, home: Path) -> None:
        self.now = END - LENGTH
        self.scenario = Scenario(home, home / "log", now=self.now, seed=1, rate=1.0, stamp_files=True)
        queue = str(home / "queue")
        watch = QueueWatch("default", queue, seats=100, rescan_interval=0)
        log = LogWatch(partial(open_log, str(home / "log")), {"default": watch.flow})
        host = HostWatch(queue, str(home / "control"), alone=False)
        self.collection = Collection([watch], [log], {"default": host})
        self.hook = Hook(
            "default",
            HookConfig(tcpok=True, redeliver=True, probe=False),
            {"tcpok": _action(self.scenario.qmail.tcpok), "redeliver": _action(self.scenario.qmail.alarm)},
            table=partial(read_tcpto, queue),
            ports=dict,
            clock=lambda: self.now,
        )
        watch.flow.on_delivery = self.hook.on_delivery
        self.status = Status(
            self.collection, {"default": self.hook}, host="mx1.example.com", clock=lambda: self.now
        )

    async def play(self) -> str:
        """Let the hour pass, and return the page."""
        self.collection.tick()
        while self.collection.busy:
            self.collection.step()
        while self.now < END:
            self.now += TICK
            self.scenario.tick(self.now)
            self.collection.refresh(1.0)
            self.hook.tick()
            self.status.step()
            await asyncio.sleep(0)  # for the hook's actions
        return self.status.page()

    def close(self) -> None:
        """End all of it."""
        self.collection.close()
        self.scenario.close()


def _action(function: Callable[[], object]) -> Action:
    async def run() -> Outcome:
        function()
        return Outcome(True, "")

    return run


def draw(place: Path) -> None:
    """Draw the picture, with files below `place` meanwhile."""
    hour = Hour(place / "qmail")
    try:
        page = asyncio.run(hour.play())
    finally:
        hour.close()
    # The picture is the same wherever it is drawn.
    (place / "page.html").write_text(page.replace(str(place), "/var"), encoding="utf-8")
    Browser().screenshot((place / "page.html").as_uri(), PICTURE, SIZE)


if __name__ == "__main__":
    with TemporaryDirectory(prefix="qmail-exporter-picture-") as directory:
        draw(Path(directory))
