"""The queues and their logs, read for `queue`: first the logs, then the messages, some at a time."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from time import time

from qmail_exporter import discover, logfmt
from qmail_exporter.collect import LogWatch
from qmail_exporter.commands import options
from qmail_exporter.commands.output import Output, reason_of
from qmail_exporter.commands.progress import Progress
from qmail_exporter.config import LogSpec, QueueSpec
from qmail_exporter.examine.reader import advice
from qmail_exporter.listing.entry import Entries
from qmail_exporter.listing.history import History
from qmail_exporter.listing.select import Row, Wanted
from qmail_exporter.sources.envelopes import Envelope, Envelopes
from qmail_exporter.sources.host import ControlFiles
from qmail_exporter.sources.logs import open_log


class Listing:
    """What is listed, and where what goes wrong is told.

    Args:
        output: takes what cannot be read.
        home: qmail's home.
        queues: those that are listed.

    Attributes:
        output: as given.
        progress: shows how far it has got.
        seen: the last message that was asked for by its number is there.
        read: messages that were read so far.
    """

    def __init__(self, output: Output, home: Path, queues: Sequence[QueueSpec]) -> None:
        # What followers and watches say of their sources is for a daemon's log; here it is told as a result.
        logfmt.configure("error", "logfmt")
        self.output = output
        self.progress = Progress("queue")
        self.seen = False
        self.read = 0
        self._home = home
        self._queues = queues
        self._histories: dict[str, History] = {}
        self._logs: list[LogWatch] = []
        self._told: set[tuple[str, str]] = set()
        self._lifetime = self._read_lifetime()

    @property
    def has_log(self) -> bool:
        """Whether the log of every queue was read."""
        return len(self._histories) == len(self._queues)

    def read_logs(self, given: Sequence[LogSpec]) -> None:
        """Read the logs that are given, or else found; those that cannot be read are told of."""
        specs = given or discover.find_logs(self._home, self._queues)
        if not specs:
            self.output.note(
                "no log of qmail-send was found (name it with --qmail.log): attempts and reasons are unknown"
            )
        for spec in specs:
            names = [queue.name for queue in self._queues if spec.queue in (None, queue.name)]
            if not names:
                self.output.failed(
                    f"log {spec.spec} is for queue {spec.queue}, and there is none of that name"
                )
                continue
            histories = {name: self._histories.get(name, History()) for name in names}
            if self._read_log(LogWatch(partial(open_log, spec.spec), histories), spec):
                self._histories |= histories

    def rows(self, wanted: Wanted) -> Iterator[list[Row]]:
        """Read every message and yield those that are wanted, some at a time."""
        for queue in self._queues:
            try:
                reader = Envelopes(str(queue.path))
            except OSError as error:
                self.output.failed(reason_of(error) + advice(error, str(queue.path)), queue=queue.name)
                continue
            with closing(reader):
                self._tell_broken(queue, reader)
                for name in set(wanted.channels).difference(reader.channels):
                    text = f"there is no channel {name!r}, only {', '.join(reader.channels)}"
                    self.output.failed(text, queue=queue.name)
                entries = self._entries(queue.name, reader)
                for envelopes, done in reader.every():
                    self._follow(entries)
                    self.read += len(envelopes)
                    self.progress.show(f"reading queue {queue.name}: {done:.0%}, {self.read} messages")
                    yield list(_chosen(entries, envelopes, wanted))
                self._tell_broken(queue, reader)

    def named(self, msg: int, wanted: Wanted) -> Iterator[Row]:
        """Read one message and yield it, if it is wanted, from each queue that has one of that number."""
        self.seen = False
        for queue in self._queues:
            try:
                reader = Envelopes(str(queue.path))
            except OSError as error:
                self.output.failed(reason_of(error) + advice(error, str(queue.path)), queue=queue.name)
                continue
            with closing(reader):
                entries = self._entries(queue.name, reader)
                envelope = reader.one(msg)
                if envelope is not None:
                    self.seen = True
                    self.read += 1
                    yield from _chosen(entries, [envelope], wanted)
                self._tell_broken(queue, reader)

    def end(self) -> None:
        """Let go of the logs, and take the progress away."""
        self.progress.clear()
        for log in self._logs:
            log.close()

    def _read_lifetime(self) -> int | None:
        directory = str(options.control_directory(self._home))
        try:
            return ControlFiles(directory).read().queuelifetime
        except FileNotFoundError:
            self.output.note(f"{directory} is not there: when messages expire is unknown")
        except OSError as error:
            self.output.failed(reason_of(error))
        return None

    def _read_log(self, log: LogWatch, spec: LogSpec) -> bool:
        log.begin()
        whole = log.follower.lag_bytes()
        while not log.recalled and log.error is None:
            log.recall()
            left = log.follower.lag_bytes()
            self.progress.show(
                f"reading the log {spec.spec}: {1 - left / max(whole, left, 1):.0%}".encode(
                    "ascii", "backslashreplace"
                ).decode("ascii")
            )
        self.progress.clear()
        if log.error is None and log.follower.present:
            self._logs.append(log)
            return True
        reason = "there is no such log" if log.error is None else reason_of(log.error)
        self.output.failed(f"log {spec.spec}: {reason}; attempts and reasons are unknown")
        log.close()
        return False

    def _follow(self, entries: Entries) -> None:
        for log in self._logs:
            if records := log.read():
                log.observe(records)
        entries.refresh()

    def _entries(self, queue: str, reader: Envelopes) -> Entries:
        return Entries(queue, self._histories.get(queue), self._lifetime, reader.broken)

    def _tell_broken(self, queue: QueueSpec, reader: Envelopes) -> None:
        """Tell of what cannot be read, once: as soon as that is known, for the listing may be left before its end."""
        areas = sorted(area for area in reader.broken if (queue.name, area) not in self._told)
        if areas:
            self._told.update((queue.name, area) for area in areas)
            self.progress.clear()
            error = reader.broken[areas[0]]
            reason = reason_of(error) + advice(error, str(queue.path))
            self.output.failed(f"cannot read all of {', '.join(areas)}: {reason}", queue=queue.name)


def _chosen(entries: Entries, envelopes: Sequence[Envelope], wanted: Wanted) -> Iterator[Row]:
    now = time()
    for envelope in envelopes:
        entry = entries.make(*envelope)
        chosen = wanted.chosen(entry, now)
        if chosen is not None:
            yield entry, chosen
