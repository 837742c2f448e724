"""Outcomes as Prometheus metrics, and the gauges that operations watch.

Money has our names, tokens and time have OpenTelemetry's. No account, user or key is ever a label. Distinct values of
`task` and `model` are capped, and so are the label sets that they make together, for that is what a scrape costs: with
all of it used up a scrape stays under 1 MB. The rest is `_other`, and no sum changes.

Where several workers share a port, each writes its values to files of one folder, and a scrape of any of them reads
them all. A gauge then needs a `mode` that says how workers' values become one, and can't be a function: it is set
from its function by `refresh`.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from router.values import BESIDE, NUSD_PER_USD, Certainty, Ending, Level, Outcome

OTHER = "_other"
NONE = "none"
MOST_TASKS = 200
MOST_MODELS = 100
MOST_COUNTED = 500
"""Label sets of task, rule, model, provider, kind and outcome that are counted by themselves."""
MOST_OBSERVED = 24
"""Pairs of task and model with histograms of their own, 70 lines each; then a model has those of `_other` tasks."""
MOST_OBSERVED_MODELS = 12
MOST_TIMED = 40
"""The same for the histogram of durations, which tells the outcome as well."""
MOST_TIMED_MODELS = 20
MOST_ESCALATIONS = 100
MOST_DISTRIBUTIONS = 25
"""Tasks with histograms of difficulty and of cost by themselves."""
MOST_BUDGETS = 300
"""Budgets that have gauges: the fullest, where there are more."""

TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""OpenTelemetry's buckets for gen_ai.client.token.usage (semantic conventions for GenAI metrics, 1.37)."""
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""OpenTelemetry's buckets for gen_ai.server.request.duration."""
FIRST_TOKEN_BUCKETS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)
"""OpenTelemetry's buckets for gen_ai.server.time_to_first_token."""
OVERHEAD_BUCKETS = (
    0.0001,
    0.0002,
    0.0003,
    0.0005,
    0.00075,
    0.001,
    0.0015,
    0.002,
    0.005,
    0.01,
    0.05,
    0.1,
    1.0,
)
ANSWER_COST_BUCKETS = (0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
"""A short answer of a small model costs $0.00001; a long one of a large model, with a long prompt, a dollar."""
DIFFICULTY_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RATIO_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0, 1.1, 1.5, 2.0)

EXEMPLAR_EVERY_S = 0.01
"""Two requests within that time leave one exemplar; files that workers share hold none."""


NO_FAILURES = frozenset(("answered", "cut", "cancelled", *BESIDE))
"""How attempts end that did what was asked of them."""


def overhead_by_reason(outcome: Outcome) -> dict[str, int]:
    """Say what each part of the overhead paid for, in nUSD; parts of nothing are left out."""
    parts = dict.fromkeys(("agree", "judge", "escalation"), 0)
    for attempt in outcome.attempts:
        reason = "escalation" if attempt.reason.startswith("check_") else attempt.reason
        if reason in parts:
            parts[reason] += attempt.charge_nusd
    rest_nusd = outcome.overhead_nusd - sum(parts.values())
    parts["failed" if outcome.ending is Ending.FAILED else "failed_leg"] = rest_nusd
    return {reason: nusd for reason, nusd in parts.items() if nusd > 0}


@dataclass(frozen=True, slots=True)
class _Series:
    """The children that one (task, rule, model, provider, kind, outcome) touches, looked up once."""

    cost: Counter
    requests: Counter
    input_tokens: Histogram
    output_tokens: Histogram
    duration: Histogram
    first_token: Histogram
    answer_cost: Histogram
    baseline: Counter


@dataclass(slots=True)
class _Cap:
    """Admits the first `most` distinct values, and no other."""

    most: int
    seen: set[Hashable] = field(default_factory=set)

    def admits(self, value: Hashable) -> bool:
        if value in self.seen:
            return True
        if len(self.seen) < self.most:
            self.seen.add(value)
            return True
        return False

    def __call__(self, value: str) -> str:
        return value if self.admits(value) else OTHER


@dataclass(slots=True)
class _PairCap:
    """Caps the label sets that hold a task and a model: first the task is `_other`, and then the model too."""

    pairs: _Cap
    models: _Cap

    def __call__(self, task: str, model: str, *more: str) -> tuple[str, str]:
        if self.pairs.admits((task, model, *more)):
            return task, model
        return OTHER, model if self.models.admits((model, *more)) else OTHER


