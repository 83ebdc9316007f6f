"""The log is rotated, cut off, deleted, replaced, flooded; its clock steps; the journal ends and comes back."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from faults import log
from faults.journal import Journal
from faults.scene import LATE, Scene, uncounted
from rig import family
from serving import until, until_equal

pytestmark = pytest.mark.slow

Play = Callable[..., Scene]
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""What runs the exporter so that modes hold for it, even as root."""


@pytest.mark.parametrize("act", log.ACTS, ids=lambda act: act.__name__)
def test_what_becomes_of_the_log(scene: Scene, act: Callable[[Scene], None]) -> None:
    """Whatever becomes of the log: what it tells afterwards is known, no line counts twice, and the queue is right all the time."""
    for _ in range(2):
        act(scene)
        scene.check()
        scene.traffic()
    scene.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused what is its own and then get it back")
def test_it_may_not_be_read_any_more(play: Play) -> None:
    """While the log may not be read and is rotated, that is said; when it may be, every delivery counts, once."""
    scene = play(before=WITHOUT_RIGHTS)
    behind = uncounted(scene)
    directory = scene.rig.home / "log"
    for _ in range(3):
        directory.chmod(0)
        scene.traffic()
        scene.rig.log.rotate()
        scene.traffic()
        until(lambda: scene.value("qmail_exporter_source_up", source="log") == 0, LATE)
        directory.chmod(0o755)
        scene.traffic()
        scene.check()
        until_equal(lambda: uncounted(scene), lambda: behind)


def test_a_hundred_megabytes_at_once(play: Play) -> None:
    """The log grows by 100 MB between two looks: scrapes are answered in time, memory does not grow with it, every line counts."""
    scene = play("--web.scrape-budget=300ms")
    before, counted = _resident(scene.pid), _successes(scene)
    log.flooded(scene, 100_000_000)
    lines = (scene.rig.home / "log" / "current").read_bytes().count(b"delivery 1000000:")
    worst = 0.0
    end = time.monotonic() + 60
    while _successes(scene) < counted + lines and time.monotonic() < end:
        began = time.monotonic()
        scene.scraped()
        worst = max(worst, time.monotonic() - began)
    assert _successes(scene) == counted + lines
    assert worst < 5  # on a machine with much else to do
    assert _resident(scene.pid) < before + 30_000_000
    scene.traffic()
    scene.check()


def _results(scene: Scene) -> dict[tuple[str, ...], float]:
    """The deliveries that the simulator has ended."""
    return {key: float(count) for key, count in scene.rig.qmail.ledger.results.items()}


def _counted(scene: Scene) -> dict[tuple[str, ...], float]:
    """The deliveries that the exporter has counted."""
    return {key: count for key, count in family(scene.scraped(), "qmail_deliveries_total").items() if count}


def _successes(scene: Scene) -> float:
    found = scene.scraped()
    return sum(value for (name, labels), value in found.items() if name == "qmail_exporter_log_lines_total" and ("kind", "delivery") in labels)  # fmt: skip


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_journal_that_ends_and_comes_back(in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever journalctl is ended by, another takes its place, nothing is lost or counted twice, and none is left over."""
    (in_memory / "bin").mkdir()
    journal = Journal(in_memory / "bin")
    monkeypatch.setenv("PATH", f"{in_memory / 'bin'}:{os.environ['PATH']}")
    with Scene(in_memory / "qmail", journal=journal) as scene:
        began = Counter(_results(scene))
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            scene.traffic()
            [child] = until(scene.children, LATE)
            os.kill(child, number)
            scene.traffic()
            until(lambda child=child: scene.children() not in ([], [child]), LATE)  # type: ignore[misc]
            scene.check()
            until_equal(lambda: _counted(scene), lambda: dict(Counter(_results(scene)) - began))
        assert scene.value("qmail_exporter_log_unparsed_lines_total") == 0
