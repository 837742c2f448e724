"""The official openai package takes the proxy for OpenAI: sync and async, whole and streamed, answers and errors."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from proxy import Proxy
from pydantic import BaseModel

from router.providers.simulated import SimulatedProvider

ASKED: list[Any] = [{"role": "user", "content": "Where is my parcel?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Verdict(BaseModel):
    """A structured answer."""

    label: str
    scores: list[float]


@pytest.fixture(scope="module")
def more_files() -> dict[str, str]:
    return {"poor": "task: poor\nbudget: {per_request_usd: 0.00001}\nroute: [{use: dear}]\n"}


@pytest.fixture
def client(proxy: Proxy, provider: SimulatedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy.base_url, api_key="any", max_retries=2) as client:
        yield client


@pytest.fixture
async def async_client(proxy: Proxy, provider: SimulatedProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key="any", max_retries=0) as client:
        yield client


def png(width: int, height: int) -> str:
    """Return a grey picture as a data URL."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height)
    raw = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", pixels) + part(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(raw).decode()


def test_a_whole_answer_is_typed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=ASKED, max_tokens=20)
    assert isinstance(answer, ChatCompletion)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20
    assert answer.choices[0].finish_reason == "length"
    assert answer._request_id


def test_a_stream_is_typed_and_carries_no_usage_unless_asked(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="auto", messages=ASKED, max_tokens=20, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_stream_ends_with_its_usage_where_asked(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="auto", messages=ASKED, max_tokens=20, stream=True, stream_options={"include_usage": True}
        )
    )
    assert not chunks[-1].choices
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


@pytest.mark.anyio
async def test_the_async_client_gets_whole_and_streamed_answers(async_client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "auto", "messages": ASKED, "max_tokens": 20, "seed": 7}
    whole = await async_client.chat.completions.create(**asked)
    stream = await async_client.chat.completions.create(**asked, stream=True)
    streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert whole.choices[0].message.content == streamed


def test_tools_are_called_with_their_arguments(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "Use get_weather for Rome"}], tools=[WEATHER]
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["city"]


def test_streamed_tools_are_put_together_by_the_sdk(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="auto", messages=[{"role": "user", "content": "Use get_weather for Rome"}], tools=[WEATHER]
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.parsed_arguments["city"]  # type: ignore[index]


def test_a_conversation_with_a_tools_result_goes_on(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "Use get_weather for Rome"}], tools=[WEATHER]
    )
    call: Any = first.choices[0].message.tool_calls
    messages: list[Any] = [
        {"role": "user", "content": "Use get_weather for Rome"},
        first.choices[0].message,
        {"role": "tool", "tool_call_id": call[0].id, "content": '{"c": 21}'},
    ]
    answer = client.chat.completions.create(model="auto", messages=messages, tools=[WEATHER], max_tokens=30)
    assert answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_three_answers_are_given_where_three_are_asked_for(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "auto", "messages": ASKED, "max_tokens": 15, "n": 3}
    if stream:
        said: dict[int, str] = {}
        for chunk in client.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
    else:
        answer = client.chat.completions.create(**asked)
        said = {choice.index: choice.message.content or "" for choice in answer.choices}
    assert said.keys() == {0, 1, 2}
    assert len(set(said.values())) == 3


def test_a_structured_answer_is_parsed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="auto", messages=ASKED, response_format=Verdict)
    assert isinstance(answer.choices[0].message.parsed, Verdict)


