"""Simulated providers as they are set up: what they answer, note down and notice, and at which pace."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from providers.simulated_calls import ask, chat, whole
from router.chat import Chat
from router.pipeline.judging import INSTRUCTION, grade_in
from router.providers.simulated import Pace, SimulatedProvider, Simulation, ToolUse

pytestmark = pytest.mark.anyio


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
