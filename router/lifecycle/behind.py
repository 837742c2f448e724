"""Work behind answers: requests that are answered are taken, and worked on several at once, on nobody's time.

The queue is bounded in number and bytes, and what does not fit is not taken. Texts are in memory only as long as
their work lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from router.pipeline import Answered

MOST_WAITING = 256
MOST_WAITING_BYTES = 64_000_000
MOST_AT_ONCE = 16


class Behind:
    """Takes answered requests, and gives each to `serve`, which raises nothing, while `work` runs."""

    def __init__(self, serve: Callable[[Answered], Awaitable[None]]) -> None:
        self._serve = serve
        self._waiting: asyncio.Queue[Answered] = asyncio.Queue(MOST_WAITING)
        self._waiting_bytes = 0

    def take(self, answered: Answered) -> bool:
        """Take a request, or say that there is no room; never waits."""
        size = _size(answered)
        if self._waiting.full() or self._waiting_bytes + size > MOST_WAITING_BYTES:
            return False
        self._waiting_bytes += size
        self._waiting.put_nowait(answered)
        return True

    async def work(self) -> None:
        """Serve what was taken, several at once, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(MOST_AT_ONCE):
                tasks.create_task(self._one_by_one())

    async def _one_by_one(self) -> None:
        while True:
            answered = await self._waiting.get()
            self._waiting_bytes -= _size(answered)
            await self._serve(answered)
            # A text must not outlive its work, and this loop may wait long for the next one.
            del answered


def _size(answered: Answered) -> int:
    return len(answered.text) + sum(memoryview(value).nbytes for value in answered.arrival.body.fields.values())
