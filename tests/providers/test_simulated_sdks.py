"""The official openai SDK and litellm's take the simulated providers for the real ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from anyio import to_thread
from pydantic import BaseModel

from router.providers.simulated import SimulatedProvider
from router.providers.simulated.text import o200k

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
async def provider() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as provider:
        yield provider


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


@pytest.fixture
async def litellm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    yield litellm
    await litellm.close_litellm_async_clients()


def call(litellm: Any, provider: SimulatedProvider, model: str, url: str, **members: Any) -> Any:
    # Without _skip_mcp_handler litellm 1.106 imports the optional `mcp` package for any request with tools.
    members = {"messages": ASKED, "max_tokens": 2_000, "_skip_mcp_handler": True, **members}
    return litellm.acompletion(model=model, api_base=getattr(provider, url), api_key="k", num_retries=0, **members)


pytest_litellm = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")


@pytest_litellm
@pytest.mark.parametrize(("model", "url"), LITELLM)
async def test_litellm_takes_whole_and_streamed_answers(litellm, provider, model: str, url: str) -> None:
    answer = await call(litellm, provider, model, url)
    text = answer.choices[0].message.content
    visible = answer.usage.completion_tokens - (answer.usage.completion_tokens_details.reasoning_tokens or 0)
    assert visible == len(o200k().encode_ordinary(text))
    chunks = [
        chunk
        async for chunk in await call(
            litellm, provider, model, url, stream=True, stream_options={"include_usage": True}
        )
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == answer.usage.prompt_tokens


@pytest_litellm
@pytest.mark.parametrize(("model", "url"), LITELLM)
async def test_litellm_takes_tool_calls(litellm, provider, model: str, url: str) -> None:
    answer = await call(litellm, provider, model, url, tools=[WEATHER])
    (used,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    streamed = [
        chunk.choices[0].delta.tool_calls[0].function
        async for chunk in await call(litellm, provider, model, url, tools=[WEATHER], stream=True)
        if chunk.choices[0].delta.tool_calls
    ]
    assert next(function.name for function in streamed if function.name) == used.function.name == "get_weather"
    arguments = "".join(function.arguments or "" for function in streamed)
    assert json.loads(arguments) == json.loads(used.function.arguments)
    assert set(json.loads(arguments)) == {"city"}


@pytest_litellm
@pytest.mark.parametrize(("model", "url"), LITELLM)
async def test_litellms_limit_reaches_the_provider(litellm, provider, model: str, url: str) -> None:
    answer = await call(litellm, provider, model, url, max_tokens=9)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 9


@pytest_litellm
async def test_litellm_reads_what_was_cached(litellm, provider) -> None:
    story = "A rule of the house. " * 400
    control = {"type": "ephemeral"}
    system = {"role": "system", "content": [{"type": "text", "text": story, "cache_control": control}]}
    first = await call(litellm, provider, *LITELLM[0], messages=[system, *ASKED])
    second = await call(litellm, provider, *LITELLM[0], messages=[system, *ASKED])
    assert first.usage.cache_creation_input_tokens == second.usage.cache_read_input_tokens > 1_024
    assert first.usage.prompt_tokens == second.usage.prompt_tokens
    long = [{"role": "user", "content": story}]
    await call(litellm, provider, *LITELLM[1], messages=long)
    again = await call(litellm, provider, *LITELLM[1], messages=long)
    assert again.usage.prompt_tokens_details.cached_tokens >= 1_024


@pytest_litellm
@pytest.mark.parametrize(("model", "url"), LITELLM)
async def test_litellm_raises_its_own_errors(litellm, provider, model: str, url: str) -> None:
    for status, error in (
        (400, litellm.BadRequestError),
        (401, litellm.AuthenticationError),
        (429, litellm.RateLimitError),
        (503, litellm.ServiceUnavailableError),
    ):
        provider.faults.queue(f"status={status}")
        with pytest.raises(error):
            await call(litellm, provider, model, url)


@pytest_litellm
@pytest.mark.parametrize(("model", "url"), LITELLM)
async def test_litellm_hangs_up_when_it_is_cancelled(litellm, provider, model: str, url: str) -> None:
    provider.faults.queue("silence")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(litellm, provider, model, url), 0.3)
    await asyncio.wait_for(provider.calls[-1].ended.wait(), 5)
    assert provider.calls[-1].disconnected_at is not None
