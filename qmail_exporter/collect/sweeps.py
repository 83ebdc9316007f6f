"""When everything is to be looked at, why, and how far that has got."""

from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic

AUDIT = "audit"
REASONS = ("start", AUDIT, "overflow", "replaced", "readable", "poll")
"""The queue's first scan; a check for no reason but time; events were lost; another directory is there now; what could
not be read or watched can be; it is time, and nothing can be watched."""


class Sweeps:
    """The sweeps over one queue, one after the other.

    Attributes:
        done: by reason; those begun.
        progress: how much of the sweep under way is done, 0 to 1; 1 when none is.
        seconds: duration of the last one; None before the first has ended.
        in_doubt: something was lost that no sweep has made up for.
        drift: messages that an audit found different, and no event told why.
    """

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.progress = 0.0
        self.seconds: float | None = None
        self.in_doubt = True
        self.drift = 0
        self._suspects: set[int] = set()
        self._running: Iterator[float] | None = None
        self._began = 0.0
        self._wanted: str | None = None
        self._reason = ""  # of the one under way

    @property
    def due(self) -> bool:
        """Whether a sweep is under way or wanted."""
        return self._running is not None or self._wanted is not None

    def want(self, reason: str) -> None:
        """Ask for a sweep.  What is lost while one is under way takes another one after it."""
        if reason != AUDIT:
            self.in_doubt = True
            self._suspects.clear()
        if self._wanted in (None, AUDIT):
            self._wanted = reason

    def differs(self, msg: int) -> None:
        """An audit found message `msg` changed, and no event tells of it yet."""
        if not self.in_doubt:
            self._suspects.add(msg)

    def told(self, messages: set[int]) -> None:
        """Events have told of these messages."""
        self._suspects -= messages

    def judge(self) -> set[int]:
        """Return, and count, the messages of which no event has told since an audit found them changed.

        Call it some time after: a change can be seen a moment before its event.
        """
        drifted, self._suspects = self._suspects, set()
        self.drift += len(drifted)
        return drifted

    def abandon(self) -> None:
        """Forget the sweep under way, and what was wanted: the directory is let go."""
        self._running = self._wanted = None
        self._suspects.clear()
        self.in_doubt = True

    def step(self, walk: Callable[[str], Iterator[float]]) -> bool:
        """Do one step of the sweep that is due, if one is; returns whether that was its last.

        Args:
            walk: begins a sweep for a reason; its iterator does a step each time and yields the progress.
                Whatever it raises is raised here too, and the sweep is wanted again.
        """
        if self._running is None:
            if self._wanted is None:
                return False
            self._reason = reason = self._wanted
            self._wanted = None
            self.done[reason] += 1
            self.progress, self._began = 0.0, monotonic()
            self._running = walk(reason)
        running = self._running
        try:
            progress = next(running, None)
        except BaseException:
            # A generator that has raised would next seem to be at its end, and what it did not come to would be missing.
            if running is self._running:
                self._running = None
                self._wanted = self._wanted if self._wanted not in (None, AUDIT) else self._reason
                self.in_doubt = True
            raise
        if running is not self._running:  # abandoned meanwhile
            return False
        if progress is not None:
            self.progress = progress
            return False
        self._running = None
        self.progress = 1.0
        self.in_doubt = self._wanted not in (None, AUDIT)
        self.seconds = monotonic() - self._began
        return True
