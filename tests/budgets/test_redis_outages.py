"""A Redis that is away, comes back empty or old, and what one replica may spend meanwhile."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from redis_server import RedisServer, running_redis

from budgets.conftest import NOON_S, Place, flush, until
from budgets.counters import BOTH, DAY, MONTH, Ledger, client, numbers
from router.budgets.contract import HELD, HOLD_TTL_S, Budgets, Draw, Hold, Limited, OpenHold, Short, Spent
from router.budgets.recovery import CLAIM_S
from router.errors import StoreUnavailable
from router.values import Level, Rate, Scope

pytestmark = pytest.mark.anyio


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


async def test_what_is_settled_while_the_counters_are_lost_is_settled_once_they_are_filled(
    shared: Place, redis_server: RedisServer
) -> None:
    ledger = Ledger({DAY: 0, MONTH: 0}, OpenHold(Hold("1/0", BOTH, 60), NOON_S))
    async with shared.open(spending=ledger, rebuilt=ledger.rebuilt) as store:
        await store.hold(Hold("1/0", BOTH, 60))
        flush(redis_server)
        await store.settle("1/0", 25)
        await until(lambda: store.unsettled == 0, "the settlement")
        assert ledger.rebuilds == 1, "the settlement itself found them lost, before anybody asked for anything else"
        assert await numbers(store) == (25, 0)


async def test_an_emptied_redis_is_told_all_that_is_held_whatever_it_comes_to(
    shared: Place, redis_server: RedisServer
) -> None:
    rate = Rate("account", "a", "tokens", 600)
    ledger = Ledger({DAY: 0, MONTH: 0})
    async with shared.open(spending=ledger) as store:
        for number in range(2):
            assert await store.hold(Hold(f"{number}/0", BOTH, 40, draws=(Draw(rate, 600),))) == HELD
            shared.clock.now_s += 60
        flush(redis_server)
        ledger.spent = Spent({DAY: 90, MONTH: 90})
        assert await numbers(store) == (90, 80)
        assert await store.peek_rates((Draw(rate, 1),)) == Limited(rate, 60.1)


async def test_holds_that_only_the_ledger_knows_are_held_until_they_are_past_their_time(
    shared: Place, redis_server: RedisServer
) -> None:
    opened = [OpenHold(Hold(f"{number}/0", BOTH, nusd, nusd + 1), NOON_S) for number, nusd in enumerate((30, 20))]
    async with shared.open(spending=Ledger({DAY: 7, MONTH: 7}, *opened)) as store:
        assert await numbers(store) == (7, 50)
        shared.clock.now_s += HOLD_TTL_S - 1
        assert await numbers(store) == (7, 50)
        shared.clock.now_s += 1
        assert await numbers(store) == (59, 0), "booked at their ceilings"


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
    claims_last_ms: list[object] = []

    async def spending() -> Spent:
        with closing(client(shared.url)) as other:
            claims_last_ms.append(other.pttl("{farthing}:epoch"))
        return await whole()

    async with (
        shared.open(spending=early) as one,
        shared.open(spending=spending, late_rows=lambda: late_rows) as other,
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
        [lasts_ms] = claims_last_ms[before[1] :]
        assert isinstance(lasts_ms, int)
        assert 0 < lasts_ms <= CLAIM_S * 1000, "others wait no longer for one who died over it"


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
