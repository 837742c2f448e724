"""What simulated providers refuse: wrong input, wrong keys, unknown models, and prompts that are too long."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.simulated_calls import CLOCK, ask, chat, whole
from router.providers.simulated import SimulatedProvider, Simulation
from router.providers.simulated.anthropic import Anthropic
from router.providers.simulated.compose import Composer
from router.providers.simulated.gemini import Gemini
from router.providers.simulated.openai import OpenAI
from router.providers.simulated.question import Rejection, Reply, Wire

pytestmark = pytest.mark.anyio
COMPOSER = Composer(Simulation(mean_output_tokens=10))


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
