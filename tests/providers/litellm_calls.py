"""Calls by the litellm lane to simulated providers in Anthropic's and Gemini's shapes, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from router.policy.target import Deadlines, Target
from router.pricing import Price
from router.providers.contract import Answer, Call, Chunk
from router.providers.litellm import LitellmLane
from router.providers.simulated import SimulatedProvider, Simulation, ToolUse
from router.tokens import rules_for

KEY = "sk-ant-a-secret-key-0123456789"

FAMILIES = pytest.mark.parametrize("family", ["anthropic", "gemini"])

MODELS = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash-lite"}

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


def target(family: str, provider: SimulatedProvider, **changes: Any) -> Target:
    bases = {"anthropic": provider.root_url, "gemini": provider.gemini_url}
    model = MODELS[family]
    made = Target(family, model, Price.free(), rules_for(family, model), base_url=bases[family], api_key=KEY)
    return replace(made, **changes)


def call(to: Target, deadlines: Deadlines | None = None, /, **members: Any) -> Call:
    body = {
        "model": to.model,
        "messages": [{"role": "user", "content": "Where is my parcel?"}],
        "max_tokens": 200,
    }
    return Call("req_1", to, json.dumps(body | members).encode(), deadlines or Deadlines())


@asynccontextmanager
async def open_lane() -> AsyncIterator[LitellmLane]:
    lane = LitellmLane()
    try:
        await lane.warm()
        yield lane
    finally:
        await lane.aclose()


async def whole(to: Target, deadlines: Deadlines | None = None, /, **members: Any) -> Answer:
    async with open_lane() as lane:
        return await lane.whole(call(to, deadlines, **members))


async def streamed(to: Target, deadlines: Deadlines | None = None, /, **members: Any) -> list[Chunk]:
    async with open_lane() as lane:
        stream = await lane.stream(call(to, deadlines, **members))
        try:
            return [chunk async for chunk in stream]
        finally:
            await stream.aclose()


def chunks_of(chunks: list[Chunk]) -> list[ChatCompletionChunk]:
    """Read the events of a stream as the official SDK does."""
    events = [event for chunk in chunks for event in chunk.raw.split(b"\n\n") if event]
    assert all(event.startswith(b"data: ") for event in events)
    return [ChatCompletionChunk.model_validate_json(event.removeprefix(b"data: ")) for event in events]


def tells(text: str) -> Simulation:
    return Simulation(answerer=lambda *_: text)


def calls_weather(town: str) -> Simulation:
    return Simulation(answerer=lambda *_: (ToolUse("weather", json.dumps({"town": town})),))


@asynccontextmanager
async def counting_connections(body: bytes) -> AsyncIterator[tuple[str, list[int]]]:
    """Answer every request with `body`, and count the requests of each connection."""
    counts: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counts.append(0)
        mine = len(counts) - 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            counts[mine] += 1
            start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            writer.write(start % len(body) + body)

    async def serve_to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve_to_the_end, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", counts
