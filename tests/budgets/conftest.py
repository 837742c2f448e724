"""Both stores of budgets under one clock that a test sets, for one suite of tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from proxy import WITHIN_S, running_provider
from redis_server import PROGRAMS, RedisServer, running_redis

from router.budgets.contract import Budgets
from router.budgets.open import open_budgets
from router.providers.simulated import SimulatedProvider

NOON_S = datetime(2096, 11, 21, 12, tzinfo=UTC).timestamp()
"""In the future for long, as Redis lets keys expire by a clock of its own."""


@dataclass(slots=True)
class Clock:
    now_s: float = NOON_S

    def __call__(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Place:
    """Where budgets are kept; `open` gives the budgets of one more process."""

    url: str
    clock: Clock = field(default_factory=Clock)

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Budgets]:
        store = open_budgets(self.url, self.clock, **{"within_s": WITHIN_S, **options})
        work = asyncio.create_task(store.work())
        try:
            yield store
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await store.aclose()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def flush(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.flushall()


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may stop."""
    with running_redis() as server:
        yield server


@pytest.fixture
def shared(redis_server: RedisServer) -> Place:
    flush(redis_server)
    return Place(redis_server.url)


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[dict[str, RedisServer]]:
    """A server of every version that there is."""
    with ExitStack() as stack:
        yield {version: stack.enter_context(running_redis(version)) for version in PROGRAMS}


@pytest.fixture(params=["memory", *(f"redis {version}" for version in PROGRAMS)])
def place(request: pytest.FixtureRequest) -> Place:
    """Where budgets are kept: in memory, and in every Redis that there is."""
    kind, _, version = request.param.partition(" ")
    if kind == "memory":
        return Place("memory://")
    server: RedisServer = request.getfixturevalue("redis_servers")[version]
    flush(server)
    return Place(server.url)


@pytest.fixture(params=["memory", "redis"])
def budgets_url(request: pytest.FixtureRequest) -> str:
    """Where a proxy keeps its budgets: in memory, and in a Redis that is empty."""
    if request.param == "memory":
        return "memory://"
    server: RedisServer = request.getfixturevalue("redis_server")
    flush(server)
    return server.url


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with running_provider() as running:
        yield running


async def until(found: Callable[[], bool], what: str, within_s: float = 10.0) -> None:
    """Wait until something is so; fail with `what` where it does not come."""
    try:
        async with asyncio.timeout(within_s):
            while not found():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"This did not come within {within_s} s: {what}") from None
