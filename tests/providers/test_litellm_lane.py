"""The litellm lane over real sockets: against Anthropic-shaped and Gemini-shaped simulated providers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from router.errors import (
    AnswerBroken,
    ProviderDenied,
    ProviderError,
    ProviderFailed,
    ProviderOverloaded,
    ProviderRefused,
    ProviderTimedOut,
    ProviderUnreachable,
)
from router.policy.target import Deadlines, Target
from router.pricing import Catalogue, Price
from router.providers.contract import Answer, Call, Chunk
from router.providers.litellm import LitellmLane
from router.providers.simulated import Pace, SimulatedProvider, Simulation, ToolUse
from router.tokens import rules_for
from router.values import Usage

pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier.*:UserWarning")
"""litellm's own types make pydantic say so; litellm ignores it by a filter that pytest sets aside."""

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


@pytest.mark.anyio
@FAMILIES
async def test_a_whole_answer_comes_in_openai_s_shape(family: str) -> None:
    async with SimulatedProvider(tells("It is on its way.")) as provider:
        answer = await whole(target(family, provider))
    read = ChatCompletion.model_validate_json(answer.body)
    assert read.choices[0].message.content == answer.text == "It is on its way."
    assert read.choices[0].finish_reason == answer.finish_reason == "stop"
    assert read.usage is not None
    assert answer.usage is not None
    assert read.usage.prompt_tokens == answer.usage.input_tokens > 0
    assert read.usage.completion_tokens == answer.usage.output_tokens > 0
    assert answer.reported_model == read.model
    assert answer.reported_model == {"anthropic": "claude-sonnet-4-5-20250929"}.get(family, MODELS[family])
    assert 0 < answer.first_byte_s < 5


@pytest.mark.anyio
@FAMILIES
async def test_a_streamed_answer_comes_in_openai_s_shape(family: str) -> None:
    async with SimulatedProvider(tells("It is on its way. " * 20)) as provider:
        chunks = await streamed(target(family, provider))
    events = chunks_of(chunks)
    text = "".join(event.choices[0].delta.content or "" for event in events)
    assert text == "".join(chunk.text for chunk in chunks)
    assert text.strip() == ("It is on its way. " * 20).strip()
    assert len(events) > 2
    assert events[0].choices[0].delta.role == "assistant"
    assert [event.choices[0].finish_reason for event in events[-2:]] == [None, "stop"]
    assert len({event.id for event in events}) == 1
    assert chunks[-1].raw == b""
    usage = ChatCompletionChunk.model_validate_json(chunks[-1].usage_event.removeprefix(b"data: "))
    assert usage.choices == []
    assert usage.usage is not None
    assert chunks[-1].usage is not None
    assert usage.usage.completion_tokens == chunks[-1].usage.output_tokens > 0
    assert chunks[-1].reported_model is not None


@pytest.mark.anyio
@FAMILIES
async def test_a_stream_uses_what_the_same_whole_answer_uses(family: str) -> None:
    async with SimulatedProvider(tells("It is on its way.")) as provider:
        answer = await whole(target(family, provider))
        chunks = await streamed(target(family, provider))
    assert chunks[-1].usage == answer.usage


@pytest.mark.anyio
@FAMILIES
async def test_tools_are_called_whole_and_streamed(family: str) -> None:
    async with SimulatedProvider(calls_weather("Ghent")) as provider:
        answer = await whole(target(family, provider), tools=[TOOL])
        chunks = await streamed(target(family, provider), tools=[TOOL])
    message = ChatCompletion.model_validate_json(answer.body).choices[0].message
    assert message.tool_calls is not None
    assert "index" not in json.loads(answer.body)["choices"][0]["message"]["tool_calls"][0]
    (made,) = message.tool_calls
    assert made.type == "function"
    assert (made.function.name, json.loads(made.function.arguments)) == ("weather", {"town": "Ghent"})
    assert answer.finish_reason == "tool_calls"
    assert "weather" in answer.text
    assert "Ghent" in answer.text

    deltas = [event.choices[0].delta for event in chunks_of(chunks)]
    pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
    assert {piece.index for piece in pieces} == {0}
    assert pieces[0].id
    assert pieces[0].function is not None
    assert pieces[0].function.name == "weather"
    arguments = "".join((piece.function and piece.function.arguments) or "" for piece in pieces)
    assert json.loads(arguments) == {"town": "Ghent"}
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["tool_calls"]


