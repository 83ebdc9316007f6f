import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.flags.document import DocumentError, Entry, parse

KNOWN = {"qmail.home", "qmail.queue", "web.config.file", "web.max-requests", "log.level"}
_WORDS = ["web", "qmail", "queue", "qmail.queue", "log.level", "max-requests", "x", "1", "null", "true", "<<"]
_SIGNS = [":", ": ", "\n", "\n  ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "!!set ", "!t ", "|\n", "? ", "'", '"', "#", "---\n", "%"]  # fmt: skip


def outcome(raw: bytes) -> list[Entry] | DocumentError:
    try:
        return parse(raw, KNOWN)
    except DocumentError as error:
        return error


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from(_WORDS + _SIGNS), max_size=40).map("".join).map(str.encode)
)
def test_any_file_is_taken_or_refused(raw: bytes) -> None:
    """Whatever a file holds, it is a list of known keys with texts, or a mistake in one of its lines."""
    found = outcome(raw)
    if isinstance(found, DocumentError):
        assert found.line is None or 1 <= found.line <= len(raw) + 1
        assert str(found)
    else:
        assert {entry.key for entry in found} <= KNOWN
        assert all(entry.values for entry in found)


@given(
    st.dictionaries(st.sampled_from(sorted(KNOWN)), st.text(max_size=10), max_size=5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "'", '"', "|"]),
)
def test_texts_stay_as_they_are(texts: dict[str, str], nested: bool, flow: bool, style: str | None) -> None:
    """Each text arrives as it was written, in whatever style, and whether its key is nested or dotted."""
    tree: dict[str, Any] = {}
    for key, text in texts.items():
        first, _, last = key.partition(".")
        (tree.setdefault(first, {}) if nested else tree)[last if nested else key] = text
    written = yaml.safe_dump(tree, default_flow_style=flow, default_style=style)
    found = parse(written.encode(), KNOWN)
    assert {entry.key: entry.values[0].text for entry in found} == texts
    assert {entry.form for entry in found} <= {"value"}


@pytest.mark.parametrize(
    "raw", [rb'x: "\UFFFFFFFF"', rb'x: "\U00110000"', rb'qmail.home: "/\ud800"', rb'"\udc80": 1']
)
def test_an_escape_that_stands_for_no_character_is_a_mistake(raw: bytes) -> None:
    """An escape that stands for no character, or for half of one, is a mistake in its line, as any other."""
    found = outcome(raw)
    assert isinstance(found, DocumentError)
    assert found.line == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 65536,
        b"{a: " * 16384,
        b"? " * 32768,
        b"- " * 32768,
        b"{" + b"a, " * 21000 + b"}",
        b"qmail.queue: [" + b'"/a",' * 13000 + b"]",
        b"\n".join(b"web.k%d: 1" % number for number in range(5000)),
        b"k" * 65000 + b": 1",
        b"a: &b [" + b"*b, " * 16000 + b"]",
        b"log.level: |\n" + b" x\n" * 20000,
    ],
    ids=lambda raw: raw[:12].decode(),
)
def test_no_file_takes_long(raw: bytes) -> None:
    """The worst files of the size that is read are done with in seconds."""
    begin = time.process_time()
    assert outcome(raw[:65536])
    assert time.process_time() - begin < 10
