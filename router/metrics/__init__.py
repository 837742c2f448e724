"""Outcomes as Prometheus metrics, and the gauges that operations watch.

Money has our names, tokens and time have OpenTelemetry's. No account, user or key is ever a label, but for accounts
where that was asked for. However many tasks and models there are, a scrape stays under 1 MB: names are capped, and so
are the bytes that each metric's series take. The rest is `_other`, and no sum changes.

Where several workers share a port, each writes its values to files of one folder, and a scrape of any of them reads
them all. A gauge then needs a `mode` that says how workers' values become one, and can't be a function: it is set
from its function by `refresh`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics

from router.metrics import families
from router.metrics.children import MOST_TASKS, Children
from router.metrics.collectors import BudgetsCollector, WorkersCollector
from router.metrics.exemplars import Exemplars
from router.metrics.families import CHECKED, ESCALATED, LABELLED, REFUSED, WARNINGS
from router.metrics.room import Names, Room
from router.metrics.words import (
    CHECKS,
    FAILURES,
    NO_FAILURES,
    NONE,
    OTHER,
    REFUSALS,
    Overhead,
    StoreName,
    StoreVerb,
    word,
)
from router.policy.policy import PolicySet
from router.values import NUSD_PER_USD, Certainty, Ending, Level, Outcome

__all__ = ["NONE", "OTHER", "Metrics", "StoreName", "StoreVerb"]


def overhead_by_reason(outcome: Outcome) -> dict[Overhead, int]:
    """Say what each part of the overhead paid for, in nUSD; parts of nothing are left out."""
    parts = dict.fromkeys((Overhead.AGREE, Overhead.JUDGE, Overhead.ESCALATION), 0)
    for attempt in outcome.attempts:
        reason = "escalation" if attempt.reason.startswith("check_") else attempt.reason
        for part in parts:
            if reason == part:
                parts[part] += attempt.charge_nusd
    rest_nusd = outcome.overhead_nusd - sum(parts.values())
    parts[Overhead.FAILED if outcome.ending is Ending.FAILED else Overhead.FAILED_LEG] = rest_nusd
    return {reason: nusd for reason, nusd in parts.items() if nusd > 0}


class Metrics:
    """Every metric of one process. `record` is called once for each outcome and never fails.

    `shared` is the folder that workers share; None where this process is alone, and keeps its values in memory.
    `account_label` tells cost and requests by account as well.
    """

    def __init__(self, registry: CollectorRegistry, *, shared: Path | None = None, account_label: bool = False) -> None:
        # They would double the series of every counter, and Prometheus finds resets without them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry if shared is None else CollectorRegistry()
        """What a scrape is answered from: every worker's values."""
        if shared is not None:
            self.registry.register(WorkersCollector(None, str(shared)))  # type: ignore[no-untyped-call]
        self._shared = shared is not None
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self._revision: str | None = None
        self._exemplars = Exemplars() if shared is None else None
        self.budgets: Sequence[Level] = ()
        """Set before a scrape, for a store is read asynchronously and a registry is not."""
        self.registry.register(BudgetsCollector(lambda: self.budgets))
        self._children = Children(registry, account_label=account_label)
        self._task, self._model = self._children.task, self._children.model
        self._warned = Names(MOST_TASKS)
        self._rooms = {family.name: Room(family) for family in (REFUSED, ESCALATED, CHECKED, LABELLED)}

        self._overhead_cost = families.OVERHEAD_COST.counter(registry)
        self._refusals = REFUSED.counter(registry)
        self._escalations = ESCALATED.counter(registry)
        self._breakers = families.BREAKERS.gauge(registry)
        self._checked = CHECKED.counter(registry)
        self._labelled = LABELLED.counter(registry)
        self._hung_checks = families.HUNG_CHECKS.counter(registry)
        for hung in ("late", "skipped"):
            self._hung_checks.labels(hung)
        self._attempt_failures = families.ATTEMPT_FAILURES.counter(registry)
        self._unreported = families.UNREPORTED.counter(registry)
        self._ratio = families.RATIO.histogram(registry)
        self._over_budget = families.OVER_BUDGET.counter(registry)
        self._own = families.OWN.histogram(registry)
        self._store = families.STORE.histogram(registry)
        self._policy_info = families.POLICY_INFO.gauge(registry)
        self._reloads = families.RELOADS.counter(registry)
        for result in ("accepted", "rejected"):
            self._reloads.labels(result)
        self._inflight = families.INFLIGHT.gauge(registry)
        self.loop_lag = families.LOOP_LAG.gauge(registry)
        self.orphaned = families.ORPHANED.gauge(registry)
        self._catalogue_age = families.CATALOGUE_AGE.gauge(registry)
        self._unsettled = families.UNSETTLED.gauge(registry)
        self._warnings = WARNINGS.counter(registry)
        self._rebuilds = families.REBUILDS.counter(registry)
        self._ledger_queue = families.LEDGER_QUEUE.gauge(registry)

    def record(self, outcome: Outcome) -> None:
        """Count one ended request."""
        if outcome.ending is Ending.SHADOW:
            self._record_shadow(outcome)
            return
        children = self._children
        series = children.of(outcome)
        series.requests.inc()
        seen = [(series.duration, outcome.latency_s), (self._own, outcome.own_s)]
        if outcome.difficulty is not None:
            seen.append((series.difficulty or children.difficulty_of(series), outcome.difficulty))
        if outcome.refusal and outcome.ending is Ending.REFUSED:
            self._observe(seen, outcome)
            self.refused(outcome.task, outcome.refusal)
            return
        cost_usd = outcome.charged_nusd / NUSD_PER_USD
        if cost_usd:
            (series.cost or children.cost_of(series)).inc(cost_usd)
        if outcome.baseline_nusd:
            series.baseline.inc(outcome.baseline_nusd / NUSD_PER_USD)
        usage = outcome.usage
        if usage:
            into, out_of = series.tokens or children.tokens_of(series)
            seen += [(into, usage.input_tokens), (out_of, usage.output_tokens)]
            if usage.cached_tokens:
                (series.cached or children.cached_of(series)).inc(usage.cached_tokens)
        if outcome.first_token_s is not None:
            seen.append((series.first_token or children.first_token_of(series), outcome.first_token_s))
        if outcome.ending in _ANSWERS:
            seen.append((series.answer_cost or children.answer_cost_of(series), cost_usd))
            seen.append((series.task_duration or children.task_duration_of(series), outcome.latency_s))
        if outcome.held_nusd:
            seen.append((self._ratio, outcome.charged_nusd / outcome.held_nusd))
        self._observe(seen, outcome)
        self._record_rare(outcome)

    def _observe(self, seen: list[tuple[Histogram, float]], outcome: Outcome) -> None:
        if self._exemplars is not None:
            self._exemplars.observe(seen, outcome)
            return
        for histogram, value in seen:
            histogram.observe(value)

    def _record_rare(self, outcome: Outcome) -> None:
        """Count what most requests have none of."""
        if outcome.certainty is not Certainty.REPORTED and outcome.charged_nusd:
            labels = self._children.model_of(outcome), outcome.certainty.value
            self._unreported.labels(*labels).inc(outcome.charged_nusd / NUSD_PER_USD)
        for level in outcome.warnings:
            name = self._warned(level.scope.name)
            self._warnings.labels(level.scope.kind, name, level.scope.window).inc()
        if outcome.verified:
            names = self._task(outcome.task), outcome.rule
            if names[0] == OTHER or not self._rooms[CHECKED.name].admits(*names, outcome.verified):
                names = OTHER, OTHER
            self._checked.labels(*names, outcome.verified).inc()
        if outcome.over_budget_nusd:
            self._over_budget.inc(outcome.over_budget_nusd / NUSD_PER_USD)
        if len(outcome.attempts) > 1 or outcome.overhead_nusd or outcome.ending is Ending.FAILED:
            self._record_failures(outcome)

    def _record_failures(self, outcome: Outcome) -> None:
        for attempt in outcome.attempts:
            if attempt.reason not in NO_FAILURES:
                self._attempt_failures.labels(self._model(attempt.model), word(attempt.reason, FAILURES)).inc()
        for reason, overhead_nusd in overhead_by_reason(outcome).items():
            self._overhead_cost.labels(self._task(outcome.task), reason.value).inc(overhead_nusd / NUSD_PER_USD)

    def _record_shadow(self, outcome: Outcome) -> None:
        """Count what a shadow cost, all of which bought no answer; it is nobody's request."""
        cost_usd = outcome.charged_nusd / NUSD_PER_USD
        self._children.shadow_cost_of(outcome).inc(cost_usd)
        self._overhead_cost.labels(self._task(outcome.task), Overhead.SHADOW.value).inc(cost_usd)
        if outcome.over_budget_nusd:
            self._over_budget.inc(outcome.over_budget_nusd / NUSD_PER_USD)

    def refused(self, task: str, reason: str) -> None:
        """Count a request that was refused; `reason` is the error's code."""
        labels = self._task(task), word(reason, REFUSALS)
        if not self._rooms[REFUSED.name].admits(*labels):
            labels = OTHER, labels[1]
        self._refusals.labels(*labels).inc()

    def rebuilt(self) -> None:
        """Count budgets that were lost and rebuilt from the ledger."""
        self._rebuilds.inc()

    def escalated(self, task: str, from_model: str, to_model: str, reason: str) -> None:
        names = self._task(task), self._model(from_model), self._model(to_model)
        reason = word(reason, CHECKS)
        if not self._rooms[ESCALATED.name].admits(*names, reason):
            names = OTHER, OTHER, OTHER
        self._escalations.labels(*names, reason).inc()

    def own_check_hung(self, result: Literal["late", "skipped"]) -> None:
        """Count a `python:` check that took too long, or was not made because too many still hang."""
        self._hung_checks.labels(result).inc()

    def labelled(self, task: str, source: str) -> None:
        """Count a label that a task learns from: of a shadow, a check or feedback."""
        task = self._task(task)
        self._labelled.labels(task if self._rooms[LABELLED.name].admits(task, source) else OTHER, source).inc()

    def breaker(self, model: str, target: str, is_open: bool) -> None:
        self._breakers.labels(self._model(model), target).set(is_open)

    def store(self, name: StoreName, verb: StoreVerb, taken_s: float) -> None:
        """Note how long a store took to answer."""
        self._store.labels(name, verb).observe(taken_s)

    def policies(self, revision: str | None) -> None:
        """Say which revision is in force now; None where a folder was rejected and the last one stays."""
        self._reloads.labels("rejected" if revision is None else "accepted").inc()
        if revision is not None:
            if self._shared and self._revision is not None:
                # Nothing is ever removed from a shared file; `WorkersCollector` leaves this 0 out.
                self._policy_info.labels(self._revision).set(0)
            elif not self._shared:
                self._policy_info.clear()
            self._policy_info.labels(revision).set(1)
            self._revision = revision

    def expect(self, policies: PolicySet) -> None:
        """Begin the series of money and requests that these policies can lead to at 0.

        Prometheus' increase() is the difference between samples, and so does not see a series' first value: of what
        begins at 1 the first request would be missing. What may never come takes half of the room at the most.
        """
        for task in policies.policies:
            for reason in Overhead:
                self._overhead_cost.labels(self._task(task), reason.value)
        self._children.expect(policies)

    def watch(
        self,
        *,
        inflight: Callable[[], int],
        ledger_queue: Callable[[], int],
        unsettled: Callable[[], int],
        catalogue_age_days: Callable[[], float],
    ) -> None:
        """Read these at each scrape; of other workers, what they were at their last `refresh`."""
        self._watch(self._inflight, inflight)
        self._watch(self._ledger_queue, ledger_queue)
        self._watch(self._unsettled, unsettled)
        self._watch(self._catalogue_age, catalogue_age_days)

    def refresh(self) -> None:
        """Tell the other workers what the watched gauges are now; nothing to do where there are none."""
        for gauge, read in self._watched:
            gauge.set(read())

    def _watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        if self._shared:
            self._watched.append((gauge, read))
        else:
            gauge.set_function(read)


_ANSWERS = (Ending.ANSWERED, Ending.CUT)
