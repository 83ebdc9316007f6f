import gzip
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.sources.logs import Follower, LogFiles, open_log
from qmail_exporter.sources.logs.tail import Tail

Follow = Callable[[object], Follower]


def write(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def backfilled(follower: Follower) -> list[bytes]:
    return list(chain.from_iterable(batch.lines for batch in follower.backfill()))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "maillog"
    path.touch()
    return path


@pytest.fixture
def follower(log: Path, follow: Follow) -> Follower:
    write(log, b"first\n")
    follower = follow(log)
    assert backfilled(follower) == [b"first"]
    return follower


def test_the_last_line_waits_for_its_newline(log: Path, follower: Follower) -> None:
    """A line comes when its newline does, any bytes in it unharmed."""
    write(log, b"\0\xff\x1b[1m")
    assert follower.read().lines == []
    write(log, b" x\n\ny")
    assert follower.read().lines == [b"\0\xff\x1b[1m x", b""]


def test_renamed_and_created_anew(log: Path, follower: Follower) -> None:
    """The rest of the renamed file comes first, then the new file from its start."""
    write(log, b"1\n")
    log.rename(f"{log}.1")
    write(log, b"2\n")
    assert follower.read().lines == [b"1", b"2"]
    assert not follower.losses


def test_the_writer_keeps_the_old_file_for_a_while(log: Path, follower: Follower) -> None:
    """While the new file is empty the writer has not changed over, and the old file is still read."""
    old = log.rename(f"{log}.1")
    assert follower.read().lines == []
    write(old, b"1\n")
    assert follower.read().lines == [b"1"]
    log.touch()
    for data in (b"2", b"3"):
        write(old, data + b"\n")
        assert follower.read().lines == [data]
    write(old, b"4\n")
    write(log, b"5\n")
    assert follower.read().lines == [b"4", b"5"]
    assert not follower.losses


def test_written_between_the_last_read_and_the_change(
    log: Path, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line written to the old file after it was read to its end, but before the new one is seen, is not missed."""
    whole_read = Tail.read

    def read_then_rotate(tail: Tail, size: int) -> bytes | None:
        data = whole_read(tail, size)
        monkeypatch.undo()
        write(log, b"late\n")
        log.rename(f"{log}.1")
        write(log, b"new\n")
        return data

    monkeypatch.setattr(Tail, "read", read_then_rotate)
    assert follower.read().lines == [b"late", b"new"]


def test_half_a_line_at_the_end_of_the_old_file(log: Path, follower: Follower) -> None:
    """A line that the writer never ended is dropped and counted, not joined with the new file's first."""
    write(log, b"1\nhal")
    log.rename(f"{log}.1")
    write(log, b"2\n")
    assert follower.read().lines == [b"1", b"2"]
    assert follower.losses == {"cut_line": 1}


def test_only_what_is_read_is_listened_to(log: Path, follower: Follower) -> None:
    """While the writer keeps a file that has another name already, nothing rings for what it writes, so there is no bell."""
    bell = follower.listen()
    assert bell is not None
    bell.close()
    log.rename(f"{log}.1")
    assert follower.listen() is None
    log.touch()
    follower.read()
    assert follower.listen() is None
    write(log, b"2\n")
    assert follower.read().lines == [b"2"]
    assert follower.listen() is not None


@pytest.mark.parametrize("compress", [False, True])
def test_rotated_twice_between_two_reads(compress: bool, log: Path, follower: Follower) -> None:
    """The file that came and went between two reads is found among the siblings, compressed or not."""
    write(log, b"1\n")
    os.utime(log, ns=(0, 1_000_000_000))
    log.rename(f"{log}.2")
    write(log, b"2\n")
    os.utime(log, ns=(0, 2_000_000_000))
    log.rename(f"{log}.1")
    write(log, b"3\n")
    if compress:
        for number in (1, 2):
            gzipped(Path(f"{log}.{number}"))
    assert follower.read().lines == [b"1", b"2", b"3"]
    assert not follower.losses


@pytest.mark.parametrize("compress", [False, True])
def test_a_clock_set_back_for_a_file(compress: bool, log: Path, follower: Follower) -> None:
    """A sibling that was written to at a later time than ours, by its date, is not read again."""
    write(log, b"1\n")
    os.utime(log, ns=(0, 2_000_000_000))
    log.rename(f"{log}.1")
    write(log, b"2\n")
    assert follower.read().lines == [b"1", b"2"]
    Path(f"{log}.1").rename(f"{log}.2")
    if compress:
        gzipped(Path(f"{log}.2"))
    os.utime(log, ns=(0, 1_000_000_000))
    log.rename(f"{log}.1")
    write(log, b"3\n")
    assert follower.read().lines == [b"3"]
    assert not follower.losses


def gzipped(path: Path) -> None:
    status = path.stat()
    compressed = Path(f"{path}.gz")
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    os.utime(compressed, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()


def test_copied_and_truncated(log: Path, follower: Follower) -> None:
    """After logrotate's copytruncate the file is read from its start, and the truncation counted."""
    write(log, b"1\n")
    assert follower.read().lines == [b"1"]
    shutil.copy2(log, f"{log}.1")
    os.truncate(log, 0)
    assert follower.read().lines == []
    write(log, b"2\n")
    assert follower.read().lines == [b"2"]
    assert follower.losses == {"truncated": 1}


@pytest.mark.parametrize("extra", [0, 1, 100, 100_000])
def test_truncated_and_regrown_beyond_the_offset(extra: int, log: Path, follower: Follower) -> None:
    """A file truncated and grown to the old size or beyond between two reads is known by the bytes before the offset."""
    write(log, b"a\n" * 1000)
    assert len(follower.read().lines) == 1000
    os.truncate(log, 0)
    new = b"b" * 2005 + b"\n" + b"c" * extra
    write(log, new)
    assert follower.read().lines == [b"b" * 2005]
    assert follower.losses["truncated"] == 1


def test_half_a_line_before_a_truncation_is_not_joined(log: Path, follower: Follower) -> None:
    """What was held of an unfinished line is dropped when the file is truncated."""
    write(log, b"hal")
    assert follower.read().lines == []
    os.truncate(log, 0)
    write(log, b"2\n")
    assert follower.read().lines == [b"2"]


def test_truncated_during_the_backfill(log: Path, follow: Follow) -> None:
    """A truncation in the middle of a backfill ends it: what the file holds then is new."""
    write(log, b"x" * 99 + b"\n")
    write(log, (b"y" * 999 + b"\n") * 1000)
    follower = follow(log)
    backfill = follower.backfill()
    assert next(backfill).lines[0] == b"x" * 99
    os.truncate(log, 0)
    write(log, b"new\n")
    assert [line for batch in backfill for line in batch.lines] == []
    assert follower.read().lines == [b"new"]
    assert follower.losses == {"truncated": 1, "cut_line": 1}


def test_missing_at_the_start(tmp_path: Path, follow: Follow) -> None:
    """A file that does not exist yet, nor its directory, is no error; when it appears all of it is new."""
    log = tmp_path / "log" / "maillog"
    follower = follow(log)
    assert backfilled(follower) == []
    assert follower.read().lines == []
    assert not follower.present
    log.parent.mkdir()
    write(log, b"1\n")
    assert follower.read().lines == [b"1"]
    assert follower.present


def test_missing_at_the_start_with_rotated_siblings(log: Path, follow: Follow) -> None:
    """Started between the rename and the new file: the siblings are backfilled, the new file follows."""
    write(log, b"1\n")
    log.rename(f"{log}.1")
    follower = follow(log)
    assert backfilled(follower) == [b"1"]
    assert not follower.present
    write(log, b"2\n")
    assert follower.read().lines == [b"2"]


def test_deleted_and_made_anew(log: Path, follower: Follower) -> None:
    """A deleted file is still read to its end; a new one is never taken for it, since its inode is held."""
    for number in range(20):
        write(log, b"%d\n" % number)
        log.unlink()
        write(log, b"%d new\n" % number)
        assert follower.read().lines == [b"%d" % number, b"%d new" % number]
    assert not follower.losses


def test_deleted_for_good(log: Path, follower: Follower) -> None:
    """Of a deleted file that is not replaced, the last lines are read, and `present` is False."""
    write(log, b"1\n")
    log.unlink()
    assert follower.read().lines == [b"1"]
    assert not follower.present


def test_a_file_replaced_by_a_directory(log: Path, follower: Follower) -> None:
    """A path that becomes a log directory is followed as one, after the old file's end."""
    write(log, b"1\n")
    log.unlink()
    log.mkdir()
    assert follower.read().lines == [b"1"]
    assert follower.losses == {}
    write(log / "@400000006922c00100000000.s", b"2\n")
    write(log / "current", b"3\n")
    assert follower.read().lines == [b"2", b"3"]
    shutil.rmtree(log)
    write(log, b"4\n")
    assert follower.read().lines == [b"4"]
    assert not follower.losses


def test_a_symbolic_link_is_followed(tmp_path: Path, follow: Follow) -> None:
    """The link's target is read with its own siblings; when the link is set anew, the old target's end comes first."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.1").write_bytes(b"0\n")
    one, two, link = tmp_path / "data" / "one", tmp_path / "data" / "two", tmp_path / "maillog"
    write(one, b"1\n")
    link.symlink_to(one)
    follower = follow(link)
    assert backfilled(follower) == [b"0", b"1"]
    write(one, b"2\n")
    write(two, b"3\n")
    link.unlink()
    link.symlink_to(two)
    assert follower.read().lines == [b"2", b"3"]


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_only_regular_files_are_opened(
    kind: str, tmp_path: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO or a device is an OSError with the path in it, and is not opened, so that nobody waits for it."""
    path = tmp_path / "maillog"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    follower = follow(path)
    monkeypatch.delattr(os, "open")
    with pytest.raises(OSError, match="Not a regular file") as caught:
        backfilled(follower)
    assert caught.value.filename == str(path)


def test_unreadable_then_readable(log: Path, follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the new file may not be opened each read says so with its path; then nothing of it is missing."""
    log.rename(f"{log}.1")
    write(log, b"1\n")

    def denied(path: str, _flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        for _ in range(2):
            with pytest.raises(PermissionError) as caught:
                follower.read()
            assert caught.value.filename == str(log)
    assert follower.read().lines == [b"1"]


def test_a_read_error_names_the_file(log: Path, follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk is raised with the path, which pread(2) itself does not know."""

    def broken(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(OSError, match="Input/output error") as caught:
        follower.read()
    assert caught.value.filename == str(log)


def test_the_siblings_are_backfilled_by_age(log: Path, follow: Follow) -> None:
    """Numbered, dated and gzipped siblings come oldest first by modification time; other names are not read."""
    names = ["-20261101", ".3", ".2.gz", "-20261120.gz", ".1"]
    for age, suffix in enumerate(names):
        path = Path(f"{log}{suffix}")
        path.write_bytes(gzip.compress(b"%d\n" % age) if suffix.endswith(".gz") else b"%d\n" % age)
        os.utime(path, (age, age))
    for suffix in (".1~", ".old", "x.1", ".1.swp", ".tmp"):
        write(Path(f"{log}{suffix}"), b"no\n")
    write(log, b"5\n")
    follower = follow(log)
    assert backfilled(follower) == [b"%d" % age for age in range(6)]
    assert not follower.losses


def test_a_compressed_sibling_counts_for_what_it_may_expand_to(log: Path) -> None:
    """A gzipped sibling takes ten times its size from what a backfill may read."""
    Path(f"{log}.1.gz").write_bytes(gzip.compress(b"1\n", mtime=0))
    write(log, b"2\n")
    for limit, lines in ((250, [b"1", b"2"]), (50, [b"2"])):
        with closing(LogFiles(str(log), backfill_bytes=limit)) as follower:
            assert backfilled(follower) == lines


def test_a_sibling_that_gzip_is_at_work_on_is_read_once(log: Path, follow: Follow) -> None:
    """While both forms of a sibling are there, the one that is surely complete is read."""
    write(Path(f"{log}.1"), b"1\n")
    write(Path(f"{log}.1.gz"), gzip.compress(b"1\n")[:-9])
    follower = follow(log)
    assert backfilled(follower) == [b"1"]
    assert not follower.losses


def test_logrotate_during_the_backfill(log: Path, follow: Follow) -> None:
    """Siblings renamed or compressed between listing and reading are found under their new names, none twice."""
    for age, suffix in enumerate((".3", ".2", ".1")):
        write(Path(f"{log}{suffix}"), b"%d\n" % age)
        os.utime(f"{log}{suffix}", (age, age))
    write(log, b"3\n")
    follower = follow(log)
    backfill = follower.backfill()
    lines = list(next(backfill).lines)
    for number in (3, 2, 1):
        Path(f"{log}.{number}").rename(f"{log}.{number + 1}")
    gzipped(Path(f"{log}.2"))
    log.rename(f"{log}.1")
    write(log, b"4\n")
    lines += [line for batch in backfill for line in batch.lines]
    assert lines == [b"0", b"1", b"2", b"3"]
    assert follower.read().lines == [b"4"]
    assert not follower.losses


def test_a_backfill_comes_in_blocks(log: Path, follow: Follow) -> None:
    """No batch of a backfill holds more than 128 KiB and a line, also of a file that expands a thousandfold."""
    Path(f"{log}.1.gz").write_bytes(gzip.compress((b"z" * 99 + b"\n") * 100_000))
    batches = list(follow(log).backfill())
    assert sum(len(batch.lines) for batch in batches) == 100_000
    assert max(sum(map(len, batch.lines)) for batch in batches) <= 128 * 1024 + 100


def test_reading_ends_at_its_limit(log: Path, follower: Follower) -> None:
    """A read takes no more than its limit, says that it is behind, and the next goes on."""
    write(log, b"0123456789\n" * 1000)
    first = follower.read(5000)
    assert sum(len(line) + 1 for line in first.lines) <= 5000
    assert follower.behind
    assert follower.lag_bytes() == 6000
    assert len(first.lines + follower.read().lines) == 1000
    assert not follower.behind


def test_a_hole_of_nuls_is_no_line(log: Path, follower: Follower) -> None:
    """A writer that keeps its offset over a truncation leaves a hole of NULs, which is dropped as a long line."""
    with log.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"\n1\n")
    assert [line for _ in range(2) for line in follower.read().lines] == [b"1"]
    assert follower.losses == {"truncated": 1, "long_line": 1}


LINES = st.lists(st.sampled_from([b"a\n", b"\0\n", b"\n", b"bb\n"]), max_size=3).map(b"".join)
EVENT = st.one_of(
    LINES,
    st.sampled_from(["rotate", "start of a line", "compress", "copytruncate"]),
    st.sampled_from([1, 5, 1 << 20]),
)


class Rotated:
    """A plain file as a syslog daemon and logrotate treat it, with a clock of its own for the times of the files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = 0
        self.count = 0
        self.written = b""
        self.write(b"")

    def write(self, data: bytes) -> None:
        """Append to the file, and remember it."""
        write(self.path, data)
        self.written += data
        self.clock += 1
        os.utime(self.path, (self.clock, self.clock))

    def end_line(self) -> None:
        """End a line that was begun: no rotation comes within one."""
        if not self.written.endswith(b"\n"):
            self.write(b"\n")

    def rotate(self) -> None:
        """Rename as logrotate does, and let the writer write to the new file at once."""
        self.end_line()
        for number in range(self.count, 0, -1):
            for suffix in ("", ".gz"):
                sibling = Path(f"{self.path}.{number}{suffix}")
                if sibling.exists():
                    sibling.rename(f"{self.path}.{number + 1}{suffix}")
        self.path.rename(f"{self.path}.1")
        self.count += 1
        self.write(b"%d\n" % self.clock)

    def compress(self) -> None:
        """Compress the newest sibling."""
        if Path(f"{self.path}.1").exists():
            gzipped(Path(f"{self.path}.1"))

    def truncate(self) -> None:
        """Empty the file, as copytruncate does."""
        os.truncate(self.path, 0)
        self.write(b"")

    def step(self, number: int, event: object) -> None:
        """Do what one of EVENT's values stands for, if it concerns the log."""
        if isinstance(event, bytes):
            self.write(b"@%d " % number + event + b"\n")
        elif event == "rotate":
            self.rotate()
        elif event == "compress":
            self.compress()
        elif event == "start of a line":
            self.write(b"@%d " % number)


@given(before=st.lists(EVENT, max_size=8), events=st.lists(EVENT, max_size=25))
def test_any_interleaving_gives_every_line_once_and_in_order(
    before: list[object], events: list[object]
) -> None:
    """Whatever is written, rotated, compressed and read in whatever order, the lines are those that were written."""
    with TemporaryDirectory() as directory:
        log = Rotated(Path(directory) / "maillog")
        for number, event in enumerate(before):
            log.step(number, event)
        with closing(open_log(str(log.path))) as follower:
            given_out = backfilled(follower)
            for number, event in enumerate(events, 100):
                log.step(number, event)
                if isinstance(event, int):
                    given_out += follower.read(event).lines
                elif event == "copytruncate":
                    log.end_line()
                    given_out += follower.read(1 << 30).lines  # else lines would be lost
                    log.truncate()
            given_out += follower.read(1 << 30).lines
            assert given_out == log.written.split(b"\n")[:-1]
            assert set(follower.losses) <= {"truncated"}
