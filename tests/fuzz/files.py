"""Log files on disk: written, rotated, truncated and compressed while they are read, and read once when they are finished."""

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz import seeds
from fuzz.target import Target
from qmail_exporter.sources.logs import open_log
from qmail_exporter.sources.logs.archive import ArchiveReader, CompressedError

LOSSES = {"rotated_away", "gap", "truncated", "long_line", "cut_line", "compressed", "unreadable"}
PIECE_ENDS = b"\xff"
"""Ends a piece of what is written to a log; the first byte of a piece may say that something else is done."""


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
        for piece in data[1:].split(PIECE_ENDS):
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


@contextmanager
def _room() -> Iterator[Path]:
    """A directory in memory, where there is one."""
    shm = "/dev/shm"  # noqa: S108 - as tests/conftest.py
    with TemporaryDirectory(dir=shm if os.path.isdir(shm) else None) as directory:
        yield Path(directory)


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
    "follow": Target(follow, _scripts),
    "archive": Target(archive, _archives),
}
