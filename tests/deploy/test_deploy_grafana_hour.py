"""Every panel has something to show: a Prometheus with an hour of the simulator answers each query."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("promql_parser", reason="promql-parser reads the queries")

from dashboards import FILES, Json, asked, filled, load, panels, series_of, variables
from hour import END, LENGTH, SCRAPE, played
from serving import until

RATE_INTERVAL = f"{4 * SCRAPE:.0f}s"
"""What Grafana makes of `$__rate_interval` for the width of a screen."""
SPAN = f"{LENGTH:.0f}s"
Ask = Callable[..., Any]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Play an hour, load its scrapes into a Prometheus, and return what asks its API."""
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus is None or promtool is None:
        pytest.skip("prometheus is not installed")
    place = tmp_path_factory.mktemp("hour")
    text = place / "scrapes.txt"
    with text.open("w", encoding="utf-8") as file:
        file.writelines(played(place / "qmail", step=1.0).lines)
        file.write("# EOF\n")
    create = [
        promtool,
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "--quiet",
        str(text),
        str(place / "data"),
    ]
    subprocess.run(create, check=True, capture_output=True)
    (place / "prometheus.yml").touch()
    command = [
        prometheus, f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data",
        "--storage.tsdb.retention.time=100y", f"--query.lookback-delta={1.5 * SCRAPE:.0f}s",
        "--web.listen-address=127.0.0.1:0",
    ]  # fmt: skip
    log = place / "prometheus.log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            address = until(lambda: _address(log.read_text(), process))
            until(lambda: "Server is ready" in log.read_text())
            yield lambda path, **given: _get(address, path, given)
        finally:
            process.kill()


def _address(log: str, process: "subprocess.Popen[bytes]") -> str:
    """Return where it listens, by its own log."""
    assert process.poll() is None, log
    lines = [line for line in log.splitlines() if "Listening on" in line and "address=" in line]
    return lines[0].rpartition("address=")[2].split()[0] if lines else ""


def _get(address: str, path: str, given: dict[str, object]) -> Any:
    url = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(given, doseq=True)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


def _answer(ask: Ask, target: Json) -> Any:
    query = filled(target["expr"], rate_interval=RATE_INTERVAL, span=SPAN)
    if target["instant"]:
        return ask("query", query=query, time=END)["result"]
    return ask("query_range", query=query, start=END - LENGTH, end=END, step=SCRAPE)["result"]


def _numbers(result: Any) -> list[float]:
    points = [point for series in result for point in series.get("values", [series.get("value")])]
    return [float(value) for _, value in points]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_query_is_answered(ask: Ask, path: Path) -> None:
    """Each query of each panel, and of each annotation, returns data, all of it numbers; there is no exception."""
    answers = {each.where: _numbers(_answer(ask, each.target)) for each in asked(load(path))}
    assert [where for where, numbers in answers.items() if not numbers] == []
    assert [where for where, numbers in answers.items() if not all(map(isfinite, numbers))] == []


def test_what_is_not_there_is_seen(ask: Ask) -> None:
    """A query for what no exporter shows returns nothing, and one that divides by zero what is no number."""
    assert _numbers(_answer(ask, {"expr": 'qmail_absent{job=~"$job"}', "instant": True})) == []
    (number,) = _numbers(_answer(ask, {"expr": 'qmail_up{job=~"$job"} / 0', "instant": True}))
    assert not isfinite(number)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variable_has_values(ask: Ask, path: Path) -> None:
    """Each variable of a dashboard can be chosen from something."""
    for variable in variables(load(path)):
        series, label = series_of(variable["query"])
        values = ask(
            f"label/{label}/values", **{"match[]": filled(series), "start": END - LENGTH, "end": END}
        )
        assert values, variable["name"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shares_are_shares(ask: Ask, path: Path) -> None:
    """What is shown in percent, by a panel without other units, lies between 0 and 1."""
    for panel in panels(load(path)):
        if panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
            for target in panel["targets"]:
                numbers = _numbers(_answer(ask, target))
                assert 0 <= min(numbers) <= max(numbers) <= 1, panel["title"]


def test_legends_name_labels_that_are_there(ask: Ask) -> None:
    """Each label that a legend names is in every series of its answer, and no two series have the same legend."""
    for path in FILES:
        for panel in panels(load(path)):
            for target in panel["targets"]:
                names = [_legend(target["legendFormat"], series["metric"]) for series in _answer(ask, target)]
                assert target["format"] != "time_series" or len(names) == len(set(names)), panel["title"]


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda word: labels[word[1]], form)
