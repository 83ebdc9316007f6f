import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats.envelope import MAX_MESSAGE_ID, ChannelFile, Message, Sender, message_id
from qmail_exporter.sources import glance, layout, scan
from qmail_exporter.sources.scan import Absent, Tree
from queuedir import QueueDir
from soak.held import open_descriptors
from unpack import unpack

RECORDED = Path(__file__).parent.parent / "data/recorded"
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def queue(tmp_path: Path) -> QueueDir:
    return QueueDir(tmp_path / "queue")


@pytest.fixture
def opened() -> Iterator[Callable[[QueueDir], Tree]]:
    with ExitStack() as stack:
        yield lambda queue: stack.enter_context(closing(Tree(queue.path)))


@pytest.fixture
def tree(queue: QueueDir, opened: Callable[[QueueDir], Tree]) -> Tree:
    return opened(queue)


@pytest.fixture
def open_to_all(in_memory: Path) -> Path:
    """Return a directory to which nobody has a way."""
    in_memory.chmod(0o755)
    return in_memory


@contextmanager
def as_nobody() -> Iterator[None]:
    """Do what is done here without privileges."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def scanned(tree: Tree, known: Callable[[int], bool] = lambda _: False) -> dict[int, Message]:
    """Scan, and see that no message is found twice and that progress goes from 0 to 1."""
    found: list[tuple[int, Message]] = []
    progress = 0.0
    for step in tree.scan(known):
        assert progress <= step.progress <= 1
        progress = step.progress
        found += step.found
    assert progress == 1
    assert len(found) == len(dict(found))
    return dict(found)


# --- states


def test_no_message(tree: Tree) -> None:
    """S1: without a mess file there is no message, whatever else there is."""
    assert tree.look(5) is None
    assert scanned(tree) == {}


def test_remains_without_mess(queue: QueueDir, tree: Tree) -> None:
    """S1: an info or a channel's file without its mess file is no message."""
    queue.message(5)
    queue.file("mess", 5).unlink()
    assert tree.look(5) is None
    assert scanned(tree) == {}


@pytest.mark.parametrize("intd", [False, True])
def test_being_received(queue: QueueDir, tree: Tree, intd: bool) -> None:
    """S2 and S3: with mess, or mess and intd, there is a message of which nothing else is known."""
    queue.put("mess", 28, b"12345", 1e9 + 0.5)
    if intd:
        queue.put("intd", 28, b"u1\0p2\0Fa@b\0")
    message = Message(10**18 + 500_000_000, 5, False, None, None, 0, (), False)
    assert tree.look(28) == message
    assert scanned(tree) == {28: message}


@pytest.mark.parametrize(
    ("todo", "sender"),
    [
        (b"u1\0p2\0Fa@b.test\0Tx@y\0", Sender.MAIL),
        (b"u1\0p2\0F\0Tx@y\0", Sender.BOUNCE),
        (b"u1\0p2\0F#@[]\0Tx@y\0", Sender.DOUBLE),
        (b"u1\0p2\0F#@[]x\0Tx@y\0", Sender.MAIL),
        (b"u1\0p2\0eX=1\0hHEADER=2\0F\0Tx@y\0", Sender.BOUNCE),
        (b"u1\0p2\0Fa@b\0" + b"Tx@y\0" * 10_000, Sender.MAIL),
        (b"u1\0p2\0F" + b"a" * 100_000 + b"\0Tx@y\0", Sender.MAIL),
        (b"u1\0p2\0F#@[", None),
        (b"", None),
        (b"\xff\0\n", None),
        (b"u" * 100_000, None),
    ],
    ids=[
        "mail",
        "bounce",
        "double",
        "like double",
        "indimail",
        "list",
        "long",
        "cut",
        "empty",
        "odd",
        "no end",
    ],
)
@pytest.mark.parametrize("big_todo", [False, True])
def test_queued(
    tmp_path: Path, opened: Callable[[QueueDir], Tree], todo: bytes, sender: Sender | None, big_todo: bool
) -> None:
    """S4: todo tells the sender's kind, in one directory or split; info and channels are not yet valid."""
    queue = QueueDir(tmp_path / "q", big_todo=big_todo)
    queue.message(28, files={"remote": b"Tx@", "local": b"T"})
    queue.put("todo", 28, todo)
    tree = opened(queue)
    assert tree.big_todo is big_todo
    message = Message(10**18, 11, True, sender, None, 0, (), False)
    assert tree.look(28) == message
    assert scanned(tree) == {28: message}
    assert not tree.broken


