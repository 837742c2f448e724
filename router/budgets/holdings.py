"""What one process has held in a Redis and not settled there: nothing of it is forgotten while the process lives.

A settlement that does not reach Redis is kept and tried again. A hold is known there by its own id, or by another
one where its own may have been made void.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from msgspec import Struct, structs

from router.budgets.arguments import Arguments
from router.budgets.contract import LATE_S, Hold
from router.budgets.link import Link, State
from router.budgets.wire import Command

MOST_UNSETTLED = 100_000
MOST_DONE = 4096

log = logging.getLogger("farthing.budgets")


class Live(Struct, frozen=True):
    """A hold that this process made and has not settled."""

    hold: Hold
    id: str
    """Under which Redis has it."""
    at_s: float
    here: bool = False
    """Held in this process alone, while Redis was away."""


class Settlement(Struct):
    live: Live
    charge_nusd: int
    used_tokens: int | None
    void: bool = False
    """Of a hold that may or may not have reached Redis, or may reach it yet."""
    sent: bool = False


class Holdings:
    """The holds of one process, and the settlements that Redis has not taken."""

    def __init__(self, link: Link, arguments: Arguments, clock: Callable[[], float], hold_ttl_s: float) -> None:
        self._link = link
        self._arguments = arguments
        self._clock = clock
        self._hold_ttl_s = hold_ttl_s
        self.live: dict[str, Live] = {}
        """By the ids that their callers made."""
        self._settlements: dict[str, Settlement] = {}
        """By the ids under which Redis has their holds."""
        self._done: deque[Settlement] = deque(maxlen=MOST_DONE)
        """The last ones that Redis took. The ledger may not have had them yet when Redis was filled from it."""

    @property
    def unsettled(self) -> int:
        return len(self._settlements)

    def void(self, live: Live) -> None:
        """Give a hold back whose answer nobody has, whether it was made or will yet be."""
        self.settle(Settlement(live, 0, 0, void=True))

    def settle(self, settlement: Settlement) -> None:
        """Take a settlement on; it leaves with the next batch while Redis is up, or else when it is back."""
        if len(self._settlements) >= MOST_UNSETTLED:
            oldest = next(iter(self._settlements))
            del self._settlements[oldest]
            log.error("Too many settlements wait; the hold %s will be booked at its ceiling.", oldest)
        self._settlements[settlement.live.id] = settlement
        if self._link.state is State.UP:
            self._link.add(self._commands([settlement]))

    def settle_waiting(self) -> None:
        """Send the settlements that are not on their way."""
        if commands := self._commands(self._settlements.values()):
            self._link.add(commands)

    async def aclose(self) -> None:
        """Settle what is left, as far as Redis is there."""
        for settlement in self._settlements.values():
            settlement.sent = False
        if commands := self._commands(self._settlements.values()):
            await self._link.send(commands)
            # The replies' callbacks run in the next turn of the loop.
            await asyncio.sleep(0)
        if self._settlements:
            log.error("%d holds are not settled; they are booked at their ceilings.", len(self._settlements))

    def forget(self) -> None:
        """Drop holds that nobody settled and that Redis has forgotten by now."""
        oldest_s = self._clock() - self._hold_ttl_s - LATE_S
        for hold_id in [hold_id for hold_id, live in self.live.items() if live.at_s < oldest_s]:
            del self.live[hold_id]

    def any_here(self) -> bool:
        """Say whether Redis does not have all of it."""
        return any(live.here for live in self.live.values()) or any(
            each.live.here for each in self._settlements.values()
        )

    def start_anew(self) -> None:
        """Tell of every hold under the name that the ledger has, now that the counters were filled from it."""
        for key, live in self.live.items():
            self.live[key] = structs.replace(live, id=key, here=False)
        waiting = [each for each in (*self._done, *self._settlements.values()) if not each.void]
        self._done.clear()
        self._settlements = {}
        for each in waiting:
            each.live = structs.replace(each.live, id=each.live.hold.id, here=False)
            self._settlements[each.live.id] = each

    def _commands(self, settlements: Iterable[Settlement]) -> list[Command]:
        """Return what settles these, and marks them as sent; a hold made while Redis was away is told first."""
        commands = []
        for settlement in settlements:
            if settlement.sent:
                continue
            settlement.sent = True
            live, used = settlement.live, settlement.used_tokens
            if live.here:
                told = self._arguments.of_hold(live.hold, live.id, live.at_s, forced=True)
                commands.append(self._link.command("hold", told))
            args = (live.id, settlement.charge_nusd, "-" if used is None else used, int(settlement.void))
            command = self._link.command("settle", args)
            command.reply.add_done_callback(partial(self._settled, settlement))
            commands.append(command)
        return commands

    def _settled(self, settlement: Settlement, reply: asyncio.Future[Any]) -> None:
        settlement.sent = False
        if reply.cancelled() or reply.exception():
            self._link.woken.set()
        elif reply.result() == -1:
            self._link.lost()
        elif self._settlements.get(settlement.live.id) is settlement:
            del self._settlements[settlement.live.id]
            self._done.append(settlement)
