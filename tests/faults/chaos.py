"""Random faults in random order, until the time is over."""

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from faults import limits, log, network, process, queue
from faults.scene import Scene

Act = Callable[[Scene], None]


def _interrupted(scene: Scene) -> None:
    chance = scene.chance
    process.interrupted(
        scene, chance.choice(("child", "self")), chance.randrange(6), chance.choice(("killed", "continued"))
    )


def _crowded(scene: Scene) -> None:
    for path in queue.orphans(scene, 3000):
        path.unlink()


ACTS: dict[str, Act] = {
    **{act.__name__: act for room in (process, queue, log, limits, network) for act in room.ACTS},
    "interrupted": _interrupted,
    "crowded": _crowded,
    "without_memory": partial(limits.without_memory, most=8 << 20),
}
"""All faults that need nothing but the scene, by name."""
FAILURES = ("MemoryError",)


def run(home: Path, seed: int, seconds: float, say: Callable[[str], None]) -> Counter[str]:
    """Do faults for some seconds, several at a time, and check after each time; returns how often each was done.

    What is done in which order is told by the seed; `say` is given a line before each time, so that who sees one fail can
    do the same.

    Raises:
        AssertionError: something was not as it must be.
    """
    chance, done = random.Random(seed), Counter[str]()
    names = sorted(ACTS)
    chance.shuffle(names)
    end = time.monotonic() + seconds
    with Scene(home, seed=seed) as scene:
        while names or time.monotonic() < end:
            # Each once, in whatever order and however long that takes, and from then on as chance has it.
            some = [
                names.pop() if names else chance.choice(sorted(ACTS)) for _ in range(chance.randrange(1, 4))
            ]
            say(f"{sum(done.values()):6} {' '.join(some)}")
            for name in some:
                ACTS[name](scene)
                done[name] += 1
            scene.check(failures=FAILURES)
        scene.exporter.process.kill()
        scene.exporter.process.wait()
        scene.exporter = scene.start()
        scene.check()
    return done
