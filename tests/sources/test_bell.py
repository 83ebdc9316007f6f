"""What tells that something has happened to a path."""

import errno
import os
import select
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NoReturn

import pytest

from qmail_exporter.sources import bell
from qmail_exporter.sources.bell import Belfry
from soak.held import open_descriptors


def append(log: Path) -> None:
    with (log / "current").open("ab") as file:
        file.write(b"x")


def truncate(log: Path) -> None:
    os.truncate(log / "current", 0)


def rotate(log: Path) -> None:
    os.rename(log / "current", log / "previous")


def remove(log: Path) -> None:
    (log / "current").unlink()


def replace(log: Path) -> None:
    (log / "new").write_bytes(b"x")
    os.rename(log / "new", log / "current")


def move(log: Path) -> None:
    os.rename(log, log.with_name("elsewhere"))


def rung(fd: int) -> bool:
    """Whether a bell has rung: inotify has queued an event by the time that the call which caused it returns."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


ACTS = (append, truncate, rotate, remove, replace)


# To move the directory above a file leaves the file as it was.
@pytest.mark.parametrize(("name", "act"), [("", move), *product(("", "current"), ACTS)])
def test_rings_whatever_happens(name: str, act: Callable[[Path], None], tmp_path: Path) -> None:
    """Of a directory as of a file, whatever makes a follower find something else than before is told of, and goes on to be."""
    log = tmp_path / "log"
    log.mkdir()
    (log / "current").write_bytes(b"before")
    with (log / "current").open("rb"):  # as the follower has it
        belfry = Belfry()
        made = belfry.hang(str(log / name))
        assert made is not None
        assert not rung(made.fd)
        act(log)
        assert rung(made.fd)
        assert rung(made.fd)
        made.close()
        assert not rung(made.fd)
        belfry.close()
        made.close()


def test_a_bell_that_was_closed_is_silent(tmp_path: Path) -> None:
    """What happens after a bell was closed is not told of, also by the next one of its belfry; then that rings."""
    log = tmp_path / "log"
    log.touch()
    belfry = Belfry()
    for _ in range(3):
        made = belfry.hang(str(log))
        assert made is not None
        log.write_bytes(b"x")
        assert rung(made.fd)
        made.close()
        log.write_bytes(b"y")
        assert not rung(made.fd)
    belfry.close()


def test_nothing_to_hang_it_on(tmp_path: Path) -> None:
    """A path that is not there has no bell, and no descriptor is left behind."""
    before = open_descriptors()
    belfry = Belfry()
    assert belfry.hang(str(tmp_path / "none")) is None
    belfry.close()
    belfry.close()
    assert open_descriptors() == before


def test_no_instance_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel gives no inotify instance there is no bell."""

    def refuse() -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(bell, "Manager", refuse)
    assert Belfry().hang(str(tmp_path)) is None
