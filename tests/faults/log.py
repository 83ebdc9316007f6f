"""Faults of the log: it is rotated, cut off, deleted, replaced, flooded, stamped by a clock that steps; its journal ends."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from faults.scene import LATE, Scene
from qmail_exporter.demo.multilog import tai64n
from serving import until


def rotated(scene: Scene) -> None:
    """It is rotated between any two lines, and several times between two looks."""
    for _ in range(6):
        scene.traffic(5)
        for _ in range(scene.chance.randrange(3)):
            scene.rig.log.rotate()


def truncated(scene: Scene) -> None:
    """What is in it is cut off, by who wants room."""
    scene.scraped()
    os.truncate(_current(scene), 0)
    scene.traffic()
    scene.retell()


def deleted(scene: Scene) -> None:
    """It is deleted while it is written to, which goes on in a file without a name until the logger makes a new one."""
    _current(scene).unlink()
    scene.traffic()
    scene.scraped()
    _reopen(scene)
    scene.retell()


def replaced(scene: Scene) -> None:
    """A directory is in its place, until somebody finds out."""
    _current(scene).rename(scene.rig.home / "away")
    _current(scene).mkdir()
    until(lambda: scene.value("qmail_exporter_source_up", source="log") == 0, LATE)
    _current(scene).rmdir()
    (scene.rig.home / "away").rename(_current(scene))
    scene.traffic()


def moved(scene: Scene) -> None:
    """Its whole directory is moved, and is back some time later."""
    away = scene.rig.home / "away"
    (scene.rig.home / "log").rename(away)
    scene.traffic()
    scene.scraped()
    away.rename(scene.rig.home / "log")


def lost(scene: Scene) -> None:
    """Its whole directory is deleted, and made anew by the logger's next start."""
    shutil.rmtree(scene.rig.home / "log")
    scene.scraped()
    (scene.rig.home / "log").mkdir()
    _reopen(scene)
    scene.retell()


def flooded(scene: Scene, size: int = 3_000_000) -> None:
    """It grows by so many bytes at once."""
    report = b"192.0.2.1_accepted_message./Remote_host_said:_250_" + b"x" * 500 + b"/"
    line = tai64n(scene.rig.clock.now) + b" delivery 1000000: success: " + report + b"\n"
    with _current(scene).open("ab") as file:
        for _ in range(size // len(line) // 1000):
            file.write(line * 1000)


def without_end(scene: Scene, size: int = 10_000_000) -> None:
    """Somebody writes a line of ten million bytes, whose end comes later."""
    lost_lines = _lost(scene)
    with _current(scene).open("ab", buffering=0) as file:
        file.write(b"x" * size)
        scene.scraped()
        file.write(b"y" * 10 + b"\n")
    until(lambda: _lost(scene) == lost_lines + 1, LATE)


def noise(scene: Scene) -> None:
    """What stands in it is no log: any bytes, escape sequences, half lines."""
    with _current(scene).open("ab", buffering=0) as file:
        for _ in range(20):
            file.write(scene.chance.randbytes(scene.chance.randrange(2000)))
            file.write(tai64n(scene.rig.clock.now) + b" \x1b]0;delivery 1: \xff\0\n")
        file.write(b"\n")


def clock_stepped(scene: Scene) -> None:
    """The logger's clock steps back and forward, by seconds and by days, and the log is rotated at each time; then it is right."""
    log, clock, chance = scene.rig.log, scene.rig.clock, scene.chance
    for step in (-3, -86400, 300, -86400 * 400, 3):
        log._named = ""  # a finished file's name is from the clock as well
        for _ in range(chance.randrange(1, 4)):
            off = step + chance.random()
            log._clock = lambda off=off: clock.now + off  # type: ignore[misc]
            scene.traffic(10)
            scene.scraped()
            log.rotate()
    # Of what has names from the future nobody can tell when it was written: it is left behind.
    clock.now += 400
    log._clock = clock
    log.rotate()
    scene.retell()


def _current(scene: Scene) -> Path:
    return scene.rig.home / "log" / "current"


def _reopen(scene: Scene) -> None:
    with suppress(OSError):
        os.close(scene.rig.log._file)
    scene.rig.log._open()


def _lost(scene: Scene) -> float:
    return scene.value("qmail_exporter_source_errors_total", source="log", kind="long_line") or 0.0


ACTS = (rotated, truncated, deleted, replaced, moved, lost, flooded, without_end, noise, clock_stepped)
