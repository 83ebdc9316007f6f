"""Texts of others made fit to be shown: what a remote host said, without addresses; names and paths without control characters.

The log has a space, and whatever is not printable ASCII, as `_` and a newline as `/` (qmail-log(5)).  Both characters may be
themselves as well: a `/` is taken for a newline where a sentence of qmail's or a reply code follows it, or nothing.
Pure.
"""

import re
from typing import NamedTuple

from qmail_exporter.formats.reason import PHRASES

LONGEST = 320
"""Characters of a text that are shown."""
MASK = "…"
"""Stands in place of the local part of an address."""
_SHORTEST = 3  # a local part shorter than this is no more than a word
# A local part that is such a word names nobody, and the reason should stay legible: `full@…`, whose mailbox is full.
_PLAIN_WORDS = frozenset(word for _, phrases in PHRASES for word in re.findall("[a-z]{3,}", phrases))

_LINE_END = re.compile(
    r"/(?=Remote_host_said:|Giving_up_on_|I'm_not_going_to_try_again|Possible_duplicate!|[2-5][0-9]{2}[-_ ]|$)"
)
_GIVING_UP = re.compile(
    r"Giving up on \S*|I'm not going to try again; this message has been in the queue too long\."
)
# Too much rather than too little: `/` and `'` may be part of an address, a space may be only between quotes or brackets.
# Each begins only where the characters before it end, so that a long word is looked at once and not from each letter on.
_LOCAL_PARTS = (
    re.compile(r'"[^"@]*"(?=@)'),
    re.compile(r"(?<=<)[^<>@]+(?=@)"),
    re.compile(r"(?<![^_<>()\[\]@,;:\s])[^_<>()\[\]@,;:\s]+(?=@)"),
    # A percent sign is `_` in the log too, so that %40 shows as _40.
    re.compile(r"(?<![A-Za-z0-9.+=-])[A-Za-z0-9.+=-]+(?=_40[A-Za-z0-9-]+\.[A-Za-z])"),
    re.compile(r"(?<![^_<>()\[\]@,;:\s])[^_<>()\[\]@,;:\s]+(?=(?:%|=)40|&#(?:64|x40);)", re.IGNORECASE),
)  # fmt: skip


class Speech(NamedTuple):
    """A report to be read: what qmail says, and what the remote host said; either may be empty."""

    qmail: str
    remote: str


def speech(report: bytes, recipient: bytes, *, longest: int = LONGEST, cut: bool = False) -> Speech:
    """Return a report of the log as plain text in ASCII (but for `MASK`), without addresses, each part cut to a length.

    Args:
        report: as in the log; any bytes.
        recipient: whose local part is masked wherever it stands; in the log's form.
        longest: characters of each part.
        cut: the report is only the beginning of one.
    """
    text = harmless(report.decode("ascii", "backslashreplace"))
    if cut:
        text = _finished(text)
    qmail, _, remote = text.partition("Remote_host_said:")
    return Speech(*(_readable(part, recipient, longest) for part in (qmail, remote)))


def harmless(text: str) -> str:
    """Return a text with all that is not printable (control characters, bidi marks, lone surrogates) as escapes."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _readable(part: str, recipient: bytes, longest: int) -> str:
    lines = _LINE_END.sub("\n", _masked(part, recipient)).replace("_", " ").split("\n")
    parts = _GIVING_UP.split(" ".join(map(str.strip, lines)))
    return _shortened(" ".join(map(str.strip, parts)).strip(), longest)


def _finished(text: str) -> str:
    """Return the beginning of a text without its last word, and without what stands behind a bracket or quote left open."""
    ends = [text.rfind("_") + 1]
    if (quote := text.rfind('"')) >= 0:
        ends.append(quote)
    if (bracket := text.rfind("<")) > text.rfind(">"):
        ends.append(bracket)
    return text[: min(ends)]


def _masked(text: str, recipient: bytes) -> str:
    local = recipient.rpartition(b"@")[0] or recipient
    own = harmless(local.decode("ascii", "backslashreplace"))
    reply = own.isdigit() and len(own) == _SHORTEST
    if len(own) >= _SHORTEST and not reply and own.lower() not in _PLAIN_WORDS:
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(own)}(?![A-Za-z0-9])", MASK, text, flags=re.IGNORECASE)
    for pattern in _LOCAL_PARTS:
        text = pattern.sub(MASK, text)
    return text


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
