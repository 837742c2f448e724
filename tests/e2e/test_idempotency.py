"""The same request with the same key is called once, charged once, and answered alike."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from proxy import WITHIN_S, Proxy, eventually, running_proxy, said

from e2e.conftest import files_for
from router.errors import IdempotencyUnderWay
from router.providers.simulated import SimulatedProvider
from router.web.asgi import Message, Send
from router.web.idempotency.contract import MOST_RESULT_BYTES
from router.web.idempotency.memory import MemoryResults
from router.web.idempotency.once import Asked, Once

REPLAY = "x-farthing-idempotent-replay"
ACCOUNTS = """
accounts:
  first: {{keys: ["{first}"]}}
  second: {{keys: ["{second}"]}}
"""


def keyed(name: str, **more: str) -> dict[str, str]:
    return {"idempotency-key": name, **more}


def charged_nusd(proxy: Proxy) -> int:
    return sum(row["charged_nusd"] for row in proxy.rows())


def test_the_second_of_two_is_answered_from_the_first_and_not_charged(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    first = proxy.ask(headers=keyed("twice"))
    before_nusd = charged_nusd(proxy)
    second = proxy.ask(headers=keyed("twice"))
    assert (first.status_code, second.status_code) == (200, 200)
    assert REPLAY not in first.headers
    assert second.headers[REPLAY] == "true"
    assert second.content == first.content
    names = [name for name in first.headers if name.startswith(("x-", "content-"))]
    assert {name: second.headers[name] for name in names} == {name: first.headers[name] for name in names}
    assert len(provider.calls) == 1
    assert charged_nusd(proxy) == before_nusd > 0


def test_a_stream_is_replayed_as_the_same_events(proxy: Proxy, provider: SimulatedProvider) -> None:
    first = proxy.ask(stream=True, headers=keyed("stream"))
    second = proxy.ask(stream=True, headers=keyed("stream"))
    assert second.headers[REPLAY] == "true"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.text == first.text
    assert said(second.text)
    assert second.text.endswith("data: [DONE]\n\n")
    assert len(provider.calls) == 1


def test_the_sdk_reads_a_replay_as_any_answer(proxy: Proxy, provider: SimulatedProvider) -> None:
    with openai.OpenAI(base_url=proxy.base_url, api_key="any", max_retries=0) as client:

        def stream() -> str:
            chunks = client.chat.completions.create(
                model="auto",
                messages=[{"role": "user", "content": "Hello"}],
                stream=True,
                extra_headers=keyed("sdk"),
            )
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

        assert stream() == stream() != ""
    assert len(provider.calls) == 1


def test_another_body_with_the_same_key_is_a_422(proxy: Proxy, provider: SimulatedProvider) -> None:
    proxy.ask(headers=keyed("mismatch"))
    other = proxy.ask("Something else", headers=keyed("mismatch"))
    assert other.status_code == 422
    error = other.json()["error"]
    assert (error["code"], error["type"]) == ("idempotency_mismatch", "invalid_request_error")
    assert other.headers["x-should-retry"] == "false"
    assert len(provider.calls) == 1


def test_another_task_with_the_same_key_is_a_422(proxy: Proxy, provider: SimulatedProvider) -> None:
    proxy.ask(headers=keyed("task"))
    assert proxy.ask(headers=keyed("task", **{"x-farthing-task": "fallback"})).status_code == 422


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\u00e9"])
def test_a_key_that_can_be_none_is_a_400(proxy: Proxy, key: str) -> None:
    response = proxy.http.post(
        "/v1/chat/completions", content=b"{}", headers=[("idempotency-key", key.encode("latin-1"))]
    )
    assert response.status_code == 400
    assert proxy.ask(headers=keyed("k" * 255)).status_code == 200


def test_fifty_at_once_are_one_call_and_one_charge(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("drip=0.02")
    before = len(proxy.rows())

    async def ask_all(stream: bool) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=WITHIN_S, limits=httpx.Limits(max_connections=50)) as client:
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
            call = f"{proxy.base_url}/chat/completions"
            asks = (client.post(call, json=body, headers=keyed(f"fifty {stream}")) for _ in range(50))
            return await asyncio.gather(*asks)

    for stream in (False, True):
        responses = asyncio.run(ask_all(stream))
        assert {response.status_code for response in responses} == {200}
        assert len({response.content for response in responses}) == 1
        assert sum(REPLAY in response.headers for response in responses) == 49
    rows = proxy.rows()[before:]
    assert len(rows) == len(provider.calls) == 2
    assert all(row["charged_nusd"] > 0 for row in rows)


def test_a_failure_is_not_kept(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("status=400")
    assert proxy.ask(headers=keyed("failure")).status_code == 400
    provider.faults.always("")
    answered = proxy.ask(headers=keyed("failure"))
    assert answered.status_code == 200
    assert REPLAY not in answered.headers


def test_a_refusal_is_not_kept(proxy: Proxy, provider: SimulatedProvider) -> None:
    refused = proxy.ask(headers=keyed("refusal", **{"x-farthing-budget-usd": "0.000000001"}))
    assert refused.status_code == 402
    answered = proxy.ask(headers=keyed("refusal"))
    assert answered.status_code == 200
    assert REPLAY not in answered.headers


def test_a_stream_that_broke_off_is_not_kept(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.queue("reset=4")
    broken = proxy.ask(stream=True, headers=keyed("broken"))
    assert '"error"' in broken.text
    whole = proxy.ask(stream=True, headers=keyed("broken"))
    assert REPLAY not in whole.headers
    assert whole.text.endswith("data: [DONE]\n\n")


def test_a_caller_who_hung_up_leaves_nothing_and_who_waits_takes_over(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.queue("silence=3", "")
    asked = {"model": "thinker", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    call, headers = "/v1/chat/completions", keyed("gone")
    with ThreadPoolExecutor() as threads:
        with proxy.http.stream("POST", call, json=asked, headers=headers) as first:
            pieces = first.iter_bytes()
            next(pieces)
            second = threads.submit(proxy.http.post, call, json=asked, headers=headers)
            eventually(lambda: proxy.metric("farthing_inflight_requests") == 3, "the second, beside the scrape")
        again = second.result(WITHIN_S)
    assert again.status_code == 200
    assert REPLAY not in again.headers
    assert again.text.endswith("data: [DONE]\n\n")
    assert provider.calls[0].disconnected_at
    assert len(provider.calls) == 2
    outcomes = [row["outcome"] for row in proxy.rows()[-2:]]
    assert outcomes == ["cancelled", "answered"]


def test_a_dry_run_takes_no_key(proxy: Proxy, provider: SimulatedProvider) -> None:
    dry = keyed("dry", **{"x-farthing-dry-run": "true"})
    assert "candidates" in proxy.ask(headers=dry).json()
    answered = proxy.ask(headers=keyed("dry"))
    assert "choices" in answered.json()
    assert REPLAY not in answered.headers


def test_an_answer_too_large_to_keep_is_given_all_the_same() -> None:
    async def large(send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * (MOST_RESULT_BYTES + 1)})

    sent = asyncio.run(_replied(large, times=2))
    assert [len(message.get("body", b"")) for message in sent] == [0, MOST_RESULT_BYTES + 1] * 2


def test_a_first_that_takes_too_long_is_a_409_that_says_when_to_come_back() -> None:
    async def never(send: Send) -> None:
        await asyncio.Event().wait()

    async def both() -> IdempotencyUnderWay:
        once = Once(MemoryResults(time.time), wait_within_s=0.05)
        first = asyncio.create_task(once.reply(Asked("place", b"digest", "1"), _unheard, never))
        await asyncio.sleep(0)
        with pytest.raises(IdempotencyUnderWay) as raised:
            await once.reply(Asked("place", b"digest", "2"), _unheard, never)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return raised.value

    error = asyncio.run(both())
    assert error.retryable
    assert error.retry_after_s == 1.0


@pytest.fixture
def accounts(shared_provider: SimulatedProvider, tmp_path: Path) -> Iterator[Proxy]:
    digests = {name: f"sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in ("first", "second")}
    files = files_for(shared_provider, accounts=ACCOUNTS.format(**digests))
    with running_proxy(tmp_path, files) as running:
        yield running


def test_accounts_do_not_share_keys(accounts: Proxy, provider: SimulatedProvider) -> None:
    def ask(account: str) -> httpx.Response:
        return accounts.ask(f"I am {account}", headers=keyed("shared", authorization=f"Bearer {account}"))

    assert {ask("first").status_code, ask("second").status_code} == {200}
    assert len(provider.calls) == 2
    assert all(REPLAY in ask(account).headers for account in ("first", "second"))


def test_it_can_be_switched_off(
    shared_provider: SimulatedProvider, provider: SimulatedProvider, tmp_path: Path
) -> None:
    with running_proxy(tmp_path, files_for(shared_provider), settings={"idempotency": "off"}) as off:
        answers = [off.ask(headers=keyed("off")) for _ in range(2)]
    assert [REPLAY in answer.headers for answer in answers] == [False, False]
    assert len(provider.calls) == 2


async def _unheard(message: Message) -> None:
    pass


async def _replied(answer: Any, *, times: int) -> list[Message]:
    once = Once(MemoryResults(time.time))
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    for number in range(times):
        await once.reply(Asked("place", b"digest", str(number)), send, answer)
    return sent
