"""What all dashboards share: variables, annotations, links to each other, and how rows are put together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from boards.panel import SOURCE
from boards.query import select

TAG = "qmail"
EXAMPLE = "https://wiki.example.net/qmail_exporter/docs"
"""Where the links lead to unless told: an address for whoever installs the dashboards to replace."""
_ALL = model.VariableOption(selected=True, text="All", value="$__all")
_STEP = "30s"

Panel = Builder[model.Panel]


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard.

    Attributes:
        uid: which stays, as links and bookmarks hold it; also the file's name.
        title: of the dashboard.
        about: its description.
        rows: from top to bottom.
        one: it is of one host and queue at a time, rather than of all.
        domains: it has the variable `domain`.
        quiet: only outages are marked until the other annotations are switched on.
    """

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    one: bool = False
    domains: bool = False
    quiet: bool = False

    def json(self, docs: str = EXAMPLE) -> str:
        """Return it as Grafana's classic JSON; `docs` is the address under which docs/ is to be had."""
        plain = json.loads(json.dumps(self._build(docs), cls=JSONEncoder))
        return json.dumps(_in_sight(plain), indent=2, sort_keys=True) + "\n"

    def _build(self, docs: str) -> model.Dashboard:
        made = build.Dashboard(self.title).uid(self.uid).description(self.about).tags([TAG]).readonly()
        made.time("now-6h", "now").refresh("1m").timezone("browser")
        made.tooltip(model.DashboardCursorSync.CROSSHAIR)
        made.link(_others()).variables(self._variables(docs)).annotations(_annotations(quiet=self.quiet))
        for row in self.rows:
            made.with_row(build.Row(row.title))
            for panel in row.panels:
                made.with_panel(panel)
        board = made.build()
        for number, placed in enumerate(board.panels or (), 1):
            placed.id_val = number
        return board

    def _variables(self, docs: str) -> list[Builder[model.VariableModel]]:
        source = build.DatasourceVariable("datasource").label("Data source").type("prometheus")
        found: list[Builder[model.VariableModel]] = [
            source,
            _variable("job", "qmail_up", everything=True),
            _variable("instance", 'qmail_up{job=~"$job"}', everything=not self.one),
            _variable("queue", "qmail_up{HOST}", everything=True),
        ]
        if self.domains:
            found.append(_variable("domain", "qmail_domain_pending_recipients{HERE}", everything=True))
        hidden = build.ConstantVariable("docs").label("Documents")
        return [*found, hidden.value(docs)]


def _in_sight(value: Any) -> Any:
    """Return JSON without the placement of links and annotations in a menu, which is the SDK's default."""
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if (key, part) != ("placement", "inControlsMenu")}
        return {key: _in_sight(part) for key, part in kept.items()}
    return [_in_sight(part) for part in value] if isinstance(value, list) else value


def _variable(name: str, series: str, *, everything: bool) -> build.QueryVariable:
    """Return a variable with the values that a label has; of several chosen ones, panels show the sum."""
    variable = build.QueryVariable(name).label(name.capitalize()).datasource(SOURCE)
    variable.query(f"label_values({select(series)}, {name})").sort(model.VariableSort.ALPHABETICAL_ASC)
    variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).all_value(".+")
    return variable.include_all(True).current(_ALL) if everything else variable.include_all(False)


def _others() -> build.DashboardLink:
    link = build.DashboardLink("qmail").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(False).include_vars(True).keep_time(True).icon("external link")


def _annotations(*, quiet: bool) -> list[Builder[model.AnnotationQuery]]:
    """What happened: outages as regions; runs of the hook and restarts as moments, switched off at first if it is to be quiet."""
    text = "{{instance}} {{queue}}"
    outages, *others = [
        _annotation(
            "Outages",
            "red",
            'max by (instance, queue) (qmail_outage_state{HERE, state=~"outage|settling"}) > 0',
            "The network is away",
            text,
        ),
        # The value is the moment, in milliseconds.
        _annotation(
            "Hook runs",
            "blue",
            "qmail_hook_last_run_timestamp_seconds{HERE} * 1000",
            "Outage hook: {{action}}",
            text,
        ).use_value_for_time(True),
        _annotation(
            "Restarts of qmail-send",
            "purple",
            "increase(qmail_send_restarts_total{HERE}[$__rate_interval]) > 0",
            "qmail-send started",
            text,
        ),
        _annotation(
            "Restarts of the exporter",
            "yellow",
            "(process_start_time_seconds{HOST} and on (job, instance) qmail_exporter_build_info{HOST}) * 1000",
            "qmail_exporter started",
            "{{instance}}",
        ).use_value_for_time(True),
    ]
    return [outages, *(each.enable(not quiet) for each in others)]


def _annotation(name: str, colour: str, promql: str, title: str, text: str) -> build.AnnotationQuery:
    target = prometheus.Dataquery().ref_id("Anno").datasource(SOURCE).expr(select(promql)).range()
    made = build.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour)
    made.target(target.interval(_STEP)).step(_STEP).tag_keys("instance,queue")
    return made.title_format(title).text_format(text)
