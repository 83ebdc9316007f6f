"""What the system grants runs out: descriptors, inotify watches and instances, memory."""

import subprocess
from collections.abc import Callable

import pytest

from faults import limits, queue
from faults.scene import LATE, Scene
from serving import until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("act", limits.ACTS, ids=lambda act: act.__name__)
def test_descriptors_run_out(scene: Scene, act: Callable[[Scene], None]) -> None:
    """Without a descriptor to be had it goes on, says which limit is to be raised, and has lost nothing when there are some."""
    for _ in range(3):
        act(scene)
        scene.check()
    if act is limits.without_descriptors:
        assert scene.exporter.said("RLIMIT_NOFILE")


@pytest.fixture
def limited(play: Callable[..., Scene]) -> Scene:
    """A scene whose exporter has limits of inotify of its own."""
    if subprocess.run([*limits.OWN_LIMITS, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespace to be had")
    return play(before=limits.OWN_LIMITS)


@pytest.mark.parametrize("name", ["max_inotify_watches", "max_inotify_instances"])
def test_inotify_runs_out(limited: Scene, name: str) -> None:
    """Without watches to be had for a queue that is new it says which sysctl is to be raised, and looks everywhere until it is."""
    limits.set_limit(limited, name, 1)
    if name == "max_inotify_instances":
        limits.set_limit(limited, name, 0)
    queue.restored(limited)
    until(lambda: limited.exporter.said(name.replace("inotify", "user")), LATE)
    limited.traffic()
    assert limited.value("qmail_up") == 0
    assert limited.value("qmail_exporter_source_up", source="inotify") == 0
    limits.set_limit(limited, name, 100_000)
    limited.check()
    limited.traffic()
    limited.check()


@pytest.mark.parametrize("most", [1 << 20, 30 << 20])
def test_memory_runs_out(scene: Scene, most: int) -> None:
    """When its memory is at its limit it goes on without what there is no room for, says so, and is whole again when there is."""
    limits.without_memory(scene, most)
    scene.check(failures=("MemoryError",))
    scene.traffic()
    scene.check(failures=("MemoryError",))
