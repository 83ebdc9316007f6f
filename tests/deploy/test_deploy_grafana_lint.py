"""The rules of Grafana's dashboard linter hold, and each of them can fail."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("promql_parser", reason="promql-parser reads the queries")

from dashboards import FILES, Json, load, panels, variables
from dashlint import RULES

Break = Callable[[Json], object]


def _variable(board: Json, name: str) -> Json:
    return next(found for found in board["templating"]["list"] if found["name"] == name)


def _change(key: str, value: object, where: Callable[[Json], Json] = lambda board: panels(board)[0]) -> Break:
    return lambda board: where(board).update({key: value})


def _ask(expr: str) -> Break:
    return _change("expr", expr, lambda board: panels(board)[-1]["targets"][0])


def _annotate(expr: str) -> Break:
    return _change("expr", expr, lambda board: board["annotations"]["list"][0]["target"])


_CHOSEN = 'job=~"$job", instance=~"$instance"'
BREAKS: dict[str, list[Break]] = {
    "template-datasource-rule": [
        _change("name", "source", lambda board: variables(board, "datasource")[0]),
        lambda board: board["templating"]["list"].pop(0),
    ],
    "template-job-rule": [
        lambda board: board["templating"]["list"].remove(_variable(board, "job")),
        _change("allValue", ".*", lambda board: _variable(board, "job")),
    ],
    "template-instance-rule": [
        _change("multi", False, lambda board: _variable(board, "instance")),
        _change("label", "Host", lambda board: _variable(board, "instance")),
    ],
    "template-label-promql-rule": [
        _change("query", "label_values(qmail_up{, job)", lambda board: _variable(board, "job")),
        _change("query", "labels(qmail_up, job)", lambda board: _variable(board, "job")),
    ],
    "template-on-time-change-reload-rule": [_change("refresh", 1, lambda board: _variable(board, "queue"))],
    "panel-datasource-rule": [_change("datasource", {"type": "prometheus", "uid": "P123"})],
    "panel-title-description-rule": [_change("title", ""), _change("description", "")],
    "panel-units-rule": [
        _change("unit", "furlong", lambda board: panels(board)[0]["fieldConfig"]["defaults"]),
        lambda board: panels(board)[0]["fieldConfig"]["defaults"].pop("unit"),
    ],
    "panel-no-targets-rule": [_change("targets", [])],
    "target-logql-rule": [
        _change("datasource", {"type": "loki"}, lambda board: panels(board)[0]["targets"][0])
    ],
    "target-promql-rule": [_ask("sum(qmail_up"), _ask(""), _annotate("qmail_up{")],
    "target-rate-interval-rule": [
        _ask("rate(qmail_messages_total[5m])"),
        _ask("sum(irate(qmail_messages_total[1h]))"),
    ],
    "target-job-rule": [
        _ask('qmail_up{instance=~"$instance"}'),
        _ask('qmail_up{job="$job", instance=~"$instance"}'),
        _ask('sum(rate(qmail_messages_total{instance=~"$instance"}[$__rate_interval]))'),
        _annotate('qmail_up{instance=~"$instance"}'),
    ],
    "target-instance-rule": [
        _ask('qmail_up{job=~"$job"}'),
        _ask(f'qmail_up{{{_CHOSEN}}} and on (job) up{{job=~"$job", instance=~".+"}}'),
    ],
    "target-counter-agg-rule": [
        _ask(f"qmail_messages_total{{{_CHOSEN}}}"),
        _ask(f"avg_over_time(qmail_messages_total{{{_CHOSEN}}}[$__range])"),
        _ask(f"sum by (le) (qmail_delivery_duration_seconds_bucket{{{_CHOSEN}}})"),
    ],
    "uneditable-dashboard": [_change("editable", True, lambda board: board)],
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rule_holds(path: Path, rule: str) -> None:
    """A dashboard keeps a rule of Grafana's linter."""
    assert list(RULES[rule](load(path))) == []


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rule_can_fail(path: Path, rule: str) -> None:
    """A rule finds each mistake that it is there for."""
    whole = load(path)
    for damage in BREAKS[rule]:
        board = copy.deepcopy(whole)
        damage(board)
        assert list(RULES[rule](board))
