"""Faults of the exporter's process: it is stopped, killed, signalled, or one of many."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from faults.scene import LATE, Scene, children
from serving import Exporter, until


def stopped(scene: Scene) -> None:
    """It is stopped while mail comes, is tried and leaves, and the log is rotated; then it goes on."""
    scene.signal(signal.SIGSTOP)
    scene.traffic()
    scene.rig.log.rotate()
    scene.traffic()
    scene.signal(signal.SIGCONT)


def overrun(scene: Scene) -> None:
    """It is stopped for more events than the kernel holds."""
    until(lambda: scene.value("qmail_up") == 1, LATE)  # or there may be no watches for them
    overflows = scene.value("qmail_exporter_event_overflows_total") or 0
    scene.signal(signal.SIGSTOP)
    flood(scene)
    scene.traffic()
    scene.signal(signal.SIGCONT)
    until(lambda: (scene.value("qmail_exporter_event_overflows_total") or 0) > overflows, LATE)


def flood(scene: Scene) -> None:
    """Make as many events as the kernel holds, by files that are no messages."""
    directory = os.open(scene.rig.queue / "mess" / "0", os.O_RDONLY)
    try:
        for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) // 2 + 1):
            name = f"x{number & 1}"
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=directory))
            os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)


def killed(scene: Scene) -> None:
    """It is killed, mail goes on, and it is started again."""
    scene.traffic()
    scene.exporter.process.kill()
    scene.exporter.process.wait()
    scene.traffic()
    scene.exporter = scene.start()


def signalled(scene: Scene) -> None:
    """It gets the signals that end those who do not expect them."""
    before = len(scene.exporter.said("nothing to reload"))
    scene.signal(signal.SIGPIPE)
    scene.traffic()
    scene.signal(signal.SIGHUP)
    until(lambda: len(scene.exporter.said("nothing to reload")) > before, LATE)


def overrun_in_a_rescan(scene: Scene) -> None:
    """It is started anew; events are lost, and while it looks everywhere for that, stopped, more are."""
    scene.exporter.process.kill()
    scene.exporter.process.wait()
    scene.exporter = exporter = scene.start(FAULTS_STOP="self:1:2")
    scene.signal(signal.SIGSTOP)
    flood(scene)
    scene.signal(signal.SIGCONT)
    until(lambda: _stopped(exporter, "self"), LATE)
    scene.traffic()
    flood(scene)
    scene.signal(signal.SIGCONT)


def interrupted(scene: Scene, who: str, step: int, how: str) -> bool:
    """It is started anew, and stops at a step of its first scan, in a scanning `child` or it`self`; then that is `killed` or goes on.

    A child that is killed is made up for by the exporter; an exporter that is killed leaves no child behind, and is started again.
    Returns whether there was such a step.
    """
    scene.exporter.process.kill()
    scene.exporter.process.wait()
    scene.exporter = exporter = scene.start(ready=False, FAULTS_STOP=f"{who}:{step}")
    until(lambda: exporter.urls, LATE)
    until(lambda: _stopped(exporter, who) or _done(exporter), LATE)
    stops = bool(_stopped(exporter, who))
    scene.traffic()
    if who == "self" and how == "killed" and not _done(exporter):
        orphans = scene.children()
        exporter.process.kill()
        exporter.process.wait()
        until(lambda: all(_state(pid) in "ZX" for pid in orphans), LATE)
        scene.exporter = scene.start()
        return stops
    number = signal.SIGKILL if how == "killed" else signal.SIGCONT

    def let_go() -> bool:  # where one child has stopped the other may, a little later
        for pid in _stopped(exporter, who):
            with suppress(
                ProcessLookupError
            ):  # the exporter ends those that are left, once one has been killed
                os.kill(pid, number)
        return _done(exporter)

    until(let_go, LATE)
    until(exporter.ready, LATE)
    return stops


def _done(exporter: Exporter) -> bool:
    """Whether it has come to the end of its first scan, as its log says: who is stopped does not answer."""
    return bool(exporter.said("scan finished"))


def _stopped(exporter: Exporter, who: str) -> list[int]:
    """Return the processes that are stopped: the exporter itself, or its children."""
    pid = exporter.process.pid
    pids = [pid] if who == "self" else children(pid)
    return [pid for pid in pids if _state(pid) == "T"]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


ACTS = (stopped, overrun, killed, signalled)
