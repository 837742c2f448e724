"""What a Redis does that memory can't: be away, come back empty or old, be a cluster, serve several processes."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
import redis
from conftest import NOON_S, Place, flush, until
from redis_server import RedisServer, running_redis

from router.budgets.contract import HELD, Budgets, Draw, Held, Hold, Limited, OpenHold, Short, Spent
from router.errors import StoreUnavailable
from router.values import Level, Rate, Scope

pytestmark = pytest.mark.anyio

DAY = Scope("task", "support", "day", 100)
MONTH = Scope("global", "all", "month", 10_000)
BOTH = (DAY, MONTH)


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may stop."""
    with running_redis() as server:
        yield server


@pytest.fixture
def shared(redis_server: RedisServer) -> Place:
    flush(redis_server)
    return Place(redis_server.url)


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


async def numbers(store: Budgets, scope: Scope = DAY) -> tuple[int, int]:
    (level,) = await store.levels((scope,))
    return level.spent_nusd, level.held_nusd


class Ledger:
    """Says what was spent, and counts how often it was asked and told of a rebuild."""

    def __init__(self, by_scope: Mapping[Scope, int], *opened: OpenHold) -> None:
        self.spent = Spent(by_scope, opened)
        self.asked = self.rebuilds = 0

    async def __call__(self) -> Spent:
        self.asked += 1
        return self.spent

    def rebuilt(self) -> None:
        self.rebuilds += 1


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


# -- away -------------------------------------------------------------------------------------------------------------


async def test_without_redis_a_hold_is_refused_in_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as mute:
        place = Place(f"redis://127.0.0.1:{mute.getsockname()[1]}")
        async with place.open(within_s=0.25) as store:
            loop = asyncio.get_running_loop()
            for _ in range(3):
                started = loop.time()
                with pytest.raises(StoreUnavailable):
                    await store.hold(Hold("1", BOTH, 10))
                assert loop.time() - started < 2.0
        assert store.unsettled == 0, "Redis was never asked, so there is nothing to give back"


async def test_a_hold_without_budgets_needs_no_redis() -> None:
    async with Place("redis://127.0.0.1:1").open() as store:
        assert await store.hold(Hold("1", (), 10)) == HELD
        await store.settle("1", 10)
        assert store.unsettled == 0


async def test_what_was_settled_while_redis_was_away_is_settled_once_when_it_is_back(own_server: RedisServer) -> None:
    place, ledger = Place(own_server.url), Ledger({DAY: 0, MONTH: 0}, OpenHold(Hold("1/0", BOTH, 60), NOON_S))
    async with place.open(spending=ledger, rebuilt=ledger.rebuilt) as store:
        await store.hold(Hold("1/0", BOTH, 60))
        await store.hold(Hold("2/0", BOTH, 30))
        own_server.kill()
        for _ in range(3):
            await store.settle("1/0", 25)
        with pytest.raises(StoreUnavailable):
            await store.hold(Hold("3/0", BOTH, 1))
        assert store.unsettled >= 1
        own_server.start()
        await until(lambda: store.unsettled == 0, "the settlements")
        # The ledger knew the first as held; the second, which it did not know, was told by the process that holds it.
        assert await numbers(store) == (25, 30)
        assert (ledger.rebuilds, ledger.asked) == (1, 2)
        await store.settle("2/0", 30)
        assert await numbers(store) == (55, 0)


