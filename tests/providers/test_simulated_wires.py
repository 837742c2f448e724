"""Simulated answers in Anthropic's and Gemini's shapes, over a real socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.simulated_calls import events, whole
from router.providers.simulated.text import o200k

pytestmark = pytest.mark.anyio


def claude(text: str = "Hello", **members: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-sonnet-4-5", "max_tokens": 2_000, "messages": messages, **members}


async def test_anthropics_stream_is_its_whole_answer_in_events(session, provider) -> None:
    url = f"{provider.root_url}/v1/messages"
    body = claude(thinking={"type": "enabled", "budget_tokens": 1_024})
    _, answer = await whole(session, url, body)
    assert [block["type"] for block in answer["content"]] == ["thinking", "text"]
    assert answer["stop_reason"] == "end_turn"
    text = "".join(block.get("thinking", "") + block.get("text", "") for block in answer["content"])
    assert answer["usage"]["output_tokens"] >= len(o200k().encode_ordinary(text)) - 2
    sent = [event.split("\n") for event in await events(session, url, {**body, "stream": True})]
    told = [json.loads(data.removeprefix("data: ")) for _, data in sent]
    assert [name.removeprefix("event: ") for name, _ in sent] == [event["type"] for event in told]
    assert told[0]["message"]["usage"]["output_tokens"] == 1
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") + delta.get("text", "") for delta in deltas) == text
    assert told[-2]["usage"]["output_tokens"] == answer["usage"]["output_tokens"]
    assert told[-1] == {"type": "message_stop"}


async def test_anthropic_cuts_at_the_limit_and_demands_one(session, provider) -> None:
    url = f"{provider.root_url}/v1/messages"
    _, cut = await whole(session, url, claude(max_tokens=7))
    assert (cut["usage"]["output_tokens"], cut["stop_reason"]) == (7, "max_tokens")
    unlimited = claude()
    del unlimited["max_tokens"]
    status, refused = await whole(session, url, unlimited)
    assert status == 400
    assert refused["type"] == "error"
    assert refused["error"] == {"type": "invalid_request_error", "message": "max_tokens: Field required"}


async def test_anthropic_writes_a_marked_prefix_once_and_reads_it_then(session, provider) -> None:
    url = f"{provider.root_url}/v1/messages"
    control = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "A rule of the house. " * 400, "cache_control": control}]
    _, first = await whole(session, url, claude(system=system))
    _, second = await whole(session, url, claude("Something else", system=system))
    written = first["usage"]["cache_creation_input_tokens"]
    assert written > 1_024
    assert first["usage"]["cache_creation"]["ephemeral_1h_input_tokens"] == written
    assert second["usage"]["cache_read_input_tokens"] == written
    assert second["usage"]["cache_creation_input_tokens"] == 0
    assert first["usage"]["input_tokens"] < 50


async def test_geminis_stream_is_its_whole_answer_in_events(session, provider) -> None:
    model = f"{provider.gemini_url}/models/gemini-2.5-flash"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    _, answer = await whole(session, f"{model}:generateContent", body)
    (candidate,) = answer["candidates"]
    text = candidate["content"]["parts"][0]["text"]
    usage = answer["usageMetadata"]
    assert candidate["finishReason"] == "STOP"
    assert usage["candidatesTokenCount"] == len(o200k().encode_ordinary(text))
    assert usage["thoughtsTokenCount"] > 0
    counts = (usage["promptTokenCount"], usage["candidatesTokenCount"], usage["thoughtsTokenCount"])
    assert usage["totalTokenCount"] == sum(counts)
    sent = await events(session, f"{model}:streamGenerateContent?alt=sse", body)
    told = [json.loads(event.removeprefix("data: ")) for event in sent]
    assert "".join(event["candidates"][0]["content"]["parts"][0]["text"] for event in told) == text
    assert told[-1]["usageMetadata"] == usage
    assert told[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_gemini_counts_thoughts_against_the_limit(session, provider) -> None:
    url = f"{provider.gemini_url}/models/gemini-2.5-pro:generateContent"
    body = {
        "contents": [{"parts": [{"text": "Hello"}]}],
        "generationConfig": {"maxOutputTokens": 20, "thinkingConfig": {"thinkingBudget": 0}},
    }
    _, answer = await whole(session, url, body)
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert answer["usageMetadata"]["candidatesTokenCount"] == 20
    del body["generationConfig"]["thinkingConfig"]
    _, thought = await whole(session, url, body)
    assert thought["usageMetadata"]["thoughtsTokenCount"] == 20
    assert thought["usageMetadata"]["candidatesTokenCount"] == 0
