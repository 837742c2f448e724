"""Simulated answers in OpenAI's shape: as long, as streamed and as counted as the real API's."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from providers.simulated_calls import WEATHER, ask, chat, chunks
from router.providers.simulated.text import o200k, prose

pytestmark = pytest.mark.anyio


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
