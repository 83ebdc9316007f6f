"""Faults of the queue: its directories go, come back as others, are mounted over, filled up, or are not what they should be."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from ctypes import CDLL, get_errno
from pathlib import Path

import pytest

from faults.scene import LATE, Scene
from serving import until

_CLONE_NEWNS = 0x20000


def removed(scene: Scene) -> None:
    """The whole queue is gone for a while, as if its disk were not mounted."""
    away = scene.rig.home / "away"
    scene.rig.queue.rename(away)
    until(lambda: scene.value("qmail_up") == 0, LATE)
    away.rename(scene.rig.queue)


def part_removed(scene: Scene) -> None:
    """One of the directories is gone for a while: an area, or a numbered one."""
    part = scene.rig.queue / scene.chance.choice(_PARTS)
    away = scene.rig.home / "away"
    part.rename(away)
    until(lambda: scene.value("qmail_up") == 0, LATE)
    away.rename(part)


def restored(scene: Scene) -> None:
    """Qmail stops, the queue is replaced by a backup of it in which every file has another inode, and qmail starts."""
    _replaced(scene, scene.rig.queue)


def part_restored(scene: Scene) -> None:
    """So is one directory of it, while qmail is stopped."""
    _replaced(scene, scene.rig.queue / scene.chance.choice(_PARTS))


def linked(scene: Scene) -> None:
    """A directory is replaced by a link to where it is now, which nobody follows below a queue; then it is put back."""
    part = scene.rig.queue / scene.chance.choice(_PARTS)
    away = scene.rig.home / "away"
    part.rename(away)
    part.symlink_to(away)
    until(lambda: scene.value("qmail_up") == 0, LATE)
    part.unlink()
    away.rename(part)


def reached_by_a_link(scene: Scene) -> None:
    """The queue itself is moved, and a link put in its place, which may be; mail goes on; then it is moved back."""
    away = scene.rig.home / "away"
    scene.rig.queue.rename(away)
    scene.rig.queue.symlink_to(away)
    until(lambda: scene.value("qmail_up") == 1, LATE)
    scene.traffic()
    scene.rig.queue.unlink()
    away.rename(scene.rig.queue)


def replaced_files(scene: Scene) -> None:
    """What no qmail makes: files where directories belong, links, pipes and directories where files belong; all goes again."""
    queue, chance = scene.rig.queue, scene.chance
    made = []
    for area in ("mess/0", "info/1", "remote/2", "todo", "bounce"):
        path = (
            queue
            / area
            / str(chance.randrange(10**9, 10**10) * 3 + int(area[-1:] if area[-1:].isdigit() else 0))
        )
        how = chance.choice((Path.touch, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")))
        how(path)
        made.append(path)
    scene.scraped()
    for path in made:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


_PARTS = ("mess", "info", "remote", "local", "todo", "bounce", "mess/1", "info/0", "remote/2", "local/1")


def _replaced(scene: Scene, part: Path) -> None:
    qmail, backup = scene.rig.qmail, scene.rig.home / "backup"
    # Or a file that is being written would be cut off for good, a message that no qmail-send will ever try.
    qmail.stop()
    qmail.run_until(scene.rig.clock.now + 60)
    assert not qmail.running
    subprocess.run(["cp", "-a", str(part), str(backup)], check=True)
    shutil.rmtree(part)
    scene.scraped()
    backup.rename(part)
    qmail.start()


def orphans(scene: Scene, count: int) -> list[Path]:
    """Put in messages that nobody will ever deliver, as a qmail-queue that was killed leaves them; returns their paths."""
    split = scene.rig.qmail.host.split
    old = scene.rig.clock.now - 40 * 3600
    paths = []
    for number in range(10**8, 10**8 + count):
        path = scene.rig.queue / "mess" / str(number % split) / str(number)
        made = scene.rig.home / str(number)  # and moved, as the time of writing is looked at but once
        made.touch()
        os.utime(made, (old, old))
        made.rename(path)
        paths.append(path)
    return paths


def with_own_mounts(work: Callable[[], None]) -> None:
    """Do some work where mounts are seen by nobody else, neither while it is done nor after; skip where that cannot be.

    A thread can have a mount namespace of its own, which it leaves to the processes that it starts.
    """
    raised: list[BaseException] = []

    def apart() -> None:
        try:
            if CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
                pytest.skip(f"no mount namespace to be had: {os.strerror(get_errno())}")
            mount("--make-rprivate", "/")
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            raised.append(error)

    thread = threading.Thread(target=apart)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def mount(*arguments: str | Path) -> None:
    """Mount something; the arguments are those of the command."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


ACTS = (removed, part_removed, restored, part_restored, linked, reached_by_a_link, replaced_files)
