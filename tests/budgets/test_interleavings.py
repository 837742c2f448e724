"""Any interleaving of holds, settlements, expiries, crashes and rollovers, against a plain model, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs
from proxy import WITHIN_S, LoopThread
from redis_server import RedisServer, running_redis

from budgets.conftest import Clock, flush
from router.budgets.contract import HOLD_TTL_S, LATE_S, Budgets, Held, Hold, Short
from router.budgets.open import open_budgets
from router.values import Scope

HARD = (
    Scope("task", "t", "hour", 100),
    Scope("global", "all", "day", 160),
    Scope("account", "a", "month", 400),
)
SOFT = (Scope("task", "u", "hour", 50, "warn"), Scope("global", "all", "month", 90, "warn"))
CHOICES = ((HARD[0],), HARD, (HARD[1], SOFT[0]), (*HARD, SOFT[1]), SOFT)
AMOUNTS = st.integers(0, 60)


@dataclass(slots=True)
class Known:
    """One hold as the model has it."""

    hold: Hold
    windows: tuple[tuple[Scope, str], ...]
    expires_s: float
    state: str = "held"
    booked_nusd: int = 0


@dataclass(slots=True)
class Model:
    """What must be true, worked out anew from the list of holds."""

    holds: dict[str, Known] = field(default_factory=dict)

    def expire(self, now_s: float) -> None:
        for known in self.holds.values():
            if known.state == "held" and known.expires_s <= now_s:
                known.state, known.booked_nusd = "expired", known.hold.lost_nusd
            if known.state == "expired" and known.expires_s + LATE_S <= now_s:
                known.state = "too late"

    def level(self, scope: Scope, now_s: float) -> tuple[int, int]:
        own = [known for known in self.holds.values() if (scope, scope.bucket(now_s)) in known.windows]
        held = sum(known.hold.amount_nusd for known in own if known.state == "held")
        return sum(known.booked_nusd for known in own), held

    def short(self, hold: Hold, now_s: float) -> bool:
        return hold.amount_nusd > 0 and any(
            sum(self.level(scope, now_s)) + hold.amount_nusd > scope.limit_nusd
            for scope in hold.scopes
            if not scope.is_soft
        )


class Interleavings(RuleBasedStateMachine):
    """Two processes on one store; in memory both are one."""

    url = "memory://"
    server: RedisServer | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = LoopThread().__enter__()
        self.clock = Clock()
        self.model = Model()
        self.over: set[tuple[Scope, str]] = set()
        """Windows in which a charge passed its hold, which is accepted."""
        self.made = 0
        self.works: dict[int, asyncio.Task[None]] = {}
        self.stores: dict[int, Budgets] = {}

    def run(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)

    @initialize()
    def begin(self) -> None:
        if self.server:
            flush(self.server)
        for process in range(2):
            self.run(self.start(process))

    async def start(self, process: int) -> None:
        if self.url == "memory://" and self.stores:
            self.stores[process] = self.stores[0]
            return
        self.stores[process] = open_budgets(self.url, self.clock, within_s=WITHIN_S)
        self.works[process] = asyncio.get_running_loop().create_task(self.stores[process].work())

    async def end(self, process: int, *, crash: bool) -> None:
        if work := self.works.pop(process, None):
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if crash and self.server:
                # What was told to it and not sent yet would be lost; all has been sent, as the invariant waits for.
                assert self.stores[process].unsettled == 0
            await self.stores[process].aclose()

    @rule(process=st.integers(0, 1), scopes=st.sampled_from(CHOICES), amount=AMOUNTS, more=st.integers(0, 20))
    def hold(self, process: int, scopes: tuple[Scope, ...], amount: int, more: int) -> None:
        self.made += 1
        hold = Hold(f"{process}-{self.made}", scopes, amount, ceiling_nusd=amount + more)
        self.model.expire(self.clock.now_s)
        short = self.model.short(hold, self.clock.now_s)
        answer = self.run(self.stores[process].hold(hold))
        assert isinstance(answer, Short if short else Held)
        if isinstance(answer, Held):
            windows = tuple((scope, scope.bucket(self.clock.now_s)) for scope in scopes)
            self.model.holds[hold.id] = Known(hold, windows, self.clock.now_s + HOLD_TTL_S)
            over = {scope for scope in scopes if scope.is_soft and self.is_used_up(scope)}
            assert {level.scope for level in answer.over} == over
        else:
            assert answer.level.scope in scopes
            assert answer.level.left_nusd < amount

    def is_used_up(self, scope: Scope) -> bool:
        return self.model.level(scope, self.clock.now_s)[0] >= scope.limit_nusd

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), again=st.integers(1, 2))
    def hold_again(self, data: st.DataObject, again: int) -> None:
        """An id that holds takes nothing more."""
        known = self.choose(data, "held")
        if known:
            process = int(known.hold.id[0])
            for _ in range(again):
                assert isinstance(self.run(self.stores[process].hold(known.hold)), Held)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), charge=st.integers(0, 80), again=st.integers(1, 3))
    def settle(self, data: st.DataObject, charge: int, again: int) -> None:
        self.model.expire(self.clock.now_s)
        known = self.choose(data, "held", "expired", "settled")
        if known is None:
            return
        process = int(known.hold.id[0])
        for _ in range(again):
            self.run(self.stores[process].settle(known.hold.id, charge))
        if known.state != "settled":
            known.state, known.booked_nusd = "settled", charge
            if charge > known.hold.amount_nusd:
                self.over.update(known.windows)

    def choose(self, data: st.DataObject, *states: str) -> Known | None:
        found = [known for known in self.model.holds.values() if known.state in states and known.hold.id[0] != "x"]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(seconds=st.sampled_from([1.0, 60.0, HOLD_TTL_S - 1, HOLD_TTL_S, 3600.0, 6 * 3600.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule(process=st.integers(0, 1))
    def crash(self, process: int) -> None:
        """Its holds are settled by nobody any more; another process takes its place."""
        if self.url == "memory://":
            return
        self.run(self.end(process, crash=True))
        self.run(self.start(process))
        for known in self.model.holds.values():
            if known.hold.id.startswith(f"{process}-") and known.state in ("held", "expired"):
                known.hold = structs.replace(known.hold, id=f"x{known.hold.id}")

    @invariant()
    def every_counter_is_as_the_model_says(self) -> None:
        if not self.stores:
            return
        scopes = (*HARD, *SOFT)
        for process in (0, 1):
            self.run(self.settled(process))
        now_s = self.clock.now_s
        self.model.expire(now_s)
        self.over.update(
            window
            for known in self.model.holds.values()
            if known.booked_nusd > known.hold.amount_nusd
            for window in known.windows
        )
        for level in self.run(self.stores[0].levels(scopes)):
            assert (level.spent_nusd, level.held_nusd) == self.model.level(level.scope, now_s)
            assert level.spent_nusd >= 0
            assert level.held_nusd >= 0
            if not level.scope.is_soft and (level.scope, level.scope.bucket(now_s)) not in self.over:
                assert level.spent_nusd + level.held_nusd <= level.scope.limit_nusd

    async def settled(self, process: int) -> None:
        async with asyncio.timeout(10):
            while self.stores[process].unsettled:
                await asyncio.sleep(0.0005)

    def teardown(self) -> None:
        for process in list(self.stores):
            self.run(self.end(process, crash=False))
        self.loop.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


def check(machine: type[Interleavings], examples: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    profile = settings(max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(machine, settings=profile)  # type: ignore[no-untyped-call]


def test_no_interleaving_breaks_budgets_in_memory() -> None:
    check(Interleavings, 100)


def test_no_interleaving_breaks_budgets_in_redis(server: RedisServer) -> None:
    class InRedis(Interleavings):
        url = server.url

    InRedis.server = server
    check(InRedis, 40)
