import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter import actions
from qmail_exporter.actions import ActionError, NoMessageError, Spool, owner
from qmail_exporter.demo.qmail import run
from stage import Simulated, simulation, standing_in

OLD = 1_000_000_000.0


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Simulated]:
    with simulation(tmp_path / "home") as made:
        yield made


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Simulated]:
    """A queue without a qmail-send, for a stand-in to take."""
    with simulation(tmp_path / "home", start=False) as made:
        yield made


@pytest.fixture
def spool(simulated: Simulated) -> Spool:
    return Spool(str(simulated.queue))


def times(directory: Path) -> dict[str, tuple[int, int]]:
    """The mtime and inode of all that is below a directory, links not followed."""
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in directory.rglob("*")}


# --- messages


def test_a_message_is_read_as_it_is(simulated: Simulated, spool: Spool) -> None:
    """Sender and birth of a message are what its `info` file says."""
    msg = simulated.send(b"defer@example.org", sender=b"s p\xff@mail.test")
    os.utime(simulated.info(msg), (OLD, OLD))
    letter = spool.read(msg)
    assert (letter.msg, letter.sender, letter.birth) == (msg, b"s p\xff@mail.test", OLD)
    assert list(spool.messages()) == [msg]


def test_set_birth_touches_only_that_file(simulated: Simulated, spool: Spool) -> None:
    """The mtime of the message's `info` is set, and of no other file."""
    msg, other = (simulated.send(b"defer@example.org") for _ in range(2))
    before = times(simulated.home)
    spool.set_birth(spool.read(msg), OLD)
    after = times(simulated.home)
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {str(simulated.info(msg))}
    assert spool.read(msg).birth == OLD
    assert spool.read(other).birth != OLD


def test_no_such_message(simulated: Simulated, spool: Spool) -> None:
    """A number that no message has is said to be that."""
    msg = simulated.send(b"defer@example.org")
    with pytest.raises(NoMessageError, match="no such message"):
        spool.read(msg + 1)


def test_a_message_that_is_not_preprocessed_has_no_age(simulated: Simulated, spool: Spool) -> None:
    """While a `todo` exists the message is refused, with an `info` or without."""
    msg = run(simulated.qmail.inject(b"a@mail.test", [b"defer@example.org"]))
    with pytest.raises(ActionError, match="preprocessed") as raised:
        spool.read(msg)
    assert not isinstance(raised.value, NoMessageError)
    simulated.info(msg).write_bytes(b"Fa@mail.test\0")
    with pytest.raises(ActionError, match="preprocessed"):
        spool.read(msg)


def test_todo_of_the_big_todo_patch(simulated: Simulated, spool: Spool) -> None:
    """A `todo` in a numbered directory counts as well."""
    msg = simulated.send(b"defer@example.org")
    directory = simulated.queue / "todo" / str(msg % 23)
    directory.mkdir()
    (directory / str(msg)).touch()
    with pytest.raises(ActionError, match="preprocessed"):
        spool.read(msg)


def test_a_small_numbers_todo_is_no_directory(simulated: Simulated, spool: Spool) -> None:
    """A message in `todo` whose number is that of a directory elsewhere does not disturb the others."""
    msg = simulated.send(b"defer@example.org")
    (simulated.queue / "todo" / str(msg % 23)).touch()
    assert spool.read(msg).msg == msg


def test_a_message_that_ended_meanwhile(simulated: Simulated, spool: Spool) -> None:
    """A message that has ended since it was read is not there."""
    msg = simulated.send(b"defer@example.org")
    letter = spool.read(msg)
    for kind in ("remote", "info", "mess"):
        simulated.qmail.path(kind, msg).unlink()
    before = times(simulated.home)
    with pytest.raises(NoMessageError):
        spool.set_birth(letter, OLD)
    assert times(simulated.home) == before


def test_a_number_that_was_used_again(simulated: Simulated, spool: Spool) -> None:
    """If another message has got the number since, it keeps its age."""
    msg = simulated.send(b"defer@example.org")
    letter = spool.read(msg)
    for kind in ("info", "mess"):
        path = simulated.qmail.path(kind, msg)
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    before = times(simulated.home)
    with pytest.raises(NoMessageError, match="another message"):
        spool.set_birth(letter, OLD)
    assert times(simulated.home) == before


