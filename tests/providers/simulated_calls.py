"""Bare calls to simulated providers, read as bytes: no SDK stands between."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from router.providers.simulated import SimulatedProvider

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