class Metrics:
    """Every metric of one process. `record` is called once for each outcome and never fails.

    `shared` is the folder that workers share; None where this process is alone, and keeps its values in memory.
    """

    def __init__(self, registry: CollectorRegistry, *, shared: Path | None = None) -> None:
        # They would double the series of every counter, and Prometheus finds resets without them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry if shared is None else CollectorRegistry()
        """What a scrape is answered from: every worker's values."""
        if shared is not None:
            self.registry.register(_Workers(None, str(shared)))  # type: ignore[no-untyped-call]
        self._shared = shared is not None
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self._revision: str | None = None
        self._next_exemplar_s = 0.0
        self.budgets: Sequence[Level] = ()
        """Set before a scrape, for a store is read asynchronously and a registry is not."""
        self.registry.register(_BudgetGauges(self))
        self._task, self._model = _Cap(MOST_TASKS), _Cap(MOST_MODELS)
        self._counted, self._escalated = _Cap(MOST_COUNTED), _Cap(MOST_ESCALATIONS)
        self._observed = _PairCap(_Cap(MOST_OBSERVED), _Cap(MOST_OBSERVED_MODELS))
        self._timed = _PairCap(_Cap(MOST_TIMED), _Cap(MOST_TIMED_MODELS))
        self._cached = _PairCap(_Cap(MOST_OBSERVED), _Cap(MOST_MODELS))
        self._distributed, self._warned = _Cap(MOST_DISTRIBUTIONS), _Cap(MOST_BUDGETS)
        self._series: dict[tuple[str | None, ...], _Series] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=tuple(buckets))

        def gauge(name: str, text: str, mode: Literal["livesum", "livemax"], *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)

        self._tokens = histogram(
            "gen_ai_client_token_usage", "Tokens of a request, by type.", TOKEN_BUCKETS,
            "gen_ai_token_type", "gen_ai_request_model", "gen_ai_provider_name", "task",
        )  # fmt: skip
        self._duration = histogram(
            "gen_ai_server_request_duration_seconds", "From arrival to the last byte.", DURATION_BUCKETS,
            "gen_ai_request_model", "task", "outcome",
        )  # fmt: skip
        self._first_token = histogram(
            "gen_ai_server_time_to_first_token_seconds", "From arrival to the first byte of the answer.",
            FIRST_TOKEN_BUCKETS, "gen_ai_request_model", "task",
        )  # fmt: skip
        self._cost = counter("farthing_cost_usd", "Every dollar paid.", "task", "rule", "model", "provider", "kind")
        self._baseline = counter("farthing_baseline_cost_usd", "What the baseline model would have cost.", "task")
        self._overhead_cost = counter(
            "farthing_overhead_cost_usd", "The part of the cost that bought no answer.", "task", "reason"
        )
        self._requests = counter("farthing_requests", "Requests by how they ended.", "task", "rule", "model", "outcome")
        self._refusals = counter("farthing_refusals", "Requests refused by Farthing.", "task", "reason")
        self._escalations = counter(
            "farthing_escalations", "Answers that failed their check.", "task", "from", "to", "reason"
        )
        self._breakers = gauge(
            "farthing_breaker_open", "1 while others are tried before a target.", "livemax", "model", "target"
        )
        self._checked = counter(
            "farthing_checked_answers",
            "Answers of rules that check them, by what came of it.",
            "task",
            "rule",
            "result",
        )
        self._attempt_failures = counter("farthing_attempt_failures", "Attempts that failed.", "model", "reason")
        self._unreported = counter(
            "farthing_unreported_cost_usd", "Dollars charged without a usage that the provider reported.",
            "model", "certainty",
        )  # fmt: skip
        self._cached_tokens = counter(
            "farthing_cached_input_tokens", "Tokens of prompts that were read from the provider's cache.",
            "task", "model",
        )  # fmt: skip
        self._answer_cost = histogram(
            "farthing_answer_cost_usd", "Dollars paid for one answer.", ANSWER_COST_BUCKETS, "task"
        )
        self._difficulty = histogram(
            "farthing_difficulty", "The difficulty of requests whose task looks at it.", DIFFICULTY_BUCKETS, "task"
        )
        self._ratio = histogram("farthing_estimate_ratio", "Charged / held.", RATIO_BUCKETS)
        self._over_budget = counter("farthing_over_budget_usd", "Dollars that a request's bound failed to hold.")
        self._own = histogram("farthing_overhead_seconds", "Time added by Farthing itself.", OVERHEAD_BUCKETS)
        self._policy_info = gauge("farthing_policy_info", "The policies in force.", "livemax", "revision")
        self._reloads = counter("farthing_policy_reloads", "Policy folders read, by result.", "result")
        for result in ("accepted", "rejected"):
            self._reloads.labels(result)
        self._inflight = gauge("farthing_inflight_requests", "Requests under way.", "livesum")
        self.loop_lag = gauge("farthing_event_loop_lag_seconds", "How late the event loop last ran a timer.", "livemax")
        self._catalogue_age = gauge(
            "farthing_price_catalogue_age_days", "Age of the bundled price catalogue.", "livemax"
        )
        self._unsettled = gauge(
            "farthing_unsettled_holds", "Settlements that are not in the store of budgets yet.", "livesum"
        )
        self._warnings = counter(
            "farthing_budget_warnings", "Requests that found or put a soft budget past its limit.",
            "scope", "name", "window",
        )  # fmt: skip
        self._rebuilds = counter("farthing_budget_rebuilds", "Times that lost budgets were rebuilt from the ledger.")
        self._ledger_queue = gauge("farthing_ledger_queue", "Ledger rows taken on and not committed yet.", "livesum")

    def record(self, outcome: Outcome) -> None:
        """Count one ended request."""
        if outcome.ending is Ending.SHADOW:
            self._record_shadow(outcome)
            return
        series = self._series_of(outcome)
        exemplar = self._exemplar(outcome)
        series.requests.inc()
        series.duration.observe(outcome.latency_s, exemplar)
        self._own.observe(outcome.own_s, exemplar)
        if outcome.difficulty is not None:
            self._difficulty.labels(self._distribution(outcome.task)).observe(outcome.difficulty, exemplar)
        if outcome.refusal and outcome.ending is Ending.REFUSED:
            self.refused(outcome.task, outcome.refusal)
            return
        if outcome.charged_nusd:
            series.cost.inc(outcome.charged_nusd / NUSD_PER_USD)
        if outcome.baseline_nusd:
            series.baseline.inc(outcome.baseline_nusd / NUSD_PER_USD)
        if outcome.usage:
            series.input_tokens.observe(outcome.usage.input_tokens, exemplar)
            series.output_tokens.observe(outcome.usage.output_tokens, exemplar)
        if outcome.first_token_s is not None:
            series.first_token.observe(outcome.first_token_s, exemplar)
        if outcome.ending in (Ending.ANSWERED, Ending.CUT):
            series.answer_cost.observe(outcome.charged_nusd / NUSD_PER_USD, exemplar)
        if outcome.held_nusd:
            self._ratio.observe(outcome.charged_nusd / outcome.held_nusd, exemplar)
        self._record_rare(outcome)

    def _exemplar(self, outcome: Outcome) -> dict[str, str] | None:
        """Return what to show beside an observation; not for each, since it takes longer than all the counting."""
        now_s = time.monotonic()
        if self._shared or now_s < self._next_exemplar_s:
            return None
        self._next_exemplar_s = now_s + EXEMPLAR_EVERY_S
        named = {"request_id": outcome.id}
        return named | {"trace_id": outcome.trace.trace_id} if outcome.trace else named

    def _record_rare(self, outcome: Outcome) -> None:
        """Count what most requests have none of."""
        if outcome.usage and outcome.usage.cached_tokens:
            pair = self._cached(self._task(outcome.task), self._model(outcome.routed_model or NONE))
            self._cached_tokens.labels(*pair).inc(outcome.usage.cached_tokens)
        if outcome.certainty is not Certainty.REPORTED and outcome.charged_nusd:
            labels = self._model(outcome.routed_model or NONE), outcome.certainty.value
            self._unreported.labels(*labels).inc(outcome.charged_nusd / NUSD_PER_USD)
        for level in outcome.warnings:
            name = self._warned(level.scope.name)
            self._warnings.labels(level.scope.kind, name, level.scope.window).inc()
        if outcome.verified:
            task = self._task(outcome.task)
            self._checked.labels(task, OTHER if task == OTHER else outcome.rule, outcome.verified).inc()
        if outcome.over_budget_nusd:
            self._over_budget.inc(outcome.over_budget_nusd / NUSD_PER_USD)
        if len(outcome.attempts) > 1 or outcome.overhead_nusd or outcome.ending is Ending.FAILED:
            self._record_failures(outcome)

    def _record_shadow(self, outcome: Outcome) -> None:
        """Count what a shadow cost, all of which bought no answer; it is nobody's request."""
        task, model = self._task(outcome.task), self._model(outcome.routed_model or NONE)
        rule = OTHER if task == OTHER else outcome.rule
        cost_usd = outcome.charged_nusd / NUSD_PER_USD
        self._cost.labels(task, rule, model, outcome.provider or NONE, outcome.kind or NONE).inc(cost_usd)
        self._overhead_cost.labels(task, "shadow").inc(cost_usd)
        if outcome.over_budget_nusd:
            self._over_budget.inc(outcome.over_budget_nusd / NUSD_PER_USD)

    def refused(self, task: str, reason: str) -> None:
        """Count a request that was refused; `reason` is the error's code."""
        self._refusals.labels(self._task(task), reason).inc()

    def rebuilt(self) -> None:
        """Count budgets that were lost and rebuilt from the ledger."""
        self._rebuilds.inc()

    def escalated(self, task: str, from_model: str, to_model: str, reason: str) -> None:
        from_model, to_model = self._model(from_model), self._model(to_model)
        if not self._escalated.admits((task, from_model, to_model)):
            task = from_model = to_model = OTHER
        self._escalations.labels(self._task(task), from_model, to_model, reason).inc()

    def breaker(self, model: str, target: str, is_open: bool) -> None:
        self._breakers.labels(self._model(model), target).set(is_open)

    def policies(self, revision: str | None) -> None:
        """Say which revision is in force now; None where a folder was rejected and the last one stays."""
        self._reloads.labels("rejected" if revision is None else "accepted").inc()
        if revision is not None:
            if self._shared and self._revision is not None:
                # Nothing is ever removed from a shared file; `_Workers` leaves this 0 out.
                self._policy_info.labels(self._revision).set(0)
            elif not self._shared:
                self._policy_info.clear()
            self._policy_info.labels(revision).set(1)
            self._revision = revision

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

    def _record_failures(self, outcome: Outcome) -> None:
        for attempt in outcome.attempts:
            if attempt.reason not in NO_FAILURES:
                self._attempt_failures.labels(self._model(attempt.model), attempt.reason).inc()
        for reason, overhead_nusd in overhead_by_reason(outcome).items():
            self._overhead_cost.labels(self._task(outcome.task), reason).inc(overhead_nusd / NUSD_PER_USD)

    def _series_of(self, outcome: Outcome) -> _Series:
        key = (
            outcome.task, outcome.rule, outcome.routed_model, outcome.provider, outcome.kind, outcome.ending
        )  # fmt: skip
        series = self._series.get(key)
        if series is None:
            series = self._new_series(outcome)
            if len(self._series) < MOST_TASKS * MOST_MODELS:
                self._series[key] = series
        return series

    def _new_series(self, outcome: Outcome) -> _Series:
        task, model = self._task(outcome.task), self._model(outcome.routed_model or NONE)
        rule, ending = OTHER if task == OTHER else outcome.rule, outcome.ending.value
        provider, kind = outcome.provider or NONE, outcome.kind or NONE
        observed_task, observed_model = self._observed(task, model)
        timed_task, timed_model = self._timed(task, model, ending)
        baseline = self._baseline.labels(task)
        answer_cost = self._answer_cost.labels(self._distribution(task))
        if not self._counted.admits((task, rule, model, provider, kind, ending)):
            task = rule = OTHER
        return _Series(
            cost=self._cost.labels(task, rule, model, provider, kind),
            requests=self._requests.labels(task, rule, model, ending),
            input_tokens=self._tokens.labels("input", observed_model, provider, observed_task),
            output_tokens=self._tokens.labels("output", observed_model, provider, observed_task),
            duration=self._duration.labels(timed_model, timed_task, ending),
            first_token=self._first_token.labels(observed_model, observed_task),
            answer_cost=answer_cost,
            baseline=baseline,
        )

    def _distribution(self, task: str) -> str:
        return self._distributed(self._task(task))


