"""What litellm's lane makes of answers, whole and streamed: OpenAI's shape, with tools and thoughts."""

from __future__ import annotations

import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers.litellm_calls import FAMILIES, MODELS, TOOL, calls_weather, chunks_of, streamed, target, tells, whole
from router.providers.litellm_shapes import Choice, Message, Reply
from router.providers.simulated import SimulatedProvider


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
    assert text == "".join(chunk.texts.get(0, "") for chunk in chunks)
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
async def test_claude_s_thoughts_come_with_their_signature() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    async with SimulatedProvider() as provider:
        answer = await whole(target("anthropic", provider), thinking=thinking, max_tokens=4_000)
    message = json.loads(answer.body)["choices"][0]["message"]
    assert message["reasoning_content"]
    assert message["thinking_blocks"][0]["signature"]
    assert message["reasoning_content"] in answer.text


def test_two_choices_of_one_index_lose_no_text() -> None:
    choices = [Choice(delta=Message(content=text)) for text in ("one", " two", "")]
    assert Reply("id", 0, [*choices, Choice(1, delta=Message(content="three"))]).texts() == {0: "one two", 1: "three"}
