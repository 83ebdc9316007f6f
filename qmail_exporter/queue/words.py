"""What was said last of each domain when mail to it was deferred or failed."""

from heapq import nlargest
from typing import NamedTuple

MAX_DOMAINS = 4096
"""Domains whose last words are remembered; of more, half are forgotten, those of which nothing was heard for longest."""
LONGEST = 1024
"""Bytes that are kept of a report, and of an address."""

_SPOKE = b"Remote_host_said:"


class Words(NamedTuple):
    """The report of a delivery, and the address that it was to; both in the log's form."""

    time: float
    recipient: bytes
    report: bytes


class Said(NamedTuple):
    """The last report of a domain, and the last in which the remote host itself spoke; None if it has not."""

    last: Words
    remote: Words | None


class LastWords:
    """What was said last of each domain.  It is told of every deferral, so telling it must cost next to nothing."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, bytes, bytes]] = {}
        self._remote: dict[str, tuple[float, bytes, bytes]] = {}

    def __len__(self) -> int:
        return len(self._last)

    def put(self, domain: str, time: float, recipient: bytes, report: bytes) -> None:
        """Remember a report as the newest of its domain."""
        self._last[domain] = words = time, recipient[:LONGEST], report[:LONGEST]
        if _SPOKE in words[2]:
            self._remote[domain] = words
        if len(self._last) > MAX_DOMAINS:
            self._forget()

    def get(self, domain: str) -> Said | None:
        """What was said last of a domain, if anything is remembered."""
        last, remote = self._last.get(domain), self._remote.get(domain)
        return None if last is None else Said(Words(*last), None if remote is None else Words(*remote))

    def _forget(self) -> None:
        """Keep the half of which something was heard last."""
        newest = nlargest(MAX_DOMAINS // 2, self._last.items(), key=lambda item: item[1][0])
        self._last = dict(newest)
        self._remote = {domain: self._remote[domain] for domain in self._last.keys() & self._remote.keys()}
