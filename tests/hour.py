"""An hour of the demo in fast motion, on a clock of its own, watched as the daemon watches it."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter, time

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.utils import floatToGoString

from qmail_exporter.collect import Collection, DoubleBounceWatch, HostWatch, LogWatch, QueueWatch
from qmail_exporter.config import HookConfig
from qmail_exporter.demo.scenario import OUTAGE_EVERY, OUTAGE_FIRST, Scenario
from qmail_exporter.formats.qsbmf import DoubleBounce
from qmail_exporter.hook import Hook
from qmail_exporter.hook.runs import Action, Outcome
from qmail_exporter.metrics import QmailCollector
from qmail_exporter.record import append, json_line
from qmail_exporter.sources.host import PROGRAMS, Process, Processes, read_tcpto
from qmail_exporter.sources.logs import open_log

END = 1_800_000_000.0
LENGTH = OUTAGE_FIRST + 7 * OUTAGE_EVERY + 95
"""Seconds. It ends a minute and a half into an outage."""
ELECTION = 60.0
SCRAPE = 30.0
_DOUBLE = DoubleBounce(
    b"forged@tpyo.example",
    b"Sorry, I couldn't find any host named tpyo.example. (#5.1.2)",
    [(b"nobody@mail.test", b"Sorry, no mailbox here by that name. (#5.1.1)")],
)
"""What the demo's double bounces tell: they come of mail to nobody with a forged sender."""
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Hour:
    """The demo's scenario in fast motion, and what watches it; `now` is in Unix seconds.

    Args:
        home: a new directory for its qmail.
        seed: of the scenario.
        rate: messages a second.
        step: seconds between two looks at the simulation.
    """

    def __init__(self, home: Path, *, seed: int = 1, rate: float = 1.0, step: float = 0.5) -> None:
        self.now = END - LENGTH
        self._step = step
        self.scenario = Scenario(home, home / "log", now=self.now, seed=seed, rate=rate, stamp_files=True)
        queue = str(home / "queue")
        self.watch = QueueWatch("default", queue, seats=100, rescan_interval=0)
        log = LogWatch(partial(open_log, str(home / "log")), {"default": self.watch.flow})
        host = _Host(queue, str(home / "control"), self.scenario)
        self.collection = Collection([self.watch], [log], {"default": host})
        self._doubles = home / "double-bounces"
        self._doubles.touch()
        self._double_bounces = 0
        follower = open_log(str(self._doubles))
        self.collection.double_bounces["default"] = DoubleBounceWatch(follower, seats=100)
        self.hook = Hook(
            "default",
            HookConfig(tcpok=True, redeliver=True, probe=False),
            {"tcpok": _action(self.scenario.qmail.tcpok), "redeliver": _action(self.scenario.qmail.alarm)},
            table=partial(read_tcpto, queue),
            ports=dict,
            clock=lambda: self.now,
        )
        self.watch.flow.on_delivery = self.hook.on_delivery

    async def play(self, each: Callable[[], None]) -> None:
        """Let the hour pass; call `each` after each step."""
        self.collection.tick()
        while self.collection.busy:
            self.collection.step()
        election = self.now
        while self.now < END:
            self.now += self._step
            self.scenario.tick(self.now)
            self._record()
            self.collection.refresh(1.0, exact=False)
            self.hook.tick()
            if self.now >= election:  # which a collection holds by a clock that runs at its own pace
                election += ELECTION
                self.watch.queue.sums.domains.elect()
                self.watch.flow.traffic.domains.elect()
            each()
            await asyncio.sleep(0)  # for the hook's actions

    def _record(self) -> None:
        """Write down the double bounces that came, as their recipient's `.qmail` file would have it done."""
        came = self.scenario.qmail.ledger.bounces["double"]
        for _ in range(came - self._double_bounces):
            append(str(self._doubles), json_line(_DOUBLE, self.now))
        self._double_bounces = came

    def close(self) -> None:
        """End all of it."""
        self.collection.close()
        self.scenario.close()


class _Host(HostWatch):
    """The host's facts, with the processes of the simulated qmail."""

    def __init__(self, queue: str, control: str, scenario: Scenario) -> None:
        super().__init__(queue, control, alone=False)
        self._scenario = scenario

    def read(self) -> None:
        super().read()
        runs = self._scenario.qmail.running
        found = [Process(program, None, None, None, None) for program in PROGRAMS] if runs else []
        self.processes = Processes(found, dict(self._scenario.qmail.deliveries))


class _Settings:
    """What stands for the file of --web.config.file."""

    sound = True


class Scrapes:
    """What a Prometheus would have scraped of an hour, as lines of OpenMetrics with their times.

    Args:
        hour: which is played.
        instance: the label of that name.
    """

    def __init__(self, hour: Hour, instance: str = "mx1.example.com:10225") -> None:
        self.lines: list[str] = []
        self._hour = hour
        self._target = {"job": "qmail", "instance": instance}
        self._next = hour.now
        self._ahead = hour.now - time()
        self._registry = CollectorRegistry()
        shown = QmailCollector(
            hour.collection, lambda: hour.now, hooks={"default": hour.hook}, door=_Settings()
        )
        self._registry.register(shown)
        ProcessCollector(registry=self._registry)

    def take(self) -> None:
        """Scrape if it is time to."""
        if self._hour.now < self._next:
            return
        self._next += SCRAPE
        start = perf_counter()
        self._hour.collection.refresh(1.0)
        samples = list(self._samples())
        samples += [
            ("up", {}, 1.0),
            ("scrape_duration_seconds", {}, perf_counter() - start),
            ("scrape_samples_scraped", {}, float(len(samples))),
        ]
        for name, labels, value in samples:
            text = ",".join(
                f'{key}="{text.translate(_ESCAPES)}"' for key, text in {**self._target, **labels}.items()
            )
            self.lines.append(f"{name}{{{text}}} {floatToGoString(value)} {self._hour.now:.3f}\n")

    def _samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for family in self._registry.collect():
            for sample in family.samples:
                # This process began on another clock than the hour's.
                ahead = self._ahead if sample.name == "process_start_time_seconds" else 0.0
                yield sample.name, dict(sample.labels), sample.value + ahead


def _action(function: Callable[[], object]) -> Action:
    async def run() -> Outcome:
        function()
        return Outcome(True, "")

    return run


def played(home: Path, **given: float) -> Scrapes:
    """Play an hour in a new directory, as `Hour` takes it, and return its scrapes."""
    hour = Hour(home, **given)  # type: ignore[arg-type]
    scrapes = Scrapes(hour)
    try:
        asyncio.run(hour.play(scrapes.take))
    finally:
        hour.close()
    return scrapes
