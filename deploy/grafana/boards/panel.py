"""The kinds of panels: each function returns one, ready to be placed.

What a panel shows is a `Subject`; how it looks is the same for all panels of a kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat_options
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from boards.query import Query

SOURCE = options.DataSourceRef("prometheus", "${datasource}")
DOCS = "${docs:raw}"
"""Where docs/ is to be had: the variable of that name."""
GOOD, FAIR, BAD, PLAIN = "green", "orange", "red", "text"

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from this value on, this colour. The first is from None on."""
Style = Literal["line", "stack", "bars"]
Scale = Literal["usual", "share", "log"]
_FILL: Mapping[Style, int] = {"line": 8, "stack": 30, "bars": 60}
_P = TypeVar(
    "_P", bargauge.Panel, heatmap.Panel, stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a panel shows.

    Attributes:
        title: of the panel.
        about: its description: what is to be seen, and what to make of it.
        queries: where it comes from.
        unit: Grafana's name of the values' unit.
        runbooks: alerts that speak of the same; each becomes a link to its runbook.
        pages: pages of docs/ that say more, as links.
        empty: what to show where there is no value.
        steps: thresholds.
        width: of the grid's 24 columns.
        height: in the grid's rows of 30 pixels; what is usual for the kind of panel unless given.
    """

    title: str
    about: str
    queries: Sequence[Query]
    unit: str = "short"
    runbooks: Sequence[str] = ()
    pages: Sequence[str] = ()
    empty: str = "no data"
    steps: Steps = ((None, PLAIN),)
    width: int = 8
    height: int | None = None


def number(subject: Subject, *, decimals: int | None = None, sparkline: bool = True) -> stat.Panel:
    """One number, coloured by the thresholds, above its course over the time that is shown."""
    panel = _with_subject(stat.Panel().height(subject.height or 4), subject)
    mode = options.BigValueGraphMode.AREA if sparkline else options.BigValueGraphMode.NONE
    panel.graph_mode(mode).color_mode(options.BigValueColorMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_scheme(_colours(model.FieldColorModeId.THRESHOLDS))
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def total(subject: Subject, *, decimals: int = 0) -> stat.Panel:
    """One number that stands for all of the time that is shown: the query has `[$__range]`."""
    return number(subject, decimals=decimals, sparkline=False)


def lines(
    subject: Subject,
    *,
    style: Style = "line",
    scale: Scale = "usual",
    colours: Mapping[str, str] | None = None,
) -> timeseries.Panel:
    """Values over time.

    Args:
        subject: what they show.
        style: `stack` is for parts of a sum, one above the other; `bars` for events, rather than a course.
        scale: a `share` lies between 0 and 1, and the axis shows all of that; what is of many magnitudes needs a `log` scale.
        colours: fixed ones, by the series' name.
    """
    panel = _with_subject(timeseries.Panel().height(subject.height or 8), subject)
    panel.color_scheme(_colours(model.FieldColorModeId.PALETTE_CLASSIC))
    panel.line_width(1).show_points(options.VisibilityMode.NEVER).fill_opacity(_FILL[style])
    panel.tooltip(
        common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
    )
    panel.legend(_legend("lastNotNull", "max"))
    if style == "bars":
        panel.draw_style(options.GraphDrawStyle.BARS)
    if style == "stack":
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    _scale(panel, subject.unit, scale)
    if len(subject.steps) > 1:
        dashed = common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
        panel.thresholds_style(dashed)
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [_value("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def bars(subject: Subject, *, calculation: str = "lastNotNull") -> bargauge.Panel:
    """A bar for each series, of its last value."""
    panel = _with_subject(bargauge.Panel().height(subject.height or 8), subject)
    panel.display_mode(options.BarGaugeDisplayMode.GRADIENT).orientation(options.VizOrientation.HORIZONTAL)
    panel.reduce_options(common.ReduceDataOptions().calcs([calculation]))
    return panel.min(0).color_scheme(_colours(model.FieldColorModeId.THRESHOLDS))


def heat(subject: Subject) -> heatmap.Panel:
    """A histogram over time: the query gives its buckets, `sum by (le) (…)`."""
    panel = _with_subject(heatmap.Panel().height(subject.height or 8), subject, PromQueryFormat.HEATMAP)
    scheme = heatmap.HeatmapColorOptions().mode(heat_options.HeatmapColorMode.SCHEME).scheme("Oranges")
    scheme.scale(heat_options.HeatmapColorScale.EXPONENTIAL).exponent(0.5).steps(64).fill("dark-orange")
    panel.calculate(False).color(scheme).cell_gap(1)
    panel.filter_values(heatmap.FilterValueRange().le(1e-9))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(options.HeatmapCellLayout.AUTO))
    panel.y_axis(heatmap.YAxisConfig().unit(subject.unit).axis_placement(options.AxisPlacement.LEFT))
    panel.cell_values(heatmap.CellValues().unit("short").decimals(0))
    return panel.tooltip(heatmap.HeatmapTooltip().mode(options.TooltipDisplayMode.SINGLE).y_histogram(True))


def states(subject: Subject, names: Mapping[int, tuple[str, str]]) -> statetimeline.Panel:
    """A band for each series, whose values have names and colours."""
    panel = _with_subject(statetimeline.Panel().height(subject.height or 6), subject)
    panel.mappings([named(names)]).color_scheme(_colours(model.FieldColorModeId.THRESHOLDS))
    panel.merge_values(True).show_value(options.VisibilityMode.NEVER).row_height(0.8).fill_opacity(70)
    panel.legend(_legend()).tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
    return panel


@dataclass(frozen=True, slots=True)
class Column:
    """How a column of a table looks: the unit, the thresholds that colour its cells, names of values, a link, a width."""

    unit: str = ""
    steps: Steps = ()
    names: Mapping[int, tuple[str, str]] | None = None
    link: str = ""
    width: int | None = None
    decimals: int | None = None


def rows(
    subject: Subject, labels: Mapping[str, str], columns: Mapping[str, Column], *, sort: str
) -> table.Panel:
    """A table with a row for each set of labels and a column for each query.

    Args:
        subject: what it shows; each query's legend is the name of its column.
        labels: names of the columns that show labels, by label, in order.
        columns: how columns look, by name.
        sort: the column by which it is sorted, largest first.
    """
    panel = _with_subject(table.Panel().height(subject.height or 8), subject, PromQueryFormat.TABLE)
    # Grafana calls the only query's values `Value`, and those of several `Value #A`, after the query.
    names = {f"Value #{_letter(place)}": query.legend for place, query in enumerate(subject.queries)}
    renamed = {**labels, **names}
    order = {name: place for place, name in enumerate(renamed)}
    panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    arranged = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": renamed}
    panel.with_transformation(model.DataTransformerConfig("organize", options=arranged))
    panel.cell_height(options.TableCellHeight.SM).cell_options(options.TableAutoCellOptions()).sort_by(
        [common.TableSortByFieldState().display_name(sort).desc(True)]
    )
    for name, column in columns.items():
        panel.override_by_name(name, list(_properties(column)))
    return panel


def named(names: Mapping[int, tuple[str, str]]) -> model.ValueMap:
    """Return the mapping of values to their names and colours."""
    return model.ValueMap(
        {
            str(value): model.ValueMappingResult(text, colour, index=place)
            for place, (value, (text, colour)) in enumerate(names.items())
        }
    )


def _properties(column: Column) -> list[model.DynamicConfigValue]:
    found = [_value("unit", column.unit)] if column.unit else []
    if column.steps:
        found.append(_value("thresholds", thresholds(column.steps).build()))
    if column.names:
        found.append(_value("mappings", [named(column.names)]))
    if column.steps or column.names:
        found.append(_value("custom.cellOptions", {"type": "color-text"}))
    if column.link:
        found.append(_value("links", [{"title": "Look closer", "url": column.link}]))
    if column.width is not None:
        found.append(_value("custom.width", column.width))
    if column.decimals is not None:
        found.append(_value("decimals", column.decimals))
    return found


def thresholds(steps: Steps) -> build.ThresholdsConfig:
    """Return thresholds in absolute numbers."""
    made = [model.Threshold(value, colour) for value, colour in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _with_subject(panel: _P, subject: Subject, form: PromQueryFormat = PromQueryFormat.TIME_SERIES) -> _P:
    """Give a panel what panels of every kind have."""
    panel.title(subject.title).description(subject.about).datasource(SOURCE).unit(subject.unit)
    panel.no_value(subject.empty).thresholds(thresholds(subject.steps))
    panel.span(subject.width)
    pages = [*(f"runbooks/{name}.md" for name in subject.runbooks), *subject.pages]
    panel.links([_link(page) for page in pages])
    for place, query in enumerate(subject.queries):
        panel.with_target(_target(query, _letter(place), form))
    return panel


def _target(query: Query, letter: str, form: PromQueryFormat) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(query.expr).format(form)
    target.legend_format(query.legend if form is PromQueryFormat.TIME_SERIES else "__auto")
    if form is PromQueryFormat.HEATMAP:
        target.legend_format("{{le}}")
    return target.instant() if query.now else target.range()


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _link(page: str) -> build.DashboardLink:
    name = page.rpartition("/")[2].removesuffix(".md")
    title = f"Runbook {name}" if page.startswith("runbooks/") else f"More: {name}"
    link = build.DashboardLink(title).type(model.DashboardLinkType.LINK)
    return link.url(f"{DOCS}/{page}").target_blank(True)


def _legend(*calculations: str) -> common.VizLegendOptions:
    legend = common.VizLegendOptions().placement(options.LegendPlacement.BOTTOM).show_legend(True)
    mode = options.LegendDisplayMode.TABLE if calculations else options.LegendDisplayMode.LIST
    return legend.display_mode(mode).calcs(list(calculations))


def _scale(panel: timeseries.Panel, unit: str, scale: Scale) -> None:
    if scale == "log":
        panel.scale_distribution(common.ScaleDistributionConfig().type(options.ScaleDistribution.LOG).log(10))
        return
    panel.axis_soft_min(0)
    if scale == "share":
        panel.min(0).max(1)
    elif unit == "short":
        panel.axis_soft_max(1)  # else nothing but zeros is drawn below an axis of 0 to 100


def _colours(mode: model.FieldColorModeId) -> build.FieldColor:
    return build.FieldColor().mode(mode)


def _value(name: str, value: object) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(name, value)
