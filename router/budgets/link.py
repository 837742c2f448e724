"""What one process asks of a Redis, and what it knows of it: whether it is up, and which counters it has.

While one batch is on its way, the next one gathers, so that what one event loop asks goes out together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from router.budgets.contract import Timed, Verb
from router.budgets.wire import Command, Wire
from router.errors import BudgetsUnavailable, StoreUnavailable

PATIENCE_S = 1.0
"""How long a hold waits while counters are being rebuilt."""
MOST_TOGETHER = 500
REBUILT = "The budgets are being rebuilt from the ledger."

log = logging.getLogger("farthing.budgets")


class State(Enum):
    STARTING = "starting"
    """Not known to be there with its counters; it is being found out, or they are being filled."""
    UP = "up"
    AWAY = "away"


class NotAsked(BudgetsUnavailable):
    """Redis was not asked at all, so that there is nothing to take back."""


class Link:
    """The way to one Redis. `send_batches` must run beside it."""

    def __init__(self, url: str, clock: Callable[[], float], within_s: float, timed: Timed, meanwhile: str) -> None:
        """`meanwhile` tells the log what becomes of holds while Redis is away."""
        self._wire = Wire(url, within_s, timed)
        self._clock = clock
        self._meanwhile = meanwhile
        self.state = State.STARTING
        self.epoch = ""
        """Of the counters, as last seen; every script is sent with it."""
        self.woken = asyncio.Event()
        """Set where Redis is to be brought up, or something has to be sent to it once more."""
        self._why = BudgetsUnavailable("The store of budgets has not been reached yet.", why="not reached yet")
        self._up = asyncio.Event()
        self._queue: list[Command] = []
        self._queued = asyncio.Event()

    async def ask(self, verb: Verb, args: tuple[str | int, ...]) -> Any:
        """Run a script and return its reply; again, once, where the counters had to be rebuilt first.

        Raises:
            NotAsked: Redis is away, or its counters are not filled in time.
            StoreUnavailable: it did not answer in time, and may have run the script all the same.
        """
        for _ in range(2):
            if self.state is not State.UP:
                await self._until_up()
            command = self.command(verb, args)
            self.add([command])
            # Within two deadlines, for one batch may go before it.
            reply = await command.reply
            if not _is_lost(reply):
                return reply
            self.lost()
        raise BudgetsUnavailable(
            "The store of budgets loses its counters again and again.", why="it loses its counters"
        )

    async def directly(self, verb: Verb, args: tuple[str | int, ...]) -> Any:
        """Run a script at once, whatever the state.

        Raises:
            StoreUnavailable: it did not answer in time.
        """
        command = self.command(verb, args)
        await self._wire.send([command])
        return await command.reply

    def command(self, verb: Verb, args: tuple[str | int, ...]) -> Command:
        """Return the call of a script on the counters as they are known now, to be added or sent."""
        now_ms = int(self._clock() * 1000)
        return Command(verb, (now_ms, self.epoch, *args), asyncio.get_running_loop().create_future())

    def add(self, commands: Sequence[Command]) -> None:
        """Let commands leave with the next batch."""
        self._queue += commands
        self._queued.set()

    async def send(self, commands: list[Command]) -> None:
        """Send commands at once, whatever the state."""
        await self._wire.send(commands)

    async def send_batches(self) -> None:
        """Send what is added, until cancelled."""
        while True:
            await self._queued.wait()
            self._queued.clear()
            batch, self._queue = self._queue[:MOST_TOGETHER], self._queue[MOST_TOGETHER:]
            if self._queue:
                self._queued.set()
            if away := await self._wire.send(batch):
                self.away(away)

    async def look(self) -> str:
        """Note the epoch of the counters, "" where there are none, and return the name of the server's present life.

        Raises:
            StoreUnavailable: it did not answer in time.
        """
        run_id, self.epoch = await self._wire.lives()
        return run_id

    def away(self, error: StoreUnavailable) -> None:
        """Note that Redis can't be reached."""
        if self.state is not State.AWAY:
            log.error("%s %s", error.message, self._meanwhile)
        if not isinstance(error, BudgetsUnavailable):
            error = BudgetsUnavailable(error.message, why="its counters wait for the ledger")
        self.state, self._why = State.AWAY, error
        self._up.set()
        self.woken.set()

    @property
    def degraded(self) -> str | None:
        """What is wrong while Redis is away, in words without an address."""
        return f"{self._why.told} {self._meanwhile}" if self.state is State.AWAY else None

    def lost(self) -> None:
        """Note that the counters are not those that were known."""
        if self.state is State.UP:
            self.state, self._why = State.STARTING, BudgetsUnavailable(REBUILT, why="its counters are being rebuilt")
            self._up.clear()
            self.woken.set()

    def start(self) -> None:
        """Let who asks wait until `up`."""
        self.state = State.STARTING
        self._up.clear()

    def up(self) -> None:
        """Note that Redis is there with all of its counters."""
        self.state = State.UP
        self._up.set()

    async def aclose(self) -> None:
        await self._wire.aclose()

    async def _until_up(self) -> None:
        if self.state is State.STARTING:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._up.wait()
            except TimeoutError:
                raise NotAsked(self._why.message, why=self._why.why) from None
        if self.state is State.AWAY:
            raise NotAsked(self._why.message, why=self._why.why)


def _is_lost(reply: object) -> bool:
    return isinstance(reply, list) and reply[0] == -1
