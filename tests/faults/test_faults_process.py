"""The exporter's process is stopped, killed, signalled, and one of several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults import process
from faults.scene import Scene, uncounted
from rig import family, shown
from serving import ROOT, Exporter, until, until_equal

pytestmark = pytest.mark.slow

MOST = 25
"""Steps of a scan that are tried: while it waits for its children an exporter's own have no end."""


def test_writes_are_told_of(tmp_path: Path) -> None:
    """The exporter of these tests says of each file that is opened for writing, made, changed or removed, and of no other."""
    path = tmp_path / "file"
    script = "import os, sys; from faults import served; sys.addaudithook(served._watch_writes); path = sys.argv[1]; "
    script += "open(path, 'w').close(); os.utime(path); os.truncate(path, 0); open(path).close(); open(os.devnull, 'w'); os.remove(path)"
    argv = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(
        argv, cwd=ROOT / "tests", env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    told = [
        line for line in done.stderr.decode().splitlines() if "faults: wrote" in line and str(path) in line
    ]
    assert [line.split("'")[1] for line in told] == ["open", "os.utime", "os.truncate", "os.remove"]


def test_stopped_and_continued(scene: Scene) -> None:
    """However often it is stopped and goes on, it is exact again, and has lost nothing that the log said meanwhile."""
    behind = uncounted(scene)
    for _ in range(4):
        process.stopped(scene)
        scene.check()
    until_equal(lambda: uncounted(scene), lambda: behind)


def test_overrun_again_and_again(scene: Scene) -> None:
    """Each overflow of the kernel's queue of events is one rescan, after which nothing is missing, and no audit finds a drift."""
    for _ in range(5):
        process.overrun(scene)
        scene.check()
    assert family(scene.scraped(), "qmail_exporter_rescans_total")["overflow",] == 5
    assert scene.value("qmail_exporter_rescan_drift_messages_total") == 0


def test_overrun_while_it_rescans(scene: Scene) -> None:
    """Events that are lost while it makes up for lost ones are made up for by one more rescan after that."""
    process.overrun_in_a_rescan(scene)
    until(lambda: scene.value("qmail_exporter_event_overflows_total") == 2)
    scene.check()
    assert family(scene.scraped(), "qmail_exporter_rescans_total")["overflow",] == 2


def test_killed(scene: Scene) -> None:
    """Killed and started again it is as one that never was; nothing that it held is left."""
    for _ in range(3):
        process.killed(scene)
        scene.check()


def test_signals_that_do_not_end_it(scene: Scene) -> None:
    """SIGHUP and SIGPIPE change nothing."""
    process.signalled(scene)
    scene.check()


def test_several_exporters(scene: Scene) -> None:
    """Two beside the first, one of which is killed in the middle of things: each shows the same, and none minds the others."""
    second, third = scene.start(), scene.start(ready=False)
    scene.traffic()
    third.process.kill()
    for _ in range(3):
        scene.traffic()
        scene.rig.log.rotate()
        assert shown(second.series()) == shown(scene.scraped())
    scene.check()
    assert second.stop() == 0
    scene.check()


def test_a_second_one_at_the_same_address(scene: Scene) -> None:
    """It ends with one line that names the address, and the first one goes on."""
    address = scene.exporter.urls[0].removeprefix("http://")
    with Exporter(f"--qmail.home={scene.rig.home}", addresses=[address]) as second:
        assert second.process.wait(30) == 1
        until(lambda: second.log)
        assert [line for line in second.log if "level=" not in line] == [
            f"qmail-exporter: cannot listen on {address}: Address already in use"
        ]
    scene.check()


@pytest.mark.parametrize("how", ["killed", "continued"])
@pytest.mark.parametrize("who", ["child", "self"])
def test_at_every_step_of_a_scan(scene: Scene, who: str, how: str) -> None:
    """Whoever is stopped or killed at whatever step of a scan: in the end the scan is whole, and no process is left over."""
    step = 0
    while process.interrupted(scene, who, step, how) and step < MOST:
        scene.check()
        step += 1
    assert step >= 5
