"""The queue's directories go and come, as the same or as others; its disk is full, read-only, or mounted over."""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from faults import queue
from faults.queue import mount, with_own_mounts
from faults.scene import LATE, Scene
from serving import until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("act", queue.ACTS, ids=lambda act: act.__name__)
def test_what_becomes_of_directories(scene: Scene, act: Callable[[Scene], None]) -> None:
    """Whatever becomes of the queue's directories: what is not there is not known, and what is there in the end is."""
    for _ in range(2):
        act(scene)
        scene.check()
        scene.traffic()
    scene.check()


def test_a_hundred_thousand_orphans(scene: Scene) -> None:
    """They come at once, are counted, one scrape after the other is answered meanwhile, and they go at once."""
    paths = queue.orphans(scene, 100_000)
    until(lambda: scene.value("qmail_queue_orphan_messages") == 100_000, 60)
    scene.check(ledger=False)
    for path in paths:
        path.unlink()
    until(lambda: scene.value("qmail_queue_orphan_messages") == 0, 60)
    scene.check()


def in_a_mount(work: Callable[[Scene, Path], None], *options: str) -> None:
    """Do some work with a scene that lies on a tmpfs of its own."""

    def apart() -> None:
        with tempfile.TemporaryDirectory() as directory:
            mount("-t", "tmpfs", *options, "tmpfs", directory)
            try:
                with Scene(Path(directory) / "qmail") as scene:
                    work(scene, Path(directory))
            finally:
                subprocess.run(["umount", "--lazy", directory], check=True)

    with_own_mounts(apart)


def test_mounted_over_and_away_again() -> None:
    """What is mounted over the queue is the queue, be it nothing, an empty one or a copy; what was below is when it is gone."""

    def work(scene: Scene, place: Path) -> None:
        backup, path = place / "backup", scene.rig.queue
        subprocess.run(["cp", "-a", str(path), str(backup)], check=True)
        mount("-t", "tmpfs", "tmpfs", path)
        until(lambda: scene.value("qmail_up") == 0 and scene.value("qmail_queue_messages") is None, LATE)
        subprocess.run(["cp", "-a", f"{backup}/.", str(path)], check=True)
        scene.check()
        subprocess.run(["umount", "--lazy", str(path)], check=True)
        scene.check()
        scene.traffic()
        scene.check()

    in_a_mount(work)


def test_unmounted_and_mounted_again() -> None:
    """A queue that is mounted where it is is not known while it is not, and is what it was when it is again."""

    def work(scene: Scene, place: Path) -> None:
        path, away, elsewhere = scene.rig.queue, place / "away", place / "elsewhere"
        path.rename(away)
        path.mkdir()
        elsewhere.mkdir()
        mount("--bind", away, path)
        scene.check()
        for _ in range(2):
            mount("--move", path, elsewhere)
            until(lambda: scene.value("qmail_up") == 0 and scene.value("qmail_queue_messages") is None, LATE)
            mount("--move", elsewhere, path)
            scene.traffic()
            scene.check()
        subprocess.run(["umount", "--lazy", str(path)], check=True)

    in_a_mount(work)


def test_read_only() -> None:
    """A file system that became read-only, as after an error of the disk, is read on; so it is when it may be written again."""

    def work(scene: Scene, _place: Path) -> None:
        mount("--bind", scene.rig.queue, scene.rig.queue)
        mount("-o", "remount,bind,ro", scene.rig.queue)
        for _ in range(3):
            scene.check()
        with pytest.raises(OSError, match="Read-only"):
            scene.rig.send(b"ok@x.example")
        mount("-o", "remount,bind,rw", scene.rig.queue)
        scene.traffic()
        scene.check(ledger=False)

    in_a_mount(work)


def test_a_full_disk() -> None:
    """On a full disk qmail can queue nothing more; the exporter needs no room, and shows what little there is."""

    def work(scene: Scene, place: Path) -> None:
        filler = place / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(16 << 20))
        assert scene.value("qmail_queue_filesystem_free_bytes") == 0
        with pytest.raises(OSError, match="No space left"):
            scene.rig.send(b"ok@x.example", body=b"x" * 100_000)
        scene.check(ledger=False)
        filler.unlink()
        scene.traffic()
        scene.check(ledger=False)

    in_a_mount(work, "-o", "size=8m")
