"""The log's byte stream: lines, their prefixes, and the journal's JSON."""

import json
from collections import Counter

from fuzz import seeds
from fuzz.target import Target, pieces
from qmail_exporter.formats.prefix import Prefixes
from qmail_exporter.sources.logs.journal import Journal
from qmail_exporter.sources.logs.lines import LONGEST, Batch, Lines

NOW = 1_795_344_242.5


def prefix(data: bytes) -> None:
    """Lines at once give what they give one by one, and the stream what its pieces give; a time is from 1970 on."""
    lines = data.split(b"\n")
    whole, single = Prefixes(), Prefixes()
    together = list(whole.strip(lines, None, NOW))
    assert together == [found for line in lines for found in single.strip([line], None, NOW)]
    assert whole.foreign == single.foreign
    assert len(together) + whole.foreign <= len(lines)
    assert all(0 <= time < 10**12 for _, time in together)
    assert sum(len(text) for text, _ in together) <= len(data)
    known = list(Prefixes().strip(lines, [NOW + number for number in range(len(lines))], 0.0))
    assert [text for text, _ in known] == [text for text, _ in together]
    losses: Counter[str] = Counter()
    stream = Lines(losses, 200)
    fed = [line for piece in pieces(data, data[:16]) for line in stream.feed(piece)]
    assert fed == [line for line in lines[:-1] if len(line) <= 200]
    assert losses["long_line"] == sum(len(line) > 200 for line in lines)


def journal(data: bytes) -> None:
    """Whatever journalctl writes, in whatever pieces, is the same lines with a time each, or is counted."""
    (lines, times), losses = _journal([data])
    assert _journal(pieces(data, data[:16])) == ((lines, times), losses)
    assert times is not None
    assert len(times) == len(lines)
    assert all(time >= 0 for time in times)
    assert all(b"\n" not in line and len(line) <= LONGEST for line in lines)
    assert losses.keys() <= {"long_line", "malformed"}
    assert losses.total() <= data.count(b"\n") + 1
    list(Prefixes().strip(lines, times, NOW))


class _Written:
    """What journalctl wrote, in place of its process."""

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks = [block for block in blocks if block]

    def read(self, size: int) -> bytes | None:
        """Return the next block, or None at the end."""
        assert all(len(block) <= size for block in self._blocks)
        return self._blocks.pop(0) if self._blocks else None

    def end(self) -> tuple[int, str]:
        """Return exit status and message."""
        return 0, ""


def _journal(blocks: list[bytes]) -> tuple[Batch, Counter[str]]:
    reader = Journal("qmail-send", clock=lambda: 0.0)
    reader._child = _Written(blocks)  # type: ignore[assignment]
    return reader._collect(1 << 20), reader.losses


def _logs() -> list[bytes]:
    some = seeds.lines()[:12]
    stamped = [
        b"2026-11-22_10:45:41.66434 status: exiting",
        b"2026-11-22T10:45:41+00:00 h qmail: 1.000000 new msg 7",
    ]
    parted = [line for line in seeds.datagrams() if b"+" in line.split(b"qmail: ")[-1][:20]]
    index = seeds.datagrams().index(parted[0]) if parted else 0
    return [
        b"\n".join(some),
        b"\n".join(stamped),
        b"\n".join(seeds.datagrams()[:6]),
        b"\n".join(seeds.datagrams()[max(0, index - 2) : index + 3]),
        b"1795344341.664342 new msg 7\n1795344341.664342 " + b"x" * 799 + b"\n1795344341.664342+rest\n",
        b"Nov 22 10:45:41 h other[7]: x\nnew msg 7\n@zz new msg 8",
    ]


def _entries() -> list[bytes]:
    fields: dict[str, object] = {"__CURSOR": "s=1;i=2", "__REALTIME_TIMESTAMP": "1795344341664342"}
    texts: list[object] = [
        "new msg 7",
        [110, 101, 119, 255],
        None,
        ["a", "b"],
        "two\nlines",
        [[1, 2], "x"],
        "\ud800",
    ]
    entries = [json.dumps(fields | {"MESSAGE": text}).encode() + b"\n" for text in texts]
    return [*entries, b"".join(entries), json.dumps(fields).encode() + b"\nnull\n{}\n" + b"[" * 5000 + b"\n"]


TARGETS = {
    "prefix": Target(prefix, _logs),
    "journal": Target(journal, _entries),
}
