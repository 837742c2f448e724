"""Budgets that many processes share, in Redis: one script a verb, and what one event loop asks goes out together.

Nothing that was told is forgotten while the process lives: a settlement that does not reach Redis is kept and tried
again. Where Redis has lost its data, or may have old data, the counters are filled from the ledger before anything is
held: it says what is spent and what is held, each process adds what it holds, and a settlement of what the ledger has
as settled finds no hold. So each request counts once, as far as its row is in the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from msgspec import Struct, structs

from router.budgets.arguments import Arguments
from router.budgets.contract import (
    HELD,
    HOLD_TTL_S,
    LATE_S,
    WITHIN_S,
    Answer,
    Hold,
    Limited,
    Short,
    Spending,
    Timed,
    Verb,
    over_of,
)
from router.budgets.share import Share
from router.budgets.wire import Command, Wire
from router.errors import StoreUnavailable
from router.values import EXACT_NUSD, Level, Scope

PATIENCE_S = 1.0
"""How long a hold waits while counters are being rebuilt."""
READ_WITHIN_S = 5.0
"""How long the ledger may take to say what was spent."""
COMMIT_S = 0.25
"""How long an outcome of another process may be on its way into the ledger."""
CLAIM = "filling-"
CLAIM_S = 2 * READ_WITHIN_S
"""How long others wait for who fills the counters, and may have died over it."""
RETRY_S = 0.1
MOST_UNSETTLED = 100_000
MOST_TOGETHER = 500
MOST_REMEMBERED = 4096

log = logging.getLogger("farthing.budgets")


@dataclass(frozen=True, slots=True)
class Outage:
    """What happens while Redis is away: nothing is held, or each of `replicas` spends its share of what was left."""

    local: bool = False
    replicas: int = 1


class State(Enum):
    STARTING = "starting"
    """Not known to be there with its counters; it is being found out, or they are being filled."""
    UP = "up"
    AWAY = "away"


class _NotAsked(StoreUnavailable):
    """Redis was not asked at all, so that there is nothing to take back."""


REBUILT = "The budgets are being rebuilt from the ledger."


class _BeingFilled(StoreUnavailable):
    """Another process fills the counters."""


class _Live(Struct, frozen=True):
    """A hold that this process made and has not settled."""

    hold: Hold
    id: str
    """Under which Redis has it."""
    at_s: float
    here: bool = False
    """Held in this process alone, while Redis was away."""


class _Settlement(Struct):
    live: _Live
    charge_nusd: int
    used_tokens: int | None
    void: bool = False
    """Of a hold that may or may not have reached Redis, or may reach it yet."""
    sent: bool = False


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
        self._wire = Wire(url, within_s, timed)
        self._clock = clock
        self._spending = spending
        self._late_rows = late_rows
        self._late_rows_before = 0
        self._rebuilt = rebuilt
        self._share = Share(clock, outage.replicas) if outage.local else None
        self._hold_ttl_s = hold_ttl_s
        self._state = State.STARTING
        self._why = "The store of budgets has not been reached yet."
        self._up = asyncio.Event()
        self._queue: list[Command] = []
        self._queued = asyncio.Event()
        self._woken = asyncio.Event()
        self._live: dict[str, _Live] = {}
        self._settlements: dict[str, _Settlement] = {}
        self._done: deque[_Settlement] = deque(maxlen=MOST_REMEMBERED)
        """The last ones that Redis took. The ledger may not have had them yet when Redis was filled from it."""
        self._run_id: str | None = None
        self._epoch = ""
        """Of the counters, as last seen; every script is sent with it."""
        self._claim = ""
        self._told_epoch = ""
        """In which Redis has all that this process holds."""
        self._arguments = Arguments(hold_ttl_s)

    @property
    def unsettled(self) -> int:
        return len(self._settlements)

    async def hold(self, hold: Hold) -> Answer:
        if not hold.scopes and not hold.draws:
            return HELD
        assert hold.lost_nusd <= EXACT_NUSD, "Lua counts exactly up to 2^53"
        if self._share and self._state is State.AWAY:
            return await self._hold_here(hold)
        live = _Live(hold, hold.id, self._clock())
        try:
            reply = await self._ask("hold", self._arguments.of_hold(live.hold, live.id, live.at_s))
        except StoreUnavailable as error:
            if not isinstance(error, _NotAsked):
                self._void(live)
            if self._share and self._state is State.AWAY:
                return await self._hold_here(hold)
            raise
        except asyncio.CancelledError:
            self._void(live)
            raise
        if reply[0] == 2:
            return Limited(hold.draws[reply[1]].rate, reply[2] / 1000)
        levels = _levels(hold.scopes, reply)
        if self._share:
            self._share.saw(levels)
        if reply[0] == 1:
            self._live[hold.id] = live
            return over_of(levels)
        return Short(
            min(
                (
                    level
                    for level in levels
                    if not level.scope.is_soft
                    and level.spent_nusd + level.held_nusd + hold.amount_nusd > level.scope.limit_nusd
                ),
                key=lambda level: level.left_nusd,
            )
        )

    async def settle(self, hold_id: str, charge_nusd: int, used_tokens: int | None = None) -> None:
        """Take the settlement on; it leaves with the next batch, off the caller's path."""
        live = self._live.pop(hold_id, None)
        if live is None:
            return
        if live.here and self._share:
            await self._share.settle(hold_id, charge_nusd, used_tokens)
        self._settle_soon(_Settlement(live, charge_nusd, used_tokens))

    async def levels(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        if not scopes:
            return ()
        names = self._arguments.of_tallies(scopes, self._clock())[::3]
        levels = _levels(scopes, await self._ask("levels", names))
        if self._share:
            self._share.saw(levels)
        return levels

    async def restore(self, spent: Mapping[Scope, int]) -> None:
        await self._ask("restore", self._arguments.of_restoring("lift", spent, self._clock()))

    async def work(self) -> None:
        """Send what is queued; find out when Redis is back, and settle what waits. Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_batches())
            tasks.create_task(self._keep_up())

    async def aclose(self) -> None:
        """Settle what is left, as far as Redis is there."""
        for settlement in self._settlements.values():
            settlement.sent = False
        if waiting := self._settling(list(self._settlements.values())):
            await self._wire.send(waiting)
            # The replies' callbacks run in the next turn of the loop.
            await asyncio.sleep(0)
        if self._settlements:
            log.error("%d holds are not settled; they are booked at their ceilings.", len(self._settlements))
        await self._wire.aclose()

    # -- what is sent --------------------------------------------------------------------------------------------------

    async def _ask(self, verb: Verb, args: tuple[str | int, ...]) -> Any:
        """Run a script and return its reply; again, once, where the counters had to be rebuilt first."""
        for _ in range(2):
            if self._state is not State.UP:
                await self._until_up()
            reply = await self._queue_up(verb, args)
            if not _is_lost(reply):
                return reply
            self._lost()
        raise StoreUnavailable("The store of budgets loses its counters again and again.")

    async def _until_up(self) -> None:
        if self._state is State.STARTING:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._up.wait()
            except TimeoutError:
                raise _NotAsked(self._why) from None
        if self._state is State.AWAY:
            raise _NotAsked(self._why)

    def _queue_up(self, verb: Verb, args: tuple[str | int, ...]) -> asyncio.Future[Any]:
        """Add a command to the next batch. The future is done within two deadlines, for one batch may go before it."""
        command = Command(verb, (*self._now(), *args), asyncio.get_running_loop().create_future())
        self._queue.append(command)
        self._queued.set()
        return command.reply

    async def _send_batches(self) -> None:
        """Send what is queued; while one batch is on its way, the next one gathers."""
        while True:
            await self._queued.wait()
            self._queued.clear()
            batch, self._queue = self._queue[:MOST_TOGETHER], self._queue[MOST_TOGETHER:]
            if self._queue:
                self._queued.set()
            if away := await self._wire.send(batch):
                self._away(away)

    def _away(self, error: StoreUnavailable) -> None:
        if self._state is not State.AWAY:
            log.error("%s %s", error.message, "Its last known share is spent." if self._share else "Holds are refused.")
        self._state, self._why = State.AWAY, error.message
        self._up.set()
        self._woken.set()

    def _lost(self) -> None:
        if self._state is State.UP:
            self._state, self._why = State.STARTING, REBUILT
            self._up.clear()
            self._woken.set()

    # -- settlements ---------------------------------------------------------------------------------------------------

    def _void(self, live: _Live) -> None:
        """Give a hold back whose answer nobody has, whether it was made or will yet be."""
        self._settle_soon(_Settlement(live, 0, 0, void=True))

    def _settle_soon(self, settlement: _Settlement) -> None:
        if len(self._settlements) >= MOST_UNSETTLED:
            oldest = next(iter(self._settlements))
            del self._settlements[oldest]
            log.error("Too many settlements wait; the hold %s will be booked at its ceiling.", oldest)
        self._settlements[settlement.live.id] = settlement
        if self._state is State.UP:
            self._queue += self._settling([settlement])
            self._queued.set()

    def _settling(self, settlements: list[_Settlement]) -> list[Command]:
        """Return the commands that settle these; a hold made while Redis was away is told first."""
        commands = []
        for settlement in settlements:
            if settlement.sent:
                continue
            settlement.sent = True
            loop = asyncio.get_running_loop()
            if settlement.live.here:
                live = settlement.live
                told = (*self._now(), *self._arguments.of_hold(live.hold, live.id, live.at_s, forced=True))
                commands.append(Command("hold", told, loop.create_future()))
            used = settlement.used_tokens
            args = (
                *self._now(),
                settlement.live.id,
                settlement.charge_nusd,
                "-" if used is None else used,
                int(settlement.void),
            )
            reply: asyncio.Future[Any] = loop.create_future()
            reply.add_done_callback(partial(self._settled, settlement))
            commands.append(Command("settle", args, reply))
        return commands

    def _settled(self, settlement: _Settlement, reply: asyncio.Future[Any]) -> None:
        settlement.sent = False
        if reply.cancelled() or reply.exception():
            self._woken.set()
        elif reply.result() == -1:
            self._lost()
        elif self._settlements.get(settlement.live.id) is settlement:
            del self._settlements[settlement.live.id]
            self._done.append(settlement)

    # -- away and back -------------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Bring the store up whenever it is not, and settle what waits."""
        while True:
            if self._state is not State.UP:
                try:
                    await self._bring_up()
                except _BeingFilled:
                    pass
                except StoreUnavailable as error:
                    self._away(error)
            if self._state is State.UP and (commands := self._settling(list(self._settlements.values()))):
                self._queue += commands
                self._queued.set()
            self._forget()
            self._woken.clear()
            waits = self._state is not State.UP or self._settlements
            try:
                async with asyncio.timeout(RETRY_S if waits else self._hold_ttl_s):
                    await self._woken.wait()
                if waits:
                    await asyncio.sleep(RETRY_S)
            except TimeoutError:
                pass

    async def _bring_up(self) -> None:
        """Find Redis, fill its counters where they are lost or old, and tell it what this process holds.

        Raises:
            StoreUnavailable: it is away, or the ledger can't be read.
        """
        late_rows = self._late_rows()
        run_id, self._epoch = await self._wire.lives()
        if self._epoch.startswith(CLAIM) and self._epoch != self._claim:
            raise _BeingFilled(REBUILT)
        was_away = self._state is State.AWAY
        # From here on nothing is held in this process alone, so that the ledger will have all of it.
        self._state = State.STARTING
        self._up.clear()
        # Whoever filled it may have missed rows of this process.
        late = late_rows != self._late_rows_before or self._has_held_here()
        missed = self._epoch != self._told_epoch and late
        if not self._epoch or self._run_id not in {None, run_id} or missed:
            await self._fill(first=self._run_id is None)
            run_id, self._epoch = await self._wire.lives()
        anew = self._epoch != self._told_epoch
        if anew:
            self._start_anew()
        for live in [live for live in self._live.values() if anew or live.here]:
            await self._directly("hold", self._arguments.of_hold(live.hold, live.id, live.at_s, forced=True))
            if live.here:
                self._live[live.hold.id] = structs.replace(live, here=False)
        self._told_epoch, self._late_rows_before = self._epoch, late_rows
        if self._share:
            self._share.clear()
        if was_away:
            log.warning("The store of budgets is back; %d settlements follow.", len(self._settlements))
        self._run_id, self._state = run_id, State.UP
        self._up.set()

    def _start_anew(self) -> None:
        """Tell of every hold under the name that the ledger has, now that the counters were filled from it."""
        for key, live in self._live.items():
            self._live[key] = structs.replace(live, id=key, here=False)
        waiting = [each for each in (*self._done, *self._settlements.values()) if not each.void]
        self._done.clear()
        self._settlements = {}
        for each in waiting:
            each.live = structs.replace(each.live, id=each.live.hold.id, here=False)
            self._settlements[each.live.id] = each

    def _has_held_here(self) -> bool:
        return any(live.here for live in self._live.values()) or any(
            each.live.here for each in self._settlements.values()
        )

    async def _fill(self, *, first: bool) -> None:
        """Fill the counters from the ledger: where they are lost, or else under a claim, lest they move meanwhile.

        Raises:
            StoreUnavailable: Redis is away, the ledger can't be read, or another process was first with a claim.
        """
        lost = not self._epoch
        if self._epoch not in {"", self._claim}:
            self._claim = CLAIM + secrets.token_hex(8)
            if not await self._directly("claim", (self._claim, int(CLAIM_S * 1000))):
                raise _BeingFilled(REBUILT)
            self._epoch = self._claim
        if not first:
            # What others have just settled is on its way into the ledger.
            await asyncio.sleep(COMMIT_S)
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                spent = await self._spending()
        except TimeoutError:
            raise StoreUnavailable("The ledger did not say in time what was spent.") from None
        args = self._arguments.of_restoring("lost" if lost else "claimed", spent.by_scope, self._clock())
        if not await self._directly("restore", args + self._arguments.of_open_holds(spent.open)):
            raise _BeingFilled(REBUILT)
        if lost and not first:
            log.error("Redis had lost its budgets; %d were rebuilt from the ledger.", len(spent.by_scope))
            self._rebuilt()

    async def _directly(self, verb: Verb, args: tuple[str | int, ...]) -> Any:
        """Run a script at once, whatever the state."""
        command = Command(verb, (*self._now(), *args), asyncio.get_running_loop().create_future())
        await self._wire.send([command])
        return await command.reply

    async def _hold_here(self, hold: Hold) -> Answer:
        """Hold of this process's share, to be told to Redis when it is back."""
        assert self._share is not None
        answer = await self._share.hold(hold)
        if not isinstance(answer, Short | Limited):
            # Its own id may have reached Redis, and be void there.
            self._live[hold.id] = _Live(hold, f"{hold.id}~here", self._clock(), here=True)
        return answer

    def _forget(self) -> None:
        """Drop holds that nobody settled and that Redis has forgotten by now."""
        oldest_s = self._clock() - self._hold_ttl_s - LATE_S
        for hold_id in [hold_id for hold_id, live in self._live.items() if live.at_s < oldest_s]:
            del self._live[hold_id]

    def _now(self) -> tuple[int, str]:
        return int(self._clock() * 1000), self._epoch


def _is_lost(reply: object) -> bool:
    return isinstance(reply, list) and reply[0] == -1


def _levels(scopes: Sequence[Scope], reply: list[int]) -> tuple[Level, ...]:
    return tuple(
        Level(scope, spent_nusd, held_nusd)
        for scope, spent_nusd, held_nusd in zip(scopes, reply[1::2], reply[2::2], strict=True)
    )