class _Workers(MultiProcessCollector):
    """The values of every worker as one: counters of dead ones too, gauges of those that live."""

    def collect(self) -> Iterable[Metric]:
        for family in super().collect():  # type: ignore[no-untyped-call]
            if family.name == "farthing_policy_info":
                family.samples = [sample for sample in family.samples if sample.value]
            yield family


def _fullness(level: Level) -> float:
    return (level.spent_nusd + level.held_nusd) / max(1, level.scope.limit_nusd)


class _BudgetGauges(Collector):
    """How full every budget is, the fullest first; a scope without a limit has no series."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ["scope", "name", "window"]
        limit = GaugeMetricFamily("farthing_budget_limit_usd", "The limit.", labels=labels)
        spent = GaugeMetricFamily("farthing_budget_spent_usd", "Spent in this window.", labels=labels)
        held = GaugeMetricFamily("farthing_budget_held_usd", "Held for requests under way.", labels=labels)
        remaining = GaugeMetricFamily("farthing_budget_remaining_usd", "What a hold may still take.", labels=labels)
        for level in heapq.nlargest(MOST_BUDGETS, self._metrics.budgets, key=_fullness):
            values = [level.scope.kind, level.scope.name, level.scope.window]
            limit.add_metric(values, level.scope.limit_nusd / NUSD_PER_USD)
            spent.add_metric(values, level.spent_nusd / NUSD_PER_USD)
            held.add_metric(values, level.held_nusd / NUSD_PER_USD)
            remaining.add_metric(values, level.left_nusd / NUSD_PER_USD)
        return [limit, spent, held, remaining]
