"""Faults of what the system grants: too few descriptors, inotify watches and instances, too little memory."""

import os
import resource
from pathlib import Path

from faults.scene import LATE, Scene
from serving import until

OWN_USER = ("unshare", "--user", "--map-root-user", "--mount-proc=/proc", "--mount")
"""A user namespace, whose limits of inotify are its own, and fall back to what they were with it."""


def without_descriptors(scene: Scene) -> None:
    """It may open nothing more while mail comes and goes and the log is rotated; then it may again."""
    before = resource.prlimit(scene.pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{scene.pid}/fd"))
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    told = len(scene.exporter.said("Too many open files"))
    scene.traffic()
    scene.rig.log.rotate()
    scene.traffic()
    until(lambda: len(scene.exporter.said("Too many open files")) > told, LATE)
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, before)


def with_few_descriptors(scene: Scene) -> None:
    """It may open one or two more files than it has, so that connections and looks take them from each other."""
    before = resource.prlimit(scene.pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{scene.pid}/fd"))
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, (highest + 2, before[1]))
    for _ in range(5):
        scene.traffic()
        scene.rig.log.rotate()
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, before)


def set_limit(scene: Scene, name: str, value: int) -> int:
    """Set a limit of inotify in the exporter's own user namespace; returns what it was."""
    path = Path(f"/proc/{scene.pid}/root/proc/sys/user/{name}")
    before = int(path.read_text())
    path.write_text(f"{value}\n")
    return before


ACTS = (without_descriptors, with_few_descriptors)
