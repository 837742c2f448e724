"""The wall clock while requests are under way: the end of a month, jumps; with budgets in memory and in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from proxy import Proxy, eventually, running_proxy
from redis_server import RedisServer, running_redis

from e2e.test_ledger import Clock
from router.budgets.contract import HOLD_TTL_S
from router.providers.simulated import SimulatedProvider

LAST_SECOND_S = datetime(2096, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()
"""Redis lets keys expire by a clock of its own, so that no day is taken that it may see."""
MODELS = "models: {{cheap: {{target: openai/gpt-4o-mini, base_url: '{url}'}}}}"
TASK = "task: clocked\nbudget: {per_hour_usd: 1, per_day_usd: 1, per_month_usd: 1}\nroute: [{use: cheap}]\n"
WINDOWS = ("hour", "day", "month")


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now_s = LAST_SECOND_S
    return clock


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "memory":
        return {}
    server: RedisServer = request.getfixturevalue("server")
    with redis.Redis(port=server.port) as client:
        client.flushall()
    return {"budgets_url": server.url}


@pytest.fixture
def clocked(provider: SimulatedProvider, clock: Clock, settings: dict[str, Any], tmp_path: Path) -> Iterator[Proxy]:
    provider.faults.always("drip=0.01")
    files = {"models": MODELS.format(url=provider.base_url), "clocked": TASK}
    with running_proxy(tmp_path, files, settings=settings, clock=clock) as proxy:
        yield proxy


@contextmanager
def under_way(proxy: Proxy) -> Iterator[list[str]]:
    """Stream an answer of about half a second whose first event has come; it is whole when the context is left."""
    body = {"model": "task:clocked", "max_tokens": 48, "stream": True}
    body["messages"] = [{"role": "user", "content": "Tell me a long story."}]
    with ExitStack() as stack:
        answer = stack.enter_context(proxy.http.stream("POST", "/v1/chat/completions", json=body))
        lines = answer.iter_lines()
        next(lines)
        ids = [answer.headers["x-farthing-request-id"]]
        yield ids
        assert "data: [DONE]" in list(lines)


def nusd(proxy: Proxy, gauge: str) -> list[int]:
    """Return a gauge of the budgets' present hour, day and month."""
    name = f"farthing_budget_{gauge}_usd"
    return [proxy.metric_nusd(name, scope="task", name="clocked", window=window) for window in WINDOWS]


def charged(proxy: Proxy, request_id: str) -> int:
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "every settlement")
    row = proxy.row(request_id)
    assert row["outcome"] == "answered"
    assert 0 < row["charged_nusd"] <= row["held_nusd"]
    return int(row["charged_nusd"])


def test_a_request_over_the_end_of_a_month_is_charged_to_the_month_in_which_it_was_held(
    clocked: Proxy, clock: Clock
) -> None:
    with under_way(clocked) as ids:
        held = nusd(clocked, "held")
        assert held[0] > 0
        clock.now_s = LAST_SECOND_S + 1
        assert nusd(clocked, "held") == nusd(clocked, "spent") == [0, 0, 0], "December has its own"
    november = charged(clocked, ids[0])
    assert nusd(clocked, "held") == nusd(clocked, "spent") == [0, 0, 0]
    with under_way(clocked) as ids:
        pass
    december = charged(clocked, ids[0])
    assert nusd(clocked, "spent") == [december] * 3
    clock.now_s = LAST_SECOND_S
    assert nusd(clocked, "spent") == [november] * 3
    assert nusd(clocked, "held") == [0, 0, 0]


@pytest.mark.parametrize(
    ("window", "anew"),
    [("hour", "2096-11-30 10:00 UTC"), ("day", "2096-12-01 00:00 UTC"), ("month", "2096-12-01 00:00 UTC")],
)
def test_a_refusal_tells_when_the_budget_begins_anew(
    provider: SimulatedProvider, settings: dict[str, Any], tmp_path: Path, clock: Clock, window: str, anew: str
) -> None:
    clock.now_s = datetime(2096, 11, 30, 9, 30, tzinfo=UTC).timestamp()
    poor = f"task: poor\nbudget: {{per_{window}_usd: 0.000001}}\nroute: [{{use: cheap}}]\n"
    files = {"models": MODELS.format(url=provider.base_url), "poor": poor}
    with running_proxy(tmp_path, files, settings=settings, clock=clock) as proxy:
        refused = proxy.ask(model="task:poor")
        own = proxy.ask(model="task:poor", headers={"x-farthing-budget-usd": "0.0000001"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "budget_exceeded")
    assert f"which leaves $0.000001 and begins anew at {anew}: the cheapest" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert own.json()["error"]["code"] == "request_budget_exceeded"
    assert "begins anew" not in own.json()["error"]["message"]


@pytest.mark.parametrize("jump_s", [-86_400.0, -1.0, HOLD_TTL_S - 1, HOLD_TTL_S + 1, 3 * 86_400.0])
def test_a_clock_that_jumps_while_a_request_is_under_way_charges_it_once(
    clocked: Proxy, clock: Clock, jump_s: float
) -> None:
    clock.now_s -= 12 * 3600
    start_s = clock.now_s
    before = nusd(clocked, "spent")
    with under_way(clocked) as ids:
        clock.now_s = start_s + jump_s
        # Whoever looks meanwhile, past a hold's expiry, books it.
        nusd(clocked, "held")
    cost = charged(clocked, ids[0])
    clock.now_s = start_s
    assert nusd(clocked, "spent") == [earlier + cost for earlier in before]
    assert nusd(clocked, "held") == [0, 0, 0]
    with under_way(clocked) as ids:
        pass
    assert nusd(clocked, "spent") == [earlier + cost + charged(clocked, ids[0]) for earlier in before]
