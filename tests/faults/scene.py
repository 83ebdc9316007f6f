"""An exporter beside a simulated qmail, to which faults are done; and what must be so after each of them."""

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from faults.journal import Journal
from rig import BOXES, Rig, Series, family, ledger_state, series, settle, shown, still, watching
from serving import ROOT, Exporter, difference, until, until_equal, wait_for

LATE = 20.0
"""Seconds that the exporter has to be right again; it has much less to do than that, and the machine perhaps much more."""
NOT_THE_QUEUE = ("qmail_outage", "qmail_hook", "qmail_exporter", "qmail_web", "qmail_up")


class Held(NamedTuple):
    """What a process holds of the system."""

    files: list[str]
    threads: int
    children: list[str]
    tasks: int

    def exceeds(self, other: "Held") -> bool:
        """Whether it is more of anything."""
        counts = zip(self._counts(), other._counts(), strict=True)
        return any(mine > theirs for mine, theirs in counts)

    def _counts(self) -> tuple[int, ...]:
        return len(self.files), self.threads, len(self.children), self.tasks


class Scene:
    """A simulated qmail with some mail in it, and an exporter that has read it.

    Args:
        home: of the qmail.
        arguments: of `serve`, beside the home and the log.
        seed: of the traffic.
        journal: where qmail-send's log goes, in place of multilog's directory; `journalctl` in PATH shows it.
        before: a command that runs the exporter.
    """

    def __init__(
        self,
        home: Path,
        *arguments: str,
        seed: int = 1,
        journal: Journal | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.chance = random.Random(seed)
        log: Any = journal  # which is written to like multilog's
        self.rig = Rig(home, start=False, log=log)
        # So that no age or next attempt passes the bound of a bucket soon.
        self.rig.clock.now = float(int(time.time()) - 86400)
        if journal is not None:
            journal.clock = self.rig.clock
        self.log = home / "log" if journal is None else Path("journal:qmail")
        self.rig.qmail.start()
        for _ in range(4):
            self.traffic()
        self._open = ExitStack()
        self._arguments = [
            f"--qmail.home={home}",
            f"--qmail.log={self.log}",
            "--web.scrape-budget=20s",
            *arguments,
        ]
        self._before = before
        self.exporter = self.start()
        self.held = self.holds()
        self._excess = ""

    # --- the exporter

    def start(self, *, ready: bool = True, **environment: str) -> Exporter:
        """Start an exporter of this qmail, which ends with the scene."""
        variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment}
        exporter = Exporter(
            *self._arguments, module="faults.served", environment=variables, before=self._before
        )
        self._open.push(exporter)
        if ready:
            until(lambda: exporter.urls and exporter.ready(), LATE)
            exporter.series()
            exporter.get("/")  # whose template is made when there is time, of files that are opened then
        return exporter

    @property
    def pid(self) -> int:
        """The exporter's process."""
        return self.exporter.process.pid

    def signal(self, number: int) -> None:
        """Send the exporter a signal."""
        self.exporter.process.send_signal(number)

    def scraped(self) -> Series:
        """What a scrape shows now."""
        return self.exporter.series()

    def value(self, name: str, **labels: str) -> float | None:
        """One sample of it."""
        return self.exporter.value(name, **labels)

    def holds(self) -> Held:
        """What the exporter holds of the system now."""
        before = len(self.exporter.said("faults: tasks="))
        self.signal(signal.SIGUSR2)
        told = until(lambda: self.exporter.said("faults: tasks=")[before:], LATE)
        return Held(
            self.files(),
            len(os.listdir(f"/proc/{self.pid}/task")),
            [name for child in self.children() if (name := _command(child))],
            int(told[0].rpartition("=")[2]),
        )

    def files(self) -> list[str]:
        """What the exporter has open, without the numbers that differ from one to the next."""
        return sorted(_files(self.pid))

    def children(self) -> list[int]:
        """The processes that the exporter has started."""
        return children(self.pid)

    def _holds_no_more(self) -> bool:
        """Whether it holds no more than ever before: a connection that ended just now may have counted then."""
        self.held, before = self.holds(), self.held
        if self.held.exceeds(before):
            self.held, self._excess = before, difference(self.held, before)
            return False
        return True

    # --- the mail

    def traffic(self, calls: int = 30) -> None:
        """Some mail comes and is tried."""
        made, chance = self.rig, self.chance
        for _ in range(3):
            made.send(*chance.sample(BOXES, chance.randrange(1, 4)))
            made.qmail.pump(chance.randrange(1, calls))
        made.clock.now += 1

    def retell(self) -> None:
        """Every message is tried again, so that the log tells of each, whatever became of its earlier part."""
        self.rig.qmail.run_until(self.rig.clock.now + 60)  # what is under way is not tried again at once
        self.rig.qmail.alarm()
        self.rig.qmail.run_until(self.rig.clock.now + 60)

    # --- what must be so

    def check(self, *, ledger: bool = True, told: bool = True, failures: Sequence[str] = ()) -> None:
        """Check what must be so after every fault.

        The exporter is whole, and shows what one shows that has just read everything; it holds no more of the system than
        before; it has written to no file; and while that is found out, and everything is read once more, nothing below the
        queue changes.

        Args:
            ledger: the queue is the simulator's own, which says the same.
            told: the log still tells all that it ever told.
            failures: of what kind some of its own work may have failed; any other is a fault of its own.
        """
        before = tree(self.rig.queue)
        until(self._whole, LATE)
        until_equal(lambda: of_queue(self.scraped(), told=told), lambda: self.fresh(told=told))
        if ledger:
            until_equal(lambda: shown(self.scraped()), lambda: ledger_state(self.rig.qmail))
        wait_for(self._holds_no_more, lambda: self._excess)
        failed = [
            line for line in self.exporter.said(" failed") if not any(kind in line for kind in failures)
        ]
        assert not [*failed, *self.exporter.said("Traceback")], failed
        assert not self.exporter.said("faults: wrote")
        assert tree(self.rig.queue) == before, difference(tree(self.rig.queue), before)

    def fresh(self, *, told: bool = True) -> Series:
        """What is shown after a fresh scan of the queue and of the log."""
        with closing(watching([self.rig.home], log=self.log)) as collection:
            settle(collection)
            return of_queue(series(collection, time.time()), told=told)

    def _whole(self) -> bool:
        found = self.scraped()
        queue = (("queue", "default"),)
        return found.get(("qmail_up", queue)) == 1 and found["qmail_exporter_pending_looks", queue] == 0

    # --- its end

    def __enter__(self) -> "Scene":  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(*[line[:200] for line in self.exporter.log if "tasks=" not in line][-40:], sep="\n")  # noqa: T201 - pytest shows it where a test fails
        self._open.close()
        self.rig.qmail.kill()


