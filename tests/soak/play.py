"""A run: days of mail and mishaps, with a rest every hour or so at which all is judged."""

import logging
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from soak import held
from soak.judgement import judge
from soak.mishaps import Mishaps
from soak.report import Figures
from soak.stepped import Clock, stepped
from soak.subject import Subject
from soak.traffic import DAY, Traffic
from soak.written import Log

BEGAN = 2_000_000_000.0
"""When each run begins, Unix seconds: ahead of all times that the kernel gives to files, and always the same."""
_BYTES_A_MESSAGE = 4000  # of the log, about, with all attempts
_FILES = 12  # of the log that are kept: some two days


@dataclass(frozen=True)
class Plan:
    """What to play.

    Attributes:
        seed: of everything that is left to chance.
        days: simulated ones.
        messages: a day, about, besides lists and bounces.
        mishaps: a day, about.
        rests: a day, about.
    """

    seed: int
    days: float = 3.0
    messages: int = 3000
    mishaps: int = 60
    rests: int = 20


class Wrong(Exception):  # noqa: N818 - what was found is no error of the soak
    """Something is not as it must be; each of its arguments says what."""


class Play:
    """One run, in a directory of its own."""

    def __init__(self, plan: Plan, place: Path) -> None:
        self.plan = plan
        self.step = 0
        self.chance = random.Random(f"play {plan.seed}")
        self.clock = Clock(BEGAN)
        self._open = ExitStack()
        self._open.enter_context(_silent())
        self._open.enter_context(stepped(self.clock))
        self.log = Log(
            place,
            self.clock,
            plain=self.chance.random() < 0.5,
            size=max(plan.messages * _BYTES_A_MESSAGE // 6, 50_000),
            count=_FILES,
        )
        self._open.callback(self.log.close)
        lifetime = self.chance.choice((20_000, 43_200, 80_000))
        self.traffic = Traffic(
            place / "qmail", self.clock, self.log, seed=plan.seed, messages=plan.messages, lifetime=lifetime
        )
        self._open.callback(self.traffic.qmail.kill)
        seats = self.chance.choice((10, 50, 1000))
        self.subjects = [
            Subject(name, self.traffic, self.log, place, seats=seats) for name in ("steady", "mortal")
        ]
        for subject in self.subjects:
            self._open.callback(subject.close)
        self.mishaps = Mishaps(self.traffic, self.log, self.subjects, seed=plan.seed)
        self.figures = Figures()
        self._descriptors: list[str] | None = None
        self._globally = held.globally()

    def days(self) -> Iterator[Figures]:
        """Play; yields the figures at the end of each day.

        Raises:
            Wrong: what a rest or the end of a day found.
        """
        self.rest()
        for day in range(1, int(self.plan.days) + 1):
            yield self._until(BEGAN + day * DAY)
        if self.plan.days % 1:
            yield self._until(BEGAN + self.plan.days * DAY)

    def _until(self, end: float) -> Figures:
        while self.clock.now < end:
            self.beat()
        self.rest()
        self.end_day()
        return self.figures

    def beat(self) -> None:
        """Let a minute or two pass; something may go wrong, and at times everything comes to rest."""
        self.step += 1
        plan, chance = self.plan, self.chance
        seconds = chance.expovariate(1 / 90)
        calls = chance.choice((7, 60, 400, 10_000))
        self.traffic.run(self.clock.now + seconds, self.mishaps.glance, calls)
        self.mishaps.glance()
        if chance.random() < plan.mishaps * seconds / DAY:
            self.mishaps.one()
        if chance.random() < plan.rests * seconds / DAY:
            self.rest()

    def rest(self) -> None:
        """Let all come to rest, and judge."""
        self.mishaps.end_all()
        self.clock.now += 11  # more than the exporter's patience with what it could not read
        self.traffic.run(self.clock.now, lambda: None, 10_000)
        wrong: list[str] = []
        self.figures.rests += 1
        for subject in self.subjects:
            subject.call(subject.collection.tick)
            subject.settle()
            subject.scrape()
            wrong += judge(subject, self.traffic)
        now_open = held.descriptors(self.traffic.qmail.host.queue)
        if self._descriptors is None:
            self._descriptors = now_open
        elif len(now_open) > len(self._descriptors):
            wrong.append(f"descriptors: {len(now_open)} open, {len(self._descriptors)} before: {now_open}")
        self._count(len(now_open))
        if wrong:
            raise Wrong(*wrong)

    def _count(self, descriptors: int) -> None:
        figures = self.figures
        figures.messages = self.traffic.qmail.ledger.injected
        figures.lines = self.log.lines
        figures.mishaps = self.mishaps.done.copy()
        figures.lost = self.mishaps.lost
        figures.descriptors = descriptors
        figures.scrapes = sum(subject.scrapes for subject in self.subjects)
        figures.worst = max(subject.worst for subject in self.subjects)

    def end_day(self) -> None:
        """Measure, and let go of what was told so long ago that nothing in the queue is as old."""
        figures = self.figures
        figures.queued = len(self.traffic.qmail.ledger.messages)
        steady = self.subjects[0]
        with closing(steady.anew()) as other:
            more = held.size(steady.collection) - held.size(other.queues[0].queue)
        figures.held.append(more + held.globally() - self._globally)
        figures.resident.append(held.resident())
        oldest = min(
            (message.arrival for message in self.traffic.qmail.ledger.messages.values()),
            default=self.clock.now,
        )
        for subject in self.subjects:
            subject.told.trim(self.clock.now, oldest)

    def __enter__(self) -> "Play":  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def run(plan: Plan, place: Path, tell: Callable[[str], None]) -> list[str]:
    """Play in an empty directory, and tell how it goes, line by line; returns what is not as it must be."""
    with Play(plan, place) as play:
        try:
            for number, figures in enumerate(play.days(), 1):
                tell(figures.day(min(number, plan.days)))
        except Wrong as found:
            wrong = list(found.args)
        except Exception:  # noqa: BLE001 - of the exporter: to be told with the step at which it came
            wrong = traceback.format_exc().splitlines()
        else:
            wrong = play.figures.wrong()
            for line in play.figures.end():
                tell(line)
        for line in wrong:
            tell(line)
        if wrong:
            kinds = Counter(line.split(": ")[1].partition(" ")[0] for line in wrong if line.count(": ") > 1)
            tell("WRONG: " + ", ".join(f"{kind} {count}" for kind, count in kinds.items()))
            day, seconds = divmod(play.clock.now - BEGAN, DAY)
            tell(
                f"at step {play.step}, day {day + 1:.0f}, {seconds / 3600:.2f} h; once more: make soak "
                f'ARGS="--seed {plan.seed} --days {plan.days:g} --messages {plan.messages} '
                f'--mishaps {plan.mishaps} --rests {plan.rests}"'
            )
    return wrong


def _silent() -> ExitStack:
    """Within this, the exporter's own log goes nowhere."""
    stack, logger, handler = ExitStack(), logging.getLogger("qmail_exporter"), logging.NullHandler()
    logger.addHandler(handler)
    stack.callback(logger.removeHandler, handler)
    stack.callback(setattr, logger, "propagate", logger.propagate)
    logger.propagate = False
    return stack
