"""Clients give up, leave, or come all at once; what the exporter writes to goes away."""

import os
import signal
from collections.abc import Callable

import pytest

from faults import network, queue
from faults.scene import Scene, of_queue
from rig import ledger_state, shown
from serving import until_equal

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("act", network.ACTS, ids=lambda act: act.__name__)
def test_what_clients_do(scene: Scene, act: Callable[[Scene], None]) -> None:
    """Whatever clients do, a scrape among them is answered, and what they have left holds nothing."""
    for _ in range(2):
        act(scene)
        scene.check()


def test_impatient_scrapes_of_a_long_queue(scene: Scene) -> None:
    """So it is while much is to be looked at: what the impatient asked for is not done for each of them anew."""
    for _ in range(100):
        scene.traffic(5)
    network.impatient(scene, seconds=3)
    scene.check()


def test_what_it_logs_to_goes_away(play: Callable[..., Scene]) -> None:
    """When nobody reads its log any more, as after the end of what kept it, it goes on all the same."""
    scene = play(before=("bash", "-c", 'exec "$@" 2> >(exec cat >&2)', "bash"))
    [cat] = scene.children()
    files = scene.holds().files
    os.kill(cat, signal.SIGKILL)
    for _ in range(3):
        scene.signal(signal.SIGHUP)
        queue.removed(scene)
        scene.traffic()
    until_equal(lambda: of_queue(scene.scraped(), told=True), scene.fresh)
    assert shown(scene.scraped()) == ledger_state(scene.rig.qmail)
    until_equal(scene.files, lambda: files)
