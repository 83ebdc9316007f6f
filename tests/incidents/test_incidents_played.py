"""Incidents end to end: a real Prometheus, a real Alertmanager, and what comes to its receivers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from debian import UnavailableError, unpacked
from incidents.judge import faults, severities, table
from incidents.play import Played, play_in_turn, programs
from incidents.recordings import recordings
from incidents.script import Script
from incidents.scripts import CALM, INCIDENTS, SCRIPTS

ROOT = Path(__file__).parents[2]
HOURS = 8
"""As long as the runs are here: of a calm day so much, and of the incidents those that take no longer."""
FACTOR = 300.0
AT_ONCE = 15
PLAYED = [script for script in SCRIPTS if script in CALM or script.length <= HOURS * 60]
BRIEF = [script for script in INCIDENTS if script.length <= 200]
Frames = Mapping[str, Sequence[bytes | None]]


@pytest.fixture(scope="module")
def installed() -> tuple[str, str]:
    """Prometheus and Alertmanager."""
    found = programs()
    if found is None:
        pytest.skip("prometheus and prometheus-alertmanager are not both installed")
    return found


@pytest.fixture(scope="module")
def frames(installed: tuple[str, str]) -> Frames:  # noqa: ARG001 - without them nothing need be recorded
    """What the exporters showed."""
    return recordings(PLAYED, HOURS * 60)


@pytest.fixture(scope="module")
def played(frames: Frames, installed: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Played:
    """All of them, at once."""
    prometheus, manager = installed
    directory = tmp_path_factory.mktemp("incidents")
    done = play_in_turn(
        frames, directory, factor=FACTOR, at_once=AT_ONCE, prometheus=prometheus, manager=manager
    )
    print(table(done, PLAYED))  # noqa: T201 - shown by pytest -s, and where a test fails
    return done


@pytest.mark.slow
@pytest.mark.parametrize("script", PLAYED, ids=lambda script: script.name)
def test_each_incident_tells_what_its_script_names(script: Script, played: Played) -> None:
    """It is told in time, to the right receiver, once, with nothing besides, and is over in time; a calm run tells nothing."""
    assert list(faults(played, script)) == []


@pytest.mark.slow
def test_incidents_on_prometheus_3(
    frames: Frames, installed: tuple[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The short incidents are told of in the same way by a Prometheus 3."""
    try:
        root = unpacked("prometheus", "sid", request.config.cache.mkdir("debian"))
    except UnavailableError as error:
        pytest.skip(f"no Prometheus 3 can be had: {error}")
    some = {script.name: frames[script.name] for script in BRIEF}
    done = play_in_turn(
        some,
        tmp_path,
        factor=FACTOR,
        at_once=AT_ONCE,
        prometheus=f"{root}/usr/bin/prometheus",
        manager=installed[1],
    )
    assert int(re.findall(r"\d+", done.programs[0])[0]) >= 3
    assert [fault for script in BRIEF for fault in faults(done, script)] == []


def test_page_is_of_these_scripts() -> None:
    """docs/incidents.md has a row for each page of each incident, and for each calm run, and no page came late."""
    text = (ROOT / "docs" / "incidents.md").read_text(encoding="utf-8")
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")
    ]
    current, shown = ("", ""), []
    for name, story, alert, severity, told, over, *_ in (
        row for row in cells if len(row) == 7 and row[4].isdigit()
    ):
        current = (name, story) if name else current
        shown.append((*current, alert, severity, int(told), int(over)))
    wanted = [(script, page) for script in INCIDENTS for page in script.pages]
    assert [row[:4] for row in shown] == [
        (script.name, script.story, page.alert, severities()[page.alert]) for script, page in wanted
    ]
    for row, (_, page) in zip(shown, wanted, strict=True):
        assert row[4] <= page.within
        assert row[5] <= page.over
    for script in CALM:
        assert [script.name, script.story, f"{script.length // 60} h"] in cells
