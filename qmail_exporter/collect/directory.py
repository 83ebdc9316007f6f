"""One queue's directory, kept in the model: when to look where.

The order of a step is what makes the model exact: events are read after the log's lines were, and looked at before those
lines are taken in.  So a message of which the log tells has been looked at in a state no older than the line.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from time import monotonic

from qmail_exporter import logfmt
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import Message
from qmail_exporter.queue import Flow, Queue
from qmail_exporter.sources.inotify import Watcher, WatchError
from qmail_exporter.sources.scan import Absent, Tree

logger = logfmt.get_logger(__name__)

POLL = 30.0
"""Seconds between rescans of a queue that cannot be watched."""
COSTLY = 0.005
"""Seconds from which on a look takes long."""
PATIENCE = 5.0
"""Seconds between two attempts at what could not be opened or read."""


class QueueWatch:
    """One queue: its sources, its model, and how far they agree.

    Nothing here waits; time comes from the monotonic clock.

    Attributes:
        queue, flow: the model.
        scanned: the first scan is done, of the directory that is there now.
        progress: how much of the scan under way is done, 0 to 1; 1 when none is.
        pending: messages nominated and not looked at yet.
        errors: by source and kind.
        rescans: by reason; drift: messages that a rescan for no reason but time found different.
    """

    def __init__(self, name: str, path: str, *, seats: int, rescan_interval: float) -> None:
        self.name = name
        self.path = path
        self.queue = Queue(seats=seats)
        self.flow = Flow(self.queue, seats=seats)
        self.tree: Tree | None = None
        self.scanned = False
        self.progress = 0.0
        self.scan_seconds: float | None = None
        self.pending: set[int] = set()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.rescans: Counter[str] = Counter()
        self.events = 0
        self.overflows = 0
        self.drift = 0
        self._watcher: Watcher | None = None
        self._rescan_interval = rescan_interval
        self._sweep: Iterator[float] | None = None
        self._sweep_began = 0.0
        self._wanted: str | None = None  # why the next sweep is
        self._in_doubt = True  # something was lost that no sweep has made up for
        self._costly: dict[int, float] = {}  # when a message that takes long is due for a look that nobody asks for
        self._next_audit = self._next_try = monotonic()
        self._malformed: set[int] = set()
        self._told: str | None = None

    # --- what is known

    def knows(self, *areas: str) -> bool:
        """Whether everything in these areas of the queue has been read."""
        return self.scanned and self.tree is not None and not self.tree.broken.keys() & set(areas)

    @property
    def whole(self) -> bool:
        """Whether the model is the queue, as far as can be known."""
        return (
            self.scanned
            and self.tree is not None
            and not self.tree.broken
            and self.watched
            and not self._malformed
            and not self._in_doubt
        )

    @property
    def watched(self) -> bool:
        """Whether inotify tells of all that changes."""
        return self._watcher is not None and not self._watcher.unwatched

    @property
    def sweeping(self) -> bool:
        """Whether a scan is under way or wanted."""
        return self._sweep is not None or self._wanted is not None

    def fileno(self) -> int | None:
        """The descriptor that is readable when there are events."""
        return self._watcher.fd if self._watcher else None

    # --- steps

    def tick(self) -> None:
        """Look after what no event tells: what is not there or cannot be read, and whether it is time for an audit."""
        now = monotonic()
        if self.tree is None:
            if now >= self._next_try:
                self._next_try = now + PATIENCE
                self._open()
            return
        if not self.tree.intact():
            self._reopen()
            return
        if now >= self._next_try:
            self._next_try = now + PATIENCE
            if self.tree.broken and self.tree.probe():
                logger.info("readable again", queue=self.name, still=" ".join(sorted(self.tree.broken)))
                self._want("readable")
            elif not self.watched:
                self._reopen()
            self.pending |= self._malformed
        self._tell_broken()
        if not self.sweeping and now >= self._next_audit:
            self._want("audit" if self.watched else "poll")

    def read_events(self) -> None:
        """Take in the events that the kernel holds."""
        if self._watcher is None:
            return
        news = self._watcher.read()
        self.events += news.events
        self.pending |= news.messages
        if news.overflow:
            self.overflows += 1
            logger.warning("the kernel dropped inotify events; looking everywhere", queue=self.name)
            self._want("overflow")
        if news.replaced and self.tree is not None:
            self._reopen()

    def look(self, until: float, *, exact: bool) -> bool:
        """Look at nominated messages, at most until that moment; returns whether none is left.

        A message whose look takes long, a list's with its recipients being marked one by one, is put off unless
        `exact`, so that such looks take a two-hundredth of the time.
        """
        begun, put_off = monotonic(), set()
        while self.pending and begun < until:
            msg = self.pending.pop()
            if not exact and self._costly.get(msg, 0.0) > begun:
                put_off.add(msg)
                continue
            self.look_at(msg)
            ended = monotonic()
            if ended - begun > COSTLY:
                self._costly[msg] = ended + 200 * (ended - begun)
            elif self._costly:
                self._costly.pop(msg, None)
            begun = ended
        self.pending |= put_off
        return len(self.pending) == len(put_off)

    def look_at(self, msg: int) -> bool:
        """Look at message `msg`; returns whether anything differs from what was held."""
        if self.tree is None:
            return False
        return self._apply(msg, self.tree.look(msg))

    def sweep(self) -> None:
        """Do one step of the scan that is under way or wanted; some milliseconds."""
        if self.tree is None:
            return
        if self._sweep is None:
            if self._wanted is None:
                return
            self._begin()
        assert self._sweep is not None  # noqa: S101 - just begun
        for progress in islice(self._sweep, 1):
            self.progress = progress
            return
        self._finish()

    def place(self) -> None:
        """Give deferrals of messages that were not held to the model, after a look at them."""
        unplaced, self.flow.unplaced = self.flow.unplaced, []
        for deferral in unplaced:
            self.look_at(deferral.msg)
            self.queue.deferred(*deferral)

    def close(self) -> None:
        """Let go of the directory and the watches; what was known is known no longer."""
        if self._watcher is not None:
            self._watcher.close()
        if self.tree is not None:
            self.tree.close()
        self._watcher = self.tree = self._sweep = None
        self.scanned = False

    # --- the directory

    def _open(self) -> None:
        try:
            self.tree = Tree(self.path)
        except OSError as error:
            self._tell(f"no queue to be read: {error.strerror}", path=error.filename or self.path)
            if not isinstance(error, Absent):
                self.errors["queue", "open"] += 1
            return
        try:
            areas = {area: self.tree.directories(area) for area in self.tree.areas}
            self._watcher = Watcher(self.path, areas)
        except WatchError as error:
            self.errors["inotify", "watch"] += 1
            self._tell(f"not watched, looking everywhere instead: {error.strerror}", path=error.filename)
        self._tell_broken()
        logger.info("queue opened", queue=self.name, path=self.path, split=self.tree.split)
        self._want("start" if not len(self.queue) else "replaced")

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _want(self, reason: str) -> None:
        """Ask for a sweep.  What is lost while one is under way takes another one after it."""
        self._in_doubt |= reason != "audit"
        if self._wanted in (None, "audit"):
            self._wanted = reason

    def _tell_broken(self) -> None:
        assert self.tree is not None  # noqa: S101 - the caller's duty
        if self.tree.broken:
            area, error = next(iter(sorted(self.tree.broken.items())))
            self._tell(f"cannot read {area}: {error.strerror}", path=error.filename)
        elif self.watched:
            self._told = None

    def _tell(self, message: str, **fields: object) -> None:
        """Log what is wrong once, until it changes."""
        if message != self._told:
            self._told = message
            logger.warning(message, queue=self.name, **fields)

    # --- the sweep

    def _begin(self) -> None:
        reason, self._wanted = self._wanted or "audit", None
        self.rescans[reason] += 1
        self.progress = 0.0
        self._sweep_began = monotonic()
        self._sweep = self._everywhere(audit=reason == "audit")

    def _finish(self) -> None:
        self._sweep = None
        self.progress = 1.0
        self._in_doubt = self._wanted not in (None, "audit")
        self.scan_seconds = monotonic() - self._sweep_began
        interval = self._rescan_interval if self.watched else POLL
        self._next_audit = monotonic() + (interval or float("inf"))
        if not self.scanned:
            self.scanned = True
            logger.info("scan finished", queue=self.name, messages=len(self.queue), seconds=round(self.scan_seconds, 3))
        self.queue.sums.domains.elect()

    def _everywhere(self, *, audit: bool) -> Iterator[float]:
        """Look at every message that is held, then at every other that is there; yields the progress."""
        assert self.tree is not None  # noqa: S101 - a sweep ends when the tree is closed
        held = len(self.queue)
        looked = 0
        for part in self.queue.parts():
            for msg in part:
                if self.look_at(msg):
                    self._differs(msg, audit=audit)
                looked += 1
                if looked % 256 == 0:
                    yield min(looked / held, 1.0) / 2
        for step in self.tree.scan(self.queue.__contains__):
            for msg, message in step.found:
                if self._apply(msg, message):
                    self._differs(msg, audit=audit)
            yield (0.5 if held else 0.0) + step.progress * (0.5 if held else 1.0)

    def _differs(self, msg: int, *, audit: bool) -> None:
        """A look during an audit found what no event had told: unless an event does by now, it is drift."""
        if audit:
            self.read_events()
            if msg not in self.pending and not self._in_doubt:
                self.drift += 1
                logger.warning("a rescan found a message changed without an event", queue=self.name, msg=msg)

    def _apply(self, msg: int, message: Message | None) -> bool:
        try:
            changed = self.queue.apply(msg, message)
        except FormatError as error:
            if msg not in self._malformed:
                self.errors["queue", "format"] += 1
                self._malformed.add(msg)
                logger.warning("a message's files are malformed", queue=self.name, msg=msg, error=error)
            return False
        self._malformed.discard(msg)
        return changed