def test_log_probabilities_come_through(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=ASKED, max_tokens=5, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 5
    assert len(logprobs.content[0].top_logprobs) == 2


def test_a_picture_is_counted_by_its_tiles_and_passed_on(
    client: openai.OpenAI, proxy: Proxy, provider: SimulatedProvider
) -> None:
    picture = {"type": "image_url", "image_url": {"url": png(1024, 1024), "detail": "high"}}
    content: Any = [{"type": "text", "text": "What is this?"}, picture]
    answer = client.chat.completions.with_raw_response.create(
        model="dear", messages=[{"role": "user", "content": content}], max_tokens=5
    )
    assert provider.calls[-1].body["messages"][0]["content"][1] == picture
    facts = proxy.row(answer.headers["x-farthing-request-id"])["facts"]
    assert facts["input_tokens"] == 765 + 3 + 3 + 1 + 4
    assert facts["has"] == ["images"]


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"auto", "cheap", "dear", "task:default", "task:poor", "gpt-4o"} <= set(names)
    assert len(names) == len(set(names))


def test_a_raw_response_bears_our_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=ASKED, max_tokens=5)
    assert float(raw.headers["x-farthing-cost-usd"]) > 0
    assert raw.headers["x-farthing-model"] == "cheap"
    assert raw.parse().choices


def test_a_wrong_request_is_a_bad_request_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=ASKED, n=0)
    assert (caught.value.code, caught.value.param) == ("invalid_request", "n")


def test_an_unknown_model_is_a_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-99", messages=ASKED)
    assert caught.value.code == "model_not_found"
    assert "cheap" in caught.value.message


def test_too_little_money_is_a_402_that_the_sdk_does_not_try_again(
    client: openai.OpenAI, proxy: Proxy, provider: SimulatedProvider
) -> None:
    before = proxy.metric("farthing_requests_total", task="poor")
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="auto", messages=ASKED, extra_headers={"x-farthing-task": "poor"})
    assert caught.value.status_code == 402
    assert caught.value.code == "request_budget_exceeded"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert proxy.metric("farthing_requests_total", task="poor") == before + 1
    assert not provider.calls


def test_a_provider_that_is_down_is_tried_again_by_the_sdk(client: openai.OpenAI, provider: SimulatedProvider) -> None:
    provider.faults.queue(*["status=500"] * 2)
    answer = client.chat.completions.create(model="cheap", messages=ASKED, max_tokens=5)
    assert answer.choices
    assert len(provider.calls) == 3


def test_a_provider_that_stays_down_is_an_internal_server_error(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("status=500")
    with (
        openai.OpenAI(base_url=proxy.base_url, api_key="any", max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(model="cheap", messages=ASKED)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")


def test_a_stream_that_breaks_off_raises_in_the_loop(client: openai.OpenAI, provider: SimulatedProvider) -> None:
    provider.faults.queue("reset=4")
    stream = client.chat.completions.create(model="cheap", messages=ASKED, stream=True)
    assert len([next(stream) for _ in range(4)]) == 4
    with pytest.raises(openai.APIError) as caught:
        next(stream)
    assert caught.value.code == "upstream_error"


def test_extra_members_reach_the_provider(client: openai.OpenAI, provider: SimulatedProvider) -> None:
    client.chat.completions.create(
        model="auto", messages=ASKED, max_tokens=5, seed=3, user="u1", extra_body={"new_option": {"a": [1]}}
    )
    body = provider.calls[-1].body
    assert (body["seed"], body["user"], body["new_option"]) == (3, "u1", {"a": [1]})


def test_a_reasoning_model_is_called_with_the_limit_that_it_knows(
    client: openai.OpenAI, provider: SimulatedProvider
) -> None:
    answer = client.chat.completions.create(
        model="thinker", messages=ASKED, extra_headers={"x-farthing-budget-usd": "0.01"}
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens
    assert "max_tokens" not in provider.calls[-1].body


def test_a_reasoning_model_gets_the_callers_older_limit_under_its_newer_name(
    client: openai.OpenAI, provider: SimulatedProvider
) -> None:
    answer = client.chat.completions.create(model="thinker", messages=ASKED, max_tokens=2_000)
    assert answer.choices
    assert provider.calls[-1].body["max_completion_tokens"] == 2_000
    assert "max_tokens" not in provider.calls[-1].body
