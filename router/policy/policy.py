"""A set of policies as it runs: compiled from YAML once, frozen, swapped by one reference.

Nothing here knows of YAML, HTTP or clocks; `load` builds it and `decide` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from router.difficulty.weights import Weights
from router.policy.condition import ALWAYS, Condition
from router.policy.experiment import Experiment
from router.policy.learn import Learn
from router.policy.target import Model
from router.policy.verify import Verify
from router.values import OnExceeded, Window

HoldFor = Literal["ceiling", "expected"]
Prefer = Literal["order", "cheapest", "value"]
Unsure = Literal["premium", "cheap"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits in nUSD; None where there is none. Windows are calendar hours, days and months in UTC."""

    per_request_nusd: int | None = None
    per_hour_nusd: int | None = None
    per_day_nusd: int | None = None
    per_month_nusd: int | None = None
    on_exceeded: OnExceeded = "downgrade"
    hold: HoldFor = "ceiling"
    """Of a task's budget: whether a request sets aside the most it may cost, or what its kind usually costs."""

    def windows(self) -> tuple[tuple[Window, int], ...]:
        """Return the limited windows, shortest first; may be empty."""
        pairs: tuple[tuple[Window, int | None], ...] = (
            ("hour", self.per_hour_nusd),
            ("day", self.per_day_nusd),
            ("month", self.per_month_nusd),
        )
        return tuple((window, limit) for window, limit in pairs if limit is not None)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a policy: where its condition holds, its models are tried."""

    name: str
    use: tuple[str, ...]
    when: Condition = ALWAYS
    prefer: Prefer = "order"
    premium_share: float | None = None
    """The share of what reaches the rule, the hardest of it, that goes to its dearest model."""
    verify: Verify | None = None
    experiment: Experiment | None = None
    sticks: bool = False
    """Whether a conversation stays on the model that has it cached while that is cheaper than moving."""

    @property
    def by_money(self) -> bool:
        """Whether the gain that is expected of a dearer model decides which comes first."""
        return self.premium_share is not None or self.prefer == "value"

    def needs(self) -> frozenset[str]:
        """Return the facts that it looks at."""
        return self.when.needs() | {"difficulty"} if self.by_money else self.when.needs()


@dataclass(frozen=True, slots=True)
class Match:
    """Claims requests that name no task. Every key that is given must hold; an empty match claims nothing."""

    models: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def claims(self, model: str, account: str | None, headers: Mapping[str, str]) -> bool:
        if not (self.models or self.accounts or self.headers):
            return False
        return (
            (not self.models or model in self.models)
            and (not self.accounts or account in self.accounts)
            and all(headers.get(name) == value for name, value in self.headers.items())
        )


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """How one kind of work is routed and what it may cost. `rules` is never empty, and its last rule always holds."""

    task: str
    rules: tuple[Rule, ...]
    match: Match = Match()
    baseline: str | None = None
    budget: Budget = Budget()
    min_output_tokens: int = 64
    expected_output_tokens: int = 256
    prompts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Our model name → the system prompt that replaces the request's own when that model is called."""
    unsure: Unsure | None = None
    """What `difficulty` says of a request that can't be told: 1, 0, or (None) what it looks like all the same."""
    learn: Learn | None = None
    """What `difficulty` learns from the task's own traffic; None: nothing."""
    needs: frozenset[str] = frozenset()
    """The facts that its rules look at, so that no other need be worked out."""
    file: str = ""
    models: tuple[str, ...] = field(init=False)
    """Every model its rules may use, in order of first mention."""
    trial_models: tuple[str, ...] = field(init=False)
    """Every further model that its experiments and its learning may use."""
    experiments: tuple[Experiment, ...] = field(init=False)
    sticks: bool = field(init=False)
    """Whether any of its rules keeps a conversation on a warm cache."""
    counted_models: tuple[str, ...] = field(init=False)
    """These, and the models that are asked beside an answer, which may not stand in for them."""
    paces: bool = field(init=False)
    """Whether any of its rules spends by the pace of the day."""

    def __post_init__(self) -> None:
        named = [name for rule in self.rules for name in rule.use]
        named += [rule.verify.escalate_to for rule in self.rules if rule.verify and rule.verify.escalate_to]
        object.__setattr__(self, "models", tuple(dict.fromkeys(named)))
        experiments = tuple(rule.experiment for rule in self.rules if rule.experiment)
        tried = dict.fromkeys(name for experiment in experiments for name in experiment.models)
        if self.learn and self.learn.shadow:
            tried[self.learn.shadow.model] = None
        object.__setattr__(self, "experiments", experiments)
        object.__setattr__(self, "trial_models", tuple(name for name in tried if name not in self.models))
        object.__setattr__(self, "sticks", any(rule.sticks for rule in self.rules))
        seconds = [rule.verify.agree.model for rule in self.rules if rule.verify and rule.verify.agree]
        object.__setattr__(self, "counted_models", tuple(dict.fromkeys((*named, *seconds))))
        object.__setattr__(self, "paces", any(rule.prefer == "value" for rule in self.rules))


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Who pays. `tasks` None means every task."""

    name: str
    key_digests: tuple[bytes, ...] = field(repr=False)
    """SHA-256 of each key."""
    budget: Budget = Budget()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tasks: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PolicySet:
    """Everything that decides, as one immutable value with a name (`revision`, the first 12 hex digits of a hash)."""

    revision: str
    models: Mapping[str, Model]
    policies: Mapping[str, Policy]
    """By task, in the order of their files."""
    accounts: Mapping[str, Account] = field(default_factory=lambda: MappingProxyType({}))
    budget: Budget = Budget()
    """Bounds everything together."""
    weights: Weights | None = None
    """What `difficulty` is scored with; None: what Farthing came with."""
    claiming: tuple[Policy, ...] = field(init=False)
    """The policies whose `match` is not empty, in their order."""
    claimed_models: Mapping[str, tuple[Policy, ...]] = field(init=False)
    """Every name of a model that some `match` claims, and the policies that may claim it, in their order."""
    claiming_any: tuple[Policy, ...] = field(init=False)
    """The policies whose `match` looks at no model, which may claim any other."""
    lacks_code: bool = field(init=False)
    """Whether any of its models can't take code, which is looked for then even where no rule looks at it."""

    def __post_init__(self) -> None:
        claiming = tuple(policy for policy in self.policies.values() if policy.match != Match())
        anything = [place for place, policy in enumerate(claiming) if not policy.match.models]
        places_of: dict[str, list[int]] = {}
        for place, policy in enumerate(claiming):
            for model in policy.match.models:
                places_of.setdefault(model, []).append(place)
        by_model = {
            model: tuple(claiming[place] for place in sorted((*places, *anything)))
            for model, places in places_of.items()
        }
        object.__setattr__(self, "claiming", claiming)
        object.__setattr__(self, "claimed_models", MappingProxyType(by_model))
        object.__setattr__(self, "claiming_any", tuple(claiming[place] for place in anything))
        object.__setattr__(self, "lacks_code", any("code" in model.lacks for model in self.models.values()))
