"""What one of several replicas may spend while the store of budgets is away: its share of what was known to be left.

Together the replicas can't pass a budget by more than what was held or spent elsewhere after the last contact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from msgspec import structs

from router.budgets.contract import Answer, Draw, Held, Hold, Limited, Short, scope_key
from router.budgets.memory import MemoryBudgets
from router.errors import BudgetsUnavailable
from router.values import Level, Scope

MOST_KNOWN = 20_000


class Share:
    """Budgets of this process alone, for the time of an outage."""

    def __init__(self, clock: Callable[[], float], replicas: int) -> None:
        self._clock = clock
        self._replicas = replicas
        self._left: dict[str, int] = {}
        self._windows: set[tuple[str, str, str]] = set()
        self._shares: dict[str, int] = {}
        self._budgets = MemoryBudgets(clock)

    def saw(self, levels: Iterable[Level]) -> None:
        """Note what the store said is left."""
        now_s = self._clock()
        if len(self._left) > MOST_KNOWN:
            self._left.clear()
        for level in levels:
            self._left[scope_key(level.scope, now_s)] = level.left_nusd
            self._windows.add(_window(level.scope))

    def clear(self) -> None:
        """End the outage: the next one starts from what is known then."""
        if self._shares:
            self._shares = {}
            self._budgets = MemoryBudgets(self._clock)

    async def hold(self, hold: Hold) -> Answer:
        """Hold of the share.

        Raises:
            BudgetsUnavailable: one of the scopes was never heard of, so that nobody knows what is left.
        """
        own = tuple(self._own(scope) for scope in hold.scopes)
        draws = self._own_draws(hold.draws)
        answer = await self._budgets.hold(structs.replace(hold, scopes=own, draws=draws))
        if isinstance(answer, Short):
            whole = hold.scopes[own.index(answer.level.scope)]
            return Short(Level(whole, whole.limit_nusd - answer.level.left_nusd, 0))
        if isinstance(answer, Limited):
            return _limited(answer, hold.draws, draws)
        if answer.over:
            wholes = [hold.scopes[own.index(level.scope)] for level in answer.over]
            # Nothing is left of these; what the others spend meanwhile is not known.
            return Held(tuple(Level(whole, whole.limit_nusd, 0) for whole in wholes))
        return answer

    async def levels(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        """Return how full each scope is for this process, as if what is not its share were spent.

        Raises:
            BudgetsUnavailable: as `hold`.
        """
        own = await self._budgets.levels([self._own(scope) for scope in scopes])
        return tuple(
            Level(scope, scope.limit_nusd - level.left_nusd, 0) for scope, level in zip(scopes, own, strict=True)
        )

    async def peek_rates(self, draws: Sequence[Draw]) -> Limited | None:
        """Return the first rate whose share has no room for these draws."""
        own = self._own_draws(draws)
        limited = await self._budgets.peek_rates(own)
        return _limited(limited, draws, own) if limited else None

    async def settle(self, hold_id: str, charge_nusd: int, used_tokens: int | None) -> None:
        await self._budgets.settle(hold_id, charge_nusd, used_tokens)

    def _own_draws(self, draws: Sequence[Draw]) -> tuple[Draw, ...]:
        return tuple(
            structs.replace(draw, rate=replace(draw.rate, per_minute=max(1, draw.rate.per_minute // self._replicas)))
            for draw in draws
        )

    def _own(self, scope: Scope) -> Scope:
        key = scope_key(scope, self._clock())
        share = self._shares.get(key)
        if share is None:
            left_nusd = self._left.get(key)
            if left_nusd is None:
                if _window(scope) not in self._windows:
                    raise BudgetsUnavailable(
                        f"The store of budgets is away, and nothing is known of {scope}.",
                        why=f"nothing is known of {scope}",
                    )
                # A window that began since the last contact.
                left_nusd = scope.limit_nusd
            share = self._shares[key] = left_nusd // self._replicas
        return replace(scope, limit_nusd=share)


def _limited(answer: Limited, draws: Sequence[Draw], own: Sequence[Draw]) -> Limited:
    """Tell of a whole rate what was found of its share."""
    return Limited(next(d.rate for d, o in zip(draws, own, strict=True) if o.rate == answer.rate), answer.wait_s)


def _window(scope: Scope) -> tuple[str, str, str]:
    return scope.kind, scope.name, scope.window
