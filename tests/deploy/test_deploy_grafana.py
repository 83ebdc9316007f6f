"""The dashboards, their provisioning, and what they refer to."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import yaml

pytest.importorskip("promql_parser", reason="promql-parser reads the queries")

from dashboards import (
    FILES,
    GRAFANA,
    PROMETHEUS_OWN,
    Json,
    asked,
    exported,
    filled,
    load,
    panels,
    selectors,
    series_of,
    variables,
)

DOCS = GRAFANA.parents[1] / "docs"
UIDS = {"qmail-fleet", "qmail-queue", "qmail-destinations", "qmail-outage"}
"""They stay: bookmarks and links hold them."""
KINDS = {"stat", "timeseries", "table", "heatmap", "bargauge", "state-timeline"}
OF_THE_PROCESS = ("qmail_exporter_build_info", "qmail_exporter_web_config_")
"""Those of the exporter's metrics that are of no queue."""
each_board = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_uids_stay() -> None:
    """Each dashboard has the uid that it always had, which is its file's name."""
    assert {load(path)["uid"] for path in FILES} == UIDS
    assert {path.stem for path in FILES} == UIDS


@pytest.mark.skipif(sys.version_info < (3, 11), reason="grafana-foundation-sdk needs Python 3.11")
@each_board
def test_dashboard_is_what_python_makes(path: Path, tmp_path: Path) -> None:
    """The JSON is what `make dashboards` writes."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk makes the dashboards")
    made = pytest.importorskip("boards.__main__")
    made.write(tmp_path, made.EXAMPLE)
    assert sorted(found.name for found in tmp_path.iterdir()) == [found.name for found in FILES]
    assert (tmp_path / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="grafana-foundation-sdk needs Python 3.11")
def test_documents_are_where_one_says(tmp_path: Path) -> None:
    """With another address of docs/, all links lead there, and nothing else is different."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk makes the dashboards")
    made = pytest.importorskip("boards.__main__")
    made.write(tmp_path, "https://docs.test/qmail")
    for path in FILES:
        text = (tmp_path / path.name).read_text(encoding="utf-8")
        assert made.EXAMPLE not in text
        assert text.replace("https://docs.test/qmail", made.EXAMPLE) == path.read_text(encoding="utf-8")


