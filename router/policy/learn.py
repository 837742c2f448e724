"""What a task learns from its own traffic, as its file says, and which two models a label compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from router.policy.closed_answer import By
from router.pricing import Ask

if TYPE_CHECKING:
    from router.policy.policy import Policy, PolicySet
    from router.policy.target import Model

LEARNING = "learning"
"""The rule that the ledger says of second answers; no rule may bear it."""
TYPICAL_INPUT_TOKENS = 1_000

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


def _typical_nusd(model: Model, output_tokens: int) -> int:
    return max(price.estimate_nusd(Ask(TYPICAL_INPUT_TOKENS), output_tokens) for price in model.prices)
