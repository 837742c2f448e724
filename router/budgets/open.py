"""A budgets URL turned into its store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from router.budgets.contract import HOLD_TTL_S, WITHIN_S, Budgets, Spending, Spent, Timed
from router.budgets.memory import MemoryBudgets
from router.errors import StoreUnavailable

MEMORY_URL = "memory://"
REDIS_SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
OnOutage = Literal["closed", "local"]


async def _nothing() -> Spent:
    return Spent({})


def open_budgets(  # noqa: PLR0913  all but the first two are options, given by name
    url: str,
    clock: Callable[[], float],
    *,
    spending: Spending = _nothing,
    late_rows: Callable[[], int] = lambda: 0,
    rebuilt: Callable[[], None] = lambda: None,
    timed: Timed = lambda verb, taken_s: None,
    on_outage: OnOutage = "closed",
    replicas: int = 1,
    hold_ttl_s: float = HOLD_TTL_S,
    within_s: float = WITHIN_S,
) -> Budgets:
    """Open `memory://` or a Redis; nothing is connected yet.

    `rebuilt` is told when counters that were lost have been filled again by `spending`. `late_rows` says how
    many rows of this process came to the ledger late, in all: counters that were filled before they came are filled
    once more. `timed` is told how long the store took to answer. `replicas` share what is left while the store is
    away, where `on_outage` is local.

    Raises:
        StoreUnavailable: the URL names no store; the message says which there are.
    """
    if url == MEMORY_URL:
        return MemoryBudgets(clock, hold_ttl_s=hold_ttl_s)
    if url.partition("://")[0] not in REDIS_SCHEMES:
        raise StoreUnavailable(
            f"Unknown budgets URL '{url.split('://', 1)[0]}://…'; use memory://, or one of "
            + ", ".join(f"{scheme}://HOST:PORT" for scheme in REDIS_SCHEMES)
            + "."
        )
    # redis-py takes 0.1 s to import, which a proxy with budgets in memory need not wait for.
    from router.budgets.redis import Outage, RedisBudgets  # noqa: PLC0415  see above

    return RedisBudgets(
        url,
        clock,
        spending=spending,
        late_rows=late_rows,
        rebuilt=rebuilt,
        timed=timed,
        outage=Outage(on_outage == "local", replicas),
        hold_ttl_s=hold_ttl_s,
        within_s=within_s,
    )