@pytest.mark.anyio
@FAMILIES
async def test_the_results_of_tools_reach_the_provider(family: str) -> None:
    asked = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"town": "Ghent"}'},
    }
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is the weather in Ghent?"},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It rains."},
    ]
    async with SimulatedProvider(tells("It rains in Ghent.")) as provider:
        await whole(target(family, provider), messages=messages, tools=[TOOL])
        sent = json.dumps(provider.calls[-1].body)
    assert all(piece in sent for piece in ("Be brief.", "Ghent", "It rains.", "weather"))


@pytest.mark.anyio
async def test_cached_reads_and_writes_are_parts_of_the_input() -> None:
    long = "A long text that is worth keeping. " * 400
    kept = [{"type": "text", "text": long, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    marked = [{"role": "system", "content": kept}, {"role": "user", "content": "Sum it up."}]
    async with SimulatedProvider(tells("It is long.")) as provider:
        to = target("anthropic", provider)
        first = (await whole(to, messages=marked)).usage
        second = (await whole(to, messages=marked)).usage
        third = (await streamed(to, messages=marked))[-1].usage
    assert first is not None
    assert second is not None
    assert first.cache_write_tokens == first.cache_write_1h_tokens > 1_000
    assert first.cached_tokens == 0
    assert second.cached_tokens == first.cache_write_tokens
    assert second.cache_write_tokens == 0
    assert first.input_tokens == second.input_tokens > second.cached_tokens
    assert third == second


@pytest.mark.anyio
async def test_thoughts_are_parts_of_the_output() -> None:
    async with SimulatedProvider(Simulation(mean_reasoning_tokens=60)) as provider:
        thinking = replace(target("gemini", provider), model="gemini-2.5-flash")
        answer = await whole(thinking, max_tokens=2_000)
        chunks = await streamed(thinking, max_tokens=2_000)
    for usage in (answer.usage, chunks[-1].usage):
        assert usage is not None
        assert 0 < usage.reasoning_tokens < usage.output_tokens


@pytest.mark.anyio
async def test_claude_s_thoughts_come_with_their_signature() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    async with SimulatedProvider() as provider:
        answer = await whole(target("anthropic", provider), thinking=thinking, max_tokens=4_000)
    message = json.loads(answer.body)["choices"][0]["message"]
    assert message["reasoning_content"]
    assert message["thinking_blocks"][0]["signature"]
    assert message["reasoning_content"] in answer.text


@pytest.mark.anyio
@FAMILIES
async def test_a_missing_usage_is_none(family: str) -> None:
    async with SimulatedProvider(tells("It is on its way.")) as provider:
        provider.faults.always("no-usage")
        answer = await whole(target(family, provider))
        chunks = await streamed(target(family, provider))
    assert answer.text == "It is on its way."
    assert answer.usage is None
    assert "usage" not in json.loads(answer.body)
    assert [chunk.usage for chunk in chunks if chunk.usage] == []
    assert b"".join(chunk.usage_event for chunk in chunks) == b""


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize(
    "limits",
    [{"max_tokens": 5}, {"max_tokens": 90, "max_completion_tokens": 5}, {"max_completion_tokens": 5}],
)
async def test_the_smaller_limit_reaches_the_provider(family: str, limits: dict[str, int]) -> None:
    members = {"max_tokens": None} | limits
    async with SimulatedProvider(tells("A long answer. " * 50)) as provider:
        answer = await whole(target(family, provider), **members)
        sent = provider.calls[-1].body
    generation = sent.get("generationConfig", sent)
    assert {"max_tokens": 5, "max_output_tokens": 5, "maxOutputTokens": 5}.items() & generation.items()
    assert answer.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 5


@pytest.mark.anyio
async def test_what_a_provider_knows_reaches_it_and_what_it_does_not_know_is_dropped() -> None:
    members = {"n": 3, "seed": 4, "stop": ["END"], "logit_bias": {"1": 1}, "parallel_tool_calls": True}
    async with SimulatedProvider() as provider:
        await whole(target("gemini", provider), **members)
        await whole(target("anthropic", provider), **members)
        gemini, anthropic = (received.body for received in provider.calls)
    generation = gemini["generationConfig"]
    assert (generation["candidate_count"], generation["seed"]) == (3, 4)
    assert generation["stop_sequences"] == anthropic["stop_sequences"] == ["END"]
    assert not {"n", "seed", "logit_bias"} & anthropic.keys()


@pytest.mark.anyio
@FAMILIES
async def test_a_body_gives_litellm_no_orders(family: str) -> None:
    orders = {
        "api_base": "http://127.0.0.1:9/stolen",
        "base_url": "http://127.0.0.1:9/stolen",
        "api_key": "another",
        "mock_response": "made up",
        "fallbacks": ["openai/gpt-4o"],
        "extra_headers": {"x-evil": "1"},
        "headers": {"x-evil": "1"},
        "num_retries": 5,
        "metadata": {"model_group": "x"},
        "custom_llm_provider": "openai",
        "an_unknown_member": True,
    }
    async with SimulatedProvider(tells("It is on its way.")) as provider:
        answer = await whole(target(family, provider), **orders, logit_bias={"1": 1}, seed=4)
        (received,) = provider.calls
    assert answer.text == "It is on its way."
    assert "x-evil" not in received.headers
    assert "an_unknown_member" not in received.body
    assert KEY in received.headers.values()


FAULTS: list[tuple[str, type[ProviderError], int | None]] = [
    ("status=400", ProviderRefused, 400),
    ("status=413", ProviderRefused, 413),
    ("status=401", ProviderDenied, 401),
    ("status=403", ProviderDenied, 403),
    ("status=404", ProviderDenied, 404),
    ("status=429 retry-after=7", ProviderOverloaded, 429),
    ("status=529", ProviderOverloaded, 529),
    ("status=500", ProviderFailed, 500),
    ("status=502 html", ProviderFailed, 502),
    ("status=503", ProviderOverloaded, 503),
    ("status=503 html", ProviderFailed, 503),
    ("redirect", ProviderFailed, 307),
    ("reset", AnswerBroken, None),
    ("empty", AnswerBroken, None),
]


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("fault", "expected", "status"), FAULTS, ids=[fault[0] for fault in FAULTS])
async def test_each_fault_is_its_own_error_and_is_not_retried(
    family: str, streaming: bool, fault: str, expected: type[ProviderError], status: int | None
) -> None:
    async with SimulatedProvider() as provider:
        provider.faults.always(fault)
        with pytest.raises(ProviderError) as raised:
            await (streamed if streaming else whole)(target(family, provider))
        assert len(provider.calls) == 1
    assert type(raised.value) is expected
    assert raised.value.status == status
    assert raised.value.retry_after_s == (7.0 if "retry-after" in fault else None)
    assert KEY not in raised.value.message


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("fault", ["malformed", "reset=1", "early-headers reset"])
async def test_a_whole_answer_that_breaks_off_is_broken(family: str, fault: str) -> None:
    async with SimulatedProvider() as provider:
        provider.faults.always(fault)
        with pytest.raises(AnswerBroken):
            await whole(target(family, provider))
        assert len(provider.calls) == 1


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize(
    ("fault", "expected"),
    [("reset=5", AnswerBroken), ("malformed=5", AnswerBroken), ("error=5", ProviderFailed)],
)
async def test_a_stream_that_fails_in_its_middle_gives_what_came_and_the_cause(
    family: str, fault: str, expected: type[ProviderError]
) -> None:
    got: list[Chunk] = []
    async with SimulatedProvider(tells("It is on its way. " * 100)) as provider, open_lane() as lane:
        provider.faults.always(fault)
        stream = await lane.stream(call(target(family, provider), max_tokens=2_000))
        with pytest.raises(expected):  # noqa: PT012 - what came before it is looked at
            async for chunk in stream:
                got.append(chunk)  # noqa: PERF401
        assert len(provider.calls) == 1
    assert "".join(chunk.text for chunk in got)
    assert [chunk.finish_reason for chunk in got if chunk.finish_reason] == []


@pytest.mark.anyio
async def test_a_stream_that_ends_without_a_reason_is_broken_not_finished() -> None:
    async with SimulatedProvider(tells("It is on its way. " * 100)) as provider:
        provider.faults.always("no-done")
        with pytest.raises(AnswerBroken):
            await streamed(target("gemini", provider), max_tokens=2_000)


@pytest.mark.anyio
@FAMILIES
async def test_an_error_in_place_of_the_first_event_can_be_tried_again(family: str) -> None:
    async with SimulatedProvider() as provider:
        provider.faults.always("error=0")
        with pytest.raises(ProviderOverloaded):
            await streamed(target(family, provider))


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("fault", ["pieces=7", "crlf", "comments", "crlf pieces=1"])
async def test_events_may_come_in_any_pieces(family: str, fault: str) -> None:
    async with SimulatedProvider(tells("Où est mon colis ?")) as provider:
        provider.faults.always(fault)
        chunks = await streamed(target(family, provider))
    assert "".join(chunk.text for chunk in chunks) == "Où est mon colis ?"
    assert chunks[-1].usage is not None


@pytest.mark.anyio
async def test_a_prompt_that_is_too_long_says_so() -> None:
    def refuse(*_: object) -> None:
        return None

    limits = {MODELS["anthropic"]: 20}
    async with SimulatedProvider(Simulation(context_tokens_by_model=limits, answerer=refuse)) as provider:
        with pytest.raises(ProviderRefused) as raised:
            await whole(target("anthropic", provider), messages=[{"role": "user", "content": "word " * 900}])
    assert raised.value.too_long


@pytest.mark.anyio
async def test_what_a_provider_says_of_the_request_is_told_without_a_key() -> None:
    import httpx

    from router.providers.litellm_errors import provider_error
    from router.providers.litellm_exchange import Exchange

    async with SimulatedProvider() as provider:
        to = target("anthropic", provider)
    exchange = Exchange(httpx.AsyncHTTPTransport(), Deadlines(), to.name)
    exchange.status = 400
    words = f"bad tool in {KEY}, AIzaSyA1234567, api_key=hunter2 and Bearer abc.def"
    exchange.error_body = json.dumps({"error": {"message": words}}).encode()
    told = provider_error(ValueError(), exchange, to).message
    assert "bad tool" in told
    assert not [secret for secret in (KEY, "AIzaSyA", "hunter2", "abc.def") if secret in told]


@pytest.mark.anyio
@FAMILIES
async def test_no_connection_is_unreachable(family: str) -> None:
    async with SimulatedProvider() as provider:
        to = target(family, provider)
    for ask in (whole, streamed):
        with pytest.raises(ProviderUnreachable):
            await ask(to)


@pytest.mark.anyio
async def test_an_address_that_never_answers_is_unreachable_in_time() -> None:
    import socket

    # A full backlog drops what comes next, so that connecting never ends.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.socket() as first,
        socket.socket() as second,
    ):
        for taker in (first, second):
            taker.setblocking(False)
            taker.connect_ex(full.getsockname())
        async with SimulatedProvider() as provider:
            to = target("anthropic", provider, base_url=f"http://127.0.0.1:{full.getsockname()[1]}")
        with pytest.raises(ProviderUnreachable):
            await whole(to, Deadlines(connect_s=0.2))


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("fault", "deadlines"),
    [
        ("silence", Deadlines(first_byte_s=0.2)),
        ("early-headers silence", Deadlines(first_byte_s=0.2)),
        ("silence=2", Deadlines(between_bytes_s=0.2)),
        ("silence", Deadlines(total_s=0.3)),
        ("drip=0.05 pieces=20", Deadlines(total_s=0.3)),
    ],
    ids=["first byte", "first byte after headers", "between bytes", "total", "total of a trickle"],
)
async def test_each_deadline_ends_a_call(family: str, streaming: bool, fault: str, deadlines: Deadlines) -> None:
    async with SimulatedProvider(tells("It is on its way. " * 100)) as provider:
        provider.faults.always(fault)
        began = time.perf_counter()
        with pytest.raises(ProviderTimedOut):
            await (streamed if streaming else whole)(target(family, provider), deadlines, max_tokens=2_000)
        assert time.perf_counter() - began < 2
        await asyncio.wait_for(provider.calls[-1].ended.wait(), 2)
        assert provider.calls[-1].disconnected_at is not None


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


