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
from struct import Struct, error
from typing import NamedTuple

_TAI_EPOCH = 2**62 + 10
"""TAI64's second of Unix time 0; daemontools adds 10 s always, whatever leap seconds came since."""
_LATEST = 10**12
"""Seconds; what claims to be later, or before 1970, is no time."""
_TAI64N = Struct(">QI")
_DIGITS = 2 * _TAI64N.size
_LABEL = 1 + _DIGITS + 1  # bytes, with the at sign and the space
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

    def strip(
        self, lines: Sequence[bytes], times: Sequence[float] | None, now: float
    ) -> Iterable[tuple[bytes, float]]:
        """Text and Unix time of each of qmail-send's lines.

        A line that tells no time, or an impossible one, has the one of `times` in its place, or where that is None,
        `now`.  A line that splogger broke comes out when its last part has come.
        """
        if times is None and (labelled := _all_labelled(lines)):
            return labelled
        return self._each(lines, times if times is not None else repeat(now))

    def _each(self, lines: Sequence[bytes], times: Iterable[float]) -> Iterator[tuple[bytes, float]]:
        for line, known in zip(lines, times, strict=False):
            first = line[:1]
            if first == b"@":
                yield _labelled(line, known)
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


def _all_labelled(lines: Sequence[bytes]) -> Iterable[tuple[bytes, float]] | None:
    """Text and time of each line if every one begins with a TAI64N label, as in most logs; else None.

    All labels are read in one go, which takes half the time of reading one after the other.
    """
    count = len(lines)
    labels = b"".join([line[:_LABEL] for line in lines])
    digits = labels.translate(None, b"@ ")
    # So each line has as many bytes as a label, an at sign first and a space last, and neither of them between.
    if (len(labels), len(digits)) != (_LABEL * count, _DIGITS * count):
        return None
    if labels[::_LABEL].count(b"@") != count or labels[_LABEL - 1 :: _LABEL].count(b" ") != count:
        return None
    try:
        stamps = _TAI64N.iter_unpack(unhexlify(digits))
    except ValueError:
        return None
    times = [second - _TAI_EPOCH + nanoseconds / 1e9 for second, nanoseconds in stamps]
    if times and not (min(times) >= 0 and max(times) < _LATEST):
        return None
    return zip([line[_LABEL:] for line in lines], times, strict=True)


def _labelled(line: bytes, known: float) -> tuple[bytes, float]:
    """Text and time of one line with a TAI64N label; the whole line and the time that is known where it is none."""
    label, _, text = line.partition(b" ")
    try:
        second, nanoseconds = _TAI64N.unpack(unhexlify(label[1:]))
    except (ValueError, error):
        return line, known
    time = second - _TAI_EPOCH + nanoseconds / 1e9
    return (text, time) if 0 <= time < _LATEST else (line, known)


def _joined(part: _Part) -> tuple[bytes, float]:
    return b"".join(part.texts), float(part.stamp)


def _utc(m: "re.Match[bytes]", known: float) -> float:
    date, time, fraction, _ = m.groups()
    try:
        moment = datetime.fromisoformat(f"{date.decode()}T{time.decode()}+00:00").timestamp()
    except ValueError:
        return known
    return moment + float(fraction or 0) if moment >= 0 else known
