"""How a Redis that was away, has lost its data, or may have old data gets its counters back before anything is held.

They are filled from the ledger: it says what is spent and what is held, each process adds what it holds, and a
settlement of what the ledger has as settled finds no hold. So each request counts once, as far as its row is in the
ledger.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from msgspec import structs

from router.budgets.arguments import Arguments
from router.budgets.contract import Spending
from router.budgets.holdings import Holdings
from router.budgets.link import REBUILT, Link, State
from router.budgets.share import Share
from router.errors import StoreUnavailable

READ_WITHIN_S = 5.0
"""How long the ledger may take to say what was spent."""
COMMIT_S = 0.25
"""How long an outcome of another process may be on its way into the ledger."""
CLAIM = "filling-"
CLAIM_S = 2 * READ_WITHIN_S
"""How long others wait for who fills the counters, and may have died over it."""

log = logging.getLogger("farthing.budgets")


class BeingFilled(StoreUnavailable):
    """Another process fills the counters."""


class Recovery:
    """What one process knows of the life of Redis and of its counters, and so of what is to be told."""

    def __init__(
        self,
        link: Link,
        holdings: Holdings,
        arguments: Arguments,
        share: Share | None,
        *,
        clock: Callable[[], float],
        spending: Spending,
        late_rows: Callable[[], int],
        rebuilt: Callable[[], None],
    ) -> None:
        self._link = link
        self._holdings = holdings
        self._arguments = arguments
        self._share = share
        self._clock = clock
        self._spending = spending
        self._late_rows = late_rows
        self._late_rows_before = 0
        self._rebuilt = rebuilt
        self._run_id: str | None = None
        self._claim = ""
        self._told_epoch = ""
        """In which Redis has all that this process holds."""

    async def bring_up(self) -> None:
        """Find Redis, fill its counters where they are lost or old, and tell it what this process holds.

        Raises:
            BeingFilled: another process fills them.
            StoreUnavailable: it is away, or the ledger can't be read.
        """
        link, holdings = self._link, self._holdings
        late_rows = self._late_rows()
        run_id = await link.look()
        if link.epoch.startswith(CLAIM) and link.epoch != self._claim:
            raise BeingFilled(REBUILT)
        was_away = link.state is State.AWAY
        # From here on nothing is held in this process alone, so that the ledger will have all of it.
        link.start()
        # Whoever filled it may have missed rows of this process.
        late = late_rows != self._late_rows_before or holdings.any_here()
        missed = link.epoch != self._told_epoch and late
        if not link.epoch or self._run_id not in {None, run_id} or missed:
            await self._fill(first=self._run_id is None)
            run_id = await link.look()
        anew = link.epoch != self._told_epoch
        if anew:
            holdings.start_anew()
        for live in [live for live in holdings.live.values() if anew or live.here]:
            await link.directly("hold", self._arguments.of_hold(live.hold, live.id, live.at_s, forced=True))
            if live.here:
                holdings.live[live.hold.id] = structs.replace(live, here=False)
        self._told_epoch, self._late_rows_before = link.epoch, late_rows
        if self._share:
            self._share.clear()
        if was_away:
            log.warning("The store of budgets is back; %d settlements follow.", holdings.unsettled)
        self._run_id = run_id
        link.up()

    async def _fill(self, *, first: bool) -> None:
        """Fill the counters from the ledger: where they are lost, or else under a claim, lest they move meanwhile.

        Raises:
            BeingFilled: another process was first.
            StoreUnavailable: Redis is away, or the ledger can't be read.
        """
        link = self._link
        lost = not link.epoch
        if link.epoch not in {"", self._claim}:
            self._claim = CLAIM + secrets.token_hex(8)
            if not await link.directly("claim", (self._claim, int(CLAIM_S * 1000))):
                raise BeingFilled(REBUILT)
            link.epoch = self._claim
        if not first:
            # What others have just settled is on its way into the ledger.
            await asyncio.sleep(COMMIT_S)
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                spent = await self._spending()
        except TimeoutError:
            raise StoreUnavailable("The ledger did not say in time what was spent.") from None
        args = self._arguments.of_restoring("lost" if lost else "claimed", spent.by_scope, self._clock())
        if not await link.directly("restore", args + self._arguments.of_open_holds(spent.open)):
            raise BeingFilled(REBUILT)
        if lost and not first:
            log.error("Redis had lost its budgets; %d were rebuilt from the ledger.", len(spent.by_scope))
            self._rebuilt()