@pytest.mark.anyio
async def test_gemini_s_audio_tokens_are_counted_cached_or_not() -> None:
    told = {
        "candidates": [{"content": {"parts": [{"text": "Yes."}], "role": "model"}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 100,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 5,
            "totalTokenCount": 112,
            "cachedContentTokenCount": 40,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 50},
                {"modality": "AUDIO", "tokenCount": 30},
                {"modality": "IMAGE", "tokenCount": 20},
            ],
            "cacheTokensDetails": [
                {"modality": "TEXT", "tokenCount": 30},
                {"modality": "AUDIO", "tokenCount": 10},
            ],
        },
    }
    async with counting_connections(json.dumps(told).encode()) as (url, _), SimulatedProvider() as provider:
        answer = await whole(target("gemini", provider, base_url=url))
    assert answer.usage == Usage(
        input_tokens=100,
        output_tokens=12,
        cached_tokens=40,
        input_audio_tokens=30,
        cached_audio_tokens=10,
        input_image_tokens=20,
        reasoning_tokens=5,
    )


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


@pytest.mark.anyio
@pytest.mark.parametrize("family", ["anthropic", "gemini"])
async def test_a_missing_key_is_denied(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with SimulatedProvider(Simulation(api_key=KEY)) as provider:
        with pytest.raises(ProviderDenied):
            await whole(target(family, provider, api_key=None))
        with pytest.raises(ProviderDenied):
            await whole(target(family, provider, api_key="sk-a-wrong-one"))


@pytest.mark.anyio
@FAMILIES
async def test_the_charge_is_what_litellm_s_own_calculator_says(family: str) -> None:
    import litellm

    price = Catalogue().entry(family, MODELS[family]).price
    async with SimulatedProvider(tells("It is on its way. " * 9)) as provider:
        answer = await whole(target(family, provider))
    assert answer.usage is not None
    cost_usd = litellm.completion_cost(
        completion_response=json.loads(answer.body) | {"model": MODELS[family]},
        model=f"{family}/{MODELS[family]}",
    )
    assert price.charge_nusd(answer.usage) == round(cost_usd * 1e9)


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_lane_does_not_import_litellm() -> None:
    out = python("import sys, router.providers.litellm; print({'litellm', 'httpx', 'openai'} & set(sys.modules))")
    assert out.strip() == "set()"


NOTHING_FETCHED = """
import asyncio, json, sys

tried = []

def watch(event, details):
    if event == "socket.getaddrinfo" and details[0] not in ("127.0.0.1", "localhost", "::1"):
        tried.append(details[:2])
        raise OSError("the network is unplugged")
    if event == "socket.connect" and details[1][0] not in ("127.0.0.1", "::1"):
        tried.append(details[1])
        raise OSError("the network is unplugged")

sys.addaudithook(watch)

from router.policy.target import Deadlines, Target
from router.pricing import Price
from router.providers.contract import Call
from router.providers.litellm import LitellmLane
from router.providers.simulated import SimulatedProvider
from router.tokens import rules_for

BODY = b'{"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "A secret prompt."}]}'

async def main():
    async with SimulatedProvider() as provider:
        lane = LitellmLane()
        bases = {"anthropic": provider.root_url, "gemini": provider.gemini_url}
        models = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash-lite"}
        for family, base in bases.items():
            rules = rules_for(family, models[family])
            target = Target(family, models[family], Price.free(), rules, base_url=base, api_key="sk-secret-key")
            call = Call("r", target, BODY, Deadlines())
            await lane.whole(call)
            async for _ in await lane.stream(call):
                pass
            shown = [{"type": "image_url", "image_url": {"url": "http://images.example/cat"}}]
            seen = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": shown}]}
            try:
                await lane.whole(Call("r", target, json.dumps(seen).encode(), Deadlines()))
            except Exception as error:
                print(type(error).__name__, error)
            provider.faults.queue("status=500")
            try:
                await lane.whole(call)
            except Exception as error:
                print(type(error).__name__)
        await lane.aclose()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        print("litellm tasks left:", [task for task in left if "litellm" in repr(task)])

asyncio.run(main())
import threading
print("tried:", tried)
"""


def test_nothing_is_fetched_logged_or_left_running() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_FETCHED], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    images = "refused the request: it takes no image by its URL here; send the image as a data URL"
    assert done.stdout.split("\n") == [
        f"ProviderRefused anthropic/claude-sonnet-4-5 {images}",
        "ProviderFailed",
        f"ProviderRefused gemini/gemini-2.5-flash-lite {images}",
        "ProviderFailed",
        "litellm tasks left: []",
        "tried: []",
        "",
    ]
    assert "secret" not in done.stderr