def test_a_message_that_ends_at_the_last_moment(
    simulated: Simulated, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the number is given to another between check and change, the change goes to the file that is no more."""
    msg = simulated.send(b"defer@example.org")
    letter, info = spool.read(msg), simulated.info(msg)
    utime = os.utime

    def late(file: int, when: tuple[float, float]) -> None:
        info.unlink()
        info.write_bytes(b"Fother@mail.test\0")
        utime(info, (5.0, 5.0))
        utime(file, when)

    monkeypatch.setattr(os, "utime", late)
    with pytest.raises(NoMessageError, match="ended meanwhile"):
        spool.set_birth(letter, OLD)
    assert info.stat().st_mtime == 5.0


@pytest.mark.parametrize(
    "kind", ["link", "dangling", "directory", "fifo", "hardlink", "empty", "garbage", "socket"]
)
def test_what_is_no_info_file(simulated: Simulated, spool: Spool, tmp_path: Path, kind: str) -> None:
    """In place of `info`, whatever qmail does not put there is refused, and nothing is touched."""
    msg = simulated.send(b"defer@example.org")
    info, outside = simulated.info(msg), tmp_path / "outside"
    outside.write_bytes(b"Fa@mail.test\0")
    info.unlink()
    if kind == "link":
        info.symlink_to(outside)
    elif kind == "dangling":
        info.symlink_to(tmp_path / "nothing")
    elif kind == "directory":
        info.mkdir()
    elif kind == "fifo":
        os.mkfifo(info)
    elif kind == "hardlink":
        info.hardlink_to(outside)
    elif kind == "socket":
        os.mknod(info, 0o140600)
    else:
        info.write_bytes(b"" if kind == "empty" else b"\x1b[2J")
    before = times(tmp_path)
    with pytest.raises(ActionError):
        spool.read(msg)
    assert times(tmp_path) == before
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("place", ["info", "mess", "todo", "info/N", "mess/N"])
def test_a_linked_directory_is_not_entered(
    simulated: Simulated, spool: Spool, tmp_path: Path, place: str
) -> None:
    """A symbolic link in place of a directory of the queue is refused."""
    msg = simulated.send(b"defer@example.org")
    directory = simulated.queue / place.replace("N", str(msg % 23))
    directory.rename(tmp_path / "moved")
    directory.symlink_to(tmp_path / "moved")
    before = times(tmp_path)
    with pytest.raises((ActionError, NotADirectoryError)):
        spool.read(msg)
    assert times(tmp_path) == before


def test_hostile_names_are_no_messages(simulated: Simulated, spool: Spool) -> None:
    """Only numbers as qmail writes them, in the directory that is theirs, are messages."""
    msg = simulated.send(b"defer@example.org")
    home = simulated.info(msg).parent
    number = int(home.name)
    for name in (
        "x",
        "0",
        f"0{msg}",
        f"+{msg}",
        f"{msg}\n",
        "\x1b]0;x\a",
        "9" * 200,
        str(23 * 10**30 + number),
        str(msg + 1),
    ):
        (home / name).write_bytes(b"Fa@mail.test\0")
    os.close(os.open(os.fsencode(home) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    assert list(spool.messages()) == [msg]


def test_a_directory_that_cannot_be_read_is_told(simulated: Simulated, spool: Spool, tmp_path: Path) -> None:
    """The other directories' messages are found all the same."""
    msg = simulated.send(b"defer@example.org")
    broken = simulated.queue / "info" / str((msg + 1) % 23)
    broken.rename(tmp_path / "moved")
    broken.symlink_to(tmp_path / "moved")
    assert list(spool.messages()) == [msg]
    assert [error.filename for error in spool.broken] == [str(broken)]


@given(msg=st.integers(min_value=1))
def test_any_number_may_be_asked_for(msg: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """However large the number, the answer is that there is no such message."""
    queue = tmp_path_factory.getbasetemp() / "numbers"
    for area in ("mess/0", "info/0", "todo"):
        (queue / area).mkdir(parents=True, exist_ok=True)
    spool = Spool(str(queue))
    if msg < 10**255:
        with pytest.raises(NoMessageError):
            spool.read(msg)
    else:
        with pytest.raises(OSError, match="too long"):
            spool.read(msg)


def test_what_is_no_queue(tmp_path: Path) -> None:
    """A directory without numbered directories in `mess` is no queue."""
    with pytest.raises(FileNotFoundError):
        Spool(str(tmp_path))
    (tmp_path / "mess").mkdir()
    with pytest.raises(OSError, match="no numbered directories"):
        Spool(str(tmp_path))


# --- the owner


def test_the_owner_is_who_holds_the_lock(stopped: Simulated, tmp_path: Path) -> None:
    """Of two processes called qmail-send in the same directory, it is the one with the lock."""
    with (
        standing_in(tmp_path, stopped.queue, "unlocked"),
        standing_in(tmp_path, stopped.queue) as send,
    ):
        assert owner.find(str(stopped.queue)) == send.pid


def test_a_lock_of_another_program_is_no_owner(stopped: Simulated, tmp_path: Path) -> None:
    """Who holds the lock and is no qmail-send is not signalled."""
    with standing_in(tmp_path, stopped.queue, name="backup"), pytest.raises(owner.NotRunningError):
        actions.redeliver(str(stopped.queue))


def test_without_locks_the_directory_tells(
    stopped: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /proc/locks does not tell, it is the qmail-send that works in the queue's directory."""
    monkeypatch.setattr(owner, "_by_lock", lambda *_: set())
    (tmp_path / "elsewhere/lock").mkdir(parents=True)
    with (
        standing_in(tmp_path, tmp_path / "elsewhere"),
        standing_in(tmp_path, stopped.queue, "unlocked") as send,
    ):
        assert actions.redeliver(str(stopped.queue)) == send.pid
        assert send.line() == b"alarm\n"


def test_two_owners_are_none(stopped: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it cannot be told which of two it is, none is signalled."""
    monkeypatch.setattr(owner, "_by_lock", lambda *_: set())
    with (
        standing_in(tmp_path, stopped.queue, "unlocked") as first,
        standing_in(tmp_path, stopped.queue, "unlocked") as second,
    ):
        with pytest.raises(owner.UncertainError, match="several"):
            actions.redeliver(str(stopped.queue))
        assert (first.end(), second.end()) == (b"", b"")


def test_an_owner_without_a_handler_is_not_killed(stopped: Simulated, tmp_path: Path) -> None:
    """A process that SIGALRM would end is left alone."""
    with standing_in(tmp_path, stopped.queue, "deaf") as send:
        with pytest.raises(owner.UncertainError, match="does not handle"):
            actions.redeliver(str(stopped.queue))
        assert send.process.poll() is None


def test_an_owner_that_was_replaced_is_not_signalled(
    stopped: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the owner is another once the process is held, nothing is signalled."""
    with standing_in(tmp_path, stopped.queue) as send:
        answers = iter((os.getpid(), send.pid))
        monkeypatch.setattr(owner, "find", lambda _: next(answers))
        with pytest.raises(owner.UncertainError, match="replaced"):
            actions.redeliver(str(stopped.queue))
        assert send.end() == b""


def test_an_owner_that_has_ended_is_not_signalled(stopped: Simulated, tmp_path: Path) -> None:
    """What ends while it is held is said to have ended; its number is never signalled."""
    with standing_in(tmp_path, stopped.queue) as send, owner.holding(str(stopped.queue)) as (pid, pidfd):
        assert pidfd is not None
        send.end()
        with pytest.raises(owner.NotRunningError, match="has ended"):
            owner.send_alarm(pid, pidfd)


def test_without_pidfds(stopped: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel without pidfds the signal goes to the number."""

    def missing(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    with standing_in(tmp_path, stopped.queue) as send:
        assert actions.redeliver(str(stopped.queue)) == send.pid
        assert send.line() == b"alarm\n"


def test_a_lock_of_the_same_inode_elsewhere(
    stopped: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on another file system's file with the same inode number is another lock."""
    with standing_in(tmp_path, stopped.queue) as send:
        monkeypatch.setattr(owner, "_devices", lambda *_: {b"ff:ff"})
        monkeypatch.setattr(owner, "_by_directory", lambda _: set())
        with pytest.raises(owner.NotRunningError):
            owner.find(str(stopped.queue))
        assert send.end() == b""


def test_a_signal_that_may_not_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """That this user may not signal qmail-send is said in words."""

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(owner, "signal", SimpleNamespace(SIGALRM=signal.SIGALRM, pidfd_send_signal=refuse))
    with pytest.raises(PermissionError, match="may not signal qmail-send, process 7"):
        owner.send_alarm(7, 3)
