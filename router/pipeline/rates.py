"""What a request draws of the limits a minute, its account's and its model's, and what becomes of it where one is full.

A full limit of the account ends the request; a full one of a model passes it on to the next candidate.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

from msgspec import structs

from router.budgets.contract import Budgets, Draw, Hold, Limited
from router.errors import RateLimited
from router.policy.decide import Candidate, Decision, Misfit, Refusal, Route
from router.policy.facts import Facts
from router.policy.policy import Account
from router.policy.target import Model
from router.values import Rate


@functools.lru_cache(maxsize=4096)
def rates_of(account: Account | None, model: Model) -> tuple[Rate, ...]:
    """Return every rate that a call of `model` by `account` draws on, the account's first; may be empty."""
    owners: list[tuple[Literal["account", "model"], Account | Model]] = [("model", model)]
    if account:
        owners.insert(0, ("account", account))
    units: tuple[Literal["requests", "tokens"], ...] = ("requests", "tokens")
    return tuple(
        Rate(kind, owner.name, unit, per_minute)
        for kind, owner in owners
        for unit, per_minute in zip(units, (owner.requests_per_minute, owner.tokens_per_minute), strict=True)
        if per_minute is not None
    )


def draws_of(account: Account | None, candidate: Candidate, facts: Facts) -> tuple[Draw, ...]:
    """Return what the first call of a request draws; may be empty."""
    rates = rates_of(account, candidate.model)
    if not rates:
        return ()
    tokens = candidate.input_tokens + facts.n * min(facts.expected_output_tokens, candidate.max_output_tokens)
    return tuple(Draw(rate, tokens if rate.unit == "tokens" else 1) for rate in rates)


def too_fast(limited: Sequence[Limited]) -> RateLimited:
    """Return the refusal of a request whose candidates all found a full limit, in their order; the soonest counts."""
    soonest = min(limited, key=lambda limit: limit.wait_s)
    if limited[-1].rate.kind == "account":
        soonest = limited[-1]
    return RateLimited(
        f"There is a limit of {soonest.rate}; there is room again in {soonest.wait_s:.3f} s.",
        retry_after_s=soonest.wait_s,
    )


async def draw_rating(budgets: Budgets, account: Account | None, rating_id: str) -> None:
    """Draw on how many ratings a minute an account may give: as many as requests, and beside these.

    Raises:
        RateLimited: it gave as many.
        StoreUnavailable: the store of budgets did not answer.
    """
    if account is None or account.requests_per_minute is None:
        return
    draw = Draw(Rate("account", account.name, "ratings", account.requests_per_minute), 1)
    answer = await budgets.hold(Hold(rating_id, (), 0, draws=(draw,)))
    if isinstance(answer, Limited):
        raise too_fast((answer,))
    await budgets.settle(rating_id, 0)


async def foreseen_rates(route: Route, budgets: Budgets, account: Account | None, facts: Facts) -> Decision:
    """Return what a call comes to that finds the limits a minute as full as they are now; takes nothing of them.

    Raises:
        StoreUnavailable: a hold would not be had either.
    """
    limited: dict[str, Limited] = {}
    for number, candidate in enumerate(route.candidates):
        full = await budgets.peek_rates(draws_of(account, candidate, facts))
        if full is None:
            considered = _without(route, limited)
            return structs.replace(route, candidates=route.candidates[number:], considered=considered)
        limited[candidate.model.name] = full
        if full.rate.kind == "account":
            # It is full for every other as well.
            limited |= dict.fromkeys((each.model.name for each in route.candidates[number:]), full)
            break
    error = too_fast(tuple(limited.values()))
    return Refusal(
        route.task, route.rule, route.revision, error.code, error.message, _without(route, limited), route.purse
    )


def _without(route: Route, limited: dict[str, Limited]) -> tuple[Candidate, ...]:
    """Return what was looked at, where those that are called too fast do not fit."""
    if not limited:
        return route.considered
    return tuple(
        structs.replace(
            each,
            misfit=Misfit.RATE,
            reason=f"is called too fast: there is a limit of {full.rate}",
            max_output_tokens=0,
        )
        if (full := limited.get(each.model.name))
        else each
        for each in route.considered
    )