def test_usage_of_every_class_is_mapped() -> None:
    from router.providers.litellm_shapes import (
        CacheWrites,
        CompletionDetails,
        PromptDetails,
        Reply,
        ServerToolUse,
        VendorUsage,
        usage_of,
    )
    from router.providers.litellm_watch import Watch

    reported = VendorUsage(
        prompt_tokens=100,
        completion_tokens=50,
        prompt_tokens_details=PromptDetails(
            cached_tokens=20,
            cache_creation_tokens=30,
            cache_creation_token_details=CacheWrites(5),
            audio_tokens=7,
            image_tokens=8,
        ),
        completion_tokens_details=CompletionDetails(reasoning_tokens=9, audio_tokens=10, image_tokens=11),
        server_tool_use=ServerToolUse(2),
        service_tier="standard",
    )
    assert usage_of(Reply("1", 0, [], usage=reported), Watch("t"), "high") == Usage(
        input_tokens=100,
        output_tokens=50,
        cached_tokens=20,
        cache_write_tokens=30,
        cache_write_1h_tokens=5,
        input_audio_tokens=7,
        input_image_tokens=8,
        reasoning_tokens=9,
        output_audio_tokens=10,
        output_image_tokens=11,
        searches=2,
        search_context="high",
        service_tier="default",
    )
