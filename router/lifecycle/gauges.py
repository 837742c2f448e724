"""Experiments as Prometheus metrics: each side's requests, dollars, latency, checks and agreement, and the states.

`side` is control, canary or shadow; the series are as many as the policies have experiments, 20 at the most.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from router.lifecycle.ends import State
from router.lifecycle.rollout import Watched
from router.lifecycle.sample import part_of, sample_of
from router.metrics import OTHER, families
from router.values import NUSD_PER_USD, Outcome

MOST_EXPERIMENTS = 20
"""At 9 kB of a scrape each."""


class ExperimentGauges:
    """The metrics of experiments in one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seen: set[str] = set()
        self._requests = families.EXPERIMENT_REQUESTS.counter(registry)
        self._cost = families.EXPERIMENT_COST.counter(registry)
        self._latency = families.EXPERIMENT_LATENCY.histogram(registry)
        self._checks = families.EXPERIMENT_CHECKS.counter(registry)
        self._agreement = families.EXPERIMENT_AGREEMENT.histogram(registry)
        self._dropped = families.EXPERIMENT_DROPPED.counter(registry)
        self._state = families.EXPERIMENT_STATE.gauge(registry)
        self._stated: set[tuple[str, str]] = set()

    def record(self, outcome: Outcome) -> None:
        """Count one ended request, where it has a part in an experiment."""
        if (part := part_of(outcome.facts)) is None or (sample := sample_of(outcome, part)) is None:
            return
        labels = (*self._names(part.name), part.side.value)
        self._requests.labels(*labels, "failed" if sample.is_error else "answered").inc()
        self._cost.labels(*labels).inc(sample.cost_nusd / NUSD_PER_USD)
        if sample.latency_ms is not None:
            self._latency.labels(*labels).observe(sample.latency_ms / 1e3)
        if sample.passed is not None:
            self._checks.labels(*labels, "passed" if sample.passed else "failed").inc()
        if sample.agreement is not None:
            self._agreement.labels(*labels[:2]).observe(sample.agreement)

    def dropped(self, name: str, reason: str) -> None:
        """Count a request that was not mirrored; `name` is the experiment's."""
        self._dropped.labels(*self._names(name), reason).inc()

    def states(self, watched: Iterable[Watched]) -> None:
        """Say where every experiment in force stands; those that are not there any more are in no state."""
        now = {self._names(each.experiment.name): each.state for each in watched}
        for names in self._stated | now.keys():
            for state in State:
                self._state.labels(*names, state.value).set(now.get(names) is state)
        self._stated |= now.keys()

    def _names(self, name: str) -> tuple[str, str]:
        """Return an experiment's task and rule; `_other` past the most that have series of their own."""
        if name not in self._seen:
            if len(self._seen) >= MOST_EXPERIMENTS:
                return OTHER, OTHER
            self._seen.add(name)
        task, _, rule = name.partition("/")
        return task, rule
