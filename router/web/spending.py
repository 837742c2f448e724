"""What the ledger says was spent: what budgets start from, are rebuilt from, and what a crash left in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from router.budgets.contract import HOLD_TTL_S, Budgets, Hold, OpenHold, Spent
from router.errors import StoreUnavailable
from router.ledger.contract import SHADOW_SUFFIX, Entry, Store
from router.ledger.correction import orphans
from router.ledger.writer import LedgerWriter
from router.lifecycle.scopes import windowed_scopes
from router.metrics import Metrics
from router.policy.policy import PolicySet
from router.values import NUSD_PER_USD, Scope

AGAIN_S = 1.0
"""How soon a ledger that could not be read is asked again."""
ORPHANS_EVERY_S = 60.0


class Spending:
    """Asks a ledger, from threads, for the budgets of the policies in force."""

    def __init__(self, store: Store, policies: Callable[[], PolicySet], clock: Callable[[], float]) -> None:
        self._store = store
        self._policies = policies
        self._clock = clock

    def now(self) -> Mapping[Scope, int]:
        """Return what every budget in force has spent in the window that runs now; blocks.

        Raises:
            StoreUnavailable: the ledger can't be read.
        """
        return spent(self._store, windowed_scopes(self._policies()), self._clock())

    def added_by(self, policies: PolicySet) -> Mapping[Scope, int]:
        """Return the same of the budgets that other policies would add; blocks.

        Raises:
            StoreUnavailable: the ledger can't be read.
        """
        known = {(scope.kind, scope.name, scope.window) for scope in windowed_scopes(self._policies())}
        new = [scope for scope in windowed_scopes(policies) if (scope.kind, scope.name, scope.window) not in known]
        if not new:
            return {}
        return spent(self._store, new, self._clock())

    async def with_holds(self, ledger: LedgerWriter) -> Spent:
        """Return what is spent and what is held, told apart, once the rows of this process are in the ledger.

        Raises:
            StoreUnavailable: the ledger can't be read, or rows of this process are not in it yet.
        """
        await ledger.flush()
        if why := ledger.degraded or ledger.not_ready:
            raise StoreUnavailable(why)
        return await asyncio.to_thread(self._with_holds)

    async def restore_late(self, ledger: LedgerWriter, budgets: Budgets) -> None:
        """Where the ledger was away at the start, let work begin once the budgets know what it says."""
        while ledger.held_back:
            await ledger.caught_up.wait()
            try:
                await budgets.restore(await asyncio.to_thread(self.now))
            except StoreUnavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                ledger.held_back = None

    async def measure_orphans(self, metrics: Metrics) -> None:
        """Look at what crashes left at its ceiling, until cancelled; what was seen stays while the ledger is away."""
        while True:
            with suppress(StoreUnavailable):
                metrics.orphaned.set(await asyncio.to_thread(self._orphaned_nusd) / NUSD_PER_USD)
            await asyncio.sleep(ORPHANS_EVERY_S)

    def _with_holds(self) -> Spent:
        return spent_and_held(self._store, windowed_scopes(self._policies()), self._clock(), HOLD_TTL_S)

    def _orphaned_nusd(self) -> int:
        now = datetime.fromtimestamp(self._clock(), UTC)
        return sum(entry.charged_nusd for entry in orphans(self._store, now))


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
