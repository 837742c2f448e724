"""What a scrape is asked for beside counters: how full budgets are, and the values of several workers as one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from router.metrics.families import HELD, LIMIT, POLICY_INFO, REMAINING, SPENT
from router.values import NUSD_PER_USD, Level

MOST_BUDGETS = 150
"""Budgets that have gauges: the fullest, where there are more."""


class WorkersCollector(MultiProcessCollector):
    """The values of every worker as one: counters of dead ones too, gauges of those that live."""

    def collect(self) -> Iterable[Metric]:
        for family in super().collect():  # type: ignore[no-untyped-call]
            if family.name == POLICY_INFO.name:
                family.samples = [sample for sample in family.samples if sample.value]
            yield family


class BudgetsCollector(Collector):
    """How full every budget is, the fullest first; a scope without a limit has no series."""

    def __init__(self, levels: Callable[[], Sequence[Level]]) -> None:
        self._levels = levels

    def collect(self) -> Iterable[GaugeMetricFamily]:
        limit, spent, held, remaining = (
            GaugeMetricFamily(family.name, family.text, labels=family.labels)
            for family in (LIMIT, SPENT, HELD, REMAINING)
        )
        for level in heapq.nlargest(MOST_BUDGETS, self._levels(), key=_fullness):
            values = [level.scope.kind, level.scope.name, level.scope.window]
            limit.add_metric(values, level.scope.limit_nusd / NUSD_PER_USD)
            spent.add_metric(values, level.spent_nusd / NUSD_PER_USD)
            held.add_metric(values, level.held_nusd / NUSD_PER_USD)
            remaining.add_metric(values, level.left_nusd / NUSD_PER_USD)
        return [limit, spent, held, remaining]


def _fullness(level: Level) -> float:
    return (level.spent_nusd + level.held_nusd) / max(1, level.scope.limit_nusd)
