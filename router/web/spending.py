"""What budgets start from: what the ledger says was spent in the windows that run now, and what is held there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from router.budgets.contract import Hold, OpenHold, Spent
from router.ledger.contract import SHADOW_SUFFIX, Entry, Store
from router.values import Scope


def spent(store: Store, scopes: Iterable[Scope], now_s: float) -> Mapping[Scope, int]:
    """Return what was charged in each scope's present window, held rows at their ceilings; blocks.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    return {
        scope: store.charged_since(
            scope.since(now_s),
            task=scope.name if scope.kind == "task" else None,
            account=scope.name if scope.kind == "account" else None,
            shadow=scope.name if scope.kind == "shadow" else None,
        )
        for scope in scopes
    }


def spent_and_held(store: Store, scopes: Iterable[Scope], now_s: float, hold_ttl_s: float) -> Spent:
    """Return the same with the rows that are still held told apart, so that they can be held again; blocks.

    Only a row that was held before and after the sums were taken is surely in them at its ceiling.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    before = {entry.id for entry in store.held()}
    by_scope = dict(spent(store, scopes, now_s))
    opened = []
    for entry in store.held():
        at_s = datetime.fromisoformat(entry.at).timestamp()
        if entry.id not in before or at_s + hold_ttl_s <= now_s:
            continue
        own = tuple(scope for scope in by_scope if _draws_on(entry, at_s, scope, now_s))
        for scope in own:
            by_scope[scope] -= entry.charged_nusd
        # The first leg's id; a later leg is told by the process that made it.
        hold = Hold(f"{entry.id}/0", own, min(entry.held_nusd, entry.charged_nusd), entry.charged_nusd)
        opened.append(OpenHold(hold, at_s))
    return Spent(by_scope, tuple(opened))


def _draws_on(entry: Entry, at_s: float, scope: Scope, now_s: float) -> bool:
    name: str | None = None
    match scope.kind:
        case "task":
            name = entry.task
        case "account":
            name = entry.account
        case "global":
            name = scope.name
        case "shadow" if entry.id.endswith(SHADOW_SUFFIX):
            name = f"{entry.task}/{entry.rule}"
    return name == scope.name and at_s >= scope.since(now_s).timestamp()
