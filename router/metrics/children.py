"""The series that each request counts in: looked up once, within names that are capped and room that is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from router.metrics.families import (
    ANSWER_COST,
    BASELINE,
    CACHED,
    COST,
    DIFFICULTY,
    DURATION,
    FIRST_TOKEN,
    REQUESTS,
    TASK_DURATION,
    TOKENS,
    Family,
)
from router.metrics.room import Names, Room
from router.metrics.words import NONE, OTHER
from router.policy.decide import PINNED
from router.policy.policy import Policy, PolicySet, Rule
from router.values import Ending, Outcome

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


@dataclass(slots=True)
class Series:
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
    tokens: tuple[Histogram, Histogram] | None = None
    """Of the input and of the output."""
    first_token: Histogram | None = None
    answer_cost: Histogram | None = None
    task_duration: Histogram | None = None
    difficulty: Histogram | None = None
    cached: Counter | None = None


class ByName:
    """A histogram of one label, a task or a model, with room for so many of them."""

    def __init__(self, family: Family, registry: CollectorRegistry) -> None:
        self._room = Room(family)
        self._histogram = family.histogram(registry)

    def of(self, name: str) -> Histogram:
        return self._histogram.labels(name if self._room.admits(name) else OTHER)


class Children:
    """The children of every family that tells requests apart; what has no room counts in `_other`."""

    def __init__(self, registry: CollectorRegistry, *, account_label: bool) -> None:
        self.task, self.model, self._account = Names(MOST_TASKS), Names(MOST_MODELS), Names(MOST_ACCOUNTS)
        self._account_label = account_label
        self._series: dict[tuple[str | None, ...], Series] = {}
        cost, requests = (family.with_label("account") if account_label else family for family in (COST, REQUESTS))
        self._rooms = {family.name: Room(family) for family in (cost, requests, CACHED, TOKENS, DURATION)}
        self._not_answered = Room(DURATION, NOT_ANSWERED_BYTES)
        self._not_answered_by_task = Room(requests, NOT_ANSWERED_BY_TASK_BYTES)
        self._cost = cost.counter(registry)
        self._baseline = BASELINE.counter(registry)
        self._requests = requests.counter(registry)
        self._cached_tokens = CACHED.counter(registry)
        self._tokens = TOKENS.histogram(registry)
        self._duration = DURATION.histogram(registry)
        self._first_token = ByName(FIRST_TOKEN, registry)
        self._answer_cost = ByName(ANSWER_COST, registry)
        self._task_duration = ByName(TASK_DURATION, registry)
        self._difficulty = ByName(DIFFICULTY, registry)

    def of(self, outcome: Outcome) -> Series:
        """Return what an outcome counts in. What most outcomes have no need of is begun by the `_of` methods below."""
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

    def model_of(self, outcome: Outcome) -> str:
        return self.model(outcome.routed_model) if outcome.routed_model else NONE

    def cost_of(self, series: Series) -> Counter:
        labels = (series.task, series.rule, series.model, series.provider, series.kind, *series.account)
        series.cost = self._cost_labelled(labels)
        return series.cost

    def shadow_cost_of(self, outcome: Outcome) -> Counter:
        """Return where a shadow's cost goes; it is nobody's request, and so has no other series."""
        task, provider, kind = self.task(outcome.task), outcome.provider or NONE, outcome.kind or NONE
        rule = OTHER if task == OTHER else outcome.rule
        labels = (task, rule, self.model_of(outcome), provider, kind, *self._account_of(outcome))
        return self._cost_labelled(labels)

    def tokens_of(self, series: Series) -> tuple[Histogram, Histogram]:
        model, provider = series.model, series.provider
        # Of a model that has its input told, the output is told too.
        if not self._rooms[TOKENS.name].admits("output", model, provider):
            model = provider = OTHER
        series.tokens = self._tokens.labels("input", model, provider), self._tokens.labels("output", model, provider)
        return series.tokens

    def cached_of(self, series: Series) -> Counter:
        pair = series.task, series.model
        if not self._rooms[CACHED.name].admits(*pair):
            pair = OTHER, series.model
        series.cached = self._cached_tokens.labels(*pair)
        return series.cached

    def first_token_of(self, series: Series) -> Histogram:
        series.first_token = self._first_token.of(series.model)
        return series.first_token

    def answer_cost_of(self, series: Series) -> Histogram:
        series.answer_cost = self._answer_cost.of(series.task)
        return series.answer_cost

    def task_duration_of(self, series: Series) -> Histogram:
        series.task_duration = self._task_duration.of(series.task)
        return series.task_duration

    def difficulty_of(self, series: Series) -> Histogram:
        series.difficulty = self._difficulty.of(series.task)
        return series.difficulty

    def expect(self, policies: PolicySet) -> None:
        """Begin the series that these policies can lead to at 0, in half of the room at the most."""
        for task in policies.policies:
            self._baseline.labels(self.task(task))
        rules = [(rule, policy) for policy in policies.policies.values() for rule in policy.rules]
        usual = [(rule.name, _models_of(rule), policy) for rule, policy in rules]
        for ending in (Ending.ANSWERED, Ending.FAILED, Ending.CUT, Ending.CANCELLED):
            self._expect(policies, ending, usual)
        pinned = [(PINNED, tuple(policies.models), policy) for policy in policies.policies.values()]
        # Where none of a rule's models fits, every other one of the policy is tried.
        unusual = [(rule.name, policy.models, policy) for rule, policy in rules]
        self._expect(policies, Ending.ANSWERED, [*pinned, *unusual])

    def _new_series(self, outcome: Outcome) -> Series:
        task, model = self.task(outcome.task), self.model_of(outcome)
        rule, ending = OTHER if task == OTHER else outcome.rule, outcome.ending.value
        account = self._account_of(outcome)
        room = self._rooms[DURATION.name] if outcome.ending is Ending.ANSWERED else self._not_answered
        return Series(
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

    def _cost_labelled(self, labels: tuple[str, ...]) -> Counter:
        if not self._rooms[COST.name].admits(*labels):
            labels = (labels[0], *(OTHER for _ in labels[1:]))
        return self._cost.labels(*labels)

    def _account_of(self, outcome: Outcome) -> tuple[str, ...]:
        if not self._account_label:
            return ()
        return (self._account(outcome.account) if outcome.account else NONE,)

    def _expect(self, policies: PolicySet, ending: Ending, ways: Iterable[tuple[str, Sequence[str], Policy]]) -> None:
        """Begin the series of each way's rule and models, the first models of all ways before the second ones."""
        found = [(place, rule, name, policy.task) for rule, names, policy in ways for place, name in enumerate(names)]
        for _, rule, name, task in sorted(found, key=lambda way: way[0]):
            model = policies.models[name]
            for account in self._accounts(policies, task):
                labels = self.task(task), rule, self.model(name)
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


def _models_of(rule: Rule) -> tuple[str, ...]:
    """Return every model that a rule may lead to, each once, in the order in which they are tried."""
    escalates_to = rule.verify.escalate_to if rule.verify else None
    return tuple(dict.fromkeys((*rule.use, escalates_to) if escalates_to else rule.use))
