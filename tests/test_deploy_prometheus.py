import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from debian import UnavailableError, unpacked
from incidents import scaled
from qmail_exporter import cli
from qmail_exporter.collect import Collection
from qmail_exporter.metrics import FAMILIES, QmailCollector

yaml = pytest.importorskip("yaml", reason="PyYAML reads the rules")

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES = PROMETHEUS / "qmail.rules.yml"
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))
RECEIVERS = {"critical": "pager", "warning": "chat"}
SECTIONS = ["What it means", "How to see it", "What to do", "When to ignore it"]
METRIC = re.compile(r"(?<![\w:/.])qmail_[a-z0-9_]+(?![\w:/.(])")
RECORDED = re.compile(r"\b(?:queue|channel|domain):qmail_[a-z0-9_:]+")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "gaugehistogram": ("_bucket", "_gsum", "_gcount")}
SELECTOR = re.compile(r"\b(qmail_[a-z0-9_]+)\{([^{}]*)\}")
SCRAPED = {"job", "instance", "queue", "le"}

Rule = dict[str, Any]


@cache
def rules(kind: str) -> list[Rule]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}


@cache
def cases() -> list[Rule]:
    return [case for path in UNIT_TESTS for case in yaml.safe_load(path.read_text())["tests"]]


@cache
def families() -> dict[str, tuple[str, ...]]:
    """The labels of each family that the exporter can show, by its name as the documents have it."""
    told = {metric.name: metric.type for metric in QmailCollector(Collection([], [], {})).describe()}
    own = {family.name: family.labels for family in FAMILIES}
    others = {name for name in told if name not in own and f"{name}_total" not in own}
    return own | dict.fromkeys(others, ())


def exported() -> dict[str, tuple[str, ...]]:
    """The labels of each series that the exporter can show."""
    kinds = {family.name: family.kind for family in FAMILIES}
    return {
        name + suffix: labels
        for name, labels in families().items()
        for suffix in SUFFIXES.get(kinds.get(name, "gauge"), ("",))
    }


def run(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def texts() -> list[Path]:
    manager = [ALERTMANAGER / "alertmanager.example.yml", ALERTMANAGER / "qmail.tmpl"]
    return [RULES, *UNIT_TESTS, *manager, *sorted(RUNBOOKS.glob("*.md"))]


def test_rules_are_valid() -> None:
    """The rules have no error, and promtool's lint nothing to remark."""
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.slow
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_rules_do_what_their_unit_tests_say(path: Path) -> None:
    """Each alert fires when it should, with the labels and the text it should have, and else does not."""
    run("promtool", "test", "rules", str(path))


@pytest.mark.slow
def test_rules_pass_on_prometheus_3(request: pytest.FixtureRequest) -> None:
    """The rules, their unit tests and the scrape configuration pass with Prometheus 3, whose ranges are open on the left."""
    try:
        root = unpacked("promtool", "sid", request.config.cache.mkdir("debian"))
    except UnavailableError as error:
        pytest.skip(f"no promtool of Prometheus 3 can be had: {error}")
    promtool = f"{root}/usr/bin/promtool"
    assert int(re.findall(r"version (\d+)", run(promtool, "--version"))[0]) >= 3
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    run(promtool, "check", "config", str(PROMETHEUS / "prometheus.example.yml"))
    run(promtool, "test", "rules", *map(str, UNIT_TESTS))


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
    assert out.split() == [RECEIVERS[severity]]


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=Other", "severity=critical"), "chat"),
        (("alertname=QmailSendDown", "severity=critical", "queue=queue3", "team=post"), "pager"),
        (("alertname=QmailSendDown",), "chat"),
    ],
)
def test_other_alerts_have_a_receiver(labels: tuple[str, ...], receiver: str) -> None:
    """Alerts that are not of these rules, or have lost their severity, go to the chat; labels of one's own change nothing."""
    config = f"--config.file={ALERTMANAGER / 'alertmanager.example.yml'}"
    assert run("amtool", "config", "routes", "test", config, *labels).split() == [receiver]


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_alert_goes_to_one_receiver(name: str) -> None:
    """No alert is told twice: its routes are one."""
    config = f"--config.file={ALERTMANAGER / 'alertmanager.example.yml'}"
    severity = ALERTS[name]["labels"]["severity"]
    run("amtool", "config", "routes", "test", config, f"--verify.receivers={RECEIVERS[severity]}",
        f"alertname={name}", f"severity={severity}")  # fmt: skip


def test_what_holds_back_lasts_longer_than_what_is_held_back() -> None:
    """When an incident ends, a critical alert that it explains is not told of because it lasts longer than its cause."""
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.example.yml").read_text())
    for inhibition in config["inhibit_rules"]:
        (source,) = re.findall(r"Qmail\w+", inhibition["source_matchers"][0])
        positive = " ".join(matcher for matcher in inhibition["target_matchers"] if "!=" not in matcher)
        for target in re.findall(r"Qmail[A-Z]\w+", positive):
            if ALERTS[target]["labels"]["severity"] == "critical":
                kept = [scaled.seconds(ALERTS[name]["keep_firing_for"]) for name in (source, target)]
                assert kept[0] >= kept[1] + 300, (source, target)


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
    assert "Over: QmailSendDown: It was slow, from 2026-01-02 03:04 to 2026-01-02 04:05 UTC." in out


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


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_commands_of_a_runbook_exist(name: str) -> None:
    """Each command of `qmail-exporter` that a runbook calls is one, and has the flags that it is given."""
    text = (RUNBOOKS / f"{name}.md").read_text()
    called = re.findall(r"\bqmail-exporter ([a-z][a-z-]*)([^`\n|;)]*)", text)
    assert called
    for name_of_command, rest in called:
        command: click.Command = cli.main.commands[name_of_command]
        if isinstance(command, click.Group):
            command = command.commands[rest.split()[0]]
        options = {flag for option in command.params for flag in option.opts}
        assert set(re.findall(r"--[a-z][a-z.-]*", rest)) <= options, (name_of_command, rest)


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_metrics_that_are_named_exist(path: Path) -> None:
    """Each metric that the rules, their tests, a runbook or Alertmanager's files name is exported, or recorded by the rules."""
    text = path.read_text().replace("qmail_exporter is", "").replace("`qmail_*_total`", "")
    recorded = {rule["record"] for rule in rules("record")}
    assert set(RECORDED.findall(text)) <= recorded
    named = set(METRIC.findall(RECORDED.sub("", text)))
    assert named - exported().keys() - {"qmail_exporter"} == set()


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_labels_that_are_named_exist(path: Path) -> None:
    """Each label by which the rules, their tests or a runbook choose series is one that these series have."""
    for name, chosen in SELECTOR.findall(RECORDED.sub("", path.read_text())):
        labels = set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", chosen))
        assert labels <= {*exported()[name], *SCRAPED}, f"{name}{{{chosen}}}"


def test_every_metric_is_documented() -> None:
    """Each family that the exporter can show is in docs/metrics.md."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert [name for name in families() if f"`{name}`" not in text] == []


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
