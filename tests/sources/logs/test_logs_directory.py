import gzip
import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loggers import Multilog, Processor, Svlogd
from qmail_exporter.sources.logs import Follower, LogFiles, open_log
from qmail_exporter.sources.logs.directory import Directory
from soak.held import open_descriptors

Follow = Callable[[object], Follower]


@pytest.fixture
def log(tmp_path: Path) -> Multilog:
    return Multilog(tmp_path / "qmail-send")


def backfilled(follower: Follower) -> list[bytes]:
    return list(chain.from_iterable(batch.lines for batch in follower.backfill()))


def test_backfill_then_read(log: Multilog, follow: Follow) -> None:
    """The archives come first, oldest first, then what `current` holds, then, by reading, what is added to it."""
    log.write(b"1\n")
    log.rotate()
    log.write(b"2\n")
    log.rotate()
    log.write(b"3\n4")
    follower = follow(log.path)
    assert backfilled(follower) == [b"1", b"2", b"3"]
    log.write(b"4\n5\n")
    assert follower.read().lines == [b"44", b"5"]
    assert follower.read() == ([], None)
    assert follower.present
    assert not follower.losses


def test_the_backfill_ends_where_the_log_ended_when_it_began(log: Multilog, follow: Follow) -> None:
    """What is written and rotated during the backfill comes by reading, and reading waits for the backfill's end."""
    log.write(b"1\n")
    log.rotate()
    log.write(b"2\n")
    follower = follow(log.path)
    backfill = follower.backfill()
    assert next(backfill).lines == [b"1"]
    log.write(b"3\n")
    log.rotate()
    log.write(b"4\n")
    assert follower.read().lines == []
    assert list(backfill) == [([b"2"], None)]
    assert follower.read().lines == [b"3", b"4"]


def test_a_backfill_given_up_goes_on_in_read(log: Multilog, follow: Follow) -> None:
    """An iterator that is closed early leaves the rest of the log to `read`; a second backfill has nothing to add."""
    log.write(b"1\n")
    log.rotate()
    log.write(b"2\n")
    follower = follow(log.path)
    backfill = follower.backfill()
    next(backfill)
    backfill.close()  # type: ignore[attr-defined]
    assert backfilled(follower) == []
    assert follower.read().lines == [b"2"]


def test_reading_without_a_backfill_begins_at_the_end(log: Multilog, follow: Follow) -> None:
    """The first read gives nothing, the next one what came after it, without the half line before."""
    log.write(b"1\n")
    log.rotate()
    log.write(b"2\nhal")
    follower = follow(log.path)
    assert follower.read().lines == []
    log.write(b"f\n3\n")
    assert follower.read().lines == [b"3"]


@pytest.mark.parametrize("rotations", [1, 2, 3, 5])
def test_rotations_between_two_reads(rotations: int, log: Multilog, follow: Follow) -> None:
    """However often the log rotates between two reads, every line comes once and in order."""
    follower = follow(log.path)
    log.write(b"old\n")
    assert backfilled(follower) == [b"old"]
    for number in range(rotations):
        log.write(b"%d\n" % number)
        log.rotate()
    log.write(b"new\n")
    assert follower.read().lines == [*(b"%d" % number for number in range(rotations)), b"new"]
    assert not follower.losses


def test_our_file_deleted_by_rotation_is_finished(log: Multilog, follow: Follow) -> None:
    """A file that n deleted before its end was read is finished through the descriptor; that others may be is said."""
    log.keep = 2
    follower = follow(log.path)
    backfilled(follower)
    log.write(b"ours\n")
    log.rotate()
    log.write(b"next\n")
    log.rotate()
    log.write(b"new\n")
    assert follower.read().lines == [b"ours", b"next", b"new"]
    assert follower.losses == {"gap": 1}


def test_an_archive_deleted_between_listing_and_reading_is_a_loss(log: Multilog, follow: Follow) -> None:
    """A file known to be there and gone before it was read is counted as rotated away, and the rest is read."""
    follower = follow(log.path)
    backfilled(follower)
    for number in range(3):
        log.write(b"%d\n" % number)
        log.rotate()
    assert follower.read(1).lines == []
    assert follower.read(1).lines == [b"0"]
    assert follower.read(1).lines == []
    assert follower.behind
    log.finished()[2].unlink()
    log.write(b"new\n")
    assert follower.read().lines == [b"1", b"new"]
    assert follower.losses == {"rotated_away": 1}
    assert not follower.behind


