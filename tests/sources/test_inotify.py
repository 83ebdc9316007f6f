import ctypes
import errno
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import pyinotify
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import message_id
from qmail_exporter.sources import inotify
from qmail_exporter.sources.inotify import Event, News, Watcher, WatchError, nominate, parse_events
from qmail_exporter.sources.scan import Tree
from queuedir import QueueDir
from soak.held import open_descriptors

NOTHING = News(set(), 0, overflow=False, replaced=False)
LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")


def watch(queue: QueueDir) -> Watcher:
    with closing(Tree(queue.path)) as tree:
        return Watcher(queue.path, {area: tree.directories(area) for area in tree.areas})


@pytest.fixture
def queue(tmp_path: Path) -> QueueDir:
    return QueueDir(tmp_path / "queue", split=7)


@pytest.fixture
def watching() -> Iterator[Callable[[QueueDir], Watcher]]:
    with ExitStack() as stack:
        yield lambda queue: stack.enter_context(closing(watch(queue)))


@pytest.fixture
def watcher(queue: QueueDir, watching: Callable[[QueueDir], Watcher]) -> Watcher:
    watcher = watching(queue)
    assert not watcher.unwatched
    return watcher


# --- what nominates


def create(path: Path) -> None:
    path.touch()


def link(path: Path) -> None:
    path.with_name("other").touch()
    os.link(path.with_name("other"), path)


def unlink(path: Path) -> None:
    path.unlink()


def rename_away(path: Path) -> None:
    path.rename(path.with_name("other"))


def rename_to(path: Path) -> None:
    path.with_name("other").touch()
    path.with_name("other").rename(path)


def write(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"D")


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def read(path: Path) -> None:
    path.read_bytes()


