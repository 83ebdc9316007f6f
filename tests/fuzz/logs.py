"""The log's byte stream: prefixes, the journal, files that are rotated and truncated while they are read."""

import gzip
import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from fuzz import seeds
from fuzz.target import Target, pieces
from qmail_exporter.formats.prefix import Prefixes
from qmail_exporter.sources.logs import open_log
from qmail_exporter.sources.logs.archive import ArchiveReader, CompressedError
from qmail_exporter.sources.logs.journal import Journal
from qmail_exporter.sources.logs.lines import LONGEST, Batch, Lines

NOW = 1_795_344_242.5
LOSSES = {"rotated_away", "gap", "truncated", "long_line", "cut_line", "compressed", "unreadable"}
DATA_ENDS = b"\xff"
"""Ends a piece of what is written to a log; its first byte says what is done then."""


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


def follow(data: bytes) -> None:
    """A log that is written to, rotated and read in turn gives each line once, in order, as it was written.

    The first byte says whether it is multilog's directory or a file. A file that is truncated may hide what was written
    between; then each line must only have been written, for a while.
    """
    with _room() as room:
        log = _Multilog(room) if data[:1] < b"\x80" else _File(room)
        log.write(b"before\n")
        follower = open_log(log.path)
        got = [line for batch in follower.backfill() for line in batch.lines]
        for piece in data[1:].split(DATA_ENDS):
            match piece[:1]:
                case b"r":
                    log.rotate()
                case b"t":
                    log.truncate()
                case b"z":
                    log.compress()
                case b"R":
                    got += follower.read(max(1, len(piece))).lines
                case _:
                    log.write(piece)
        log.write(b"\nlast\n")
        for _ in range(20 + 3 * log.rotated):
            got += follower.read().lines
        assert follower.losses.keys() <= LOSSES
        if log.truncated:
            assert got[-1] == b"last"
        else:
            assert got == log.lines()
            assert follower.losses == ({"cut_line": log.cut()} if log.cut() else {})
        follower.close()


class _room:  # noqa: N801 - it is used as a function would be
    """A directory, empty again in the end."""

    place = ""

    def __enter__(self) -> Path:
        if not self.place:
            shm = "/dev/shm"  # noqa: S108 - as tests/conftest.py
            _room.place = tempfile.mkdtemp(dir=shm if os.path.isdir(shm) else None)
        return Path(self.place)

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.place)
        _room.place = ""


class _File:
    """A file as syslog writes it and logrotate rotates it."""

    def __init__(self, room: Path) -> None:
        self.path = str(room / "log")
        self.rotated = 0
        self.truncated = False
        self._room = room
        self._contents = [b""]
        self._moment = 10**18
        self.write(b"")

    def write(self, data: bytes) -> None:
        """Append to the file."""
        with open(self.path, "ab") as file:
            file.write(data)
        self._contents[-1] += data
        self._stamp(self.path)

    def rotate(self) -> None:
        """Rename the file and begin another."""
        self.rotated += 1
        os.rename(self.path, self._old())
        self._contents.append(b"")
        self.write(b"")

    def truncate(self) -> None:
        """Empty the file."""
        self.truncated = True
        os.truncate(self.path, 0)

    def compress(self) -> None:
        """Compress the newest of the old files, as gzip does."""
        if not os.path.exists(self._old()):
            return
        moment = os.stat(self._old()).st_mtime_ns
        with open(self._old(), "rb") as file, gzip.open(self._old() + ".gz", "wb", 1) as smaller:
            smaller.write(file.read())
        os.utime(self._old() + ".gz", ns=(moment, moment))
        os.unlink(self._old())

    def lines(self) -> list[bytes]:
        """Return what is to be read."""
        return [line for content in self._contents for line in content.split(b"\n")[:-1]]

    def cut(self) -> int:
        """Return how many lines have no end."""
        return sum(content[-1:] not in (b"", b"\n") for content in self._contents)

    def _old(self) -> str:
        return f"{self.path}-{self.rotated}"

    def _stamp(self, path: str) -> None:
        self._moment += 1
        os.utime(path, ns=(self._moment, self._moment))


class _Multilog(_File):
    """A directory as multilog writes it: a line that is too long for a file goes on in the next."""

    def __init__(self, room: Path) -> None:
        (room / "log").mkdir()
        super().__init__(room / "log")
        self.live, self.path = self.path, str(room / "log")

    def write(self, data: bytes) -> None:
        """Append to `current`."""
        with open(self._room / "current", "ab") as file:
            file.write(data)
        self._contents[-1] += data

    def rotate(self) -> None:
        """Finish `current` and begin another."""
        current = self._room / "current"
        self.rotated += 1
        current.chmod(0o744)
        current.rename(self._room / f"@40000000{self.rotated:08x}00000000.s")
        self.write(b"")

    def truncate(self) -> None:
        """Nobody does that here."""

    def compress(self) -> None:
        """Nor that."""


def archive(data: bytes) -> None:
    """A finished file gives what is in it, in blocks no larger than asked for, up to where it is broken."""
    fd = os.memfd_create("archive")
    os.pwrite(fd, data, 0)
    got = b""
    try:
        reader = ArchiveReader(fd)
    except CompressedError:
        return
    plain = not data.startswith(b"\x1f\x8b")
    try:
        while block := reader.read(100):
            assert len(block) <= 100
            got += block
            if len(got) > 1 << 20:
                break
        if plain:
            assert got == data
        elif len(got) <= 1 << 20:
            assert got == gzip.decompress(data)
    except CompressedError:
        assert not plain
    finally:
        reader.close()


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


def _scripts() -> list[bytes]:
    ways = (
        b"one\ntwo\xffR\xffr\xff three\nfour\xffR\xffrr\xfffive\xffr\xffr\xffsix\n",
        b"one\n\xffR\xfft\xfftwo\nthree\n\xffR\xffr\xffz\xff\n",
        b"one\xffr\xffz\xfftwo\n\xffr\xffRRRR\xffz",
    )
    return [kind + way for kind in (b"\0", b"\xff") for way in ways]


def _archives() -> list[bytes]:
    text = b"\n".join(seeds.lines()[:20])
    packed = gzip.compress(text, mtime=0)
    return [
        text,
        packed,
        packed + packed,
        packed[:-3],
        packed + b"x",
        b"BZh91AY",
        b"\x1f\x8b",
        gzip.compress(bytes(200_000)),
    ]


TARGETS = {
    "prefix": Target(prefix, _logs),
    "journal": Target(journal, _entries),
    "follow": Target(follow, _scripts),
    "archive": Target(archive, _archives),
}