def test_what_waits_is_known(log: Multilog, follow: Follow) -> None:
    """`lag_bytes` is the sum of the bytes not read yet, `behind` says that the limit ended the read."""
    follower = follow(log.path)
    backfilled(follower)
    assert follower.lag_bytes() == 0
    log.write(b"123456789\n" * 10)
    assert follower.lag_bytes() == 100
    assert len(follower.read(30).lines) == 3
    assert follower.behind
    assert follower.lag_bytes() == 70
    assert len(follower.read().lines) == 7
    assert not follower.behind


@pytest.mark.parametrize(
    "processor", [None, gzip.compress, bytes, bytes.upper], ids=["none", "gzip", "copy", "rewrite"]
)
def test_our_own_file_is_not_read_again_as_an_archive(
    processor: Processor, log: Multilog, follow: Follow
) -> None:
    """What a processor made of the file just read is passed over while an older archive shows that none was deleted."""
    log.write(b"older\n")
    log.rotate()
    log.processor = processor
    follower = follow(log.path)
    backfilled(follower)
    for number in range(4):
        log.write(b"line %d\n" % number)
        log.rotate()
        assert follower.read().lines == [b"line %d" % number]
    assert not follower.losses


@pytest.mark.parametrize("processor", [gzip.compress, bytes], ids=["gzip", "copy"])
def test_the_first_archive_of_all_is_known_by_its_first_bytes(
    processor: Processor, log: Multilog, follow: Follow
) -> None:
    """Without an older archive to go by, a processed file is known as ours by what it begins with."""
    log.processor = processor
    follower = follow(log.path)
    backfilled(follower)
    for data in (b"one\n", b"two\n", b"three\n"):
        log.write(data)
        log.rotate()
    assert follower.read().lines == [b"one", b"two", b"three"]
    assert not follower.losses


@pytest.mark.parametrize("pause", ["renamed", "created", "processed", "replaced", "linked"])
@pytest.mark.parametrize("processor", [None, bytes.upper], ids=["none", "rewrite"])
def test_read_amid_a_rotation_after_another(
    processor: Processor, pause: str, log: Multilog, follow: Follow
) -> None:
    """At each step of the second rotation since the last read, a read neither misses nor repeats the middle file."""
    log.write(b"older\n")
    log.rotate()
    follower = follow(log.path)
    backfilled(follower)
    log.write(b"1\n")
    log.rotate()
    log.processor = processor
    log.write(b"TWO\n")
    lines: list[bytes] = []
    for step in log.steps():
        if step == pause:
            lines += follower.read().lines
    log.write(b"THREE\n")
    log.rotate()
    log.write(b"FOUR\n")
    assert lines + follower.read().lines == [b"1", b"TWO", b"THREE", b"FOUR"]
    assert not follower.losses


@pytest.mark.parametrize("processor", [None, gzip.compress], ids=["none", "gzip"])
def test_started_amid_a_rotation(processor: Processor, log: Multilog, follow: Follow) -> None:
    """Started while there is no `current`, what is about to be archived is backfilled, and not read again as archive."""
    log.processor = processor
    log.write(b"1\n")
    steps = log.steps()
    assert next(steps) == "renamed"
    follower = follow(log.path)
    assert backfilled(follower) == [b"1"]
    assert list(steps)[-1] == "finished"
    log.write(b"2\n")
    assert follower.read().lines == [b"2"]
    assert not follower.losses


