"""What a Redis that is there does and memory can't: serve several processes, at once and after one died."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
from redis_server import RedisServer

from budgets.conftest import NOON_S, Place, until
from budgets.counters import BOTH, DAY, client, numbers
from router.budgets.contract import HELD, LATE_S, Budgets, Draw, Held, Hold, Short
from router.errors import StoreUnavailable
from router.values import Level, Rate, Scope

pytestmark = pytest.mark.anyio


async def test_two_processes_share_what_is_left(shared: Place) -> None:
    async with shared.open() as one, shared.open() as other:
        assert await one.hold(Hold("1", BOTH, 60)) == HELD
        assert await other.hold(Hold("2", BOTH, 60)) == Short(Level(DAY, 0, 60))
        await one.settle("1", 10)
        await until(lambda: one.unsettled == 0, "the settlement")
        assert await other.hold(Hold("2", BOTH, 60)) == HELD


async def test_a_hold_of_a_process_that_died_is_reclaimed_by_another(shared: Place) -> None:
    async with shared.open() as dead:
        await dead.hold(Hold("1", BOTH, 10, ceiling_nusd=40))
    async with shared.open(hold_ttl_s=1.0) as other:
        assert await numbers(other) == (0, 10)
        shared.clock.now_s += 900
        assert await numbers(other) == (40, 0)


async def test_holds_of_one_loop_go_out_together(shared: Place) -> None:
    async with shared.open() as store:
        await store.levels(BOTH)
        with closing(client(shared.url)) as watched:
            before = watched.info("stats")
            await asyncio.gather(*(store.hold(Hold(str(number), BOTH, 1)) for number in range(100)))
            after = watched.info("stats")
    # Were each read alone, there would be a hundred; INFO itself and its connection are some.
    assert after["total_reads_processed"] - before["total_reads_processed"] <= 10  # type: ignore[index]


async def test_scripts_that_redis_forgot_are_loaded_again(shared: Place) -> None:
    async with shared.open() as store:
        await store.hold(Hold("1", BOTH, 10))
        with closing(client(shared.url)) as other:
            other.script_flush()
        assert await store.hold(Hold("2", BOTH, 10)) == HELD
        assert await numbers(store) == (0, 20)


async def test_every_counter_is_forgotten_some_time_after_its_window(shared: Place) -> None:
    async with shared.open() as store:
        rate = Rate("account", "a", "tokens", 60)
        await store.hold(Hold("1", BOTH, 10, draws=(Draw(rate, 30),)))
        await store.settle("1", 5, 30)
        await store.levels(BOTH)
    with closing(client(shared.url)) as other:
        left = {str(key): other.ttl(key) for key in other.keys("*")}
    assert {key for key, ttl_s in left.items() if ttl_s == -1} == {"{farthing}:epoch"}
    assert set(left) == {
        "{farthing}:epoch",
        "{farthing}:tally:task:support:day:2096-11-21",
        "{farthing}:tally:global:all:month:2096-11",
        "{farthing}:bucket:account:a:tokens",
    }, "and a settled hold at once"


async def test_a_settlement_brings_no_counter_back_that_was_forgotten(shared: Place) -> None:
    async with shared.open() as store:
        await store.hold(Hold("1", BOTH, 10, draws=(Draw(Rate("account", "a", "tokens", 60), 30),)))
        forgotten = ("{farthing}:tally:task:support:day:2096-11-21", "{farthing}:bucket:account:a:tokens")
        with closing(client(shared.url)) as other:
            assert other.delete(*forgotten) == 2
            await store.settle("1", 5, 40)
            await until(lambda: store.unsettled == 0, "the settlement")
            assert other.exists(*forgotten) == 0
            assert other.hgetall("{farthing}:tally:global:all:month:2096-11") == {"spent": "5", "held": "0"}


class Late:
    """A way to Redis on which what a connection sends can be kept, to be passed on later."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.passing = asyncio.Event()
        self.passing.set()
        self.open = self.arrived = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        there, on = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.ensure_future(self._pass(there, writer))
        kept = 0
        while data := await reader.read(1 << 16):
            passing = self.passing
            if not passing.is_set():
                kept += 1
                await passing.wait()
            on.write(data)
        on.write_eof()
        # Redis answers all that came before it closes.
        await asyncio.gather(back, return_exceptions=True)
        on.close()
        writer.close()
        self.arrived += kept
        self.open -= 1

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)


