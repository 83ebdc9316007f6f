"""Following the systemd journal through journalctl(1), which is its only stable reader besides the C library."""

import errno
import os
import re
import select
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from qmail_exporter.formats import FormatError
from qmail_exporter.sources.bell import Bell
from qmail_exporter.sources.logs.child import Child
from qmail_exporter.sources.logs.entry import Entry, parse_entry
from qmail_exporter.sources.logs.lines import LONGEST, Batch, Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 256 * 1024
_LONGEST_ENTRY = 6 * LONGEST  # a byte may be four characters and a comma
_FIELD = re.compile(r"[A-Z_][A-Z0-9_]*=")
_PATIENCE = 0.05  # seconds that a step of a backfill waits for journalctl
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0


class Journal:
    """A `Follower` of the journal.

    journalctl runs as a child for as long as the journal is followed. When it ends (journald was restarted, the
    journal rotated away under it) it is started again, after a delay that doubles, behind the last entry read.

    Kinds of `losses`: `long_line`, `malformed` (what journalctl wrote was no entry).

    Args:
        source: A unit, or `FIELD=VALUE`.
        program: The journalctl to run.
        clock: A monotonic clock in seconds.
        backfill_lines: How many entries a backfill reads at most; the oldest are left out.

    Raises:
        ValueError: The source names nothing.
    """

    def __init__(
        self,
        source: str,
        *,
        program: str = "journalctl",
        clock: "Callable[[], float]" = time.monotonic,
        backfill_lines: int = 2_000_000,
    ) -> None:
        if not source or "\0" in source:
            raise ValueError("journal: must be followed by a unit or FIELD=VALUE")
        self.path = f"journal:{source}"
        self.losses: Counter[str] = Counter()
        self.behind = False
        self._clock = clock
        self._backfill_lines = backfill_lines
        # --unit also selects what systemd itself says about the unit; that has neither of these transports. Without
        # --all a text of more than 4096 bytes is null.
        match = (
            [source]
            if _FIELD.match(source)
            else [f"--unit={source}", "_TRANSPORT=stdout", "_TRANSPORT=syslog"]
        )
        options = ["--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE"]
        self._command = [program, *options, *match]
        self._child: Child | None = None
        self._lines = Lines(self.losses, _LONGEST_ENTRY)
        self._cursor = ""
        self._begun = False
        self._empty = False
        self._backfilling = False
        self._resuming = False
        self._productive = False
        self._delay = _FIRST_DELAY
        self._start_at = 0.0

    @property
    def present(self) -> bool:
        """Whether journalctl runs."""
        return self._child is not None

    def backfill(self) -> "Iterator[Batch]":
        """Return the entries that the journal holds, oldest first; a step waits 50 ms at most.

        Raises:
            OSError: journalctl cannot be started, or gave nothing but an error. Another call may then succeed.
        """
        if self._begun:
            return
        self._backfilling = True
        try:
            child = self._start(f"--lines={self._backfill_lines}")
            poll = select.poll()
            poll.register(child.fileno(), select.POLLIN)
            while self._child:
                poll.poll(_PATIENCE * 1000)
                yield self._collect(_BLOCK)
            self._empty = not self._cursor
        finally:
            self.close()
            self._backfilling = False
            self._begun = bool(self._cursor) or self._empty
            self._start_at = 0.0

    def read(self, limit: int = 1 << 20) -> Batch:
        """Return the lines of the entries that came since, from about `limit` bytes of JSON at most.

        Without a backfill before it the journal is followed from its present end.

        Raises:
            OSError: journalctl cannot be started, or gave nothing but an error.
        """
        if self._backfilling or (self._child is None and self._clock() < self._start_at):
            return Batch([], [])
        if self._child is None:
            self._follow()
        self._begun = True
        return self._collect(limit)

    def listen(self) -> Bell | None:
        """Return what is readable when journalctl has written, or has ended; None while it does not run."""
        if self._child is None:
            return None
        try:
            # That of the child may be closed, and its number another's.
            descriptor = os.dup(self._child.fileno())
        except OSError:
            return None
        return Bell(descriptor, partial(os.close, descriptor))

    def lag_bytes(self) -> int:
        """Return how many bytes of JSON wait in the pipe."""
        return self._child.waiting() if self._child else 0

    def close(self) -> None:
        """End journalctl."""
        if self._child:
            self._child.kill()
            self._child = None

    def _follow(self) -> None:
        # --after-cursor would lose a line: if the cursor's entry is gone, journalctl before 255 skips the first entry
        # that it should show. --cursor begins with the entry itself, which is known by its cursor and left out.
        if self._cursor:
            self._start("--follow", "--no-tail", f"--cursor={self._cursor}")
            self._resuming = True
        elif self._empty:  # when the backfill ended, so all that is there has come since
            self._start("--follow", "--no-tail")
        else:
            self._start("--follow", "--lines=0")

    def _start(self, *options: str) -> Child:
        self._start_at = self._clock() + self._delay
        self._delay = min(2 * self._delay, _LONGEST_DELAY)
        self._productive = False
        # What the last child left unfinished comes again, whole.
        self._lines = Lines(self.losses, _LONGEST_ENTRY)
        self._child = Child([*self._command, *options])
        return self._child

    def _collect(self, limit: int) -> Batch:
        batch = Batch([], [])
        left = limit
        while left > 0 and self._child:
            data = self._child.read(left)
            if data is None:
                self._ended(self._child)
            elif not data:
                break
            else:
                left -= len(data)
                self._add(self._lines.feed(data), batch)
        self.behind = left <= 0
        return batch

    def _add(self, entries: list[bytes], batch: Batch) -> None:
        for line in entries:
            try:
                entry = parse_entry(line)
            except FormatError:
                self.losses["malformed"] += 1
                continue
            if entry is not None and not self._repeated(entry):
                self._give(entry, batch)

    def _repeated(self, entry: Entry) -> bool:
        """Whether this is the entry that a restarted journalctl begins with, which was given out before."""
        repeated = self._resuming and entry.cursor == self._cursor
        self._resuming = False
        self._productive = True
        self._delay = _FIRST_DELAY
        self._cursor = entry.cursor
        return repeated

    def _give(self, entry: Entry, batch: Batch) -> None:
        if entry.message is None or len(entry.message) > LONGEST:
            self.losses["long_line"] += 1
            return
        lines = entry.message.split(b"\n")
        batch.lines.extend(lines)
        if batch.times is not None:
            batch.times.extend([entry.time] * len(lines))

    def _ended(self, child: Child) -> None:
        self._child = None
        status, said = child.end()
        if status and not self._productive:
            message = f"journalctl ended with status {status}: {said or 'no message'}"
            raise OSError(errno.EIO, message, self.path)
