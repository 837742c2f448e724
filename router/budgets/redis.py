"""Budgets that many processes share, in Redis: one script a verb.

`link` is how Redis is asked, `holdings` what this process has to settle, `recovery` how Redis gets lost counters back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from router.budgets.arguments import Arguments
from router.budgets.contract import (
    HELD,
    HOLD_TTL_S,
    WITHIN_S,
    Answer,
    Draw,
    Hold,
    Limited,
    Short,
    Spending,
    Timed,
    over_of,
)
from router.budgets.holdings import Holdings, Live, Settlement
from router.budgets.link import Link, NotAsked, State
from router.budgets.recovery import BeingFilled, Recovery
from router.budgets.share import Share
from router.errors import StoreUnavailable
from router.values import EXACT_NUSD, Level, Scope, short_of

RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Outage:
    """What happens while Redis is away: nothing is held, or each of `replicas` spends its share of what was left."""

    local: bool = False
    replicas: int = 1


class RedisBudgets:
    """Holds and charges in a Redis. `work` must run beside it."""

    def __init__(  # noqa: PLR0913  all but the first two are options, given by name
        self,
        url: str,
        clock: Callable[[], float],
        *,
        spending: Spending,
        late_rows: Callable[[], int],
        rebuilt: Callable[[], None],
        timed: Timed,
        outage: Outage,
        hold_ttl_s: float = HOLD_TTL_S,
        within_s: float = WITHIN_S,
    ) -> None:
        meanwhile = "Its last known share is spent." if outage.local else "Holds are refused."
        self._clock = clock
        self._hold_ttl_s = hold_ttl_s
        self._arguments = Arguments(hold_ttl_s)
        self._share = Share(clock, outage.replicas) if outage.local else None
        self._link = Link(url, clock, within_s, timed, meanwhile)
        self._holdings = Holdings(self._link, self._arguments, clock, hold_ttl_s)
        self._recovery = Recovery(
            self._link,
            self._holdings,
            self._arguments,
            self._share,
            clock=clock,
            spending=spending,
            late_rows=late_rows,
            rebuilt=rebuilt,
        )

    @property
    def unsettled(self) -> int:
        return self._holdings.unsettled

    @property
    def degraded(self) -> str | None:
        return self._link.degraded

    async def hold(self, hold: Hold) -> Answer:
        if not hold.scopes and not hold.draws:
            return HELD
        assert hold.lost_nusd <= EXACT_NUSD, "Lua counts exactly up to 2^53"
        if self._share and self._link.state is State.AWAY:
            return await self._hold_here(hold, self._share)
        live = Live(hold, hold.id, self._clock())
        try:
            reply = await self._link.ask("hold", self._arguments.of_hold(live.hold, live.id, live.at_s))
        except StoreUnavailable as error:
            if not isinstance(error, NotAsked):
                self._holdings.void(live)
            if self._share and self._link.state is State.AWAY:
                return await self._hold_here(hold, self._share)
            raise
        except asyncio.CancelledError:
            self._holdings.void(live)
            raise
        if reply[0] == 2:
            return Limited(hold.draws[reply[1]].rate, reply[2] / 1000)
        levels = _levels(hold.scopes, reply)
        if self._share:
            self._share.saw(levels)
        if reply[0] == 1:
            self._holdings.live[hold.id] = live
            return over_of(levels)
        short = short_of(levels, hold.amount_nusd)
        assert short is not None, "the script found a scope without room, by the same amounts"
        return Short(short)

    async def settle(self, hold_id: str, charge_nusd: int, used_tokens: int | None = None) -> None:
        """Take the settlement on; it leaves with the next batch, off the caller's path."""
        live = self._holdings.live.pop(hold_id, None)
        if live is None:
            return
        if live.here and self._share:
            await self._share.settle(hold_id, charge_nusd, used_tokens)
        self._holdings.settle(Settlement(live, charge_nusd, used_tokens))

    async def levels(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        if not scopes:
            return ()
        names = self._arguments.of_tallies(scopes, self._clock())[::3]
        levels = _levels(scopes, await self._link.ask("levels", names))
        if self._share:
            self._share.saw(levels)
        return levels

    async def peek(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        try:
            return await self.levels(scopes)
        except StoreUnavailable:
            if self._share and self._link.state is State.AWAY:
                return await self._share.levels(scopes)
            raise

    async def peek_rates(self, draws: Sequence[Draw]) -> Limited | None:
        if not draws:
            return None
        try:
            reply = await self._link.ask("rates", self._arguments.of_draws(draws))
        except StoreUnavailable:
            if self._share and self._link.state is State.AWAY:
                return await self._share.peek_rates(draws)
            raise
        return Limited(draws[reply[1]].rate, reply[2] / 1000) if reply[0] == 2 else None

    async def restore(self, spent: Mapping[Scope, int]) -> None:
        await self._link.ask("restore", self._arguments.of_restoring("lift", spent, self._clock()))

    async def work(self) -> None:
        """Send what is queued; find out when Redis is back, and settle what waits. Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.send_batches())
            tasks.create_task(self._keep_up())

    async def aclose(self) -> None:
        """Settle what is left, as far as Redis is there."""
        await self._holdings.aclose()
        await self._link.aclose()

    async def _keep_up(self) -> None:
        """Bring the store up whenever it is not, and settle what waits."""
        link, holdings = self._link, self._holdings
        while True:
            if link.state is not State.UP:
                try:
                    await self._recovery.bring_up()
                except BeingFilled:
                    pass
                except StoreUnavailable as error:
                    link.away(error)
            if link.state is State.UP:
                holdings.settle_waiting()
            holdings.forget()
            link.woken.clear()
            waits = link.state is not State.UP or holdings.unsettled
            try:
                async with asyncio.timeout(RETRY_S if waits else self._hold_ttl_s):
                    await link.woken.wait()
                if waits:
                    await asyncio.sleep(RETRY_S)
            except TimeoutError:
                pass

    async def _hold_here(self, hold: Hold, share: Share) -> Answer:
        """Hold of this process's share, to be told to Redis when it is back."""
        answer = await share.hold(hold)
        if not isinstance(answer, Short | Limited):
            # Its own id may have reached Redis, and be void there.
            self._holdings.live[hold.id] = Live(hold, f"{hold.id}~here", self._clock(), here=True)
        return answer


def _levels(scopes: Sequence[Scope], reply: list[int]) -> tuple[Level, ...]:
    return tuple(
        Level(scope, spent_nusd, held_nusd)
        for scope, spent_nusd, held_nusd in zip(scopes, reply[1::2], reply[2::2], strict=True)
    )
