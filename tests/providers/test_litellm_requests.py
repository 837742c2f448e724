"""What litellm's lane sends: what the caller's body says, and no orders to litellm in it."""

from __future__ import annotations

import json

import pytest

from providers.litellm_calls import FAMILIES, KEY, TOOL, target, tells, whole
from router.providers.simulated import SimulatedProvider


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