def test_a_file_archived_while_the_names_are_listed(
    log: Multilog, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a processor's output replaces a file between the look at the file and the list, another look is taken."""
    log.write(b"1\n")
    log.processor = gzip.compress
    steps = log.steps()
    assert next(step for step in steps if step == "processed")
    listed = os.listdir

    def rotate_then_list(path: str) -> list[str]:
        for _ in steps:
            pass
        return listed(path)

    monkeypatch.setattr(os, "listdir", rotate_then_list)
    assert backfilled(follow(log.path)) == [b"1"]


def test_compressed_archives(log: Multilog, follow: Follow) -> None:
    """An archive in gzip is read, whoever compressed; other compressions and a broken gzip file are counted and passed over."""
    for data in (
        gzip.compress(b"1\n") + gzip.compress(b"2\n"),
        b"\xfd7zXZ\0",
        b"\x1f\x8bbroken",
        b"BZh9",
        b"3\n",
    ):
        log.write(data)
        log.rotate()
    log.finished()[4].rename(f"{log.finished()[4]}.old")
    follower = follow(log.path)
    assert backfilled(follower) == [b"1", b"2", b"3"]
    assert follower.losses == {"compressed": 3}


def test_other_files_are_not_read(log: Multilog, follow: Follow) -> None:
    """State files, processor output in the making and foreign names are no part of the log."""
    for name in (
        "state",
        "newstate",
        "lock",
        "config",
        "@400000006922c0010000000.s",
        "@400000006922c00100000000.t",
    ):
        (log.path / name).write_bytes(b"no\n")
    (log.path / "@400000006922c00100000000.d").mkdir()
    log.write(b"yes\n")
    assert backfilled(follow(log.path)) == [b"yes"]


def test_svlogd_unprocessed_and_processed_form_of_one_file(log: Multilog, follow: Follow) -> None:
    """While svlogd has both forms side by side, the log as written is read, and only that."""
    (log.path / "@400000006922c00100000000.u").write_bytes(b"as written\n")
    (log.path / "@400000006922c00100000000.s").write_bytes(b"processed\n")
    (log.path / "@400000006922c00200000000.s").write_bytes(b"later\n")
    follower = follow(log.path)
    backfill = follower.backfill()
    assert next(backfill).lines == [b"as written"]
    assert next(backfill).lines == [b"later"]


def test_svlogd_finishing_a_processor_while_we_read(log: Multilog, follow: Follow) -> None:
    """A file listed as unprocessed and replaced by its processed form before it is read is read in that form."""
    (log.path / "@400000006922c00100000000.s").write_bytes(b"first\n")
    unprocessed = log.path / "@400000006922c00200000000.u"
    unprocessed.write_bytes(b"second\n")
    follower = follow(log.path)
    backfill = follower.backfill()
    next(backfill)
    (log.path / "@400000006922c00200000000.s").write_bytes(gzip.compress(b"second\n"))
    unprocessed.unlink()
    assert next(backfill).lines == [b"second"]
    assert not follower.losses


@pytest.mark.parametrize("processor", [None, gzip.compress], ids=["none", "gzip"])
@pytest.mark.parametrize("kind", [Multilog, Svlogd])
def test_a_clock_set_back(kind: type[Multilog], processor: Processor, tmp_path: Path, follow: Follow) -> None:
    """Files whose names are from before those of older ones are read once each, and no older one again."""
    log = kind(tmp_path / "log", 100, processor)
    for number in range(3):
        log.write(b"%d\n" % number)
        log.rotate()
    follower = follow(log.path)
    lines = backfilled(follower)
    for number in range(3, 9):
        log.clock -= 1000
        log.write(b"%d\n" % number)
        log.rotate()
        lines += follower.read().lines
    assert lines == [b"%d" % number for number in range(9)]
    log.write(b"9\n")
    log.rotate()
    log.clock -= 1000
    log.write(b"10\n")
    log.rotate()
    assert follower.read().lines == [b"9", b"10"]
    assert not follower.losses


def test_an_old_file_brought_back(log: Multilog, follow: Follow) -> None:
    """A finished file that is taken out of the directory and put in again is not read again."""
    log.write(b"1\n")
    log.rotate()
    follower = follow(log.path)
    lines = backfilled(follower)
    old = log.finished()[0]
    for number in range(3):
        if number == 1:
            old.rename(log.path.parent / old.name)
        if number == 2:
            (log.path.parent / old.name).rename(old)
        log.write(b"%d\n" % (number + 2))
        log.rotate()
        lines += follower.read().lines
    assert lines == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("name", ["previous", "processed"])
def test_a_leftover_is_read_once(name: str, log: Multilog, follow: Follow) -> None:
    """A finished file without a name of its own that stays, as no multilog takes care of it, is read once."""
    (log.path / name).write_bytes(b"left\n")
    (log.path / name).chmod(0o744)
    other = Svlogd(log.path)
    other.write(b"1\n")
    follower = follow(log.path)
    lines = backfilled(follower)
    for number in range(2, 5):
        other.rotate()
        other.write(b"%d\n" % number)
        lines += follower.read().lines
    assert lines == [b"left", b"1", b"2", b"3", b"4"]
    assert not follower.losses


def test_a_line_cut_by_the_size_limit_goes_on_in_the_next_file(log: Multilog, follow: Follow) -> None:
    """A line that multilog cut at the size limit is put together again, in the backfill and while following."""
    log.write(b"a long li")
    log.rotate()
    log.write(b"ne\nanother")
    follower = follow(log.path)
    assert backfilled(follower) == [b"a long line"]
    log.rotate()
    log.write(b" one\n")
    assert follower.read().lines == [b"another one"]
    assert not follower.losses


def test_a_line_cut_by_an_outage_is_dropped(log: Multilog, follow: Follow) -> None:
    """The end of a file that was not finished in order is not joined with what was written after the outage."""
    log.write(b"whole\nhal")
    follower = follow(log.path)
    assert backfilled(follower) == [b"whole"]
    (log.path / "current").rename(log.path / "@400000006922c00100000000.u")
    log.write(b"after\n")
    assert follower.read().lines == [b"after"]
    assert follower.losses == {"cut_line": 1}


def test_multilog_ends_and_starts_again(log: Multilog, follow: Follow) -> None:
    """The mode that multilog sets at its end and takes back at its start is of no consequence."""
    follower = follow(log.path)
    backfilled(follower)
    log.write(b"1\n")
    (log.path / "current").chmod(0o744)
    assert follower.read().lines == [b"1"]
    (log.path / "current").chmod(0o644)
    log.write(b"2\n")
    assert follower.read().lines == [b"2"]


def test_current_emptied_by_hand(log: Multilog, follow: Follow) -> None:
    """A `current` that was emptied is read from its start again, and the truncation counted."""
    log.write(b"1\n2\n")
    follower = follow(log.path)
    backfilled(follower)
    os.truncate(log.path / "current", 0)
    log.write(b"3\n")
    assert follower.read().lines == [b"3"]
    assert follower.losses == {"truncated": 1}


def test_a_directory_that_appears_later(tmp_path: Path, follow: Follow) -> None:
    """A path that is missing is no error; what appears there, rotated meanwhile or not, is new from its first byte."""
    follower = follow(tmp_path / "qmail-send")
    assert backfilled(follower) == []
    assert follower.read().lines == []
    assert not follower.present
    (tmp_path / "qmail-send").mkdir()
    assert follower.read().lines == []
    assert not follower.present
    log = Multilog(tmp_path / "qmail-send")
    log.write(b"1\n")
    log.rotate()
    log.write(b"2\n")
    assert follower.read().lines == [b"1", b"2"]
    assert follower.present


def test_a_directory_replaced_by_another(log: Multilog, follow: Follow) -> None:
    """If the directory is renamed and a new one made, the old `current` is finished and the new one followed."""
    log.write(b"1\n")
    follower = follow(log.path)
    backfilled(follower)
    log.write(b"2\n")
    log.path.rename(log.path.with_name("old"))
    assert follower.read().lines == [b"2"]
    assert not follower.present
    Multilog(log.path).write(b"3\n")
    assert follower.read().lines == [b"3"]
    assert follower.present


def test_a_leftover_of_a_crash_does_not_stop_the_reading(log: Multilog, follow: Follow) -> None:
    """A `processed` without a `previous`, which usually means a rotation under way, is waited for only for a while."""
    (log.path / "processed").write_bytes(b"x\n")
    log.write(b"1\n")
    follower = follow(log.path)
    assert backfilled(follower) == [b"1"]
    (log.path / "current").rename(log.path / "@400000006922c00100000000.s")
    log.write(b"2\n")
    assert [line for _ in range(20) for line in follower.read().lines] == [b"2"]


def test_what_the_operator_must_put_right(log: Multilog, follow: Follow) -> None:
    """A `current` that is no regular file is an OSError naming it, at every call until it is put right."""
    (log.path / "current").unlink()
    (log.path / "current").mkdir()
    follower = follow(log.path)
    for _ in range(2):
        with pytest.raises(IsADirectoryError) as caught:
            backfilled(follower)
        assert caught.value.filename == str(log.path / "current")
    (log.path / "current").rmdir()
    log.write(b"1\n")
    assert backfilled(follower) == [b"1"]


def test_lines_read_before_an_error_are_given_out(log: Multilog, follow: Follow) -> None:
    """If the next file cannot be opened, the lines before it come first and the error with the next call."""
    follower = follow(log.path)
    backfilled(follower)
    log.write(b"1\n")
    (log.path / "current").rename(log.path / "@400000006922c00100000000.s")
    os.mkfifo(log.path / "current")
    assert follower.read().lines == [b"1"]
    with pytest.raises(OSError, match="Not a regular file") as caught:
        follower.read()
    assert caught.value.filename == str(log.path / "current")
    (log.path / "current").unlink()
    log.write(b"2\n")
    assert follower.read().lines == [b"2"]


def test_the_oldest_files_are_left_out_of_a_large_backfill(log: Multilog) -> None:
    """A backfill reads no more than its limit; which files it leaves out is decided by age."""
    for number in range(5):
        log.write(b"%d" % number * 99 + b"\n")
        log.rotate()
    with closing(LogFiles(str(log.path), backfill_bytes=250)) as follower:
        assert [line[:1] for line in backfilled(follower)] == [b"3", b"4"]
        log.write(b"5\n")
        assert follower.read().lines == [b"5"]


def test_no_descriptor_is_left_open(log: Multilog) -> None:
    """After rotations, gaps and unread archives, `close` leaves no more files open than there were."""
    before = open_descriptors()
    log.keep = 3
    follower = open_log(str(log.path))
    for number in range(6):
        log.write(b"%d\n" % number)
        for step in log.steps():
            if step in {"created", "linked"}:
                follower.read(2)
    follower.close()
    assert open_descriptors() == before


STEPS = ["renamed", "created", "marked", "processed", "replaced", "linked", "unlinked", "finished"]
FRAGMENT = st.lists(st.sampled_from([b"status: ", b"\0", b"\n", b"\xff\n", b"delivery 1\n"]), max_size=4).map(
    b"".join
)
EVENT = st.one_of(
    FRAGMENT,
    st.sets(st.sampled_from(STEPS)).map(frozenset),  # a rotation; after which of its steps a read comes
    st.sampled_from([1, 7, 1 << 20]),  # a read with this limit
    st.just("backfill"),
)


class Run:
    """One run of a log and its follower: what was written, what was given out, what may be deleted."""

    def __init__(self, log: Multilog, follower: Follower) -> None:
        self.log = log
        self.follower = follower
        self.written = b""
        self.given: list[bytes] = []
        self.ends: list[int] = []
        self.given_bytes = 0

    def write(self, data: bytes) -> None:
        """Append to the log, and remember it."""
        self.log.write(data)
        self.written += data

    def take(self, lines: list[bytes]) -> None:
        """Remember what was given out."""
        self.given += lines
        self.given_bytes += sum(len(line) + 1 for line in lines)

    def catch_up(self) -> None:
        """Read all there is."""
        while (batch := self.follower.read()).lines or self.follower.behind:
            self.take(batch.lines)

    def rotate(self, reads: frozenset[str]) -> None:
        """Rotate, with a read after each of the steps in `reads`."""
        deleted = len(self.ends) - self.log.keep + 1
        if deleted >= 0 and self.given_bytes < self.ends[deleted]:
            self.catch_up()  # else something would be deleted unread
        self.ends.append(len(self.written))
        for step in self.log.steps():
            if step in reads:
                self.take(self.follower.read(9).lines)

    def step(self, event: object) -> None:
        """Do what one of EVENT's values stands for."""
        if isinstance(event, bytes):
            self.write(event)
        elif isinstance(event, frozenset):
            self.rotate(event)
        elif isinstance(event, int):
            self.take(self.follower.read(event).lines)
        else:
            self.take(backfilled(self.follower))


@given(
    before=st.lists(st.one_of(FRAGMENT, st.just(frozenset[str]())), max_size=6),
    events=st.lists(EVENT, max_size=25),
    processor=st.sampled_from([None, bytes, gzip.compress]),
    keep=st.integers(2, 6),
)
def test_any_interleaving_gives_every_line_once_and_in_order(
    before: list[object], events: list[object], processor: Processor, keep: int
) -> None:
    """Whatever is written, rotated and read in whatever order: the lines are those of the stream, if none was deleted."""
    with TemporaryDirectory() as directory:
        log = Multilog(Path(directory) / "log", 100, processor)
        with closing(open_log(str(log.path))) as follower:
            run = Run(log, follower)
            for number, event in enumerate(before):
                run.write(b"%d before\n" % number)  # no two files begin alike, as with timestamps
                run.step(event)
            run.step("backfill")
            log.keep = keep if len(run.ends) < keep else 100
            for number, event in enumerate(events):
                run.write(b"@%d " % number)
                run.step(event)
            run.catch_up()
            assert run.given == run.written.split(b"\n")[:-1]
            assert set(follower.losses) <= {"gap"}


def test_losses_are_a_counter(log: Multilog, follow: Follow) -> None:
    """`losses` starts empty and is the follower's own."""
    first, second = follow(log.path), follow(log.path)
    first.losses["long_line"] += 1
    assert second.losses == Counter()


def test_a_listing_that_missed_a_file_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a second listing shows another name, as one was just being changed, the look does not succeed."""
    (tmp_path / "@400000006ab13b8a00000000.s").write_bytes(b"x\n")
    found = Directory(str(tmp_path), Counter())
    real, missed = os.listdir, [True]
    monkeypatch.setattr(os, "listdir", lambda path: [] if missed and missed.pop() else real(path))
    assert found.archives() is None
    assert [archive.key for archive in found.archives() or []] == ["@400000006ab13b8a00000000"]