def of_queue(found: Series, *, told: bool) -> Series:
    """Of a scrape, what tells of the queue; `told`: also what the log told of it."""
    by_log = (
        ()
        if told
        else ("qmail_domain_deferred", "qmail_domain_oldest", "qmail_queue_next", "qmail_concurrency")
    )
    return {
        key: value for key, value in still(found).items() if not key[0].startswith((*NOT_THE_QUEUE, *by_log))
    }


def uncounted(scene: Scene) -> dict[tuple[str, ...], float]:
    """Return how many deliveries the simulator has ended and the exporter has not counted."""
    counted = family(scene.scraped(), "qmail_deliveries_total")
    ended = scene.rig.qmail.ledger.results
    missing = {key: ended[key] - counted.get(key, 0) for key in ended}
    return {key: count for key, count in missing.items() if count}


def tree(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a directory: kind and mode, inode, owner, size, and times of writing and change of each path."""
    found: dict[str, tuple[int, ...]] = {}
    for directory, _, names in os.walk(root):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            status = os.lstat(path)
            found[path] = (
                status.st_mode, status.st_ino, status.st_uid, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            )  # fmt: skip
    return found


def children(pid: int) -> list[int]:
    """The processes that a process has started, or that its threads have."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> str:
    """The name of a process, empty if it has just ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _files(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        found.append(target.partition(":[")[0])
    return found
