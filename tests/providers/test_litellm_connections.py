"""Connections of litellm's lane: closed as soon as nobody waits, and used again."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from providers.litellm_calls import FAMILIES, call, counting_connections, open_lane, target
from router.providers.contract import Chunk
from router.providers.simulated import Pace, SimulatedProvider, Simulation
from router.values import Usage


async def received(provider: SimulatedProvider) -> None:
    async with asyncio.timeout(5):
        while not provider.calls:
            await asyncio.sleep(0.005)


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
async def test_a_cancelled_call_closes_its_socket_at_once(family: str, streaming: bool) -> None:
    async with SimulatedProvider(Simulation(pace=Pace(first_token_s=30))) as provider, open_lane() as lane:
        made = call(target(family, provider))
        task = asyncio.ensure_future(lane.stream(made) if streaming else lane.whole(made))
        await received(provider)
        await asyncio.sleep(0.05)
        at = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(provider.calls[-1].ended.wait(), 2)
    closed = provider.calls[-1].disconnected_at
    assert closed is not None
    assert closed - at < 0.1


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("way", ["aclose", "cancel"])
async def test_leaving_a_stream_closes_its_socket_at_once(family: str, way: str) -> None:
    slow = Simulation(answerer=lambda *_: "It is on its way. " * 200, pace=Pace(tokens_per_s=100))
    async with SimulatedProvider(slow) as provider, open_lane() as lane:
        stream = await lane.stream(call(target(family, provider), max_tokens=4_000))
        await anext(stream)
        at = time.perf_counter()
        if way == "aclose":
            await stream.aclose()
            await stream.aclose()
        else:
            reading = asyncio.ensure_future(asyncio.wait_for(_rest(stream), 60))
            await asyncio.sleep(0.3)
            at = time.perf_counter()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        await asyncio.wait_for(provider.calls[-1].ended.wait(), 2)
    closed = provider.calls[-1].disconnected_at
    assert closed is not None
    assert closed - at < 0.1


async def _rest(stream: Any) -> list[Chunk]:
    return [chunk async for chunk in stream]


@pytest.mark.anyio
async def test_a_connection_is_used_again() -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Yes."}],
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    async with counting_connections(json.dumps(message).encode()) as (url, counts), open_lane() as lane:
        async with SimulatedProvider() as provider:
            to = target("anthropic", provider, base_url=url)
        for _ in range(3):
            assert (await lane.whole(call(to))).usage == Usage(3, 2)
    assert counts == [3]
