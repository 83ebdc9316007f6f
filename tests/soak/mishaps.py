"""What goes wrong, at random: with the log, the queue directory, qmail-send, the clock, and the exporters."""

import os
import random
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from queuedir import copy_queue
from soak.rights import passes_over_modes
from soak.subject import Subject
from soak.traffic import Traffic
from soak.written import Log, Maillog

AREAS = ("mess", "todo", "info", "local", "remote", "bounce")
_LONGEST = 4 * 3600.0


class Mishaps:
    """The mishaps of one run.

    Args:
        traffic: the qmail and its mail.
        log: its log.
        subjects: the exporters; the first is never restarted.
        seed: of everything that is left to chance.

    Attributes:
        done: how often each was done.
        lost: lines that could not be read, of all subjects.
    """

    def __init__(self, traffic: Traffic, log: Log, subjects: Sequence[Subject], *, seed: int) -> None:
        self.chance = random.Random(f"mishaps {seed}")
        self.done: Counter[str] = Counter()
        self.lost = 0
        self._traffic = traffic
        self._log = log
        self._subjects = subjects
        self._endings: list[Callable[[], None]] = []
        self._all: list[Callable[[], None]] = [
            self.rotate,
            self.truncate,
            self.overflow,
            self.nominate_for_nothing,
            self.restart_exporter,
            self.pause_exporter,
            self.kill_send,
            self.replace_queue,
            self.take_queue_away,
            self.take_log_away,
            self.step_clock_on,
            self.step_clock_back,
        ]
        if passes_over_modes():  # else modes would bind the simulator as they do the exporters
            self._all.append(self.close_area)

    def one(self) -> None:
        """Do one of them."""
        act = self.chance.choice(self._all)
        act()
        self.done[act.__name__] += 1

    def end_all(self) -> None:
        """End what lasts."""
        while self._endings:
            self._endings.pop()()

    def _lasts(self, end: Callable[[], None]) -> None:
        """Have what was begun ended after a while, or when `end_all` is called."""
        self._endings.append(end)

        def end_it() -> None:
            if end in self._endings:
                self._endings.remove(end)
                end()

        self._traffic.plan(self.chance.uniform(1, _LONGEST), end_it)

    # --- the log

    def rotate(self) -> None:
        """Rotate the log, perhaps several times; the writer of a plain file may go on with the old one for a while."""
        writer = self._log.writer
        if isinstance(writer, Maillog) and self.chance.random() < 0.5:
            writer.rename()
            self._traffic.run(self._traffic.clock.now + 60, self.glance, 50)
            writer.reopen()
            return
        for _ in range(self.chance.choice((1, 1, 1, 2, 3))):
            writer.rotate()

    def truncate(self) -> None:
        """Copy and truncate the log.  What was written since an exporter read it is lost to that one."""
        writer = self._log.writer
        if not isinstance(writer, Maillog):
            return
        todo = any(message.state == "todo" for message in self._traffic.qmail.ledger.messages.values())
        for subject in self._subjects:
            if not subject.paused:
                subject.read_all()
        if self.chance.random() < 0.7 and not (todo or self._log.owing):
            seconds = self.chance.choice((60.0, 600.0, 1800.0))
            self._traffic.run(self._traffic.clock.now + seconds, lambda: None, 1000)
        if all(subject.may_lose(writer.rotations) for subject in self._subjects):
            self.lost += sum([subject.lose() for subject in self._subjects])
            writer.truncate()

    def take_log_away(self) -> None:
        """Rename the log, and give it its name back later; its writer has it open all the while."""
        path, away = self._log.path, self._log.path.with_name("away")
        for subject in self._subjects:  # one that begins meanwhile would take all that comes back for new
            if not subject.paused:
                subject.settle()
        os.rename(path, away)
        for _ in range(3):
            self.glance()
        os.rename(away, path)

    # --- the exporters

    def glance(self) -> None:
        """Let each exporter do something."""
        for subject in self._subjects:
            subject.act(self.chance)

    def overflow(self) -> None:
        """Have the kernel drop events."""
        self.chance.choice(self._subjects).drop_events()

    def nominate_for_nothing(self) -> None:
        """Have events come twice, and of messages that are not there."""
        self.chance.choice(self._subjects).nominate(self.chance)

    def restart_exporter(self) -> None:
        """Restart one that is not the first: all that it knew is lost."""
        subject = self.chance.choice(self._subjects[1:])
        if subject.paused:
            return
        subject.restart()
        for _ in range(self.chance.randrange(4)):
            subject.act(self.chance)

    def pause_exporter(self) -> None:
        """Stop an exporter for a while, as SIGSTOP does."""
        subject = self.chance.choice(self._subjects)
        if subject.paused:
            return
        subject.read_all()
        subject.paused = True

        def go_on() -> None:
            subject.paused = False

        self._lasts(go_on)

    # --- qmail-send and its queue

    def kill_send(self) -> None:
        """Kill qmail-send in the middle, but not between a delivery's line and its status line: that would leave no trace."""
        self._traffic.qmail.pump(self.chance.randrange(1, 40))
        self._kill()

    def _kill(self) -> None:
        while self._log.owing and self._traffic.qmail.running:
            self._traffic.qmail.step()
        self._traffic.kill(self.chance.choice((0.0, 3.0, 300.0, 7200.0)))

    def replace_queue(self) -> None:
        """Restore the queue from a copy: the same names and times, other inodes.  qmail is down meanwhile."""
        self.end_all()
        self._traffic.drop_connections()
        self._kill()
        queue = Path(self._traffic.qmail.host.queue)
        copy, old = queue.with_name("copy"), queue.with_name("old")
        copy_queue(queue, copy)
        os.rename(queue, old)
        if self.chance.random() < 0.5:
            self.glance()
        os.rename(copy, queue)
        shutil.rmtree(old)

    def take_queue_away(self) -> None:
        """Rename the queue directory, and give it its name back; qmail does nothing meanwhile."""
        queue = Path(self._traffic.qmail.host.queue)
        away = queue.with_name("away-queue")
        os.rename(queue, away)
        for _ in range(self.chance.randrange(4)):
            self.glance()
        os.rename(away, queue)

    def close_area(self) -> None:
        """Forbid the exporters to read an area of the queue, or one of its directories, for a while."""
        area = self.chance.choice(AREAS)
        queue = Path(self._traffic.qmail.host.queue)
        path = queue / area
        if area not in ("todo", "bounce") and self.chance.random() < 0.5:
            path /= str(self.chance.randrange(7))
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode:
            return
        path.chmod(0)
        self._bind(+1)

        def open_again() -> None:
            path.chmod(mode)
            self._bind(-1)

        self._lasts(open_again)

    def _bind(self, more: int) -> None:
        for subject in self._subjects:
            subject.bound += more

    # --- the clock

    def step_clock_on(self) -> None:
        """Have the clock jump ahead."""
        self._traffic.clock.now += self.chance.choice((1.0, 61.0, 3600.0, 10_000.0))

    def step_clock_back(self) -> None:
        """Have the clock be ahead for a while, in which no mail comes and goes, and then step back."""
        ahead = self.chance.choice((0.5, 5.0, 3600.0))
        self._traffic.clock.now += ahead
        for _ in range(3):
            self.glance()
        self._traffic.clock.now -= ahead
