"""The dashboards of deploy/grafana as tests read them: JSON, panels, targets, and what their queries ask for."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql

from qmail_exporter.metrics import FAMILIES

GRAFANA = Path(__file__).parents[1] / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
RATE_INTERVAL = "7m13s"
"""What stands for `$__rate_interval` when a query is parsed: no query has that range by chance."""
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "gaugehistogram": ("_bucket", "_gsum", "_gcount")}
PROMETHEUS_OWN = {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
"""Series that Prometheus makes of each scrape."""
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")

Json = dict[str, Any]


class Asked(NamedTuple):
    """A query of a dashboard, and where it stands."""

    where: str
    target: Json

    @property
    def expr(self) -> str:
        """It in PromQL, with Grafana's variables."""
        return str(self.target["expr"])


def load(path: Path) -> Json:
    """Read a dashboard."""
    board: Json = json.loads(path.read_text(encoding="utf-8"))
    return board


def panels(board: Json) -> list[Json]:
    """Return its panels without the rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def variables(board: Json, kind: str = "query") -> list[Json]:
    """Return its variables of a kind."""
    return [variable for variable in board["templating"]["list"] if variable["type"] == kind]


def annotations(board: Json) -> list[Asked]:
    """Return the queries of its annotations."""
    return [Asked(f"annotation {found['name']}", found["target"]) for found in board["annotations"]["list"]]


def asked(board: Json) -> list[Asked]:
    """Return all queries of its panels and annotations."""
    return [
        *(
            Asked(f"panel {panel['title']}, {target['refId']}", target)
            for panel in panels(board)
            for target in panel.get("targets", ())
        ),
        *annotations(board),
    ]


def series_of(query: str) -> tuple[str, str]:
    """Return the series that a variable's query asks for, and the label whose values it takes.

    Raises:
        ValueError: it is no such query.
    """
    found = _LABEL_VALUES.fullmatch(query)
    if found is None:
        raise ValueError(f"no label_values: {query}")
    return found[1], found[2]


def filled(expr: str, *, rate_interval: str = RATE_INTERVAL, span: str = "1h", every: bool = True) -> str:
    """Return a query with Grafana's variables replaced, those of labels by `.+`, as for All; or left, as strings may hold a $."""
    expr = expr.replace("$__rate_interval", rate_interval).replace("$__range", span)
    return re.sub(r'"\$\w+"', '".+"', expr) if every else expr


def walk(
    node: promql.Expr, parents: tuple[promql.Expr, ...] = ()
) -> Iterator[tuple[promql.Expr, tuple[promql.Expr, ...]]]:
    """Yield each node of a query with those above it, the nearest last."""
    yield node, parents
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        part = getattr(node, name, None)
        if isinstance(part, promql.Expr):
            yield from walk(part, (*parents, node))
    if isinstance(node, promql.Call):
        for part in node.args:
            yield from walk(part, (*parents, node))


def selectors(expr: str) -> list[promql.VectorSelector]:
    """Return the selectors of a query."""
    nodes = walk(promql.parse(filled(expr, every=False)))
    return [node for node, _ in nodes if isinstance(node, promql.VectorSelector)]


def exported() -> set[str]:
    """Return the names of all series of a scrape: qmail's, and those of the exporter's own process."""
    names = {"qmail_exporter_build_info", "qmail_exporter_web_config_last_reload_successful"}
    for family in FAMILIES:
        names |= {family.name + suffix for suffix in SUFFIXES.get(family.kind, ("",))}
    return names