async def given_up_and_late(direct: Place, way: Place, late: Late) -> None:
    async with way.open(within_s=0.2) as store:
        await store.levels(BOTH)
        late.passing.clear()
        with pytest.raises(StoreUnavailable):
            await store.hold(Hold("1", BOTH, 10))
        kept, late.passing = late.passing, asyncio.Event()
        late.passing.set()
        await until(lambda: store.unsettled == 0, "the hold given up")
        assert await numbers(store) == (0, 0)
        kept.set()
        await until(lambda: late.arrived > 0, "the hold in Redis")
        assert await numbers(store) == (0, 0)
        with closing(client(direct.url)) as other:
            assert other.hlen("{farthing}:holds") == 1, "what says that it is given up"
            direct.clock.now_s += LATE_S
            assert await numbers(store) == (0, 0)
            assert other.hlen("{farthing}:holds") == 0


async def test_a_hold_that_arrives_after_it_was_given_up_holds_nothing(
    shared: Place, redis_server: RedisServer
) -> None:
    late = Late(redis_server.port)
    server = await asyncio.start_server(late.serve, "127.0.0.1")
    way = Place(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", shared.clock)
    async with server:
        await given_up_and_late(shared, way, late)
        await until(lambda: late.open == 0, "every connection closed")


async def test_a_hold_whose_caller_hangs_up_meanwhile_is_given_back(shared: Place) -> None:
    async with shared.open() as store:
        await store.levels(BOTH)
        for number in range(20):
            holding = asyncio.ensure_future(store.hold(Hold(str(number), BOTH, 100)))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            if not holding.cancelled():
                await store.settle(str(number), 0)
        await until(lambda: store.unsettled == 0, "every hold given back")
        assert await numbers(store) == (0, 0)


CALLERS = """
import asyncio, sys, time
from router.budgets.contract import Held, Hold
from router.budgets.open import open_budgets
from router.values import Scope

async def main(url, process, callers, limit, now_s):
    scopes = tuple(
        Scope(kind, "x", window, limit) for kind in ("task", "account", "global") for window in ("hour", "month")
    )
    store = open_budgets(url, lambda: now_s)
    work = asyncio.create_task(store.work())
    await store.levels(scopes)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

    async def call(number):
        held = isinstance(await store.hold(Hold(f"{process}-{number}", scopes, 1_000_003)), Held)
        if held:
            await store.settle(f"{process}-{number}", 1_000_003)
        return held

    answers = await asyncio.gather(*(call(number) for number in range(callers)))
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await store.aclose()
    print(sum(answers), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
"""


async def test_a_thousand_callers_of_four_processes_cannot_overspend(shared: Place, redis_server: RedisServer) -> None:
    limit_nusd = 138 * 1_000_003 - 1
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CALLERS, shared.url, str(number), "250", str(limit_nusd), str(NOON_S),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for number in range(4)
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
    told = await asyncio.gather(*(child.communicate(b"go\n") for child in children))
    assert sum(int(out) for out, _ in told) == 137
    with closing(client(shared.url)) as other:
        tallies = [other.hgetall(key) for key in other.keys("{farthing}:tally:*")]
    assert tallies == [{"held": "0", "spent": str(137 * 1_000_003)}] * 6


@pytest.fixture
async def memory() -> AsyncIterator[Budgets]:
    async with Place("memory://").open() as store:
        yield store


async def test_a_thousand_callers_of_one_process_cannot_overspend(memory: Budgets) -> None:
    scopes = (Scope("task", "x", "day", 138 * 1_000_003 - 1), Scope("global", "all", "month", 10**12))

    async def call(number: int) -> bool:
        held = isinstance(await memory.hold(Hold(str(number), scopes, 1_000_003)), Held)
        await asyncio.sleep(0)
        await memory.settle(str(number), 1_000_003)
        return held

    assert sum(await asyncio.gather(*(call(number) for number in range(1000)))) == 137
    assert [level.spent_nusd for level in await memory.levels(scopes)] == [137 * 1_000_003] * 2
