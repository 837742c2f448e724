"""What a task learns from its own traffic, as its file says, and which two models a label compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Literal

from router.policy.closed_answer import By
from router.policy.experiment import point_of
from router.pricing import Ask

if TYPE_CHECKING:
    from router.policy.policy import Policy, PolicySet
    from router.policy.target import Model

LEARNING = "learning"
"""The rule that the ledger says of second answers; no rule may bear it."""
TYPICAL_INPUT_TOKENS = 1_000
_ENDS = tuple(((step + 0.5) / 100, 0.01) for step in range(5))
DRAWS = (*_ENDS, *(((step + 0.5) / 20, 0.05) for step in range(1, 19)), *((1 - at, share) for at, share in _ENDS))
"""Difficulties that are tried to tell how likely a model was to be chosen, and the share of all that each stands for.

They are closer at the ends: a rule for the hardest 2 % would else seem never to be drawn.
"""
LEAST = 0.0001
"""The least likelihood that is told: what happened was not impossible."""

Grade = Literal["judge", "verify", "agree"]


@dataclass(frozen=True, slots=True)
class LearnShadow:
    """A second answer to a share of the requests, by `model`, and how both answers are graded."""

    model: str
    share: float
    per_day_nusd: int
    grade: Grade
    judge: str | None = None
    """Who grades, and what it is asked; for `grade: judge`."""
    question: str = ""
    by: By | None = None
    """What must be the same, for `grade: agree`; None: the share of words in common counts."""


@dataclass(frozen=True, slots=True)
class Learn:
    """What a task's labels come from."""

    shadow: LearnShadow | None = None
    feedback: Literal["checked", "trusted", "off"] = "checked"
    explore: float = 0.01
    """The share of requests whose difficulty is drawn at random."""


def is_explored(learn: Learn, task: str, request_id: str) -> bool:
    """Say whether a request is one of those whose difficulty is drawn at random."""
    return learn.explore > 0 and point_of(f"{task}:explore", request_id) < learn.explore


def propensity(
    chosen: Callable[[float, float | None], str | None],
    difficulty: float,
    explored_from: float | None,
    explore: float,
) -> float:
    """Return how likely a request was to be given to the model that it was given to.

    `chosen` says which model is tried first at any difficulty, drawn in place of another or not; the request had
    `difficulty`, drawn in place of `explored_from` where that is given.
    """
    model = chosen(difficulty, explored_from)
    told = difficulty if explored_from is None else explored_from
    own = float(chosen(told, None) == model)
    drawn = fsum(share for at, share in DRAWS if chosen(at, told) == model) if explore else 0.0
    return max(LEAST, (1 - explore) * own + explore * drawn)


def by_price(policies: PolicySet, policy: Policy, *others: str) -> tuple[str, ...]:
    """Return the models that a policy may use or be compared with, and `others`, cheapest first."""
    baseline = (policy.baseline,) if policy.baseline else ()
    names = dict.fromkeys((*policy.models, *baseline, *others))

    def nusd(name: str) -> tuple[int, str]:
        return _typical_nusd(policies.models[name], policy.expected_output_tokens), name

    return tuple(sorted(names, key=nusd))


def counterpart(policies: PolicySet, policy: Policy, model: str) -> str:
    """Return the model at the other end of a policy's prices."""
    order = by_price(policies, policy, model)
    return order[-1] if model == order[0] else order[0]


def targets_of(model: Model) -> str:
    """Return what a model stands for, which may change while its name stays."""
    return ", ".join(sorted({target.name for target in model.targets}))


@dataclass(frozen=True, slots=True)
class Compared:
    """Which of its labels a task learns from: those that compare models that it has, as they are now."""

    feedback: str
    models: tuple[tuple[str, str], ...]
    """Name and targets of each, cheapest first; empty where the task does not learn."""
    shadow: str | None
    """Who gives the second answers."""

    def counts(self, source: str, cheap: tuple[str, str | None], premium: tuple[str, str | None]) -> bool:
        """Say whether a label counts, by the names and targets of its two models; targets are None where unknown."""
        low, high = self._place(*cheap), self._place(*premium)
        if low is None or high is None or low >= high:
            return False
        if source == "feedback":
            return self.feedback != "off" and high == len(self.models) - 1
        return source != "shadow" or self.shadow in (None, cheap[0], premium[0])

    def _place(self, name: str, targets: str | None) -> int | None:
        known = (at for at, (own, now) in enumerate(self.models) if own == name and targets in (None, now))
        return next(known, None)


def compared(policies: PolicySet, policy: Policy) -> Compared:
    """Return which labels a task learns from, as its policy and its models are now."""
    learn = policy.learn
    if learn is None:
        return Compared("off", (), None)
    shadow = learn.shadow.model if learn.shadow else None
    names = by_price(policies, policy, *((shadow,) if shadow else ()))
    return Compared(learn.feedback, tuple((name, targets_of(policies.models[name])) for name in names), shadow)


def _typical_nusd(model: Model, output_tokens: int) -> int:
    return max(price.estimate_nusd(Ask(TYPICAL_INPUT_TOKENS), output_tokens) for price in model.prices)
