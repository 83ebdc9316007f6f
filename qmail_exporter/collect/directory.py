"""One queue's directory, kept in the model: when to look where.

The order of a step is what makes the model exact: events are read after the log's lines were, and looked at before those
lines are taken in.  So a message of which the log tells has been looked at in a state no older than the line.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from time import monotonic

from qmail_exporter import errors, logfmt
from qmail_exporter.collect.everywhere import everywhere
from qmail_exporter.collect.sweeps import AUDIT, Sweeps
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import Message
from qmail_exporter.queue import Flow, Queue
from qmail_exporter.sources.inotify import Watcher, WatchError
from qmail_exporter.sources.scan import Absent, Tree

logger = logfmt.get_logger(__name__)

POLL = 30.0
"""Seconds between rescans of a queue that cannot be watched."""
COSTLY = 0.005
"""Seconds from which on a look takes long …"""
LONG = 1 << 16
"""… if a channel's file has that many bytes.  Of a message with such a file the log can be taken in without a new look."""
PATIENCE = 5.0
"""Seconds between two attempts at what could not be opened, read or watched."""
RARELY = 200
"""What takes long though nobody asked for it, is not done again for so many times as long as it took."""


class QueueWatch:
    """One queue: its sources, its model, and how far they agree.

    Nothing here waits; time comes from the monotonic clock.

    Attributes:
        queue, flow: the model.
        tree, watcher: the open directory, and its watches; None where there are none.
        sweeps: when everything is looked at.
        scanned: the first scan is done, of the directory that is there now.
        renewals: how often something came to be read of which the log may have told before.
        pending: messages nominated and not looked at yet.
        apart: other processes scan.  Looks wait until all that they found, which may be older, has been taken in.
        waiting: the sweep under way has nothing to do but wait for other processes.
        behind: among those pending are some that wait for nothing but time.
        errors: by source and kind.
        why_absent, why_unwatched: why there is no tree, or no watcher.
    """

    def __init__(self, name: str, path: str, *, seats: int, rescan_interval: float) -> None:
        self.name = name
        self.path = path
        self.queue = Queue(seats=seats)
        self.flow = Flow(self.queue, seats=seats)
        self.tree: Tree | None = None
        self.watcher: Watcher | None = None
        self.sweeps = Sweeps()
        self.scanned = False
        self.renewals = 0
        self.pending: set[int] = set()
        self.apart = False
        self.waiting = False
        self.behind = False
        self.errors: Counter[tuple[str, str]] = Counter()
        self.why_absent: OSError | None = None
        self.why_unwatched: OSError | None = None
        self.events = 0
        self.overflows = 0
        self._rescan_interval = rescan_interval
        self._costly: dict[
            int, float
        ] = {}  # when a message that takes long is due for a look that nobody asks for
        self._looked_at = 0  # bytes of the longest channel's file that the last look found
        self._next_audit = self._next_try = self._next_watch = monotonic()
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
            self.settled
            and self.tree is not None
            and not self.tree.broken
            and self.watched
            and not self._malformed
        )

    @property
    def settled(self) -> bool:
        """Whether the directory has been scanned, and again after whatever was lost since."""
        return self.scanned and not self.sweeps.in_doubt

    @property
    def watched(self) -> bool:
        """Whether inotify tells of all that changes."""
        return self.watcher is not None and not self.watcher.unwatched

    @property
    def malformed(self) -> int:
        """Messages whose files are not in qmail's format."""
        return len(self._malformed)

    # --- steps

    def tick(self) -> None:
        """Look after what no event tells: what is not there or cannot be read, and whether it is time for an audit."""
        now = monotonic()
        self.read_events()
        for msg in self.sweeps.judge():
            logger.warning("a rescan found a message changed without an event", queue=self.name, msg=msg)
        if self.tree is not None and not self.tree.intact():
            self._reopen()
        elif now >= self._next_try:
            self._next_try = now + PATIENCE
            self._try_again()
        if self.tree is not None:
            self._tell_broken(self.tree)
            if not self.sweeps.due and now >= self._next_audit:
                self.sweeps.want(AUDIT if self.watched else "poll")

    def read_events(self) -> None:
        """Take in the events that the kernel holds."""
        if self.watcher is None:
            return
        news = self.watcher.read()
        self.events += news.events
        self.pending |= news.messages
        self.sweeps.told(news.messages)
        if news.overflow:
            self.overflows += 1
            logger.warning("the kernel dropped inotify events; looking everywhere", queue=self.name)
            self.sweeps.want("overflow")
        if news.replaced:
            self._reopen()

    def look(self, until: float, *, exact: bool) -> None:
        """Look at nominated messages, at most until that moment.

        A message whose look takes long, a list's with its recipients being marked one by one, is put off unless
        `exact`.
        """
        if self.apart:
            return
        begun, put_off = monotonic(), set()
        while self.pending and begun < until:
            msg = self.pending.pop()
            if not exact and self._costly.get(msg, 0.0) > begun:
                put_off.add(msg)
                continue
            self.look_at(msg)
            ended = monotonic()
            if ended - begun > COSTLY and self._looked_at >= LONG:
                self._costly[msg] = ended + RARELY * (ended - begun)
            elif self._costly:
                self._costly.pop(msg, None)
            begun = ended
        self.behind = bool(self.pending)
        self.pending |= put_off

    def look_at(self, msg: int) -> bool:
        """Look at message `msg`; returns whether anything differs from what was held."""
        if self.tree is None:
            return False
        if self.apart:
            self.pending.add(msg)
            return False
        message = self.tree.look(msg)
        self._looked_at = max((len(file.content) for file in message.channels), default=0) if message else 0
        return self.take(msg, message)

    def look_at_named(self, messages: Iterable[int], begun: Iterable[int]) -> None:
        """Look at the messages of which the log tells where they may not have been looked at since.

        Args:
            messages: those that it names; they are not known if events were lost, or time was short.
            begun: those that it names as new, in place of one whose look may have been put off.
        """
        if self.sweeps.in_doubt or self.behind:
            for msg in set(messages):
                self.look_at(msg)
        elif self.pending:
            for msg in self.pending.intersection(begun):
                self.look_at(msg)

    def sweep(self) -> None:
        """Do one step of the sweep that is due; some milliseconds."""
        if self.tree is None or not self.sweeps.step(partial(everywhere, self, self.tree)):
            return
        interval = self._rescan_interval if self.watched else POLL
        self._next_audit = monotonic() + (interval or float("inf"))
        if not self.scanned:
            self.scanned = True
            seconds = round(self.sweeps.seconds or 0.0, 3)
            logger.info("scan finished", queue=self.name, messages=len(self.queue), seconds=seconds)
        self.queue.sums.domains.elect()

    def place(self) -> None:
        """Give deferrals of messages that were not held to the model, after a look at them."""
        if self.apart:
            return
        unplaced, self.flow.unplaced = self.flow.unplaced, []
        for deferral in unplaced:
            self.look_at(deferral.msg)
            self.queue.deferred(*deferral)

    def close(self) -> None:
        """Let go of the directory and the watches; what was known is known no longer."""
        if self.watcher is not None:
            self.watcher.close()
        if self.tree is not None:
            self.tree.close()
        self.watcher = self.tree = None
        self.sweeps.abandon()
        self.scanned = self.behind = self.waiting = False
        self.pending.clear()

    # --- the directory

    def _open(self) -> None:
        try:
            self.tree = Tree(self.path)
        except OSError as error:
            self.why_absent = errors.kept(error)
            where = os.path.join(self.path, error.filename or "")
            self._tell(f"no queue to be read: {errors.words(error)}", path=where)
            if not isinstance(error, Absent):
                self.errors["queue", "open"] += 1
            return
        self.renewals += 1
        self.watcher = self._watch(self.tree, later=True)  # the sweep goes on with that
        self._tell_broken(self.tree)
        logger.info("queue opened", queue=self.name, path=self.path, split=self.tree.split)
        self.sweeps.want("start" if not self.sweeps.done else "replaced")

    def _reopen(self) -> None:
        self.close()
        self._open()

    def cover(self, tree: Tree) -> Iterator[int]:
        """Watch the directories of one number after the other; gives each number when its directories may be listed."""
        for number in range(tree.split):
            if self.watcher is not None:
                try:
                    self.watcher.cover(number)
                except WatchError as error:
                    self.watcher.close()
                    self.watcher = None
                    self._tell_unwatched(error)
            yield number

    def _watch(self, tree: Tree, *, later: bool = False) -> Watcher | None:
        try:
            return Watcher(self.path, {area: tree.directories(area) for area in tree.areas}, later=later)
        except WatchError as error:
            self._tell_unwatched(error)
            return None

    def _tell_unwatched(self, error: WatchError) -> None:
        self.why_unwatched = errors.kept(error)
        self.errors["inotify", "watch"] += 1
        self._tell(f"not watched, looking everywhere instead: {error.strerror}", path=error.filename)

    def _try_again(self) -> None:
        """What could not be opened, read or watched may have become so."""
        if self.tree is None:
            self._open()
            return
        if self.tree.broken and self.tree.probe():
            self.renewals += 1
            logger.info("readable again", queue=self.name, still=" ".join(sorted(self.tree.broken)))
            self.sweeps.want("readable")
        begun = monotonic()
        if not self.watched and begun >= self._next_watch:
            # To watch a million names takes the kernel half a second, also where there are too few watches in the end.
            self._watch_more(self.tree)
            ended = monotonic()
            self._next_watch = ended + RARELY * (ended - begun)
        self.pending |= self._malformed

    def _watch_more(self, tree: Tree) -> None:
        """Take new watches in place of the old if there are more of them; what happened in between is looked for."""
        before, after = self.watcher, self._watch(tree)
        if after is None:
            return
        if before is not None and not before.unwatched.keys() - after.unwatched.keys():
            after.close()
            return
        if before is not None:
            before.close()
        self.watcher = after
        self.sweeps.want("readable")

    def _tell_broken(self, tree: Tree) -> None:
        if tree.broken:
            area, error = next(iter(sorted(tree.broken.items())))
            self._tell(f"cannot read {area}: {errors.words(error)}", path=error.filename)
        elif self.watched:
            self._told = None

    def _tell(self, message: str, **fields: object) -> None:
        """Log what is wrong once, until it changes."""
        if message != self._told:
            self._told = message
            logger.warning(message, queue=self.name, **fields)

    def take(self, msg: int, message: Message | None) -> bool:
        """Take the state that a look found into the model; returns whether anything differs from what was held."""
        try:
            changed = self.queue.apply(msg, message)
        except (FormatError, MemoryError) as error:
            if msg not in self._malformed:
                is_format = isinstance(error, FormatError)
                self.errors["queue", "format" if is_format else "memory"] += 1
                self._malformed.add(msg)
                wrong = "a message's files are malformed" if is_format else "no memory for a message"
                logger.warning(wrong, queue=self.name, msg=msg, error=error)
            return False
        self._malformed.discard(msg)
        return changed
