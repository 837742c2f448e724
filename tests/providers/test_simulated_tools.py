"""Tools and structured answers of simulated providers."""

from __future__ import annotations

import json

import jsonschema
import pytest

from providers.simulated_calls import CLOCK, WEATHER, ask, chat

pytestmark = pytest.mark.anyio


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