NEW = (create, link, rename_to)
PRESENCE = (create, link, rename_to, unlink, rename_away)
CONTENT = (write, touch, unlink, rename_away, rename_to)
ACTS = (create, link, rename_to, unlink, rename_away, write, touch, read)
NOMINATES = {
    "mess": PRESENCE,
    "todo": PRESENCE,
    "bounce": PRESENCE,
    "info": (touch, unlink, rename_away, rename_to),
    "local": CONTENT,
    "remote": CONTENT,
    "intd": (),
    "pid": (),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("area", NOMINATES)
def test_what_nominates(
    queue: QueueDir, watching: Callable[[QueueDir], Watcher], area: str, act: Callable[[Path], None]
) -> None:
    """An area's events are those by which the state of a message changes, and no others."""
    path = queue.file(area, 1467125)
    if act not in NEW:
        path.write_bytes(b"Tx@y\0")
    watcher = watching(queue)
    act(path)
    news = watcher.read()
    nominated = {1467125} if act in NOMINATES[area] else set()
    assert news.messages == nominated
    assert not news.overflow
    assert not news.replaced
    assert bool(news.events) >= bool(nominated)
    assert watcher.read() == NOTHING


def test_a_mess_file_is_written(queue: QueueDir, watcher: Watcher) -> None:
    """A message being received is nominated by its file's coming, and by nothing that is done to the file then."""
    path = queue.put("mess", 28)
    assert watcher.read().messages == {28}
    write(path)
    touch(path)
    read(path)
    assert watcher.read() == NOTHING


def test_a_third_channel(tmp_path: Path, watching: Callable[[QueueDir], Watcher]) -> None:
    """A channel of any name, and a todo that is split, are watched like the others."""
    queue = QueueDir(tmp_path / "q", split=3, channels=("local", "remote", "more"), big_todo=True)
    watcher = watching(queue)
    queue.put("more", 28, b"Tx\0")
    queue.put("todo", 29)
    assert watcher.read().messages == {28, 29}


def test_marks_fold(queue: QueueDir, watching: Callable[[QueueDir], Watcher]) -> None:
    """The kernel folds equal events that follow each other: a thousand marks in a list's file are one."""
    path = queue.put("remote", 28, b"Tx@y\0")
    watcher = watching(queue)
    with path.open("r+b", buffering=0) as file:
        for _ in range(1000):
            file.seek(0)
            file.write(b"D")
    assert watcher.read() == News({28}, 1, overflow=False, replaced=False)


def test_names_that_are_no_messages(queue: QueueDir, watcher: Watcher) -> None:
    """A file with another name counts as an event, and nominates nothing."""
    for name in ("x", "007", "-1", "9" * 30, "12345678901234567890", os.fsdecode(b"\xff\xfe"), "n" * 255):
        (queue.root / "mess/0" / name).touch()
    assert watcher.read() == News(set(), 7, overflow=False, replaced=False)


def test_a_long_name_among_short_ones(queue: QueueDir, watcher: Watcher) -> None:
    """Numbers of more than 15 digits nominate, and so does what comes with them."""
    queue.put("mess", 28)
    queue.put("mess", 1234567890123456789)
    queue.put("mess", 29)
    assert watcher.read() == News({28, 29, 1234567890123456789}, 3, overflow=False, replaced=False)


# --- what says to look everywhere


def replace(path: Path) -> None:
    shutil.copytree(path, f"{path}.new")
    path.rename(f"{path}.old")
    Path(f"{path}.new").rename(path)


def add_directory(path: Path) -> None:
    (path / "77").mkdir()


@pytest.mark.parametrize(
    ("place", "act"),
    [
        *(
            (place, act)
            for place in ("", "mess", "mess/3", "bounce", "info/3")
            for act in (replace, shutil.rmtree)
        ),
        *((place, add_directory) for place in ("", "mess", "info", "mess/3")),
        *((place, os.rmdir) for place in ("bounce", "todo", "local/0")),
        ("info/3", lambda path: path.chmod(0o700)),
        ("remote/3", lambda path: path.chmod(0o700)),
    ],
)
def test_replaced(queue: QueueDir, watcher: Watcher, place: str, act: Callable[[Path], None]) -> None:
    """A directory that goes, comes, or is replaced is told, at every level."""
    act(queue.root / place)
    assert watcher.read().replaced
    assert not watcher.unwatched


def most_events() -> int:
    try:
        return int(LIMIT.read_text())
    except (OSError, ValueError):
        return 1 << 30


@pytest.mark.slow
@pytest.mark.skipif(most_events() > 100_000, reason="the limit of events here is beyond a test's reach")
def test_overflow(queue: QueueDir, watcher: Watcher) -> None:
    """When more happens than the kernel keeps, that is told, and what it did keep is read; after it all is as before."""
    most = most_events()
    path = queue.root / "bounce"
    for number in range(1, most // 2 + 100):
        descriptor = os.open(f"{path}/{number}", os.O_CREAT | os.O_WRONLY)
        os.close(descriptor)
        os.unlink(f"{path}/{number}")
    news = watcher.read()
    assert news.overflow
    assert news.events == most + 1
    assert news.messages == set(range(1, most // 2 + 1))
    assert not news.replaced
    (path / "5").touch()
    assert watcher.read() == News({5}, 1, overflow=False, replaced=False)


# --- reading


def test_reading_ends(queue: QueueDir, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that come while events are being read are left for the next time, so a reading ends."""
    numbers = count(1)
    real = os.read

    def busy(fd: int, size: int) -> bytes:
        for _ in range(5):
            queue.put("mess", next(numbers))
        return real(fd, size)

    queue.put("mess", 1_000_000)
    with monkeypatch.context() as patched:
        patched.setattr(inotify.os, "read", busy)  # type: ignore[attr-defined]
        news = watcher.read()
    assert 1_000_000 in news.messages
    assert news.events <= 6
    assert watcher.read().events == 6 - news.events


def test_more_than_one_read_takes(queue: QueueDir, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the kernel holds is read, however little one read takes."""
    monkeypatch.setattr(inotify, "_MOST", 100)
    for msg in range(1, 40):
        queue.put("mess", msg)
    assert watcher.read() == News(set(range(1, 40)), 39, overflow=False, replaced=False)


def test_odd_input(queue: QueueDir, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no kernel should give raises nothing; it says to look everywhere."""
    queue.put("mess", 5)
    monkeypatch.setattr(inotify.os, "read", lambda *_: b"\1" * 50)  # type: ignore[attr-defined]
    assert watcher.read() == News(set(), 0, overflow=True, replaced=False)


def test_an_end_of_input(queue: QueueDir, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that gives nothing ends the reading too."""
    queue.put("mess", 5)
    monkeypatch.setattr(inotify.os, "read", lambda *_: b"")  # type: ignore[attr-defined]
    assert watcher.read() == NOTHING


# --- parsing


def event(mask: int, name: bytes, padding: int = 0, wd: int = 1) -> bytes:
    """Build an event as the kernel does: the name padded to a multiple of 16, with a NUL at least."""
    length = -(-(len(name) + 1) // 16) * 16 + 16 * padding if name else 0
    return struct.pack("iIII", wd, mask, 0, length) + name.ljust(length, b"\0")


NAMES = st.integers(0, 2**64).map(lambda number: b"%d" % number) | st.binary(max_size=40).map(
    lambda name: name.replace(b"\0", b"")
)
MASKS = st.sampled_from(
    [
        pyinotify.IN_CREATE,
        pyinotify.IN_DELETE,
        pyinotify.IN_MODIFY,
        pyinotify.IN_ATTRIB,
        pyinotify.IN_MOVED_TO,
    ]
)
ODD = st.sampled_from(
    [
        pyinotify.IN_Q_OVERFLOW,
        pyinotify.IN_IGNORED,
        pyinotify.IN_UNMOUNT,
        pyinotify.IN_DELETE_SELF,
        pyinotify.IN_MOVE_SELF,
        pyinotify.IN_CREATE | pyinotify.IN_ISDIR,
    ]
)
EVENTS = st.builds(event, MASKS, NAMES) | st.builds(event, MASKS | ODD, NAMES, st.integers(0, 2))
SHORT = st.builds(event, MASKS, st.integers(0, 10**15 - 1).map(lambda number: b"%d" % number))


def plainly(buffer: bytes) -> News:
    events = list(parse_events(buffer))
    odd = [found.mask & inotify._ODD for found in events]
    numbers = {message_id(found.name) for found in events} - {None}
    return News(
        {number for number in numbers if number},
        len(events),
        overflow=any(mask & pyinotify.IN_Q_OVERFLOW for mask in odd),
        replaced=any(mask & ~pyinotify.IN_Q_OVERFLOW for mask in odd),
    )


@given(st.lists(EVENTS).map(b"".join) | st.lists(SHORT).map(b"".join))
def test_nomination_is_a_plain_reading(buffer: bytes) -> None:
    """The fast way through a buffer of short names tells what a reading event by event does."""
    assert nominate(buffer) == plainly(buffer)


@given(st.binary(max_size=200) | st.lists(EVENTS | SHORT).map(b"".join).map(lambda buffer: buffer[:-1]))
def test_any_bytes(buffer: bytes) -> None:
    """Any bytes are news or a FormatError, and the two readings agree on which."""
    try:
        news = plainly(buffer)
    except FormatError:
        with pytest.raises(FormatError):
            nominate(buffer)
    else:
        assert nominate(buffer) == news


def test_parse_events() -> None:
    """An event's name comes without its padding, and an event without a name has an empty one."""
    buffer = event(pyinotify.IN_CREATE, b"28") + event(pyinotify.IN_Q_OVERFLOW, b"", wd=-1)
    assert list(parse_events(buffer)) == [
        Event(1, pyinotify.IN_CREATE, b"28"),
        Event(-1, pyinotify.IN_Q_OVERFLOW, b""),
    ]


# --- what cannot be watched


def test_a_directory_that_is_not_there(queue: QueueDir, watching: Callable[[QueueDir], Watcher]) -> None:
    """An area of which a directory cannot be watched is told, with the path; the others are watched."""
    shutil.rmtree(queue.root / "info/3")
    queue.root.joinpath("bounce").rmdir()
    queue.root.joinpath("bounce").symlink_to(queue.root / "intd")
    watcher = watching(queue)
    assert watcher.unwatched.keys() == {"info", "bounce"}
    assert watcher.unwatched["info"].errno == errno.ENOENT
    assert watcher.unwatched["info"].filename == f"{queue.path}/info/3"
    queue.put("mess", 28)
    queue.put("info", 27)
    os.utime(queue.file("info", 27))
    assert watcher.read().messages == {27, 28}


class Refusing:
    """A C library of which one function fails."""

    def __init__(self, function: str, number: int, after: int = 0) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._function = function
        self.number = number
        self._left = after

    def __getattr__(self, name: str) -> object:
        if name != self._function or self._left > 0:
            self._left -= name == self._function
            return getattr(self._libc, name)

        def refuse(*_: object) -> int:
            ctypes.set_errno(self.number)
            return -1

        return refuse


@pytest.mark.parametrize(
    ("refusing", "advice"),
    [
        (Refusing("inotify_init1", errno.EMFILE), "fs.inotify.max_user_instances"),
        (Refusing("inotify_init1", errno.ENOMEM), "Cannot allocate memory"),
        (Refusing("inotify_add_watch", errno.ENOSPC, 1), "fs.inotify.max_user_watches"),
        (Refusing("inotify_add_watch", errno.ENOSPC, 20), "fs.inotify.max_user_watches"),
    ],
)
def test_the_kernel_refuses(
    queue: QueueDir, monkeypatch: pytest.MonkeyPatch, refusing: Refusing, advice: str
) -> None:
    """Without an instance or with too few watches there is no watcher; the error says what to raise, and nothing leaks."""
    before = open_descriptors()
    monkeypatch.setattr(inotify.ctypes, "CDLL", lambda *_, **__: refusing)  # type: ignore[attr-defined]
    with pytest.raises(WatchError, match=advice) as caught:
        watch(queue)
    assert caught.value.errno == refusing.number
    assert str(caught.value.filename).startswith(queue.path)
    assert open_descriptors() == before


@pytest.mark.parametrize("name", [os.fsdecode(b"que\xffue"), "\u00e4 b", "a\nb"])
def test_any_path(tmp_path: Path, watching: Callable[[QueueDir], Watcher], name: str) -> None:
    """A queue may have any path, also one that is not UTF-8."""
    queue = QueueDir(tmp_path / name, split=1)
    watcher = watching(queue)
    assert not watcher.unwatched
    queue.put("mess", 28)
    assert watcher.read().messages == {28}


def test_a_path_with_links(queue: QueueDir, tmp_path: Path, watching: Callable[[QueueDir], Watcher]) -> None:
    """A path that leads through a link, and back from where that leads, is the kernel's, not the text's."""
    (tmp_path / "elsewhere").symlink_to(queue.root / "mess")
    queue.root = tmp_path / "elsewhere" / ".."
    watcher = watching(queue)
    assert not watcher.unwatched
    queue.put("mess", 28)
    assert watcher.read().messages == {28}


def test_descriptor(watcher: Watcher) -> None:
    """The descriptor does not block and is not inherited."""
    assert not os.get_blocking(watcher.fd)
    assert not os.get_inheritable(watcher.fd)


def test_pyinotify_is_left_as_it_was(watcher: Watcher) -> None:
    """What is changed in pyinotify while a WatchManager is made is changed back."""
    assert watcher.read() == NOTHING
    with closing(pyinotify.WatchManager()) as manager:
        assert type(manager._inotify_wrapper) is pyinotify._CtypesLibcINotifyWrapper


IMPORT = (
    "import sys\n"
    "started = []\n"
    "sys.addaudithook(lambda event, _: event in ('subprocess.Popen', 'os.posix_spawn', 'os.fork', 'os.exec')"
    " and started.append(event))\n"
    "from qmail_exporter.sources.inotify import Watcher\n"
    "Watcher(sys.argv[1], {}).close()\n"
    "sys.exit(str(started) if started else 0)\n"
)


@pytest.mark.parametrize(
    "flags", [[], ["-W", "error"], ["-W", "error", "-B", "-X", "pycache_prefix=/nonexistent"]]
)
def test_import(queue: QueueDir, flags: list[str]) -> None:
    """Import and watches give no warning, compiled before or not, and start no other program."""
    command = [sys.executable, *flags, "-c", IMPORT, queue.path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
