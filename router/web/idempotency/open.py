"""The URL of the budgets turned into a store of results: what is shared is shared in one place."""

from __future__ import annotations

from collections.abc import Callable

from router.budgets.open import MEMORY_URL
from router.web.idempotency.contract import Results
from router.web.idempotency.memory import MemoryResults


def open_results(url: str, clock: Callable[[], float]) -> Results:
    """Open a store beside the budgets: in this process for `memory://`, else in their Redis."""
    if url == MEMORY_URL:
        return MemoryResults(clock)
    # redis-py takes 0.1 s to import, which a proxy with budgets in memory need not wait for.
    from router.web.idempotency.redis import RedisResults  # noqa: PLC0415

    return RedisResults(url)
