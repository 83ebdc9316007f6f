import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from qmail_exporter.metrics import FAMILIES

yaml = pytest.importorskip("yaml", reason="PyYAML reads the rules")

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES = PROMETHEUS / "qmail.rules.yml"
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))
SECTIONS = ["What it means", "How to see it", "What to do", "When to ignore it"]
METRIC = re.compile(r"(?<![\w:/.])qmail_[a-z0-9_]+(?![\w:/.(])")
RECORDED = re.compile(r"\b(?:queue|channel|domain):qmail_[a-z0-9_:]+")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "gaugehistogram": ("_bucket", "_gsum", "_gcount")}
HOOK = {
    "qmail_outage_state",
    "qmail_outages_total",
    "qmail_outage_last_start_timestamp_seconds",
    "qmail_outage_last_clear_timestamp_seconds",
    "qmail_hook_runs_total",
    "qmail_hook_skipped_total",
    "qmail_hook_last_run_timestamp_seconds",
}

Rule = dict[str, Any]


@cache
def rules(kind: str) -> list[Rule]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}


@cache
def cases() -> list[Rule]:
    return [case for path in UNIT_TESTS for case in yaml.safe_load(path.read_text())["tests"]]


def exported() -> Iterator[str]:
    yield "qmail_exporter_build_info"
    yield from HOOK
    for family in FAMILIES:
        yield from (family.name + suffix for suffix in SUFFIXES.get(family.kind, ("",)))


def run(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def texts() -> list[Path]:
    return [RULES, *sorted(RUNBOOKS.glob("*.md"))]


def test_rules_are_valid() -> None:
    """The rules have no error, and promtool's lint nothing to remark."""
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.slow
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_rules_do_what_their_unit_tests_say(path: Path) -> None:
    """Each alert fires when it should, with the labels and the text it should have, and else does not."""
    run("promtool", "test", "rules", str(path))


def test_scrape_configuration_is_valid() -> None:
    """The example configuration is valid, and so are the rules that it names."""
    run("promtool", "check", "config", str(PROMETHEUS / "prometheus.example.yml"))


def test_alertmanager_configuration_is_valid() -> None:
    """The example configuration is valid, and so is its template."""
    out = run("amtool", "check-config", str(ALERTMANAGER / "alertmanager.example.yml"))
    assert "1 templates" in out


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_severity_decides_the_receiver(name: str) -> None:
    """Critical alerts go to the pager, warnings to the chat."""
    severity = ALERTS[name]["labels"]["severity"]
    out = run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={ALERTMANAGER / 'alertmanager.example.yml'}",
        f"alertname={name}",
        f"severity={severity}",
        "instance=mx1:10225",
    )
    assert out.split() == [{"critical": "pager", "warning": "chat"}[severity]]


def test_no_receiver_needs_mail() -> None:
    """What pages about the mail system does not travel through it."""
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.example.yml").read_text())
    assert not [receiver["name"] for receiver in config["receivers"] if "email_configs" in receiver]


def test_inhibitions_name_alerts_that_exist() -> None:
    """Each alert that an inhibition names exists, and none inhibits itself."""
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.example.yml").read_text())
    for inhibition in config["inhibit_rules"]:
        (source,) = inhibition["source_matchers"]
        named = re.findall(r"Qmail[A-Z]\w+", " ".join([source, *inhibition["target_matchers"]]))
        assert set(named) <= ALERTS.keys()
        positive = [matcher for matcher in inhibition["target_matchers"] if "!" not in matcher]
        assert not [matcher for matcher in positive if source.split()[-1] in matcher]


