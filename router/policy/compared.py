"""Which of a task's models its labels compare: its models by price, and whether a label is of them as they are now."""

from __future__ import annotations

from dataclasses import dataclass

from router.policy.policy import Policy, PolicySet
from router.policy.target import Model
from router.pricing import Ask

TYPICAL_INPUT_TOKENS = 1_000


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
