"""What litellm's lane says was used: each class of token once, and nothing where nothing was told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from providers.litellm_calls import FAMILIES, MODELS, counting_connections, streamed, target, tells, whole
from router.pricing import Catalogue
from router.providers.simulated import SimulatedProvider, Simulation
from router.values import Usage


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
