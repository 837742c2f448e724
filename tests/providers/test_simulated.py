"""The simulated providers answer as the real APIs do: over a real socket, read as bytes."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import aiohttp
import jsonschema
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from router.chat import Chat
from router.pipeline.judging import INSTRUCTION, grade_in
from router.providers.simulated import Pace, SimulatedProvider, Simulation, ToolUse
from router.providers.simulated.anthropic import Anthropic
from router.providers.simulated.compose import Composer
from router.providers.simulated.gemini import Gemini
from router.providers.simulated.openai import OpenAI
from router.providers.simulated.question import Rejection, Reply, Wire
from router.providers.simulated.shape import fill
from router.providers.simulated.text import draw_length, o200k, pieces, prose, text_of, tokens_of

pytestmark = pytest.mark.anyio
COMPOSER = Composer(Simulation(mean_output_tokens=10))

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 1, "maximum": 5},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
async def provider() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def ask(text: str = "Where is my parcel?", model: str = "gpt-4o-mini", **members: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **members}


async def whole(session: aiohttp.ClientSession, url: str, body: object, **headers: str) -> tuple[int, Any]:
    async with session.post(url, json=body, headers=headers) as response:
        return response.status, await response.json()


async def chat(session: aiohttp.ClientSession, provider: SimulatedProvider, body: object) -> Any:
    status, answer = await whole(session, f"{provider.base_url}/chat/completions", body)
    assert status == 200, answer
    return answer


async def events(session: aiohttp.ClientSession, url: str, body: object) -> list[str]:
    async with session.post(url, json=body) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = (await response.read()).decode().replace("\r\n", "\n")
    assert text.endswith("\n\n")
    return text.removesuffix("\n\n").split("\n\n")


async def chunks(session: aiohttp.ClientSession, provider: SimulatedProvider, body: dict[str, Any]) -> list[Any]:
    sent = await events(session, f"{provider.base_url}/chat/completions", {**body, "stream": True})
    assert sent[-1] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in sent[:-1]]


async def test_completion_tokens_are_the_tokens_of_the_text(session, provider) -> None:
    answer = await chat(session, provider, ask())
    text = answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == len(o200k().encode_ordinary(text)) > 10
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert answer["model"] == "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize("limit", [1, 2, 17, 64])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_is_cut_at_exactly_its_limit(session, provider, name: str, limit: int) -> None:
    free = await chat(session, provider, ask())
    cut = await chat(session, provider, ask(**{name: limit}))
    assert cut["usage"]["completion_tokens"] == limit
    assert cut["choices"][0]["finish_reason"] == "length"
    said = free["choices"][0]["message"]["content"]
    assert said.startswith(cut["choices"][0]["message"]["content"])


async def test_a_limit_that_is_not_reached_changes_nothing(session, provider) -> None:
    free = await chat(session, provider, ask())
    used = free["usage"]["completion_tokens"]
    at_limit = await chat(session, provider, ask(max_tokens=used))
    below = await chat(session, provider, ask(max_tokens=used - 1))
    assert at_limit["choices"] == free["choices"]
    assert below["choices"][0]["finish_reason"] == "length"


async def test_reasoning_counts_against_the_limit(session, provider) -> None:
    answer = await chat(session, provider, ask(model="gpt-5-mini", max_completion_tokens=10))
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 10
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 10


async def test_reasoning_models_reason_in_steps_of_64_tokens_and_none_at_no_effort(session, provider) -> None:
    answer = await chat(session, provider, ask(model="o4-mini"))
    reasoning = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    text = answer["choices"][0]["message"]["content"]
    assert reasoning > 0
    assert reasoning % 64 == 0
    assert answer["usage"]["completion_tokens"] == reasoning + len(o200k().encode_ordinary(text))
    quick = await chat(session, provider, ask(model="gpt-5", reasoning_effort="minimal"))
    assert quick["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


async def test_a_stream_has_the_chunks_of_openai(session, provider) -> None:
    sent = await chunks(session, provider, ask(max_tokens=5, stream_options={"include_usage": True}))
    assert sent[0]["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert [list(chunk["choices"][0]["delta"]) for chunk in sent[1:6]] == [["content"]] * 5
    assert sent[6]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert sent[7]["choices"] == []
    assert sent[7]["usage"]["completion_tokens"] == 5
    assert [chunk["usage"] for chunk in sent[:7]] == [None] * 7
    assert {chunk["object"] for chunk in sent} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in sent}) == 1


async def test_a_stream_tells_usage_only_where_it_is_asked_to(session, provider) -> None:
    sent = await chunks(session, provider, ask())
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in sent)


@pytest.mark.parametrize("members", [{}, {"n": 3}, {"seed": 7}, {"tools": [WEATHER]}, {"model": "o3"}])
async def test_a_stream_says_what_the_whole_answer_says(session, provider, members: dict[str, Any]) -> None:
    """Same request, same answer, same usage: whole, streamed, and asked again."""
    first = await chat(session, provider, ask(**members))
    again = await chat(session, provider, ask(**members))
    sent = await chunks(session, provider, ask(**members, stream_options={"include_usage": True}))
    assert again["choices"] == first["choices"]
    assert sent[-1]["usage"] == first["usage"] == again["usage"]
    for choice in first["choices"]:
        mine = [c["choices"][0] for c in sent[:-1] if c["choices"][0]["index"] == choice["index"]]
        deltas = [piece["delta"] for piece in mine]
        assert "".join(d.get("content") or "" for d in deltas) == (choice["message"]["content"] or "")
        calls = [call for d in deltas for call in d.get("tool_calls", ())]
        arguments = "".join(call["function"]["arguments"] for call in calls)
        asked = choice["message"].get("tool_calls", ())
        assert arguments == "".join(call["function"]["arguments"] for call in asked)
        assert [piece["finish_reason"] for piece in mine if piece["finish_reason"]] == [choice["finish_reason"]]


async def test_another_seed_or_model_or_choice_gives_another_answer(session, provider) -> None:
    answers = [await chat(session, provider, ask(**more)) for more in ({}, {"seed": 1}, {"model": "gpt-4o"}, {"n": 3})]
    texts = [choice["message"]["content"] for answer in answers for choice in answer["choices"]]
    assert len(texts) == 6
    assert len(set(texts)) == 5  # the first of three is the one and only of one
    assert answers[3]["usage"]["completion_tokens"] == sum(
        len(o200k().encode_ordinary(choice["message"]["content"])) for choice in answers[3]["choices"]
    )


@pytest.mark.parametrize(
    ("choice", "name", "finish"),
    [
        ("auto", "get_weather", "tool_calls"),
        ("required", "get_weather", "tool_calls"),
        ({"type": "function", "function": {"name": "get_time"}}, "get_time", "stop"),
    ],
)
async def test_a_tool_is_called_as_it_was_chosen(session, provider, choice, name: str, finish: str) -> None:
    body = ask("How is the weather in the city?", tools=[CLOCK, WEATHER], tool_choice=choice)
    answer = (await chat(session, provider, body))["choices"][0]
    (call,) = answer["message"]["tool_calls"]
    assert answer["message"]["content"] is None
    assert answer["finish_reason"] == finish
    assert call["function"]["name"] == name
    if name == "get_weather":
        jsonschema.validate(json.loads(call["function"]["arguments"]), WEATHER["function"]["parameters"])


async def test_tools_that_the_user_names_are_all_called(session, provider) -> None:
    body = ask("Use get_weather and get_time.", tools=[CLOCK, WEATHER])
    calls = (await chat(session, provider, body))["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["get_time", "get_weather"]
    one = await chat(session, provider, {**body, "parallel_tool_calls": False})
    assert len(one["choices"][0]["message"]["tool_calls"]) == 1


async def test_a_tools_result_is_answered_in_text(session, provider) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    body = ask(tools=[CLOCK])
    body["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
    ]
    assert (await chat(session, provider, body))["choices"][0]["message"]["content"]
    none = await chat(session, provider, ask(tools=[CLOCK], tool_choice="none"))
    assert none["choices"][0]["message"]["content"]


async def test_a_limit_cuts_the_arguments_of_a_tool_call(session, provider) -> None:
    body = ask(tools=[WEATHER], tool_choice="required")
    free = await chat(session, provider, body)
    used = free["usage"]["completion_tokens"]
    cut = await chat(session, provider, {**body, "max_tokens": used - 3})
    assert cut["usage"]["completion_tokens"] == used - 3
    assert cut["choices"][0]["finish_reason"] == "length"
    call = cut["choices"][0]["message"]["tool_calls"][0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(call["function"]["arguments"])


async def test_a_structured_answer_has_the_shape_that_was_asked_for(session, provider) -> None:
    schema = WEATHER["function"]["parameters"]
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema, "strict": True}}
    for seed in range(10):
        answer = await chat(session, provider, ask(response_format=wanted, seed=seed))
        jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), schema)
    any_object = await chat(session, provider, ask("As JSON, please.", response_format={"type": "json_object"}))
    assert isinstance(json.loads(any_object["choices"][0]["message"]["content"]), dict)


async def test_logprobs_cover_every_token(session, provider) -> None:
    asked = ask(logprobs=True, top_logprobs=3, max_tokens=40)
    answer = await chat(session, provider, asked)
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == 40
    assert all(len(entry["top_logprobs"]) == 3 and entry["logprob"] <= 0 for entry in entries)
    said = bytes(byte for entry in entries for byte in entry["bytes"]).decode(errors="ignore")
    assert said == answer["choices"][0]["message"]["content"]
    streamed = [
        entry
        for chunk in await chunks(session, provider, asked)
        for entry in (chunk["choices"][0]["logprobs"] or {}).get("content", ())
    ]
    assert streamed == entries


async def test_a_stop_sequence_ends_the_answer_before_it(session, provider) -> None:
    free = (await chat(session, provider, ask()))["choices"][0]["message"]["content"]
    word = free.split()[6]
    answer = await chat(session, provider, ask(stop=[word, "never said"]))
    assert answer["choices"][0]["message"]["content"] == free[: free.index(word)]
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_a_long_prefix_is_cached_in_steps_of_128_tokens(session, provider) -> None:
    story = " ".join(f"Item {number} is in the box." for number in range(400))
    first = await chat(session, provider, ask(story + " What is in the box?", max_tokens=1))
    second = await chat(session, provider, ask(story + " Who packed it?", max_tokens=1))
    other = await chat(session, provider, ask(story + " Who packed it?", model="gpt-4o", max_tokens=1))
    short = [await chat(session, provider, ask("Short.", max_tokens=1)) for _ in range(2)][1]
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in (first, second, other, short)]
    assert cached[0] == cached[2] == cached[3] == 0
    assert cached[1] % 128 == 0
    assert first["usage"]["prompt_tokens"] - 256 <= cached[1] <= second["usage"]["prompt_tokens"]


async def test_rejected_predictions_are_billed_as_output(session, provider) -> None:
    prediction = {"type": "content", "content": prose(200, Random(1))}
    plain = await chat(session, provider, ask())
    answer = await chat(session, provider, ask(prediction=prediction))
    details = answer["usage"]["completion_tokens_details"]
    assert details["rejected_prediction_tokens"] > 0
    extra = answer["usage"]["completion_tokens"] - plain["usage"]["completion_tokens"]
    assert extra == details["rejected_prediction_tokens"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": "gpt-4o"}, "messages", "missing_required_parameter"),
        ({"model": "gpt-4o", "messages": []}, "messages", "empty_array"),
        ({"messages": [{"role": "user", "content": "x"}]}, None, None),
        (ask(max_tokens="many"), "max_tokens", "invalid_type"),
        (ask(max_tokens=0), "max_tokens", "invalid_value"),
        (ask(max_tokens=9, max_completion_tokens=9), "max_tokens", "invalid_parameter_combination"),
        (ask(model="gpt-5", max_tokens=9), "max_tokens", "unsupported_parameter"),
        (ask(stream_options={"include_usage": True}), "stream_options", None),
        (
            ask(tools=[CLOCK], tool_choice={"type": "function", "function": {"name": "no"}}),
            "tool_choice",
            None,
        ),
        (ask(response_format={"type": "json_object"}), "messages", None),
        ([], None, "invalid_type"),
    ],
)
async def test_wrong_input_is_a_400_in_openais_shape(session, provider, body, param, code) -> None:
    status, answer = await whole(session, f"{provider.base_url}/chat/completions", body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert (answer["error"]["param"] or None, answer["error"]["code"]) == (param, code)
    assert set(answer["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("raw", [b"", b"{", b'{"model": "\xff"}', b"[" * 100_000])
async def test_a_body_that_is_no_json_is_a_400(session, provider, raw: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/messages", "/v1beta/models/gemini-2.5-flash:generateContent"):
        async with session.post(provider.root_url + path, data=raw) as response:
            assert response.status == 400
            assert "error" in await response.json()


async def test_an_api_key_is_demanded_where_one_is_set(session) -> None:
    async with SimulatedProvider(Simulation(api_key="right")) as provider:
        url = f"{provider.base_url}/chat/completions"
        assert (await whole(session, url, ask()))[0] == 401
        assert (await whole(session, url, ask(), authorization="Bearer wrong"))[0] == 401
        assert (await whole(session, url, ask(), authorization="Bearer right"))[0] == 200
        claude = {"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": ask()["messages"]}
        url = f"{provider.root_url}/v1/messages"
        status, refused = await whole(session, url, claude, **{"x-api-key": "wrong"})
        assert (status, refused["error"]["type"]) == (401, "authentication_error")
        assert (await whole(session, url, claude, **{"x-api-key": "right"}))[0] == 200


async def test_an_unknown_model_is_refused_only_where_models_are_named(session, provider) -> None:
    assert await chat(session, provider, ask(model="anything"))
    async with SimulatedProvider(Simulation(models=frozenset({"gpt-4o"}))) as strict:
        status, answer = await whole(session, f"{strict.base_url}/chat/completions", ask(model="anything"))
        assert (status, answer["error"]["code"]) == (404, "model_not_found")
        async with session.get(f"{strict.base_url}/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["gpt-4o"]


async def test_a_prompt_past_the_context_window_is_refused(session) -> None:
    async with SimulatedProvider(Simulation(context_tokens_by_model={"small": 50})) as provider:
        url = f"{provider.base_url}/chat/completions"
        assert (await whole(session, url, ask(model="small")))[0] == 200
        status, answer = await whole(session, url, ask("word " * 60, model="small"))
        assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


async def test_an_answerer_says_what_models_answer(session) -> None:
    def answerer(chat: Chat, model: str) -> str | tuple[ToolUse, ...] | None:
        match chat.last_user_text():
            case "capital?":
                return f"Paris, says {model}."
            case "call":
                return (ToolUse("get_time", "{}"),)
            case _:
                return None

    async with SimulatedProvider(Simulation(answerer=answerer)) as provider:
        said = await chat(session, provider, ask("capital?"))
        assert said["choices"][0]["message"]["content"] == "Paris, says gpt-4o-mini."
        called = await chat(session, provider, ask("call"))
        assert called["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_time"
        assert len((await chat(session, provider, ask("else")))["choices"][0]["message"]["content"]) > 20


async def test_calls_are_written_down_and_the_oldest_forgotten(session) -> None:
    async with SimulatedProvider(Simulation(calls_kept=3)) as provider:
        for number in range(5):
            await chat(session, provider, ask(str(number)))
        assert [call.body["messages"][0]["content"] for call in provider.calls] == ["2", "3", "4"]
        last = provider.calls[-1]
        assert last.path == "/v1/chat/completions"
        assert last.headers["content-type"] == "application/json"
        assert last.disconnected_at is None
        assert last.at < last.ended_at < time.perf_counter()


async def test_a_stream_keeps_the_pace_that_is_set(session) -> None:
    pace = Pace(first_token_s=0.05, tokens_per_s=200)
    async with SimulatedProvider(Simulation(pace=pace)) as provider:
        started = time.perf_counter()
        async with session.post(
            f"{provider.base_url}/chat/completions", json=ask(stream=True, max_tokens=40)
        ) as response:
            await response.content.readany()
            first_s = time.perf_counter() - started
            await response.read()
            all_s = time.perf_counter() - started
        assert first_s >= 0.05
        assert 0.05 + 40 / 200 <= all_s < 5
        started = time.perf_counter()
        await chat(session, provider, ask(max_tokens=40))
        assert time.perf_counter() - started >= 0.25


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_that_hangs_up_is_noticed_at_once(session, stream: bool) -> None:
    async with SimulatedProvider(Simulation(pace=Pace(tokens_per_s=20), mean_output_tokens=500)) as provider:
        asking = session.post(f"{provider.base_url}/chat/completions", json=ask(stream=stream))
        if stream:
            async with asking as response:
                await response.content.readany()
                response.close()
                closed_at = time.perf_counter()
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asking, 0.2)
            closed_at = time.perf_counter()
        (call,) = provider.calls
        await asyncio.wait_for(call.ended.wait(), 5)
        assert call.disconnected_at is not None
        assert call.disconnected_at - closed_at < 0.1


@pytest.mark.parametrize("mean", [40, 300])
def test_lengths_are_drawn_around_the_mean(mean: int) -> None:
    random = Random(mean)
    lengths = [draw_length(mean, random) for _ in range(4_000)]
    assert statistics.mean(lengths) == pytest.approx(mean, rel=0.1)
    assert statistics.median(lengths) < statistics.mean(lengths)


@given(st.text(max_size=200), st.integers(1, 9), st.integers(0, 60))
def test_pieces_lose_no_token_and_no_character(text: str, at_least: int, kept: int) -> None:
    tokens = tokens_of(text)[:kept]
    cut = list(pieces(tokens, at_least))
    assert tuple(token for piece in cut for token in piece.tokens) == tokens
    assert "".join(piece.text for piece in cut) == text_of(tokens)
    assert text.startswith(text_of(tokens))


def test_the_vocabulary_holds_characters_of_several_tokens() -> None:
    """So that streams which are cut between bytes are put to the test."""
    encoding = tiktoken.get_encoding("o200k_base")
    text = prose(5_000, Random(0))
    assert any(len(piece.tokens) > 1 for piece in pieces(tokens_of(text)))
    assert len(tokens_of(text)) == len(encoding.encode_ordinary(text))


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 3, "maxLength": 12},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["name", "children", "left"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS: list[dict[str, Any]] = [
    TREE,
    {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number", "minimum": 5, "maximum": 6}},
    {"type": ["null", "integer"], "exclusiveMinimum": 3, "maximum": 4},
    {
        "allOf": [
            {"properties": {"a": {"const": 1}}, "required": ["a"]},
            {"required": ["b"], "type": "object"},
        ]
    },
    {"type": "object", "properties": {"on": {"type": "boolean"}, "at": {"type": "string", "format": "date"}}},
    {"$ref": "#"},
    {},
]
HOSTILE: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "object", "properties": {f"p{number}": {"$ref": "#"} for number in range(30)}},
    {"type": "array", "minItems": 10**12, "items": {"type": "string", "minLength": 10**12}},
    {"type": "integer", "minimum": 1e300, "maximum": -1e300},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 2},
    {"type": 3, "properties": 4, "required": 5, "enum": 6, "items": 7, "anyOf": {}, "$ref": 8},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_filled_schema_is_satisfied(schema: dict[str, Any]) -> None:
    for seed in range(30):
        value = fill(schema, Random(seed))
        assert len(json.dumps(value)) < 2_000_000
        if schema != {"$ref": "#"}:
            jsonschema.validate(value, schema)


@pytest.mark.parametrize("schema", HOSTILE)
def test_a_hostile_schema_is_filled_in_bounded_time(schema: dict[str, Any]) -> None:
    started = time.perf_counter()
    assert len(json.dumps(fill(schema, Random(0)))) < 5_000_000
    assert time.perf_counter() - started < 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "function", "name", "schema", "json_schema", "text", "content", "properties"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    [
        "model", "messages", "max_tokens", "n", "tools", "tool_choice", "response_format", "prediction",
        "stop", "stream_options", "logprobs", "top_logprobs", "seed", "system", "thinking", "output_format",
        "contents", "generationConfig", "toolConfig", "systemInstruction",
    ]
)  # fmt: skip
VALID = {
    OpenAI: {"model": "gpt-4o", "messages": [{"role": "user", "content": "json"}]},
    Anthropic: {"model": "claude", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9},
    Gemini: {"contents": [{"parts": [{"text": "x"}]}]},
}


@given(st.sampled_from(list(VALID)), st.dictionaries(MEMBERS, JSON, max_size=2))
def test_any_json_is_answered_or_refused(wire: type[Wire], members: dict[str, Any]) -> None:
    body = json.dumps(VALID[wire] | members).encode()
    question = wire().read(body, "gemini-2.5-flash", "generateContent")
    if isinstance(question, Rejection):
        assert question.status == 400
        assert json.loads(wire().error(question))["error"]["message"]
        return
    reply = COMPOSER.compose(question)
    assert isinstance(reply, Reply)
    assert isinstance(json.loads(wire().whole(reply)), dict)
    assert all(beat.raw.endswith(b"\n") for beat in wire().events(reply, 1))


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


async def test_a_judge_among_them_gives_grades_good_and_bad(
    provider: SimulatedProvider, session: aiohttp.ClientSession
) -> None:
    grades = []
    for number in range(60):
        asked = {"role": "user", "content": f'Is it polite?\n\n{{"answer":"Number {number}."}}'}
        messages = [{"role": "system", "content": INSTRUCTION}, asked]
        url = f"{provider.base_url}/chat/completions"
        status, body = await whole(session, url, {"model": "gpt-4.1", "messages": messages})
        assert status == 200
        grade = grade_in(body["choices"][0]["message"]["content"])
        assert grade is not None
        grades.append(grade)
    assert 0.6 < sum(grade >= 0.8 for grade in grades) / 60 < 0.9
    assert min(grades) < 0.5