@pytest.mark.parametrize(
    "files",
    [
        {"remote": b"Tx@y\0Dz@y\0"},
        {"local": b"Tx@y\0"},
        {"local": b"Tx@y\0", "remote": b"\xff\n\0"},
        {"remote": b""},
    ],
    ids="+".join,
)
@pytest.mark.parametrize("failed", [False, True])
def test_preprocessed(queue: QueueDir, tree: Tree, files: dict[str, bytes], failed: bool) -> None:
    """S5: info's mtime is the birth, and each channel's file is there with its bytes and its mtime."""
    queue.message(28, files=files)
    for seconds, area in enumerate(files):
        os.utime(queue.file(area, 28), (0, 2e9 + seconds))
    os.utime(queue.file("info", 28), (0, 1.5e9))
    if failed:
        queue.put("bounce", 28, b"<x@y>:\nno\n")
    channels = tuple(ChannelFile(area, files[area], int(2e9) + at) for at, area in enumerate(files))
    changed = int(queue.file("info", 28).stat().st_ctime)
    message = Message(10**18, 11, False, Sender.MAIL, int(1.5e9), changed, channels, failed)
    assert tree.look(28) == message
    assert scanned(tree) == {28: message}


def test_ending(queue: QueueDir, tree: Tree) -> None:
    """A preprocessed message may have no channel's file any more, and one without info is about to go."""
    queue.message(28)
    queue.file("remote", 28).unlink()
    message = tree.look(28)
    assert message
    assert message.channels == ()
    assert message.birth == 10**9
    assert scanned(tree) == {28: message}
    queue.file("info", 28).unlink()
    assert tree.look(28) == message._replace(sender=None, birth=None, info_changed=0)


@pytest.mark.parametrize(
    ("sender", "kind"),
    [(b"", Sender.BOUNCE), (b"#@[]", Sender.DOUBLE), (b"a@bc", Sender.MAIL), (b"a-@[]", Sender.MAIL)],
)
def test_bounces(queue: QueueDir, tree: Tree, sender: bytes, kind: Sender) -> None:
    """An empty sender is a bounce, `#@[]` a double bounce, and another of four bytes neither."""
    queue.message(28, sender)
    message = tree.look(28)
    assert message
    assert message.sender is kind
    assert scanned(tree) == {28: message}


@pytest.mark.parametrize("split", [1, 7, 23, 151])
def test_split(tmp_path: Path, opened: Callable[[QueueDir], Tree], split: int) -> None:
    """The split is what the directory has, and a message is looked up by its number modulo that."""
    queue = QueueDir(tmp_path / "q", split=split)
    msgs = {queue.message(msg) for msg in (1, 22, 23, 150, 151, 10**12 + 7, MAX_MESSAGE_ID)}
    tree = opened(queue)
    assert tree.split == split
    assert scanned(tree).keys() == msgs
    assert all(tree.look(msg) for msg in msgs)


def test_a_third_channel(tmp_path: Path, opened: Callable[[QueueDir], Tree]) -> None:
    """Any other directory that is split like mess is a channel, after local and remote."""
    queue = QueueDir(tmp_path / "q", channels=("another", "local", "remote"))
    (queue.root / "yanked").mkdir()
    (queue.root / "half" / "0").mkdir(parents=True)
    os.symlink(queue.root / "another", queue.root / "link")
    queue.message(28, files={"another": b"Tx@y\0", "local": b"Tz\0"})
    tree = opened(queue)
    assert tree.channels == ["local", "remote", "another"]
    assert tree.areas == ["mess", "todo", "info", "bounce", *tree.channels]
    message = tree.look(28)
    assert message
    assert [file.channel for file in message.channels] == ["local", "another"]
    assert scanned(tree) == {28: message}


def test_known_messages_are_passed_over(queue: QueueDir, tree: Tree) -> None:
    """A scan asks of every message whether it is known, and looks at the others."""
    for msg in range(1, 60):
        queue.message(msg)
    assert scanned(tree, set(range(1, 60, 2)).__contains__).keys() == set(range(2, 60, 2))