def test_notification_says_what_is_wrong(tmp_path: Path) -> None:
    """The template gives of each alert its severity, its text and its runbook, and of one that is over its time."""
    times = {"startsAt": "2026-01-02T03:04:05Z", "endsAt": "2026-01-02T04:05:06Z"}
    notes = {
        "summary": "It is down",
        "description": "For long.",
        "runbook_url": "docs/runbooks/QmailSendDown.md",
    }
    labels = {"alertname": "QmailSendDown", "severity": "critical"}
    alerts = [
        {"status": "firing", "labels": labels, "annotations": notes, **times},
        {"status": "resolved", "labels": labels, "annotations": {"summary": "It was slow"}, **times},
    ]
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"status": "firing", "alerts": alerts, "groupLabels": {"instance": "mx1"}}))
    out = run(
        "amtool",
        "template",
        "render",
        f"--template.glob={ALERTMANAGER / 'qmail.tmpl'}",
        f"--template.data={data}",
        '--template.text={{ template "qmail.title" . }}\n{{ template "qmail.text" . }}',
    )
    assert out.splitlines()[:4] == [
        "[FIRING 1] qmail on mx1",
        "CRITICAL QmailSendDown: It is down",
        "For long.",
        "Since 2026-01-02 03:04 UTC. What to do: docs/runbooks/QmailSendDown.md",
    ]
    assert "Over: It was slow, from 2026-01-02 03:04 to 2026-01-02 04:05 UTC." in out


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_alert_is_complete(name: str) -> None:
    """An alert has a severity, a text with its host and a number or a name in it, and a runbook."""
    rule = ALERTS[name]
    assert name.startswith("Qmail")
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["keep_firing_for"]
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert "$labels.instance" in notes["summary"]
    assert "$labels.instance" in notes["description"]
    assert notes["runbook_url"] == f"docs/runbooks/{name}.md"


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_alert_has_unit_tests_both_ways(name: str) -> None:
    """A unit test lets the alert fire with labels and text, and one says of it, or of all, when it does not."""
    asked = [ask for case in cases() for ask in case.get("alert_rule_test", []) if ask["alertname"] == name]
    fires = [alert for ask in asked for alert in ask.get("exp_alerts") or []]
    assert fires
    assert all(alert["exp_labels"] and alert["exp_annotations"] for alert in fires)
    assert [ask for ask in asked if not ask.get("exp_alerts")] or [
        case for case in cases() if name in case["name"] and case["name"].startswith("no ")
    ]


def test_alerts_and_runbooks_correspond() -> None:
    """Each alert has a runbook, and each runbook an alert."""
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == ALERTS.keys()


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_runbook_is_complete(name: str) -> None:
    """A runbook has its alert's name and severity, and the four sections, none of them empty."""
    text = (RUNBOOKS / f"{name}.md").read_text()
    title, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    assert title == f"# {name}\n\nSeverity: {ALERTS[name]['labels']['severity']}.\n\n"
    assert [part.split("\n", 1)[0] for part in parts] == SECTIONS
    assert all(part.split("\n", 1)[1].strip() for part in parts)
    assert "qmail-exporter" in parts[1] + parts[2]


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_metrics_that_are_named_exist(path: Path) -> None:
    """Each metric that the rules or a runbook name is exported, or recorded by the rules."""
    text = path.read_text().replace("qmail_exporter is", "").replace("`qmail_*_total`", "")
    recorded = {rule["record"] for rule in rules("record")}
    assert set(RECORDED.findall(text)) <= recorded
    named = set(METRIC.findall(RECORDED.sub("", text)))
    assert named - set(exported()) - {"qmail_exporter"} == set()


def test_recorded_series_are_used() -> None:
    """Each recorded series is in the expression or the text of another rule."""
    for name in {rule["record"] for rule in rules("record")}:
        users = [rule for rule in rules("expr") if rule.get("record") != name and name in str(rule)]
        assert users, name


@pytest.mark.parametrize(
    "name", sorted({word for p in texts() for word in re.findall(r"\bQmail\w+", p.read_text())})
)
def test_alerts_that_are_named_exist(name: str) -> None:
    """The rules and the runbooks refer to alerts that there are."""
    assert name in ALERTS


def test_runbooks_ask_in_promql_that_parses(tmp_path: Path) -> None:
    """Each query of a runbook is PromQL: promtool takes all of them as recording rules."""
    groups = []
    for path in sorted(RUNBOOKS.glob("*.md")):
        (block,) = re.findall(r"```promql\n(.*?)```", path.read_text(), flags=re.DOTALL)
        queries = enumerate(block.splitlines())
        groups.append(
            {"name": path.stem, "rules": [{"record": f"query:n{n}", "expr": query} for n, query in queries]}
        )
    written = tmp_path / "queries.yml"
    written.write_text(json.dumps({"groups": groups}))
    run("promtool", "check", "rules", "--lint=none", str(written))