async def test_a_flushed_redis_is_filled_from_the_ledger_before_anything_is_held(
    shared: Place, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger({DAY: 95, MONTH: 950})
    async with shared.open(spending=ledger, rebuilt=ledger.rebuilt) as store:
        assert await numbers(store) == (95, 0)
        assert ledger.rebuilds == 0, "it was empty at the start, which is no loss"
        flush(redis_server)
        ledger.spent = Spent({DAY: 97, MONTH: 950})
        with caplog.at_level(logging.ERROR, "farthing.budgets"):
            assert await store.hold(Hold("1", BOTH, 4)) == Short(Level(DAY, 97, 0))
        assert await store.hold(Hold("2", BOTH, 3)) == HELD
        assert ledger.rebuilds == 1
        assert "Redis had lost its budgets; 2 were rebuilt from the ledger." in caplog.text


async def test_a_redis_that_came_back_with_old_counters_is_brought_up_to_the_ledger(tmp_path: Path) -> None:
    with running_redis() as server:
        server.kill()
        command = [server.program, "--port", str(server.port), "--dir", str(tmp_path), "--save", ""]

        def start() -> None:
            server.child = subprocess.Popen(command, stdout=subprocess.DEVNULL)

        start()
        ledger = Ledger({DAY: 10, MONTH: 10})
        async with Place(server.url).open(spending=ledger, rebuilt=ledger.rebuilt) as store:
            await until(lambda: ledger.asked == 1, "the start")
            await back(store)
            with closing(client(server.url)) as other:
                other.save()
            await store.hold(Hold("1", BOTH, 40))
            await store.settle("1", 40)
            assert await numbers(store) == (50, 0)
            ledger.spent = Spent({DAY: 50, MONTH: 50})
            server.kill()
            with pytest.raises(StoreUnavailable):
                await store.levels(BOTH)
            start()
            await until(lambda: ledger.asked == 2, "the ledger being asked")
            await back(store)
            assert await numbers(store) == (50, 0)
            assert ledger.rebuilds == 0


async def back(store: Budgets) -> None:
    """Wait until the store answers: a server that was just started takes a while on a busy machine."""
    for _ in range(1_000):
        try:
            await store.levels(BOTH)
        except StoreUnavailable:
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError("Redis did not come back within 10 s")


async def test_counters_that_were_filled_before_rows_came_late_are_filled_once_more(
    shared: Place, redis_server: RedisServer
) -> None:
    """A replica whose rows waited in its spool knows that whoever filled the counters had missed them."""
    late_rows = 0
    early, whole = Ledger({DAY: 10, MONTH: 10}), Ledger({DAY: 50, MONTH: 50})
    async with (
        shared.open(spending=early) as one,
        shared.open(spending=whole, late_rows=lambda: late_rows) as other,
    ):
        await other.hold(Hold("1/0", BOTH, 5))
        await one.levels(BOTH)
        before = (early.asked, whole.asked)
        late_rows = 3
        flush(redis_server)
        assert await numbers(one) == (10, 0)
        assert await numbers(other) == (50, 5)
        assert await numbers(one) == (50, 5)
        assert (early.asked - before[0], whole.asked - before[1]) == (1, 1)


async def test_a_settlement_that_old_counters_did_not_see_is_not_charged_twice(tmp_path: Path) -> None:
    """The ledger has its charge already when Redis comes back with data of before; so the settlement adds nothing."""
    with running_redis() as server:
        ledger = Ledger({DAY: 0, MONTH: 0})
        async with Place(server.url).open(spending=ledger) as store:
            await store.hold(Hold("1/0", BOTH, 40))
            await store.hold(Hold("2/0", BOTH, 30))
            with closing(client(server.url)) as other:
                other.config_set("dir", str(tmp_path))
                other.save()
            server.kill()
            await store.settle("1/0", 25)
            ledger.spent = Spent({DAY: 25, MONTH: 25}, (OpenHold(Hold("2/0", BOTH, 30), NOON_S),))
            command = [server.program, "--port", str(server.port), "--dir", str(tmp_path), "--save", ""]
            server.child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            await until(lambda: store.unsettled == 0, "the settlement")
            assert await numbers(store) == (25, 30)
            await store.settle("2/0", 30)
            assert await numbers(store) == (55, 0)


async def test_redis_emptied_under_load_loses_nothing(shared: Place, redis_server: RedisServer) -> None:
    """The ledger here is a list that is as true as a real one: a hold is in it before its answer goes out."""
    held: dict[str, int] = {}
    charged: dict[str, int] = {}
    wide = (Scope("task", "support", "day", 10**9),)

    async def spending() -> Spent:
        opened = tuple(OpenHold(Hold(key, wide, amount), NOON_S) for key, amount in held.items())
        return Spent({wide[0]: sum(charged.values())}, opened)

    async def calls(store: Budgets, worker: int) -> None:
        for number in range(60):
            key = f"{worker}-{number}/0"
            assert await store.hold(Hold(key, wide, 100)) == HELD
            held[key] = 100
            await asyncio.sleep(0)
            await store.settle(key, number)
            del held[key]
            charged[key] = number

    async with shared.open(spending=spending) as one, shared.open(spending=spending) as other:
        working = [asyncio.ensure_future(calls(store, n)) for n, store in enumerate((one, other, one, other))]
        for _ in range(5):
            await asyncio.sleep(0.03)
            flush(redis_server)
        await asyncio.gather(*working)
        await until(lambda: one.unsettled == other.unsettled == 0, "the settlements")
        assert await numbers(one, wide[0]) == (sum(charged.values()), 0)
        assert len(charged) == 240


# -- the share of one replica while Redis is away ---------------------------------------------------------------------


async def test_while_redis_is_away_a_replica_spends_its_share_and_settles_it_when_it_is_back(
    own_server: RedisServer,
) -> None:
    place, ledger = Place(own_server.url), Ledger({DAY: 20, MONTH: 20})
    async with place.open(on_outage="local", replicas=2, spending=ledger) as store:
        assert await store.hold(Hold("0/0", BOTH, 10)) == HELD
        await store.settle("0/0", 10)
        assert await numbers(store) == (30, 0)
        own_server.kill()
        # Of the 70 that are left, 35 are this replica's.
        assert await store.hold(Hold("1/0", BOTH, 30)) == HELD
        short = await store.hold(Hold("2/0", BOTH, 6))
        assert isinstance(short, Short)
        assert (short.level.scope, short.level.left_nusd) == (DAY, 5)
        await store.settle("1/0", 10)
        assert await store.hold(Hold("2/0", BOTH, 25)) == HELD
        assert isinstance(await store.hold(Hold("3/0", BOTH, 1)), Short)
        # The ledger knows all of it by the time that Redis is there again, and empty.
        ledger.spent = Spent({DAY: 40, MONTH: 40}, (OpenHold(Hold("2/0", BOTH, 25), NOON_S),))
        own_server.start()
        await until(lambda: store.unsettled == 0, "the settlement of what was held here")
        assert await numbers(store) == (40, 25), "each of them once"
        await store.settle("2/0", 20)
        assert await numbers(store) == (60, 0)


async def test_what_was_held_here_is_told_to_a_redis_that_had_only_not_answered(own_server: RedisServer) -> None:
    assert own_server.child is not None
    async with Place(own_server.url).open(on_outage="local", within_s=0.2) as store:
        assert await store.hold(Hold("0/0", BOTH, 10)) == HELD
        own_server.child.send_signal(signal.SIGSTOP)
        assert await store.hold(Hold("1/0", BOTH, 30)) == HELD
        await store.settle("1/0", 20)
        await store.settle("0/0", 5)
        assert await store.hold(Hold("2/0", BOTH, 40)) == HELD
        own_server.child.send_signal(signal.SIGCONT)
        await until(lambda: store.unsettled == 0, "the settlements")
        assert await numbers(store) == (25, 40)


async def test_a_window_that_begins_while_redis_is_away_is_shared_whole(own_server: RedisServer) -> None:
    place = Place(own_server.url)
    async with place.open(on_outage="local", replicas=4) as store:
        await store.hold(Hold("0", (DAY,), 100))
        own_server.kill()
        assert isinstance(await store.hold(Hold("1", (DAY,), 1)), Short)
        place.clock.now_s += 86_400
        assert await store.hold(Hold("2", (DAY,), 25)) == HELD
        assert isinstance(await store.hold(Hold("3", (DAY,), 1)), Short)


async def test_a_budget_of_which_nothing_is_known_is_refused_while_redis_is_away(own_server: RedisServer) -> None:
    async with Place(own_server.url).open(on_outage="local") as store:
        await store.levels((DAY,))
        own_server.kill()
        with pytest.raises(StoreUnavailable, match=r"nothing is known of the month's budget of everything"):
            await store.hold(Hold("1", BOTH, 1))


async def test_a_rate_is_shared_out_as_well(own_server: RedisServer) -> None:
    rate = Rate("account", "a", "requests", 60)
    async with Place(own_server.url).open(on_outage="local", replicas=20) as store:
        await store.levels((DAY,))
        own_server.kill()
        answers = [await store.hold(Hold(str(n), (DAY,), 0, draws=(Draw(rate, 1),))) for n in range(4)]
        assert answers == [HELD, HELD, HELD, Limited(rate, 20.0)]


# -- many callers in many processes -----------------------------------------------------------------------------------

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
