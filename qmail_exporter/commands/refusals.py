"""From the log: which destinations refuse mail from this host by policy, while others take it. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from qmail_exporter.formats.envelope import domain
from qmail_exporter.formats.log import Delivery, Exiting, Record, Starting
from qmail_exporter.formats.reason import answered, reason

MAX_DOMAINS = 100_000
"""Domains that are counted; those that come later are not, and `Refusals.full` says so."""
MAX_OPEN = 8192
"""Deliveries in progress that are kept: more than any qmail-send can have."""


class Refused(NamedTuple):
    """A domain that refuses.

    Attributes:
        domain: its name in lower case, as `envelope.domain` gives it.
        refusals: attempts that ended in a refusal by policy.
        share: of the attempts at which a host answered, those that were refused so.
        text: the last such report.
    """

    domain: str
    refusals: int
    share: float
    text: bytes


class Refusals:
    """Counts remote deliveries by domain.

    Args:
        since: deliveries that ended before this moment, Unix seconds, do not count.

    Attributes:
        accepted: deliveries that a remote host accepted, to whatever domain.
        full: there were more than `MAX_DOMAINS` domains.
    """

    def __init__(self, since: float) -> None:
        self.accepted = 0
        self.full = False
        self._since = since
        self._open: dict[tuple[bytes, int], str] = {}
        self._answered: Counter[str] = Counter()
        self._taken: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._texts: dict[str, bytes] = {}

    def observe(self, record: Record) -> None:
        """Take in one line of the log, in its order."""
        if isinstance(record, Starting):
            if record.channel != "local" and len(self._open) < MAX_OPEN:
                self._open[record.queue, record.delivery] = domain(record.recipient)
            else:
                self._open.pop((record.queue, record.delivery), None)
        elif isinstance(record, Delivery):
            name = self._open.pop((record.queue, record.delivery), None)
            if name is not None and record.time >= self._since:
                self._count(name, record)
        elif isinstance(record, Exiting):
            self._open = {key: name for key, name in self._open.items() if key[0] != record.queue}

    def found(self, *, at_least: int, share: float) -> Iterator[Refused]:
        """Yield the domains that refused `at_least` times and that share of the time, and accepted nothing; most first."""
        for name, refusals in self._refused.most_common():
            part = refusals / self._answered[name]
            if refusals >= at_least and part >= share and name not in self._taken:
                yield Refused(name, refusals, part, self._texts[name])

    def _count(self, name: str, record: Delivery) -> None:
        if name not in self._answered and len(self._answered) >= MAX_DOMAINS:
            self.full = True
            return
        if record.result == "success":
            self.accepted += 1
            self._taken.add(name)
        if record.result in ("failure", "deferral") and reason(record.report) == "policy":
            self._refused[name] += 1
            self._texts[name] = record.report
            self._answered[name] += 1
        elif record.result == "success" or answered(record.report):
            self._answered[name] += 1
