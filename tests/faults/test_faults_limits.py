"""What the system grants runs out: descriptors, inotify watches and instances, memory."""

from collections.abc import Callable

import pytest

from faults import limits
from faults.scene import LATE, Scene
from serving import until


@pytest.mark.parametrize("act", limits.ACTS, ids=lambda act: act.__name__)
def test_descriptors_run_out(scene: Scene, act: Callable[[Scene], None]) -> None:
    """Without a descriptor to be had it goes on, says which limit is to be raised, and has lost nothing when there are some."""
    for _ in range(3):
        act(scene)
        scene.check()
