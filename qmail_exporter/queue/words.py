"""What was said last of each domain when mail to it was deferred or failed."""

from collections import OrderedDict
from typing import NamedTuple

MAX_DOMAINS = 4096
"""Domains whose last words are remembered; of more, those are forgotten of which nothing was heard for longest."""
LONGEST = 1024
"""Bytes that are kept of a report, and of an address."""

_new = tuple.__new__


class Words(NamedTuple):
    """The report of a delivery, and the address that it was to; both in the log's form."""

    time: float
    recipient: bytes
    report: bytes


class LastWords(OrderedDict[str, Words]):
    """The last report of each domain, of those heard of most recently."""

    def put(self, domain: str, time: float, recipient: bytes, report: bytes) -> None:
        """Remember a report as the newest of its domain."""
        self[domain] = _new(Words, (time, recipient[:LONGEST], report[:LONGEST]))
        self.move_to_end(domain)
        if len(self) > MAX_DOMAINS:
            self.popitem(last=False)
