"""What shadows, second answers and grades hold, which their budgets must have free. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from router.policy.decide import JUDGE_INSTRUCTION_TOKENS, MOST_GRADE_TOKENS
from router.policy.policy import Account, Budget, Policy
from router.policy.target import Model
from router.pricing import Ask

GRADES = 2
"""Of a second answer: one for each of the two answers."""


def request_cap_nusd(policy: Policy, everybody: Budget, accounts: Iterable[Account]) -> int | None:
    """Return the most that a request of a task may cost, whichever of `accounts` asks; None where nothing says."""
    bounds = [policy.budget.per_request_nusd, everybody.per_request_nusd]
    own = [account.budget.per_request_nusd for account in accounts if may_use(account, policy)]
    if own and None not in own:
        bounds.append(max(nusd for nusd in own if nusd is not None))
    return min((nusd for nusd in bounds if nusd is not None), default=None)


def may_use(account: Account, policy: Policy) -> bool:
    """Say whether a task is one of an account's."""
    return account.tasks is None or policy.task in account.tasks


def holds_usual(policy: Policy, model: str) -> bool:
    """Say whether a model's hold is what its answers usually cost, once the task has seen some of them."""
    return policy.budget.hold == "expected" and model in policy.models


def longest_nusd(model: Model, cap_nusd: int | None, input_tokens: int = 1) -> int:
    """Return the most that a request without `max_tokens` holds for `model`, within what a request may cost."""
    ask = Ask(input_tokens)
    most_nusd = max(price.ceiling_nusd(ask, model.max_output_tokens) for price in model.prices)
    return most_nusd if cap_nusd is None else min(most_nusd, cap_nusd)


def grade_nusd(model: Model, question: str) -> int:
    """Return about what one grade of `model` holds that is shown next to nothing."""
    ask = Ask(JUDGE_INSTRUCTION_TOKENS + len(question) // 4)
    return max(price.ceiling_nusd(ask, min(MOST_GRADE_TOKENS, model.max_output_tokens)) for price in model.prices)


def grades_nusd(policy: Policy, models: Mapping[str, Model]) -> int:
    """Return about what is held for grading a short second answer of a task; 0 where no judge does."""
    shadow = policy.learn.shadow if policy.learn else None
    if shadow is None or shadow.judge is None:
        return 0
    return GRADES * grade_nusd(models[shadow.judge], shadow.question)


def second_nusd(policy: Policy, models: Mapping[str, Model], cap_nusd: int | None) -> int | None:
    """Return what a second answer to a short request without `max_tokens` must find free in the budget of its day.

    None where there are no second answers, or where their hold is what such answers usually cost.
    """
    shadow = policy.learn.shadow if policy.learn else None
    if shadow is None or holds_usual(policy, shadow.model):
        return None
    return longest_nusd(models[shadow.model], cap_nusd) + grades_nusd(policy, models)
