"""Some budgets, what a store says of them, and a ledger that fills them."""

from __future__ import annotations

from collections.abc import Mapping

import redis

from router.budgets.contract import Budgets, OpenHold, Spent
from router.values import Scope

DAY = Scope("task", "support", "day", 100)
MONTH = Scope("global", "all", "month", 10_000)
BOTH = (DAY, MONTH)


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


async def numbers(store: Budgets, scope: Scope = DAY) -> tuple[int, int]:
    (level,) = await store.levels((scope,))
    return level.spent_nusd, level.held_nusd


class Ledger:
    """Says what was spent, and counts how often it was asked and told of a rebuild."""

    def __init__(self, by_scope: Mapping[Scope, int], *opened: OpenHold) -> None:
        self.spent = Spent(by_scope, opened)
        self.asked = self.rebuilds = 0

    async def __call__(self) -> Spent:
        self.asked += 1
        return self.spent

    def rebuilt(self) -> None:
        self.rebuilds += 1
