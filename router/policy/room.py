"""What a decision comes to that finds the budgets of hours, days and months so full. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import structs

from router.policy.decide import Candidate, Decision, Misfit, Purse, Route
from router.policy.policy import Account, Budget, Policy, PolicySet
from router.values import NUSD_PER_USD, Kind, Level, Scope, short_of, usd_text

Levels = tuple[Level, ...]
AmountNusd = Callable[[Candidate], int]
"""Tells what a call of a candidate sets aside."""


@functools.lru_cache(maxsize=4096)
def scopes_of(policies: PolicySet, policy: Policy, account: Account | None) -> tuple[Scope, ...]:
    """Return every windowed budget that a request of this task and account draws on; may be empty.

    Remembered, for it depends on the policies alone, which are equal only to themselves.
    """
    owners: list[tuple[Kind, str, Budget]] = [
        ("task", policy.task, policy.budget),
        ("global", "all", policies.budget),
    ]
    if account:
        owners.append(("account", account.name, account.budget))
    return tuple(
        Scope(kind, name, window, limit, budget.on_exceeded)
        for kind, name, budget in owners
        for window, limit in budget.windows()
    )


def unused(policies: PolicySet, policy: Policy, account: Account | None) -> Levels:
    """Return the budgets of a request as they are while nobody has drawn on them."""
    return tuple(Level(scope, spent_nusd=0, held_nusd=0) for scope in scopes_of(policies, policy, account))


def left_usd(levels: Levels) -> float | None:
    """Return what the tightest of some budgets has left; None where there is none."""
    return min(level.left_nusd for level in levels) / NUSD_PER_USD if levels else None


def foreseen(
    decision: Decision,
    levels: Levels,
    amount_nusd: AmountNusd,
    decided_within: Callable[[Level], Decision],
    well_first: Callable[[Route], Route] = lambda route: route,
) -> Decision:
    """Return what a call comes to that finds the budgets this full, and holds what `amount_nusd` says.

    `decided_within` decides again with no more than a budget has left, and `well_first` puts the candidates last that
    are passed over now.
    """
    if not isinstance(decision, Route):
        return decision
    if short := short_of(levels, amount_nusd(well_first(decision).candidates[0])):
        decision = decided_within(short)
    return _without_room(well_first(decision), levels, amount_nusd) if isinstance(decision, Route) else decision


def tighter(purse: Purse | None, level: Level, now_s: float | None = None) -> Purse:
    """Return a request's purse, or what a budget has left where that is less; by `now_s`, until when."""
    if purse and purse.nusd < level.left_nusd:
        return purse
    anew = None if now_s is None else datetime.fromtimestamp(level.scope.ends_s(now_s), UTC)
    return Purse(
        level.left_nusd,
        str(level.scope),
        code="budget_exceeded",
        may_downgrade=level.scope.on_exceeded != "reject",
        anew_at=f"{anew:%Y-%m-%d %H:%M} UTC" if anew else None,
        held_nusd=level.held_nusd,
    )


def _without_room(route: Route, levels: Levels, amount_nusd: AmountNusd) -> Route:
    """Take out the candidates behind the first that are not tried, as their own holds would find no room."""
    out = {}
    for each in route.candidates[1:]:
        if short := short_of(levels, amount_nusd(each)):
            left = f"{short.scope} leaves ${usd_text(short.left_nusd)}"
            reason = f"is not tried after others: it needs up to ${usd_text(each.ceiling_nusd)}, and {left}"
            out[each.model.name] = structs.replace(each, misfit=Misfit.MONEY, reason=reason, max_output_tokens=0)
    return structs.replace(
        route,
        candidates=tuple(each for each in route.candidates if each.model.name not in out),
        considered=tuple(out.get(each.model.name, each) for each in route.considered),
    )
