"""What litellm must not do here: be imported before it is needed, fetch, log, or leave tasks running."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_lane_does_not_import_litellm() -> None:
    out = python("import sys, router.providers.litellm; print({'litellm', 'httpx', 'openai'} & set(sys.modules))")
    assert out.strip() == "set()"


NOTHING_FETCHED = """
import asyncio, json, sys

tried = []

def watch(event, details):
    if event == "socket.getaddrinfo" and details[0] not in ("127.0.0.1", "localhost", "::1"):
        tried.append(details[:2])
        raise OSError("the network is unplugged")
    if event == "socket.connect" and details[1][0] not in ("127.0.0.1", "::1"):
        tried.append(details[1])
        raise OSError("the network is unplugged")

sys.addaudithook(watch)

from router.policy.target import Deadlines, Target
from router.pricing import Price
from router.providers.contract import Call
from router.providers.litellm import LitellmLane
from router.providers.simulated import SimulatedProvider
from router.tokens import rules_for

BODY = b'{"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "A secret prompt."}]}'

async def main():
    async with SimulatedProvider() as provider:
        lane = LitellmLane()
        bases = {"anthropic": provider.root_url, "gemini": provider.gemini_url}
        models = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash-lite"}
        for family, base in bases.items():
            rules = rules_for(family, models[family])
            target = Target(family, models[family], Price.free(), rules, base_url=base, api_key="sk-secret-key")
            call = Call("r", target, BODY, Deadlines())
            await lane.whole(call)
            async for _ in await lane.stream(call):
                pass
            shown = [{"type": "image_url", "image_url": {"url": "http://images.example/cat"}}]
            seen = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": shown}]}
            try:
                await lane.whole(Call("r", target, json.dumps(seen).encode(), Deadlines()))
            except Exception as error:
                print(type(error).__name__, error)
            provider.faults.queue("status=500")
            try:
                await lane.whole(call)
            except Exception as error:
                print(type(error).__name__)
        await lane.aclose()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        print("litellm tasks left:", [task for task in left if "litellm" in repr(task)])

asyncio.run(main())
import threading
print("tried:", tried)
"""


def test_nothing_is_fetched_logged_or_left_running() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_FETCHED], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    images = "refused the request: it takes no image by its URL here; send the image as a data URL"
    assert done.stdout.split("\n") == [
        f"ProviderRefused anthropic/claude-sonnet-4-5 {images}",
        "ProviderFailed",
        f"ProviderRefused gemini/gemini-2.5-flash-lite {images}",
        "ProviderFailed",
        "litellm tasks left: []",
        "tried: []",
        "",
    ]
    assert "secret" not in done.stderr
