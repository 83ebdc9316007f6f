"""What loggers put before a line of qmail-send's log, taken off: text and time come out.

Known are multilog's and svlogd's TAI64N (``@`` and 24 hex digits), svlogd's UTC dates (``-tt``, ``-ttt``), splogger
through syslog in the old and in the RFC 5424 time format, splogger in the journal, and nothing at all.  Each line shows
by its first bytes which it is, so nothing has to be told, and a file in which the style changes is read all the same.

splogger (splogger.c) breaks a line after 799 bytes; the parts after the first have ``+`` behind the same time stamp, and are put
together again here.
"""

import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import repeat
from struct import Struct
from typing import NamedTuple

_TAI_EPOCH = 2**62 + 10
"""TAI64's second of Unix time 0; daemontools adds 10 s always, whatever leap seconds came since."""
_LATEST = 10**12
"""Seconds; what claims to be later, or before 1970, is no time."""
_TAI64N = 25  # bytes of a label
_NANOSECONDS = Struct(">I").unpack
_PART = 799
_MAX_PARTS = 64  # qmail-send keeps a report under 10,000 bytes

_SVLOGD = re.compile(rb"(\d{4}-\d\d-\d\d)[T_](\d\d:\d\d:\d\d)(\.\d{1,9})? (.*)", re.DOTALL)
_SYSLOG = re.compile(
    rb"(?:<\d{1,3}>)?"
    rb"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) "
    rb"(?:\S+ )?([^\s:\[\]]+)(?:\[\d+\])?: (.*)",
    re.DOTALL,
)
_STAMP = re.compile(rb"(\d{1,12}\.\d{6})([ +])(.*)", re.DOTALL)


class _Part(NamedTuple):
    """A line that splogger may have broken here."""

    stamp: bytes
    texts: list[bytes]


class Prefixes:
    """Takes the prefixes off one log's lines.

    Args:
        programs: the names before the colon, in syslog, of lines that are qmail-send's.

    Attributes:
        foreign: lines so far that other programs wrote to the same syslog file.
    """

    def __init__(self, programs: Iterable[bytes] = (b"qmail",)) -> None:
        self.foreign = 0
        self._programs = frozenset(programs)
        self._part: _Part | None = None
        self._label, self._second = b"", 0  # TAI64N's first 17 bytes, and the Unix second that they are

    def strip(
        self, lines: Sequence[bytes], times: Sequence[float] | None, now: float
    ) -> Iterator[tuple[bytes, float]]:
        """Text and Unix time of each of qmail-send's lines.

        A line that tells no time, or an impossible one, has the one of `times` in its place, or where that is None,
        `now`.  A line that splogger broke comes out when its last part has come.
        """
        for line, known in zip(lines, times if times is not None else repeat(now), strict=False):
            label, _, text = line.partition(b" ")
            if label[:17] == self._label and len(label) == _TAI64N:
                # Nearly all lines of most logs come this way, many of them within one second.
                try:
                    (nanoseconds,) = _NANOSECONDS(unhexlify(label[17:]))
                except ValueError:
                    yield line, known
                else:
                    yield text, self._second + nanoseconds / 1e9
            else:
                yield from self._other(line, known)

    def _other(self, line: bytes, known: float) -> Iterator[tuple[bytes, float]]:
        first = line[:1]
        if first == b"@":
            yield self._new_second(line, known)
        elif not (first.isdigit() or first.isupper() or first == b"<"):
            yield line, known
        elif m := _SVLOGD.fullmatch(line):
            yield m[4], _utc(m, known)
        elif m := _SYSLOG.fullmatch(line):
            yield from self._syslog(m[1], m[2])
        elif m := _STAMP.fullmatch(line):
            yield from self._splogger(m)
        else:
            self.foreign += 1

    def _new_second(self, line: bytes, known: float) -> tuple[bytes, float]:
        label, _, text = line.partition(b" ")
        try:
            digits = unhexlify(label[1:])
        except ValueError:
            return line, known
        second = int.from_bytes(digits[:8], "big") - _TAI_EPOCH
        if len(label) != _TAI64N or not 0 <= second < _LATEST:
            return line, known
        self._label, self._second = label[:17], second
        return text, second + int.from_bytes(digits[8:], "big") / 1e9

    def _syslog(self, program: bytes, rest: bytes) -> Iterator[tuple[bytes, float]]:
        stamped = _STAMP.fullmatch(rest) if program in self._programs else None
        if stamped:
            yield from self._splogger(stamped)
        else:
            self.foreign += 1

    def _splogger(self, m: "re.Match[bytes]") -> Iterator[tuple[bytes, float]]:
        stamp, sign, text = m.groups()
        part = self._part
        if sign == b"+":
            if part is None or part.stamp != stamp:
                self.foreign += 1  # its beginning is not in this log
                return
            part.texts.append(text)
        else:
            if part is not None:
                yield _joined(part)
            part = self._part = _Part(stamp, [text])
        if len(text) < _PART or len(part.texts) >= _MAX_PARTS:
            yield _joined(part)
            self._part = None


def _joined(part: _Part) -> tuple[bytes, float]:
    return b"".join(part.texts), float(part.stamp)


def _utc(m: "re.Match[bytes]", known: float) -> float:
    date, time, fraction, _ = m.groups()
    try:
        moment = datetime.fromisoformat(f"{date.decode()}T{time.decode()}+00:00").timestamp()
    except ValueError:
        return known
    return moment + float(fraction or 0) if moment >= 0 else known
