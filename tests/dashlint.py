"""The rules of Grafana's dashboard linter (github.com/grafana/dashboard-linter, docs/rules), on panels of every kind.

Each rule takes a dashboard and yields what is wrong with it. Two go further than the linter's: counters are known by the
exporter's list of metrics and not only by `_total`, and what holds for the targets of panels holds for annotations.
"""

from collections.abc import Callable, Iterator

import promql_parser as promql

from dashboards import (
    RATE_INTERVAL,
    SUFFIXES,
    Json,
    asked,
    filled,
    panels,
    selectors,
    series_of,
    variables,
    walk,
)
from qmail_exporter.metrics import FAMILIES

UNITS = {
    "none", "short", "locale", "percentunit", "bytes", "Bps", "s", "dateTimeFromNow", "cps", "ops", "mps",
}  # fmt: skip
"""Those of the linter's list that are used here."""
COUNTED = {
    family.name + end for family in FAMILIES if family.kind == "histogram" for end in SUFFIXES["histogram"]
}
RATES = {"rate", "irate", "increase"}

Rule = Callable[[Json], Iterator[str]]


def template_datasource(board: Json) -> Iterator[str]:
    """There is one variable for the data source, with the usual name and label."""
    found = [(each["name"], each["label"], each["query"]) for each in variables(board, "datasource")]
    if found != [("datasource", "Data source", "prometheus")]:
        yield f"data sources: {found}"


def _template(board: Json, name: str) -> Iterator[str]:
    found = next((each for each in board["templating"]["list"] if each["name"] == name), None)
    if found is None:
        yield f"no variable {name}"
        return
    expected = {
        "type": "query",
        "label": name.capitalize(),
        "multi": True,
        "allValue": ".+",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
    }
    yield from (f"{name}: {key} is {found.get(key)}" for key in expected if found.get(key) != expected[key])


def template_job(board: Json) -> Iterator[str]:
    """There is a variable for the job, of which several can be chosen, or all."""
    yield from _template(board, "job")


def template_instance(board: Json) -> Iterator[str]:
    """There is such a variable for the instance."""
    yield from _template(board, "instance")


def template_label_promql(board: Json) -> Iterator[str]:
    """Each variable's query is `label_values` of valid PromQL."""
    for variable in variables(board):
        if complaint := _mistake(variable["query"], of_variable=True):
            yield f"variable {variable['name']}: {complaint}"


def template_on_time_change_reload(board: Json) -> Iterator[str]:
    """Each variable is asked for anew when the time that is shown changes."""
    yield from (f"variable {each['name']}" for each in variables(board) if each.get("refresh") != 2)


def panel_datasource(board: Json) -> Iterator[str]:
    """Each panel takes its data from the source that the variable names."""
    for panel in panels(board):
        if panel.get("datasource", {}).get("uid") not in {"$datasource", "${datasource}"}:
            yield panel["title"]


def panel_title_description(board: Json) -> Iterator[str]:
    """Each panel has a title and a description."""
    for panel in panels(board):
        if not (panel.get("title") and panel.get("description")):
            yield f"panel {panel['id']}: {panel.get('title')}"


def panel_units(board: Json) -> Iterator[str]:
    """Each panel has a unit, and each unit is one."""
    for panel in panels(board):
        config = panel["fieldConfig"]
        values = [each for override in config["overrides"] for each in override["properties"]]
        units = [config["defaults"].get("unit"), *(each["value"] for each in values if each["id"] == "unit")]
        if not set(units) <= UNITS:
            yield f"{panel['title']}: {units}"


def panel_no_targets(board: Json) -> Iterator[str]:
    """Each panel asks for something."""
    yield from (panel["title"] for panel in panels(board) if not panel.get("targets"))


def target_logql(board: Json) -> Iterator[str]:
    """Nothing is asked of Loki, which the linter's rules for LogQL are about."""
    for each in asked(board):
        if each.target["datasource"]["type"] != "prometheus":
            yield each.where


def target_promql(board: Json) -> Iterator[str]:
    """Each query is valid PromQL."""
    for each in asked(board):
        if complaint := _mistake(each.expr):
            yield f"{each.where}: {complaint}"


def _mistake(query: str, *, of_variable: bool = False) -> str:
    """Return what is wrong with a query, if anything is."""
    try:
        promql.parse(filled(series_of(query)[0] if of_variable else query, every=False))
    except ValueError as error:
        return str(error) or "no query"
    return ""


def target_rate_interval(board: Json) -> Iterator[str]:
    """Each rate is over `$__rate_interval`."""
    own = promql.parse_duration(RATE_INTERVAL)
    for each in asked(board):
        for node, parents in walk(promql.parse(filled(each.expr, every=False))):
            if isinstance(node, promql.MatrixSelector) and node.range != own:
                (*_, above) = parents
                if not isinstance(above, promql.Call) or above.func.name in {"rate", "irate"}:
                    yield f"{each.where}: {node.prettify()}"


def _matcher(board: Json, name: str) -> Iterator[str]:
    for each in asked(board):
        for selector in selectors(each.expr):
            if not any(
                (matcher.name, matcher.op, matcher.value) == (name, promql.MatchOp.Re, f"${name}")
                for matcher in selector.matchers.matchers
            ):
                yield f"{each.where}: {selector.prettify()}"


def target_job(board: Json) -> Iterator[str]:
    """Each selector has `job=~"$job"`."""
    yield from _matcher(board, "job")


def target_instance(board: Json) -> Iterator[str]:
    """Each selector has `instance=~"$instance"`."""
    yield from _matcher(board, "instance")


def target_counter_agg(board: Json) -> Iterator[str]:
    """Of each counter the rate or the increase is taken."""
    for each in asked(board):
        for node, parents in walk(promql.parse(filled(each.expr, every=False))):
            if not isinstance(node, promql.VectorSelector) or node.name is None:
                continue
            if not (node.name.endswith("_total") or node.name in COUNTED):
                continue
            call = parents[-2] if len(parents) > 1 else None
            if not (isinstance(call, promql.Call) and call.func.name in RATES):
                yield f"{each.where}: {node.name}"


def uneditable_dashboard(board: Json) -> Iterator[str]:
    """It cannot be edited where it is shown: what is changed there would be lost with the next version."""
    if board.get("editable", True):
        yield "it can be edited"


RULES: dict[str, Rule] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_job,
    "template-instance-rule": template_instance,
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-logql-rule": target_logql,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_job,
    "target-instance-rule": target_instance,
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard": uneditable_dashboard,
}
"""By the linter's names; `target-logql-rule` stands for `target-logql-auto-rule` as well."""