@each_board
def test_panels_do_not_overlap(path: Path) -> None:
    """Panels lie within the grid, each row of them fills its width, and no two share a place."""
    board = load(path)
    widths: Counter[int] = Counter()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        widths[place["y"]] += place["w"]
    assert set(widths.values()) == {24}
    for one, other in combinations(board["panels"], 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def _overlap(one: Json, other: Json) -> bool:
    return bool(
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_overlaps_are_seen() -> None:
    """Panels that touch do not overlap, those that share a column of a row do."""
    place = {"x": 0, "y": 0, "w": 8, "h": 8}
    assert not _overlap(place, {**place, "x": 8})
    assert not _overlap(place, {**place, "y": 8})
    assert _overlap(place, {**place, "x": 7, "y": 7})


@each_board
def test_panels_have_what_people_need(path: Path) -> None:
    """Each panel has an id of its own, a kind that Grafana brings along, and a text for when there is nothing to show."""
    board = load(path)
    assert Counter(panel["id"] for panel in board["panels"]).most_common(1)[0][1] == 1
    for panel in panels(board):
        assert panel["type"] in KINDS
        assert panel["fieldConfig"]["defaults"]["noValue"]
        assert panel["description"].endswith("."), panel["title"]
        assert Counter(target["refId"] for target in panel["targets"]).most_common(1)[0][1] == 1


@each_board
def test_titles_are_unique_within_a_row(path: Path) -> None:
    """No heading stands over two panels with the same title."""
    row, seen = "", set()
    for panel in load(path)["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        assert (row, panel["title"]) not in seen
        seen.add((row, panel["title"]))


@each_board
def test_links_lead_to_documents(path: Path) -> None:
    """Each link of a panel leads to a page of docs/, most of them to a runbook; a dashboard's own lead to the others."""
    board = load(path)
    (docs,) = variables(board, "constant")
    assert (docs["name"], docs["query"].rpartition("/")[2]) == ("docs", "docs")
    pages = [link["url"] for panel in panels(board) for link in panel["links"]]
    assert pages
    for page in pages:
        start, _, name = page.partition("/")
        assert start == "${docs:raw}"
        assert (DOCS / name).is_file(), page
    assert [
        (link["type"], link["tags"], link["includeVars"], link["keepTime"]) for link in board["links"]
    ] == [("dashboards", board["tags"], True, True)]


def test_what_wakes_somebody_can_be_seen() -> None:
    """Of each critical alert there is a panel that links to its runbook."""
    rules = yaml.safe_load((GRAFANA.parent / "prometheus" / "qmail.rules.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    critical = {f"{rule['alert']}.md" for rule in alerts if rule["labels"]["severity"] == "critical"}
    links = [link for path in FILES for panel in panels(load(path)) for link in panel["links"]]
    assert len(critical) > 3
    assert critical - {link["url"].rpartition("/")[2] for link in links} == set()


@each_board
def test_variables_select(path: Path) -> None:
    """There are variables for data source, job, instance and queue; a query on a queue's series uses the last as well."""
    board = load(path)
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names[:4] == ["datasource", "job", "instance", "queue"]
    for each in asked(board):
        for selector in selectors(each.expr):
            name = selector.name or ""
            labels = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            own = name.startswith("qmail_") and not name.startswith(OF_THE_PROCESS)
            assert (labels.get("queue") == "$queue") == own, each
            if name.startswith(("qmail_domain_", "qmail_double_bounces")) and "domain" in names:
                assert labels.get("domain") == "$domain", each


def test_queue_is_of_one_host() -> None:
    """The dashboard of one queue begins with one instance, the others with all."""
    alone = {
        path.stem
        for path in FILES
        for variable in variables(load(path))
        if variable["name"] == "instance" and not variable["includeAll"]
    }
    assert alone == {"qmail-queue"}


@each_board
def test_annotations_tell_what_happened(path: Path) -> None:
    """Outages, runs of the hook, and restarts are marked; of all hosts together, only outages until one wants more."""
    found = {each["name"]: each["enable"] for each in load(path)["annotations"]["list"]}
    more = path.stem != "qmail-fleet"
    assert found == {
        "Outages": True,
        "Hook runs": more,
        "Restarts of qmail-send": more,
        "Restarts of the exporter": more,
    }


@each_board
def test_metrics_exist(path: Path) -> None:
    """Each metric that is asked for is one of the exporter's, of its process's, or of those that a scrape itself makes."""
    board = load(path)
    exprs = [each.expr for each in asked(board)] + [
        series_of(variable["query"])[0] for variable in variables(board)
    ]
    named = {selector.name for expr in exprs for selector in selectors(expr)}
    assert len(named) > 5
    process = {name for name in named if name and name.startswith("process_")}
    assert named - exported() - process - PROMETHEUS_OWN == set()


@each_board
def test_promtool_takes_the_queries(path: Path, tmp_path: Path) -> None:
    """Prometheus's own parser takes each query: promtool reads all of them as recording rules."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    rules = [{"record": f"q{n}", "expr": filled(each.expr)} for n, each in enumerate(asked(load(path)))]
    written = tmp_path / "rules.yml"
    written.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=none", str(written)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_provisioning() -> None:
    """The provisioning files name a Prometheus with the scrape interval of the example, and the directory of the dashboards."""
    place = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((place / "datasources" / "qmail.yml").read_text())["datasources"]
    scraping = yaml.safe_load((GRAFANA.parent / "prometheus" / "prometheus.example.yml").read_text())
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == scraping["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((place / "dashboards" / "qmail.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] in (GRAFANA / "README.md").read_text()
