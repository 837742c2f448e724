"""What runs beside the requests for as long as a proxy lives; a failure of it must not end the proxy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from router.metrics import Metrics

LAG_EVERY_S = 0.5
AGAIN_S = 1.0
"""How long after its failure a background task is started again."""

Work = Callable[[], Awaitable[None]]
log = logging.getLogger("farthing")


def keep_up(tasks: asyncio.TaskGroup, works: Iterable[Work]) -> list[asyncio.Task[None]]:
    """Start a task of the group for each work, until it is done or cancelled."""
    return [tasks.create_task(_kept_up(work)) for work in works]


@asynccontextmanager
async def keeping_up(works: Iterable[Work]) -> AsyncIterator[None]:
    """Do these works for as long as this is entered; all have ended when it is left."""
    async with asyncio.TaskGroup() as tasks:
        background = keep_up(tasks, works)
        try:
            yield
        finally:
            for task in background:
                task.cancel()


async def measure_lag(metrics: Metrics) -> None:
    """Measure how late the event loop runs its timers, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        metrics.loop_lag.set(max(0.0, loop.time() - due))
        metrics.refresh()


async def _kept_up(work: Work) -> None:
    """Do a work, again after each failure."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("A background task failed; it starts again in %s s.", AGAIN_S)
        await asyncio.sleep(AGAIN_S)