def test_steps_are_short(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step has at most so many messages, or so many names, and one that is large is the last of its step."""
    monkeypatch.setattr(scan, "_STEP", 5)
    monkeypatch.setattr(scan, "_LISTED", 4)
    for msg in range(23, 23 * 12, 23):
        queue.message(msg)
    sizes = [len(step.found) for step in tree.scan(lambda _: False)]
    assert max(sizes) == 5
    assert sum(sizes) == 11
    assert sizes.count(0) >= 6  # eleven names in remote, eleven in mess, and 22 empty directories
    monkeypatch.setattr(scan, "_STEP_CONTENT", 0)
    monkeypatch.setattr(glance, "_SMALL", 1)
    assert {len(step.found) for step in tree.scan(lambda _: False)} == {0, 1}


# --- what should not be there


def test_hostile_entries(queue: QueueDir, tree: Tree) -> None:
    """What is no regular file, has no message's name or is in the wrong directory is not there, and breaks nothing."""
    queue.message(28)
    mess = queue.root / "mess" / "5"
    for name in (
        "5x",
        "x5",
        "05",
        "-18",
        "+5",
        "1_0",
        "\u0665",
        os.fsdecode(b"\xff5"),
        "9" * 30,
        "1" * 255,
        "0",
    ):
        (mess / name).write_bytes(b"x")
    (queue.root / "mess/3/5").write_bytes(b"x")
    (mess / str(5 + 23 * 2)).mkdir()
    os.mkfifo(mess / str(5 + 23 * 3))
    os.symlink(mess / "28", mess / str(5 + 23 * 4))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(mess / str(5 + 23 * 5)))
    assert scanned(tree).keys() == {28}
    assert not tree.broken
    assert all(tree.look(5 + 23 * n) is None for n in range(2, 6))


def test_a_name_of_two_numbers(queue: QueueDir, tree: Tree) -> None:
    """A name with a space in it is no message's, also where all others are."""
    queue.message(28)
    (queue.root / "mess/5/51 74").write_bytes(b"x")
    assert scanned(tree).keys() == {28}


@pytest.mark.parametrize("name", ["1" * 20, "1" * 40, "1" * 200 + "x", "9223372036854775808"])
def test_a_name_of_many_digits(queue: QueueDir, tree: Tree, name: str) -> None:
    """A name with more digits than a number has is no message's, also where all others are, and is told at once."""
    queue.message(28)
    (queue.root / "mess/5" / name).write_bytes(b"x")
    assert scanned(tree).keys() == {28}


@given(st.lists(st.text("012 x", max_size=25) | st.integers(-5, 2**64).map(str), max_size=8, unique=True))
def test_names_at_once(names: list[str]) -> None:
    """The numbers of all names at once are those of each name."""
    each = {msg: name.encode() for name in names if (msg := message_id(name.encode())) is not None}
    assert scan._numbers(names) == each


def make_directory(path: Path) -> None:
    path.mkdir()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def make_device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [make_directory, make_fifo, make_link, make_device, make_socket])
@pytest.mark.parametrize("area", ["info", "remote", "todo", "bounce"])
def test_no_regular_file(queue: QueueDir, tree: Tree, area: str, make: Callable[[Path], None]) -> None:
    """What stands where an envelope file would, and is no regular file, is taken for none."""
    queue.message(28)
    queue.file(area, 28).unlink(missing_ok=True)
    without = tree.look(28)
    try:
        make(queue.file(area, 28))
    except OSError as error:
        pytest.skip(f"cannot be made here: {error}")
    message = tree.look(28)
    assert message == without
    assert scanned(tree) == {28: message}
    assert not tree.broken


@pytest.mark.parametrize("seconds", [-(2**40), -1.5, 2**33, 2**55])
@pytest.mark.parametrize("area", ["mess", "info", "remote"])
def test_times_are_bounded(
    in_memory: Path, opened: Callable[[QueueDir], Tree], area: str, seconds: float
) -> None:
    """Whatever the mtimes, those that a look gives fit into 63 bits as nanoseconds."""
    queue = QueueDir(in_memory / "q")
    queue.message(28)
    os.utime(queue.file(area, 28), ns=(0, int(seconds * 10**9) if seconds < 2**33 else 2**62))
    if seconds > 2**33:
        try:
            subprocess.run(
                ["touch", "-m", "-d", f"@{seconds}", queue.file(area, 28)], check=True, capture_output=True
            )
        except (OSError, subprocess.SubprocessError):
            pytest.skip("no such time can be set here")
    tree = opened(queue)
    message = tree.look(28)
    assert message
    assert message.birth is not None
    assert abs(message.arrival_ns) < 2**62 + 10**9
    assert abs(message.birth) * 10**9 < 2**62 + 10**9
    assert abs(message.channels[0].mtime) * 10**9 < 2**62 + 10**9
    assert scanned(tree) == {28: message}


