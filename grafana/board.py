"""A dashboard as plain values, and their translation by grafana-foundation-sdk. Every panel says what it shows.

A query may use Grafana's variables: `$task` and `$model`, which the user picks, and `$__rate_interval`, `$__range`.
What a legend names must be a label of the query's result; a test runs each query against a Prometheus.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "farthing"
WIDTH = 24

Steps = tuple[tuple[float | None, str], ...]
"""From which value on which colour; the first begins nowhere."""


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `unit` is Grafana's name of it; `shape` a key of `_SHAPES`."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    shape: str = "lines"
    width: int = 8
    height: int = 8
    steps: Steps = ()
    decimals: int | None = None
    smallest: float | None = 0
    largest: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; `name` is its file, and its address behind `farthing-`."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    span: str = "now-6h"


def panel(title: str, description: str, *queries: Query | str, **more: Any) -> Panel:
    """Make a panel; a query without a legend may be a plain string."""
    return Panel(title, description, tuple(Query(one) if isinstance(one, str) else one for one in queries), **more)


def as_json(board: Board) -> str:
    """Write a dashboard as Grafana reads it."""
    return json.dumps(_built(board), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _built(board: Board) -> model.Dashboard:
    made = (
        dashboard.Dashboard(f"Farthing / {board.title}")
        .uid(f"farthing-{board.name}")
        .description(board.description)
        .tags([TAG])
        .timezone("utc")
        .time(board.span, "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(_to_the_others())
        .annotation(_revisions())
    )
    for variable in _variables():
        made.with_variable(variable)
    number = 0
    for row in board.rows:
        made.with_row(dashboard.Row(row.title))
        for one in row.panels:
            number += 1
            made.with_panel(_SHAPES[one.shape](one).id(number))
    return made.build()


def _to_the_others() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Farthing")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
        .tooltip("Spend, Routing, Health: the same time and the same choice")
    )


REVISIONS = "count by (revision) (farthing_policy_info) unless count by (revision) (farthing_policy_info offset 2m)"
"""The policies that are in force now and were not two minutes ago."""


def _revisions() -> Any:
    made = dashboard.AnnotationQuery().name("Policies").datasource(SOURCE).enable(enable=True).icon_color("purple")
    # The SDK's class knows an expression, and not how Grafana should call what it finds.
    return _Extra(made.expr(REVISIONS), step="60s", titleFormat="Policies {{revision}}", useValueForTime=False)


class _Extra:
    """A builder whose JSON has members that the SDK has no name for."""

    def __init__(self, builder: Any, **members: object) -> None:
        self._builder, self._members = builder, members

    def build(self) -> Any:
        return self

    def to_json(self) -> dict[str, object]:
        return {**self._builder.build().to_json(), **self._members}


def _variables() -> list[Any]:
    chosen = [
        dashboard.QueryVariable(name)
        .label(label)
        .description(f"Narrows what is known by {name}; budgets and processes are shown whole.")
        .query(f"label_values(farthing_requests_total, {name})")
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
        for name, label in (("task", "Task"), ("model", "Model"))
    ]
    return [dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"), *chosen]


def _lines(one: Panel) -> Any:
    return _time(one).fill_opacity(8)


def _stack(one: Panel) -> Any:
    stacked = common.StackingConfig().mode(options.StackingMode.NORMAL)
    return _time(one).fill_opacity(30).stacking(stacked)


def _shares(one: Panel) -> Any:
    stacked = common.StackingConfig().mode(options.StackingMode.PERCENT)
    return _time(one).fill_opacity(60).stacking(stacked)


def _time(one: Panel) -> Any:
    legend = (
        common.VizLegendOptions()
        .display_mode(options.LegendDisplayMode.LIST)
        .placement(options.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
    made = _common(timeseries.Panel(), one).legend(legend).tooltip(tooltip).show_points(options.VisibilityMode.NEVER)
    if one.steps:
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    return made


def _number(one: Panel) -> Any:
    made = _common(stat.Panel(), one)
    made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return made.graph_mode(options.BigValueGraphMode.AREA).color_mode(options.BigValueColorMode.VALUE)


def _bars(one: Panel) -> Any:
    made = _common(bargauge.Panel(), one, instant=True)
    made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return made.orientation(options.VizOrientation.HORIZONTAL).display_mode(options.BarGaugeDisplayMode.BASIC)


def _heat(one: Panel) -> Any:
    return _common(heatmap.Panel(), one, text="heatmap").calculate(calculate=False)


def _rows(one: Panel) -> Any:
    made = _common(table.Panel(), one, instant=True, text="table")
    made.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    names = {f"Value #{_letter(number)}": query.legend for number, query in enumerate(one.queries)}
    organised = {"excludeByName": {"Time": True}, "renameByName": names}
    return made.with_transformation(model.DataTransformerConfig(id_val="organize", options=organised))


_SHAPES: dict[str, Callable[[Panel], Any]] = {
    "lines": _lines,
    "stack": _stack,
    "shares": _shares,
    "number": _number,
    "bars": _bars,
    "heat": _heat,
    "table": _rows,
}


def _common(made: Any, one: Panel, *, instant: bool = False, text: str = "time_series") -> Any:
    made.title(one.title).description(one.description).unit(one.unit).datasource(SOURCE)
    made.span(one.width).height(one.height)
    if one.decimals is not None:
        made.decimals(one.decimals)
    if one.smallest is not None and one.shape != "heat":
        made.min(one.smallest)
    if one.largest is not None:
        made.max(one.largest)
    steps = one.steps or ((None, "green"),)
    made.thresholds(
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=colour) for value, colour in steps])
    )
    for number, query in enumerate(one.queries):
        made.with_target(_target(query, _letter(number), instant=instant, text=text))
    return made


def _target(query: Query, letter: str, *, instant: bool, text: str) -> Any:
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(SOURCE)
    made.format(PromQueryFormat(text))
    return made.instant() if instant else made.range().exemplar("histogram_quantile" in query.expr)


def _letter(number: int) -> str:
    return chr(ord("A") + number)
