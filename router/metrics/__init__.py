"""Outcomes as Prometheus metrics, and the gauges that operations watch.

Money has our names, tokens and time have OpenTelemetry's. No account, user or key is ever a label, but for accounts
where that was asked for. However many tasks and models there are, a scrape stays under 1 MB: names are capped, and so
are the bytes that each metric's series take. The rest is `_other`, and no sum changes.

Where several workers share a port, each writes its values to files of one folder, and a scrape of any of them reads
them all. A gauge then needs a `mode` that says how workers' values become one, and can't be a function: it is set
from its function by `refresh`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from router.metrics import families
from router.metrics.collectors import BudgetsCollector, WorkersCollector
from router.metrics.families import (
    ANSWER_COST,
    CACHED,
    CHECKED,
    COST,
    DIFFICULTY,
    DURATION,
    ESCALATED,
    FIRST_TOKEN,
    LABELLED,
    REFUSED,
    REQUESTS,
    TASK_DURATION,
    TOKENS,
    WARNINGS,
    Family,
)
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
from router.policy.decide import PINNED
from router.policy.policy import Policy, PolicySet, Rule
from router.values import NUSD_PER_USD, Certainty, Ending, Level, Outcome

__all__ = ["NONE", "OTHER", "Metrics", "StoreName", "StoreVerb"]

MOST_TASKS = 200
MOST_MODELS = 60
MOST_ACCOUNTS = 100
MOST_SERIES = 10_000
"""Combinations whose children are remembered; others are looked up each time."""
NOT_ANSWERED_BYTES = 16_000
"""For the durations of requests that were not answered; they must not take the room of those that were."""
NOT_ANSWERED_BY_TASK_BYTES = 25_000
"""For counts of the same where nothing but the task is told of them."""
EXPECTED_SHARE = 0.5
"""The part of its room that a metric gives to series that were not needed yet."""

EXEMPLAR_EVERY_S = 0.01
"""Two requests within that time leave one exemplar; files that workers share hold none."""
MOST_EXEMPLARS = 400
"""Buckets, about, that have one, at 80 bytes each."""


@dataclass(slots=True)
class _Series:
    """The children that one (task, rule, model, provider, kind, outcome, account) touches, each looked up once."""

    task: str
    rule: str
    model: str
    provider: str
    kind: str
    account: tuple[str, ...]
    requests: Counter
    duration: Histogram
    baseline: Counter
    cost: Counter | None = None
    input_tokens: Histogram | None = None
    output_tokens: Histogram | None = None
    first_token: Histogram | None = None
    answer_cost: Histogram | None = None
    task_duration: Histogram | None = None
    difficulty: Histogram | None = None
    cached: Counter | None = None


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
        self._next_exemplar_s = 0.0
        self._exemplars: set[tuple[int, int]] = set()
        self.budgets: Sequence[Level] = ()
        """Set before a scrape, for a store is read asynchronously and a registry is not."""
        self.registry.register(BudgetsCollector(lambda: self.budgets))
        self._series: dict[tuple[str | None, ...], _Series] = {}
        self._account_label = account_label
        self._task, self._model, self._account = Names(MOST_TASKS), Names(MOST_MODELS), Names(MOST_ACCOUNTS)
        self._warned = Names(MOST_TASKS)
        cost, requests = (family.with_label("account") if account_label else family for family in (COST, REQUESTS))
        self._rooms = {
            family.name: Room(family)
            for family in (
                *(cost, requests, REFUSED, ESCALATED, CHECKED, LABELLED, CACHED, WARNINGS),
                *(TOKENS, DURATION, FIRST_TOKEN, ANSWER_COST, TASK_DURATION, DIFFICULTY),
            )
        }
        self._not_answered = Room(DURATION, NOT_ANSWERED_BYTES)
        self._not_answered_by_task = Room(requests, NOT_ANSWERED_BY_TASK_BYTES)

        self._tokens = TOKENS.histogram(registry)
        self._duration = DURATION.histogram(registry)
        self._first_token = FIRST_TOKEN.histogram(registry)
        self._cost = cost.counter(registry)
        self._baseline = families.BASELINE.counter(registry)
        self._overhead_cost = families.OVERHEAD_COST.counter(registry)
        self._requests = requests.counter(registry)
        self._refusals = REFUSED.counter(registry)
        self._escalations = ESCALATED.counter(registry)
        self._breakers = families.BREAKERS.gauge(registry)
        self._checked = CHECKED.counter(registry)
        self._labelled = LABELLED.counter(registry)
        self._attempt_failures = families.ATTEMPT_FAILURES.counter(registry)
        self._unreported = families.UNREPORTED.counter(registry)
        self._cached_tokens = CACHED.counter(registry)
        self._answer_cost = ANSWER_COST.histogram(registry)
        self._task_duration = TASK_DURATION.histogram(registry)
        self._difficulty = DIFFICULTY.histogram(registry)
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
        self._catalogue_age = families.CATALOGUE_AGE.gauge(registry)
        self._unsettled = families.UNSETTLED.gauge(registry)
        self._warnings = WARNINGS.counter(registry)
        self._rebuilds = families.REBUILDS.counter(registry)
        self._ledger_queue = families.LEDGER_QUEUE.gauge(registry)

    # -- one request ---------------------------------------------------------------------------------------------------

    def record(self, outcome: Outcome) -> None:
        """Count one ended request."""
        if outcome.ending is Ending.SHADOW:
            self._record_shadow(outcome)
            return
        series = self._series_of(outcome)
        series.requests.inc()
        seen = [(series.duration, outcome.latency_s), (self._own, outcome.own_s)]
        if outcome.difficulty is not None:
            seen.append((series.difficulty or self._difficulty_of(series), outcome.difficulty))
        if outcome.refusal and outcome.ending is Ending.REFUSED:
            self._observe(seen, outcome)
            self.refused(outcome.task, outcome.refusal)
            return
        cost_usd = outcome.charged_nusd / NUSD_PER_USD
        if cost_usd:
            (series.cost or self._cost_of(series)).inc(cost_usd)
        if outcome.baseline_nusd:
            series.baseline.inc(outcome.baseline_nusd / NUSD_PER_USD)
        usage = outcome.usage
        if usage:
            seen.append((series.input_tokens or self._tokens_of(series, "input"), usage.input_tokens))
            seen.append((series.output_tokens or self._tokens_of(series, "output"), usage.output_tokens))
            if usage.cached_tokens:
                (series.cached or self._cached_of(series)).inc(usage.cached_tokens)
        if outcome.first_token_s is not None:
            seen.append((series.first_token or self._first_token_of(series), outcome.first_token_s))
        if outcome.ending in _ANSWERS:
            seen.append((series.answer_cost or self._answer_cost_of(series), cost_usd))
            seen.append((series.task_duration or self._task_duration_of(series), outcome.latency_s))
        if outcome.held_nusd:
            seen.append((self._ratio, outcome.charged_nusd / outcome.held_nusd))
        self._observe(seen, outcome)
        self._record_rare(outcome)

    def _observe(self, seen: list[tuple[Histogram, float]], outcome: Outcome) -> None:
        """Put values into their buckets; now and then with the request's id, which takes longer than all the rest."""
        now_s = time.monotonic()
        if self._shared or now_s < self._next_exemplar_s:
            for histogram, value in seen:
                histogram.observe(value)
            return
        self._next_exemplar_s = now_s + EXEMPLAR_EVERY_S
        exemplar = {"request_id": outcome.id}
        if outcome.trace:
            exemplar["trace_id"] = outcome.trace.trace_id
        for histogram, value in seen:
            histogram.observe(value, exemplar if self._has_exemplar(histogram, value) else None)

    def _has_exemplar(self, histogram: Histogram, value: float) -> bool:
        """Say whether this bucket bears exemplars; powers of two stand for buckets, which are no wider."""
        bucket = (id(histogram), math.frexp(value)[1])
        if bucket in self._exemplars:
            return True
        if len(self._exemplars) == MOST_EXEMPLARS:
            return False
        self._exemplars.add(bucket)
        return True

    def _record_rare(self, outcome: Outcome) -> None:
        """Count what most requests have none of."""
        if outcome.certainty is not Certainty.REPORTED and outcome.charged_nusd:
            labels = self._model_of(outcome), outcome.certainty.value
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
        task, provider, kind = self._task(outcome.task), outcome.provider or NONE, outcome.kind or NONE
        rule = OTHER if task == OTHER else outcome.rule
        labels = (task, rule, self._model_of(outcome), provider, kind, *self._account_of(outcome))
        self._cost_labelled(labels).inc(cost_usd)
        self._overhead_cost.labels(self._task(outcome.task), Overhead.SHADOW.value).inc(cost_usd)
        if outcome.over_budget_nusd:
            self._over_budget.inc(outcome.over_budget_nusd / NUSD_PER_USD)

    # -- what else happens ---------------------------------------------------------------------------------------------

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
            self._baseline.labels(self._task(task))
            for reason in Overhead:
                self._overhead_cost.labels(self._task(task), reason.value)
        rules = [(rule, policy) for policy in policies.policies.values() for rule in policy.rules]
        usual = [(rule.name, _models_of(rule), policy) for rule, policy in rules]
        for ending in (Ending.ANSWERED, Ending.FAILED, Ending.CUT, Ending.CANCELLED):
            self._expect(policies, ending, usual)
        pinned = [(PINNED, tuple(policies.models), policy) for policy in policies.policies.values()]
        # Where none of a rule's models fits, every other one of the policy is tried.
        unusual = [(rule.name, policy.models, policy) for rule, policy in rules]
        self._expect(policies, Ending.ANSWERED, [*pinned, *unusual])

    def _expect(self, policies: PolicySet, ending: Ending, ways: Iterable[tuple[str, Sequence[str], Policy]]) -> None:
        """Begin the series of each way's rule and models, the first models of all ways before the second ones."""
        found = [(place, rule, name, policy.task) for rule, names, policy in ways for place, name in enumerate(names)]
        for _, rule, name, task in sorted(found, key=lambda way: way[0]):
            model = policies.models[name]
            for account in self._accounts(policies, task):
                labels = self._task(task), rule, self._model(name)
                if OTHER in labels:
                    return
                requests = (*labels, ending.value, *account)
                if not self._rooms[REQUESTS.name].admits(*requests, share=EXPECTED_SHARE):
                    return
                self._requests.labels(*requests)
                for provider in dict.fromkeys(target.provider for target in model.targets):
                    cost = (*labels, provider, model.kind, *account)
                    if self._rooms[COST.name].admits(*cost, share=EXPECTED_SHARE):
                        self._cost.labels(*cost)

    def _accounts(self, policies: PolicySet, task: str) -> Iterator[tuple[str, ...]]:
        if not self._account_label:
            yield ()
        elif not policies.accounts:
            yield (NONE,)
        else:
            for name, account in policies.accounts.items():
                if account.tasks is None or task in account.tasks:
                    yield (self._account(name),)

    # -- gauges that are functions -------------------------------------------------------------------------------------

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

    # -- children ------------------------------------------------------------------------------------------------------

    def _series_of(self, outcome: Outcome) -> _Series:
        key = (
            outcome.task, outcome.rule, outcome.routed_model, outcome.provider, outcome.kind, outcome.ending,
            outcome.account if self._account_label else None,
        )  # fmt: skip
        series = self._series.get(key)
        if series is None:
            series = self._new_series(outcome)
            if len(self._series) < MOST_SERIES:
                self._series[key] = series
        return series

    def _new_series(self, outcome: Outcome) -> _Series:
        task, model = self._task(outcome.task), self._model_of(outcome)
        rule, ending = OTHER if task == OTHER else outcome.rule, outcome.ending.value
        account = self._account_of(outcome)
        room = self._rooms[DURATION.name] if outcome.ending is Ending.ANSWERED else self._not_answered
        return _Series(
            task,
            rule,
            model,
            outcome.provider or NONE,
            outcome.kind or NONE,
            account,
            requests=self._requests_of(task, rule, model, outcome.ending, account),
            duration=self._duration.labels(model if room.admits(model, ending) else OTHER, ending),
            baseline=self._baseline.labels(task),
        )

    def _requests_of(self, task: str, rule: str, model: str, ending: Ending, account: tuple[str, ...]) -> Counter:
        labels = (task, rule, model, ending.value, *account)
        if not self._rooms[REQUESTS.name].admits(*labels):
            labels = (task, OTHER, OTHER, ending.value, *(OTHER for _ in account))
            if ending is not Ending.ANSWERED and not self._not_answered_by_task.admits(*labels):
                labels = (OTHER, *labels[1:])
        return self._requests.labels(*labels)

    def _cost_of(self, series: _Series) -> Counter:
        labels = (series.task, series.rule, series.model, series.provider, series.kind, *series.account)
        series.cost = self._cost_labelled(labels)
        return series.cost

    def _cost_labelled(self, labels: tuple[str, ...]) -> Counter:
        if not self._rooms[COST.name].admits(*labels):
            labels = (labels[0], *(OTHER for _ in labels[1:]))
        return self._cost.labels(*labels)

    def _tokens_of(self, series: _Series, kind: str) -> Histogram:
        model, provider = series.model, series.provider
        # Of a model that has its input told, the output is told too.
        if not self._rooms[TOKENS.name].admits("output", model, provider):
            model = provider = OTHER
        series.input_tokens = self._tokens.labels("input", model, provider)
        series.output_tokens = self._tokens.labels("output", model, provider)
        return series.input_tokens if kind == "input" else series.output_tokens

    def _cached_of(self, series: _Series) -> Counter:
        pair = series.task, series.model
        if not self._rooms[CACHED.name].admits(*pair):
            pair = OTHER, series.model
        series.cached = self._cached_tokens.labels(*pair)
        return series.cached

    def _first_token_of(self, series: _Series) -> Histogram:
        series.first_token = self._first_token.labels(self._room_of(FIRST_TOKEN, series.model))
        return series.first_token

    def _answer_cost_of(self, series: _Series) -> Histogram:
        series.answer_cost = self._answer_cost.labels(self._room_of(ANSWER_COST, series.task))
        return series.answer_cost

    def _task_duration_of(self, series: _Series) -> Histogram:
        series.task_duration = self._task_duration.labels(self._room_of(TASK_DURATION, series.task))
        return series.task_duration

    def _difficulty_of(self, series: _Series) -> Histogram:
        series.difficulty = self._difficulty.labels(self._room_of(DIFFICULTY, series.task))
        return series.difficulty

    def _account_of(self, outcome: Outcome) -> tuple[str, ...]:
        if not self._account_label:
            return ()
        return (self._account(outcome.account) if outcome.account else NONE,)

    def _model_of(self, outcome: Outcome) -> str:
        return self._model(outcome.routed_model) if outcome.routed_model else NONE

    def _room_of(self, family: Family, name: str) -> str:
        return name if self._rooms[family.name].admits(name) else OTHER


def _models_of(rule: Rule) -> tuple[str, ...]:
    """Return every model that a rule may lead to, each once, in the order in which they are tried."""
    escalates_to = rule.verify.escalate_to if rule.verify else None
    return tuple(dict.fromkeys((*rule.use, escalates_to) if escalates_to else rule.use))


_ANSWERS = (Ending.ANSWERED, Ending.CUT)