def test_seconds_are_those_of_stat(queue: QueueDir, tree: Tree) -> None:
    """A time with a fraction is that of the second before it, also before 1970, as qmail counts."""
    queue.message(28, mtime=-1.5)
    message = tree.look(28)
    assert message
    assert message.arrival_ns == -1_500_000_000
    assert message.birth == -2
    assert message.channels[0].mtime == -2


@pytest.mark.parametrize("area", ["remote", "local"])
def test_a_file_that_is_too_large(
    queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch, area: str
) -> None:
    """A channel's file beyond the limit is not read, and makes the channel broken until it has gone."""
    monkeypatch.setattr(layout, "MAX_FILE", 100)
    monkeypatch.setattr(glance, "_SMALL", 100)
    queue.message(28, files={area: b"Tx@y\0" * 20})
    message = tree.look(28)
    assert message
    assert message.channels == ()
    assert tree.broken.keys() == {area}
    assert tree.broken[area].filename == str(queue.file(area, 28))
    assert "too large" in str(tree.broken[area])
    assert scanned(tree) == {28: message}
    assert not tree.probe()
    assert tree.broken.keys() == {area}
    queue.file(area, 28).write_bytes(b"Tx@y\0")
    assert tree.probe()
    assert not tree.broken


def test_a_file_without_memory(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel's file for which there is no memory makes the channel broken, and nothing is raised; later it is read."""
    queue.message(28, files={"remote": b"Tx@y\0" * 2000})

    def without(*_: object) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", without)
        assert tree.look(28)
    assert tree.broken.keys() == {"remote"}
    assert tree.broken["remote"].errno == errno.ENOMEM
    assert tree.broken["remote"].filename == str(queue.file("remote", 28))
    assert tree.probe()
    assert not tree.broken


@given(name=st.text(min_size=1, max_size=25) | st.integers(-5, 2**64).map(str))
def test_names_as_elsewhere(name: str) -> None:
    """A name that a scan takes for a message's is one by `message_id`."""
    encoded = name.encode(errors="surrogatepass")
    assert (message_id(name.encode()) if name.isascii() else None) == message_id(encoded)


# --- at any moment


class Meddler:
    """Does something before the n-th of the system calls that a look makes."""

    CALLS = ("stat", "open", "fstat", "read", "scandir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, act: Callable[[], None]) -> None:
        self.left = at
        self.act = act
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name)))

    @property
    def has_acted(self) -> bool:
        """Whether there were that many calls."""
        return self.left < 0

    def _wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                self.act()
            return call(*args, **kwargs)

        return wrapped


def at_every_call(
    work: Callable[[], None], prepare: Callable[[], None], act: Callable[[], None], least: int
) -> None:
    """Do the work again and again, with the act before its first system call, its second, and so on."""
    for at in range(1000):
        prepare()
        with pytest.MonkeyPatch.context() as monkeypatch:
            meddler = Meddler(monkeypatch, at, act)
            work()
        if not meddler.has_acted:
            assert at >= least
            return
    pytest.fail("it never ended")


@pytest.mark.parametrize("sender", [b"a@mail.test", b"#@[]"])
@pytest.mark.parametrize("way", ["look", "scan"])
def test_vanishing_at_any_moment(queue: QueueDir, tree: Tree, sender: bytes, way: str) -> None:
    """A message that ends during a look is there, there in part as while it ended, or not there; nothing is raised."""

    def prepare() -> None:
        queue.message(28, sender, {"remote": b"Dx@y\0", "local": b"Tz\0"})
        queue.put("bounce", 28, b"x")

    def vanish() -> None:
        for area in ("local", "remote", "bounce", "info", "mess"):
            queue.file(area, 28).unlink()

    def work() -> None:
        message = tree.look(28) if way == "look" else scanned(tree).get(28)
        if message is not None:
            assert not message.todo
            assert message.size == 11
            assert message.birth in (None, 10**9)
            assert {file.content for file in message.channels} <= {b"Dx@y\0", b"Tz\0"}
        assert not tree.broken

    at_every_call(work, prepare, vanish, least=6)


