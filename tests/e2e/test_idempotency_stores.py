"""What both stores of results promise, and what only a shared one does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from proxy import running_proxy
from redis_server import RedisServer, running_redis

from e2e.conftest import files_for
from e2e.test_idempotency import REPLAY, keyed
from router.errors import StoreUnavailable
from router.providers.simulated import SimulatedProvider
from router.web.idempotency.contract import KEPT_FOR_S, Result, Results, Standing
from router.web.idempotency.memory import MemoryResults
from router.web.idempotency.redis import BYTES, INDEX, PREFIX, RedisResults

pytestmark = pytest.mark.anyio

ANSWER = Result([(b"content-type", b"application/json"), (b"x", b"\xff")], b"{}\x00\xff")
Open = Callable[..., Results]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@asynccontextmanager
async def opened(kind: str, server: RedisServer) -> AsyncIterator[Open]:
    """Give what opens one more store of this kind, in an empty Redis."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
    async with AsyncExitStack() as stack:

        def open_one(**options: Any) -> Results:
            results = MemoryResults(time.time, **options) if kind == "memory" else RedisResults(server.url, **options)
            stack.push_async_callback(results.aclose)
            return results

        yield open_one


async def kept(results: Results, place: str, answer: Result = ANSWER) -> None:
    assert await results.claim(place, b"digest", f"of {place}") is Standing.CLAIMED
    await results.keep(place, f"of {place}", answer)


async def test_a_place_is_claimed_once_and_kept(kind: str, server: RedisServer) -> None:
    async with opened(kind, server) as open_one:
        results = open_one()
        assert await results.claim("a", b"digest", "1") is Standing.CLAIMED
        assert await results.claim("a", b"digest", "1") is Standing.CLAIMED
        assert await results.claim("a", b"digest", "2") is Standing.UNDER_WAY
        assert await results.claim("a", b"other", "2") is Standing.OTHER_BODY
        await results.keep("a", "1", ANSWER)
        assert await results.claim("a", b"digest", "2") == ANSWER
        assert await results.claim("a", b"other", "2") is Standing.OTHER_BODY
        assert await results.claim("b", b"digest", "2") is Standing.CLAIMED


async def test_a_released_place_is_free_and_only_its_owner_ends_a_claim(kind: str, server: RedisServer) -> None:
    async with opened(kind, server) as open_one:
        results = open_one()
        await results.claim("a", b"digest", "1")
        await results.release("a", "2")
        await results.keep("a", "2", ANSWER)
        assert await results.claim("a", b"digest", "3") is Standing.UNDER_WAY
        await results.release("a", "1")
        await results.keep("a", "1", ANSWER)
        assert await results.claim("a", b"other", "3") is Standing.CLAIMED


@pytest.mark.parametrize("how", ["keep", "release"])
async def test_who_waits_is_told_when_a_claim_ends(kind: str, server: RedisServer, how: str) -> None:
    async with opened(kind, server) as open_one:
        results = open_one()
        await results.claim("a", b"digest", "1")
        waiting = [asyncio.create_task(results.changed("a")) for _ in range(10)]
        await asyncio.wait(waiting, timeout=0.05)
        assert not any(task.done() for task in waiting)
        await (results.keep("a", "1", ANSWER) if how == "keep" else results.release("a", "1"))
        async with asyncio.timeout(5):
            await asyncio.gather(*waiting)


async def test_a_hundred_at_once_are_one_claim(kind: str, server: RedisServer) -> None:
    async with opened(kind, server) as open_one:
        stores = [open_one()] * 4 if kind == "memory" else [open_one() for _ in range(4)]
        claims = await asyncio.gather(*(stores[n % 4].claim("a", b"digest", str(n)) for n in range(100)))
        assert claims.count(Standing.CLAIMED) == 1
        assert claims.count(Standing.UNDER_WAY) == 99


async def test_the_oldest_make_room_by_count_and_by_bytes(kind: str, server: RedisServer) -> None:
    async with opened(kind, server) as open_one:
        results = open_one(most_results=3)
        for place in "abcd":
            await kept(results, place)
        assert await results.claim("a", b"digest", "2") is Standing.CLAIMED
        assert [await results.claim(place, b"digest", "2") for place in "bcd"] == [ANSWER] * 3
    async with opened(kind, server) as open_one:
        results = open_one(most_bytes=10_500)
        for place in "abcd":
            await kept(results, place, Result([], place.encode() * 3_000))
        assert await results.claim("a", b"digest", "2") is Standing.CLAIMED
        assert [await results.claim(place, b"digest", "2") == Result([], place.encode() * 3_000) for place in "bcd"]


