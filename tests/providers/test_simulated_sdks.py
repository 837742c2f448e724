"""The official openai SDK takes the simulated provider for the real one; litellm's is tested with its lane."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from anyio import to_thread
from pydantic import BaseModel

from router.providers.simulated import SimulatedProvider

pytestmark = pytest.mark.anyio

ASKED: list[Any] = [{"role": "user", "content": "Where is my parcel?"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather of a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Verdict(BaseModel):
    """A structured answer."""

    label: str
    scores: list[float]
    reply_to: Verdict | None


@pytest.fixture
async def client(provider: SimulatedProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as client:
        yield client


async def test_the_sync_sdk_gets_whole_and_streamed_answers(provider: SimulatedProvider) -> None:
    def both() -> tuple[str | None, str]:
        with openai.OpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as client:
            answer = client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
            stream = client.chat.completions.create(model="gpt-4o-mini", messages=ASKED, stream=True)
            return answer.choices[0].message.content, "".join(c.choices[0].delta.content or "" for c in stream)

    whole, streamed = await to_thread.run_sync(both)
    assert whole == streamed != ""


async def test_the_async_sdk_gets_three_choices(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED, n=3)
    assert len({choice.message.content for choice in answer.choices}) == 3
    texts = ["", "", ""]
    async for chunk in await client.chat.completions.create(
        model="gpt-4o-mini", messages=ASKED, n=3, stream=True, stream_options={"include_usage": True}
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]
    assert chunk.usage == answer.usage


async def test_the_sdk_puts_streamed_tool_calls_together(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="gpt-4o-mini", messages=ASKED, tools=[WEATHER], tool_choice="required"
    ) as stream:
        answer = await stream.get_final_completion()
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}


async def test_the_sdk_parses_a_structured_answer(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(model="gpt-4o-mini", messages=ASKED, response_format=Verdict)
    assert isinstance(answer.choices[0].message.parsed, Verdict)


async def test_the_sdk_raises_its_own_errors(client: openai.AsyncOpenAI) -> None:
    async def fail(words: str, **members: Any) -> None:
        answer = await client.chat.completions.create(
            model="gpt-4o-mini", messages=ASKED, metadata={"simulate": words}, **members
        )
        if members:
            async for _ in answer:
                pass

    with pytest.raises(openai.RateLimitError) as limited:
        await fail("status=429 retry-after=3")
    assert limited.value.response.headers["retry-after"] == "3"
    with pytest.raises(openai.InternalServerError):
        await fail("status=503")
    with pytest.raises(openai.APIConnectionError):
        await fail("reset")
    with pytest.raises(httpx.ReadError):
        await fail("reset=3", stream=True)
    with pytest.raises(openai.APIError, match="server had an error"):
        await fail("error=3", stream=True)


async def test_the_sdk_retries_what_a_retry_can_help(provider: SimulatedProvider) -> None:
    provider.faults.queue("status=429 retry-after=0.01", "status=500 retry-after=0.01")
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=2) as client:
        assert (await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)).choices
    assert len(provider.calls) == 3


LITELLM = [("anthropic/claude-sonnet-4-5", "root_url"), ("gemini/gemini-2.5-flash", "gemini_url")]
