"""The log that `record-double-bounce` writes, followed and counted."""

from time import monotonic, time

from qmail_exporter import errors, logfmt
from qmail_exporter.double_bounce import DoubleBounces
from qmail_exporter.sources.logs import Follower

logger = logfmt.get_logger(__name__)

PATIENCE = 5.0
"""Seconds between two attempts at a log that cannot be read."""


class DoubleBounceWatch:
    """A log of double bounces; only what comes after the start is counted.

    Attributes:
        counts: of its lines.
        read_once: it was there and read since the start.
        error: why it cannot be read now; None while it can.
    """

    def __init__(self, follower: Follower, *, seats: int) -> None:
        self.counts = DoubleBounces(seats=seats)
        self.read_once = False
        self.error: OSError | None = None
        self._follower = follower
        self._next_try = 0.0

    @property
    def up(self) -> bool:
        """Whether the log is there and can be read."""
        return self.error is None and self._follower.present

    def read(self) -> None:
        """Count the lines that came since."""
        if monotonic() < self._next_try:
            return
        try:
            lines = self._follower.read().lines
        except OSError as error:
            self._next_try = monotonic() + PATIENCE
            if str(error) != str(self.error):
                logger.warning("cannot read the log of double bounces", path=self._follower.path, error=error)
            self.error = errors.kept(error)
            return
        self.error = None
        self.read_once |= self._follower.present
        now = time()
        for line in lines:
            self.counts.observe(line, now)

    def close(self) -> None:
        """Let go of the log."""
        self._follower.close()
