"""The log that `record-double-bounce` writes, counted: double bounces by domain, and those that say the same again.

Pure: lines and times in, counts out. `record.py` says what the lines hold and writes them; both of its forms are read.
"""

import json
import re
from calendar import timegm
from collections import OrderedDict
from math import isfinite
from typing import Any, NamedTuple

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import NO_DOMAIN, domain
from qmail_exporter.formats.reason import reason
from qmail_exporter.queue.traffic import DomainTraffic

WINDOW = 300.0
"""Seconds within which the same recipient and reason make a duplicate."""
REMEMBERED = 10_000
"""Pairs of recipient and reason that are remembered; the oldest are given up first."""
MAX_LINE = 1 << 16
"""Bytes of a line that is read; record.py's limits keep the longest below, with every character escaped."""

_TEXT = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) "
    rb"(?:not a double bounce|double bounce: from <([^<> ]*)> to ((?:<[^<> ]*>(?: (?=<))?)+): (.*))"
)
_ADDRESS = re.compile(rb"<([^<> ]+)>")


class Failure(NamedTuple):
    """A recipient whom the message did not reach, and why not."""

    address: bytes
    text: bytes


class Entry(NamedTuple):
    """One line of the log.

    Attributes:
        time: when the double bounce was delivered, Unix seconds.
        double: whether it was one; False for other mail that came to `doublebounceto`.
        sender: of the message that bounced.
        failures: its recipients; none where the bounce did not tell.
    """

    time: float
    double: bool
    sender: bytes
    failures: tuple[Failure, ...]


def parse_entry(line: bytes) -> Entry:
    """Read one line, without its newline, in either form.

    Raises:
        FormatError: it is no such line.
    """
    if len(line) > MAX_LINE:
        raise FormatError("double bounce: the line is too long")
    return _from_json(line) if line.startswith(b"{") else _from_text(line)


class DoubleBounces:
    """Counts of one log, since the exporter started.

    Attributes:
        total: double bounces.
        duplicates: those of which each recipient failed for the same reason not long before.
        others: mail to `doublebounceto` that was no double bounce.
        unparsed: lines that are not understood.
        domains: by domain of the recipient, with the result `first` or `duplicate`. A double bounce counts once for each
            domain that it names.
        last: when the newest double bounce came, Unix seconds; None until there was one.
    """

    def __init__(self, *, seats: int = 100, window: float = WINDOW, remembered: int = REMEMBERED) -> None:
        self.total = 0
        self.duplicates = 0
        self.others = 0
        self.unparsed = 0
        self.domains = DomainTraffic(seats)
        self.last: float | None = None
        self._window = window
        self._most = remembered
        self._seen: OrderedDict[tuple[bytes, str], float] = OrderedDict()

    def observe(self, line: bytes, time: float) -> None:
        """Count a line; `time` is when it was read, and what a line from the future is taken for."""
        try:
            entry = parse_entry(line)
        except FormatError:
            self.unparsed += 1
            return
        if not entry.double:
            self.others += 1
            return
        moment = min(entry.time, time)
        self.last = moment if self.last is None else max(self.last, moment)
        self.total += 1
        # Every one is noted, so no any() or all() that would stop early.
        again = [self._again(failure, moment) for failure in entry.failures]
        duplicate = bool(again) and all(again)
        self.duplicates += duplicate
        names = {domain(failure.address) for failure in entry.failures} or {NO_DOMAIN}
        for name in sorted(names):
            self.domains.count(name, "duplicate" if duplicate else "first")

    def elect(self) -> None:
        """Choose anew which domains have series of their own."""
        self.domains.elect()

    def _again(self, failure: Failure, moment: float) -> bool:
        key = failure.address.lower(), reason(failure.text)
        before = self._seen.pop(key, None)
        self._seen[key] = moment
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        # A clock that was set back must not make every bounce a duplicate, nor none.
        return before is not None and abs(moment - before) <= self._window


def _from_json(line: bytes) -> Entry:
    try:
        fields = json.loads(line)
        if fields["kind"] not in ("double", "other"):
            raise FormatError("double bounce: an unknown kind")
        time, double = float(fields["time"]), fields["kind"] == "double"
        if not isfinite(time):
            raise FormatError("double bounce: no such time")
        if not double:
            return Entry(time, double=False, sender=b"", failures=())
        failures = tuple(
            Failure(_raw(each["address"]), _raw(each["failure"])) for each in fields["recipients"]
        )
        return Entry(time, double, _raw(fields["sender"]), failures)
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise FormatError("double bounce: not a line of this log") from error


def _from_text(line: bytes) -> Entry:
    match = _TEXT.fullmatch(line)
    if not match:
        raise FormatError("double bounce: not a line of this log")
    try:
        time = float(timegm(tuple(map(int, match.groups()[:6]))))
    except (ValueError, OverflowError) as error:
        raise FormatError("double bounce: no such time") from error
    _, sender, to, text = match.groups()[5:]
    if sender is None:
        return Entry(time, double=False, sender=b"", failures=())
    # The line tells why the first of them failed; duplicates are found by the address all the same.
    failures = tuple(Failure(address, text) for address in _ADDRESS.findall(to))
    return Entry(time, double=True, sender=sender, failures=failures)


def _raw(value: Any) -> bytes:
    if not isinstance(value, str):
        raise FormatError("double bounce: a value is no string")
    return value.encode("utf-8", "backslashreplace")
