"""Followers of qmail-send's log: they hand out complete lines, once each and in order; what those say is read elsewhere.

A log is a multilog or svlogd directory, a plain file, or a unit's part of the systemd journal. Nothing here waits
for news: a follower is asked again every second or so and before each scrape, or when what it gave to listen to rings.
"""

from typing import TYPE_CHECKING, Protocol

from qmail_exporter.sources.logs.follow import LogFiles
from qmail_exporter.sources.logs.journal import Journal
from qmail_exporter.sources.logs.lines import Batch

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from qmail_exporter.sources.bell import Bell

__all__ = ["Batch", "Follower", "Journal", "LogFiles", "open_log"]

_JOURNAL = "journal:"


class Follower(Protocol):
    """What follows one log.

    Errors: `backfill`, its iterator and `read` raise OSError only for what the operator must put right, with the
    path in it; asking again later is always possible and loses nothing. Everything else is counted in `losses`.

    Attributes:
        path: What is followed, for messages.
        losses: Lines or files that could not be given out, by kind.
        behind: Whether the last `read` stopped at its limit, so that more may be waiting.
    """

    path: str
    losses: "Counter[str]"
    behind: bool

    @property
    def present(self) -> bool:
        """Whether the log was there at the last look. A missing log is no error: it may appear yet."""

    def backfill(self) -> "Iterator[Batch]":
        """Return the log as far as it goes now, oldest line first; `read` goes on exactly there.

        A batch may be empty: nothing was there yet, and the caller gets a turn.
        """

    def read(self, limit: int = 1 << 20) -> Batch:
        """Return what came since, from about `limit` bytes at most. Gives nothing while a backfill is under way."""

    def listen(self) -> "Bell | None":
        """Return what rings when there is news; None where nothing does.

        It tells of what comes after the call: of what came before, a `read` that follows does.
        """

    def lag_bytes(self) -> int:
        """Return how many unread bytes are known to wait."""

    def close(self) -> None:
        """Let go of everything that is open."""


def open_log(spec: str) -> Follower:
    """Return a follower of the log that `spec` names; nothing is opened yet.

    Args:
        spec: `journal:` and a unit (`journal:qmail-send.service`) or a field of the journal
            (`journal:SYSLOG_IDENTIFIER=qmail`), or else the path of a multilog or svlogd directory or of a file.
            What a path is, is decided when it is read, and again whenever it is replaced.

    Raises:
        ValueError: It names nothing.
    """
    if spec.startswith(_JOURNAL):
        return Journal(spec[len(_JOURNAL) :])
    if not spec or "\0" in spec:
        raise ValueError("a log must be named by a path or by journal:UNIT")
    return LogFiles(spec)