async def test_a_result_is_forgotten_after_a_day() -> None:
    now_s = [0.0]
    results = MemoryResults(lambda: now_s[0])
    await kept(results, "a")
    now_s[0] = KEPT_FOR_S - 1
    assert await results.claim("a", b"digest", "2") == ANSWER
    now_s[0] = KEPT_FOR_S
    assert await results.claim("a", b"other", "2") is Standing.CLAIMED


async def test_redis_keeps_a_result_for_a_day_and_its_sums_are_exact(server: RedisServer) -> None:
    async with opened("redis", server) as open_one:
        results = open_one(most_results=2)
        for place in "abc":
            await kept(results, place)
        with redis.Redis(port=server.port) as client:
            keys = sorted(client.keys("*"))
            assert keys == sorted(name.encode() for name in (PREFIX + "b", PREFIX + "c", INDEX, BYTES))
            assert all(KEPT_FOR_S - 60 < client.ttl(key) <= KEPT_FOR_S for key in keys)
            sizes = sum(client.hstrlen(PREFIX + place, "result") for place in "bc")
            assert int(client.get(BYTES) or 0) == sizes
            # As if they had been kept a day earlier: Redis has dropped the place, the index still knows it.
            client.delete(PREFIX + "b")
            client.zadd(INDEX, dict.fromkeys(client.zrange(INDEX, 0, 0), 0))
            await kept(results, "d")
            assert client.zcard(INDEX) == 2
            assert int(client.get(BYTES) or 0) == sizes


async def test_a_claim_lasts_while_its_process_does(server: RedisServer) -> None:
    async with opened("redis", server) as open_one:
        alive, other = open_one(lease_s=0.4), open_one(lease_s=0.4)
        renewing = asyncio.create_task(alive.renew())
        await alive.claim("a", b"digest", "1")
        changed = asyncio.create_task(other.changed("a"))
        await asyncio.wait([changed], timeout=1.0)
        assert not changed.done()
        renewing.cancel()
        async with asyncio.timeout(5):
            await changed
        assert await other.claim("a", b"digest", "2") is Standing.CLAIMED
        await alive.keep("a", "1", ANSWER)
        assert await alive.claim("a", b"digest", "3") is Standing.UNDER_WAY


async def test_a_place_whose_result_could_not_be_kept_is_free_after_its_lease(server: RedisServer) -> None:
    async with opened("redis", server) as open_one:
        results, other = open_one(lease_s=2.0), open_one()
        await results.claim("a", b"digest", "1")
        with redis.Redis(port=server.port) as client:
            client.client_pause(1_300)
        with pytest.raises(StoreUnavailable):
            await results.keep("a", "1", ANSWER)
        renewing = asyncio.create_task(results.renew())
        async with asyncio.timeout(10):
            await other.changed("a")
        renewing.cancel()
        assert await other.claim("a", b"digest", "2") is Standing.CLAIMED


async def test_redis_away_is_said_in_time_and_over_when_it_is_back(server: RedisServer) -> None:
    async with opened("redis", server) as open_one:
        results = open_one()
        await kept(results, "a")
        server.kill()
        began = time.perf_counter()
        with pytest.raises(StoreUnavailable):
            await results.claim("a", b"digest", "2")
        assert time.perf_counter() - began < 2
        server.start()
        assert await results.claim("a", b"digest", "2") is Standing.CLAIMED


def test_two_proxies_on_one_redis_share_results(
    provider: SimulatedProvider, server: RedisServer, tmp_path: Path
) -> None:
    settings = {"budgets_url": server.url}
    with (
        running_proxy(tmp_path / "one", files_for(provider), settings=settings) as one,
        running_proxy(tmp_path / "two", files_for(provider), settings=settings) as two,
    ):
        for stream in (False, True):
            first = one.ask(stream=stream, headers=keyed(f"shared {stream}"))
            second = two.ask(stream=stream, headers=keyed(f"shared {stream}"))
            assert (first.status_code, second.headers[REPLAY]) == (200, "true")
            assert second.content == first.content
        assert two.ask("Other", headers=keyed("shared False")).status_code == 422
        assert two.rows() == []
    assert len(provider.calls) == 2
