"""Faults of what the system grants: too few descriptors, inotify watches and instances, too little memory."""

import os
import resource
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

from faults import network
from faults.scene import LATE, Scene
from serving import until

OWN_LIMITS = ("unshare", "--user", "--map-root-user")
"""What runs the exporter in a user namespace, whose limits of inotify are its own."""


def without_descriptors(scene: Scene) -> None:
    """It may open nothing more while mail comes and goes and the log is rotated; then it may again."""
    before = resource.prlimit(scene.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, (_lowest(scene), before[1]))
    told = len(scene.exporter.said("Too many open files"))
    scene.traffic()
    scene.rig.log.rotate()
    scene.traffic()
    until(lambda: len(scene.exporter.said("Too many open files")) > told, LATE)
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, before)


def with_few_descriptors(scene: Scene) -> None:
    """It may open one or two more files than it has, so that connections and looks take them from each other."""
    before = resource.prlimit(scene.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, (_lowest(scene) + 2, before[1]))
    told = len(scene.exporter.said("Too many open files"))
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(network.address(scene), timeout=30))
        until(lambda: _busy(scene, told), LATE)
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, before)


def _busy(scene: Scene, told: int) -> bool:
    """Have mail come, and the log rotated; returns whether the exporter has since said that it can open nothing more."""
    scene.traffic()
    scene.rig.log.rotate()
    return len(scene.exporter.said("Too many open files")) > told


def _lowest(scene: Scene) -> int:
    """The number that the exporter's next descriptor would have."""
    taken = {int(name) for name in os.listdir(f"/proc/{scene.pid}/fd")}
    return min(set(range(len(taken) + 1)) - taken)


def set_limit(scene: Scene, name: str, value: int) -> None:
    """Set a limit of inotify of a scene that has its own ones."""
    command = ["nsenter", "--user", "--preserve-credentials", f"--target={scene.pid}", "sh", "-c"]
    subprocess.run([*command, f"echo {value} >/proc/sys/user/{name}"], check=True)


def without_memory(scene: Scene, most: int) -> None:
    """Its address space may not grow by more than `most` bytes, while a message comes for which that is too little."""
    before = resource.prlimit(scene.pid, resource.RLIMIT_AS)
    told = _told_of_memory(scene)
    size = int(Path(f"/proc/{scene.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(scene.pid, resource.RLIMIT_AS, (size + most, before[1]))
    paths = _large_message(scene)
    until(lambda: _told_of_memory(scene) > told, LATE)
    scene.traffic()
    resource.prlimit(scene.pid, resource.RLIMIT_AS, before)
    until(lambda: _answers(scene), LATE)
    for path in paths:
        path.unlink()


def _told_of_memory(scene: Scene) -> int:
    return len(scene.exporter.said("RLIMIT_AS") + scene.exporter.said("memory"))


def _large_message(scene: Scene) -> list[Path]:
    """Put in a message with very many recipients; returns its files, in the order in which they may go."""
    queue, number = scene.rig.queue, 999_999_999
    name = f"{number % scene.rig.qmail.host.split}/{number}"
    made = {"mess": b"", "info": b"Fa@mail.test\0", "remote": b"Tsomebody@list.example\0" * 2_000_000}
    for area, content in made.items():
        (queue / area / name).write_bytes(content)
    return [queue / area / name for area in ("remote", "info", "mess")]


def _answers(scene: Scene) -> bool:
    return scene.exporter.get("/metrics")[0] == 200


ACTS = (without_descriptors, with_few_descriptors)