@pytest.mark.parametrize("way", ["look", "scan"])
def test_queued_at_any_moment(queue: QueueDir, tree: Tree, way: str) -> None:
    """Files that are being written while todo exists are not taken for those of a preprocessed message."""

    def prepare() -> None:
        for area in ("todo", "info", "remote"):
            queue.file(area, 28).unlink(missing_ok=True)
        queue.put("mess", 28, b"x", mtime=time.time())

    def begin() -> None:
        queue.put("todo", 28, b"u1\0p2\0Fa@b\0Tx@y\0")
        queue.put("info", 28, b"")
        queue.put("remote", 28, b"Tx@")

    def work() -> None:
        message = tree.look(28) if way == "look" else scanned(tree).get(28)
        assert message
        assert message.birth is None
        assert message.channels == ()

    at_every_call(work, prepare, begin, least=4)


def test_preprocessing_between_listings(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that came after todo was listed is looked at whole, since its channel's file may be incomplete."""

    def nothing(_area: str) -> Generator[scan.Found, None, set[str]]:
        yield scan.Found("", [], [], 0.0)
        return set()

    queue.message(28, files={"remote": b"Tx@"}, mtime=time.time())
    queue.put("todo", 28, b"u1\0p2\0Fa@b\0Tx@y\0")
    monkeypatch.setattr(tree, "_every_name", nothing)
    assert scanned(tree)[28].todo


# --- what is opened


def test_mess_files_are_not_opened(queue: QueueDir, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is in mess only the directories are opened, by looks, scans and probes, and nothing is opened to write."""
    opened: list[tuple[str, int]] = []
    real = os.open

    def record(path: str, flags: int, *args: Any, **kwargs: Any) -> int:
        below = kwargs.get("dir_fd")
        where = os.readlink(f"/proc/self/fd/{below}") if below is not None else ""
        opened.append((os.path.join(where, os.fsdecode(path)), flags))
        return real(path, flags, *args, **kwargs)

    queue.message(28)
    queue.message(29, b"#@[]")
    queue.put("mess", 30)
    queue.put("todo", 30, b"u1\0p2\0Fa@b\0Tx@y\0")
    monkeypatch.setattr(os, "open", record)
    tree.broken["mess"] = OSError(5, "error", str(queue.file("mess", 28)))
    assert tree.probe()
    assert len(scanned(tree)) == 3
    assert all(tree.look(msg) for msg in (28, 29, 30))
    files = [path for path, flags in opened if not flags & os.O_DIRECTORY]
    assert {os.path.relpath(path, queue.path) for path in files} == {
        *("remote/5/28", "remote/6/29", "local/5/28", "local/6/29", "info/6/29", "todo/30"),
    }
    assert not any(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) for _, flags in opened)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_under_strace(queue: QueueDir, tmp_path: Path) -> None:
    """A process that opens, watches, scans and looks opens no mess file, and changes nothing below the queue."""
    for msg in range(1, 50):
        queue.message(msg, *((b"#@[]",) if msg % 3 else ()))
    work = (
        "import sys; from qmail_exporter.sources.scan import Tree; from qmail_exporter.sources.inotify import Watcher\n"
        "tree = Tree(sys.argv[1]); watcher = Watcher(tree.path, {a: tree.directories(a) for a in tree.areas})\n"
        "assert sum(len(step.found) for step in tree.scan(lambda _: False)) == 49\n"
        "assert all(tree.look(msg) for msg in range(1, 50)); tree.probe(); tree.intact(); watcher.read()"
    )
    trace = tmp_path / "trace"
    command = [
        "strace",
        "-f",
        "-y",
        "-o",
        str(trace),
        "-e",
        "trace=%file,%desc",
        sys.executable,
        "-c",
        work,
        queue.path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr and done.returncode:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = [line for line in trace.read_text().splitlines() if queue.path in line]
    opens = [line for line in lines if "openat(" in line and f"{queue.path}/mess" in line]
    assert opens
    assert all("O_DIRECTORY" in line for line in opens)
    changes = (
        "O_WRONLY",
        "O_RDWR",
        "O_CREAT",
        "unlink",
        "rename",
        "utime",
        "link",
        "chmod",
        "mkdir",
        "truncate",
    )
    assert not [
        line for line in lines if any(f"{change}" in line for change in changes) and "readlink" not in line
    ]
    assert not [line for line in lines if " write" in line.partition("(")[0]]


# --- no queue, or one that cannot be read


def test_absent(tmp_path: Path) -> None:
    """Without the directory, its mess, or numbered directories in that, there is no queue, and the error says where."""
    for missing in (tmp_path / "queue", tmp_path / "queue/mess"):
        with pytest.raises(Absent) as caught:
            Tree(str(tmp_path / "queue"))
        assert caught.value.filename == str(missing)
        missing.mkdir()
    with pytest.raises(Absent, match="no numbered directories"):
        Tree(str(tmp_path / "queue"))
    (tmp_path / "file").touch()
    with pytest.raises(Absent):
        Tree(str(tmp_path / "file"))


def test_nothing_stays_open(queue: QueueDir) -> None:
    """A tree that was closed, even twice, and a scan that was left in the middle, leave no descriptor open."""
    queue.message(28)
    before = open_descriptors()
    tree = Tree(queue.path)
    steps = tree.scan(lambda _: False)
    next(steps)
    del steps
    tree.close()
    tree.close()
    shutil.rmtree(queue.root / "mess")
    with pytest.raises(Absent):
        Tree(queue.path)
    assert open_descriptors() == before


def test_a_missing_directory_is_broken(queue: QueueDir, opened: Callable[[QueueDir], Tree]) -> None:
    """A numbered directory that is missing makes its area broken; the split does not shrink with it."""
    queue.message(28)
    (queue.root / "mess/7").rmdir()
    shutil.rmtree(queue.root / "bounce")
    tree = opened(queue)
    assert tree.split == 23
    assert tree.broken["mess"].filename == f"{queue.path}/mess/7"
    assert tree.broken["bounce"].filename == f"{queue.path}/bounce"
    assert scanned(tree).keys() == {28}
    (queue.root / "mess/7").mkdir()
    assert tree.probe()
    assert tree.broken.keys() == {"bounce"}


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o744], ids=["closed", "listed only"])
@pytest.mark.parametrize(
    "place", ["mess/5", "info", "info/5", "local/5", "remote", "remote/5", "todo", "bounce"]
)
def test_a_directory_that_cannot_be_read(
    open_to_all: Path, opened: Callable[[QueueDir], Tree], place: str, mode: int
) -> None:
    """It makes its area broken and names the place, leaves the others right, and is found readable afterwards."""
    queue = QueueDir(open_to_all / "q")
    queue.message(28, files={"local": b"Ta\0", "remote": b"Tx@y\0"})
    queue.message(29)
    tree = opened(queue)
    whole = scanned(tree)
    area = place.partition("/")[0]
    (queue.root / place).chmod(mode)
    with as_nobody():
        tree = opened(queue)
        assert tree.broken.keys() == {area}
        assert str(tree.broken[area].filename).startswith(f"{queue.path}/{place}")
        found = scanned(tree)
        assert found == {msg: message for msg in whole if (message := tree.look(msg))}
        assert tree.broken.keys() == {area}
        assert not tree.probe()
        assert tree.broken.keys() == {area}
    (queue.root / place).chmod(0o755)
    for msg, message in found.items():
        if area == "info":
            assert message.birth is None or message == whole[msg]
        assert [file for file in whole[msg].channels if file.channel != area] == [
            file for file in message.channels if file.channel != area
        ]
        assert message.arrival_ns == whole[msg].arrival_ns
    with as_nobody():
        assert tree.probe()
        assert not tree.broken
        assert scanned(tree) == whole


@needs_root
def test_a_queue_of_which_mess_cannot_be_read(open_to_all: Path, opened: Callable[[QueueDir], Tree]) -> None:
    """Without the list of mess there is no split, so the queue is not opened, and the error says why."""
    queue = QueueDir(open_to_all / "q")
    (queue.root / "mess").chmod(0o700)
    with as_nobody(), pytest.raises(PermissionError) as caught:
        opened(queue)
    assert caught.value.filename == f"{queue.path}/mess"


@needs_root
@pytest.mark.parametrize("area", ["remote", "info"])
@pytest.mark.parametrize("cure", ["chmod", "unlink"])
def test_a_file_that_cannot_be_read(
    open_to_all: Path, opened: Callable[[QueueDir], Tree], area: str, cure: str
) -> None:
    """A file makes its area broken until it can be read or has gone; info is read only where its size asks for it."""
    queue = QueueDir(open_to_all / "q")
    queue.message(28, b"#@[]")
    queue.message(29)
    tree = opened(queue)
    queue.file(area, 28).chmod(0o600)
    queue.file("mess", 28).chmod(0o600)
    with as_nobody():
        assert scanned(tree).keys() == {28, 29}
        assert tree.broken[area].filename == str(queue.file(area, 28))
        assert not tree.probe()
    if cure == "chmod":
        queue.file(area, 28).chmod(0o644)
    else:
        queue.file(area, 28).unlink()
    with as_nobody():
        assert tree.probe()
        assert not tree.broken
        assert tree.look(28)
        assert not tree.broken


# --- whether it is still the same


def test_intact(queue: QueueDir, tree: Tree) -> None:
    """A tree stays intact while messages come and go."""
    queue.message(28)
    assert tree.intact()


def replace(path: Path) -> None:
    shutil.copytree(path, f"{path}.new")
    path.rename(f"{path}.old")
    Path(f"{path}.new").rename(path)


@pytest.mark.parametrize("place", ["", "mess", "bounce", "remote"])
@pytest.mark.parametrize("act", [replace, shutil.rmtree])
def test_not_intact(queue: QueueDir, tree: Tree, place: str, act: Callable[[Path], None]) -> None:
    """A queue of which the directory, or one of an area, has been replaced or removed is not intact."""
    act(queue.root / place)
    assert not tree.intact()


def test_replaced_while_it_was_opened(queue: QueueDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that is replaced while it is being opened is not taken for the one that is open."""
    survey = Tree._survey

    def late(tree: Tree) -> None:
        replace(queue.root)
        survey(tree)

    monkeypatch.setattr(Tree, "_survey", late)
    with closing(Tree(queue.path)) as tree:
        assert not tree.intact()


@needs_root
def test_mounted_over(queue: QueueDir, tmp_path: Path) -> None:
    """A mount over the queue or an area of it is seen."""
    QueueDir(tmp_path / "other")
    work = (
        "import subprocess, sys; from qmail_exporter.sources.scan import Tree\n"
        "queue, other = sys.argv[1:]\n"
        "for place in ('/mess', ''):\n"
        "    tree = Tree(queue); assert tree.intact()\n"
        "    if subprocess.run(['mount', '--bind', other + place, queue + place]).returncode: sys.exit(77)\n"
        "    assert not tree.intact()\n"
    )
    command = ["unshare", "-m", sys.executable, "-c", work, queue.path, str(tmp_path / "other")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip("may not mount here")
    assert done.returncode == 0, done.stderr


# --- recordings


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDED.iterdir() if path.is_dir()))
def test_recordings(name: str, tmp_path: Path) -> None:
    """Of a real queue a scan finds the messages that looks find, which are those in the archive."""
    files: dict[tuple[str, int], tuple[bytes, int]] = {}
    with tarfile.open(RECORDED / name / "queue.tar.gz") as archive:
        for member in archive:
            _, area, *_ = f"{member.name}/".split("/")
            if member.isfile() and area not in ("lock", "pid"):
                content = archive.extractfile(member)
                assert content
                files[area, int(member.name.rpartition("/")[2])] = content.read(), int(member.mtime)
    unpack(RECORDED / name / "queue.tar.gz", tmp_path)
    msgs = {msg for area, msg in files if area == "mess"}
    with closing(Tree(str(tmp_path / "queue"))) as tree:
        found = scanned(tree)
        assert found == {msg: tree.look(msg) for msg in msgs}
        assert not tree.broken
    for msg, message in found.items():
        mess, arrival = files["mess", msg]
        assert (message.size, message.arrival_ns // 10**9) == (len(mess), arrival)
        assert message.todo == (("todo", msg) in files)
        assert message.failed == (("bounce", msg) in files)
        if not message.todo:
            info, birth = files["info", msg]
            assert message.birth == birth
            kind = {b"F\0": Sender.BOUNCE, b"F#@[]\0": Sender.DOUBLE}.get(info, Sender.MAIL)
            assert message.sender is kind
            kept = [(area, *files[area, msg]) for area in ("local", "remote") if (area, msg) in files]
            assert [tuple(file) for file in message.channels] == kept
