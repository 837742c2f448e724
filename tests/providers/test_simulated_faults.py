"""Every fault that a simulated provider can be asked for, as it arrives on the socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.providers.simulated import Fault, SimulatedProvider, parse_fault

pytestmark = pytest.mark.anyio


def ask(fault: str | None, **members: Any) -> dict[str, Any]:
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 30,
        **members,
    }
    return body if fault is None else {**body, "metadata": {"simulate": fault}}


def post(session: aiohttp.ClientSession, provider: SimulatedProvider, fault: str | None, **members: Any) -> Any:
    url = f"{provider.base_url}/chat/completions"
    return session.post(url, json=ask(fault, **members), allow_redirects=False)


async def raw_bytes(provider: SimulatedProvider, body: dict[str, Any]) -> tuple[list[bytes], bytes]:
    """Return each read of the answer's socket, and all of them together."""
    content = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    writer.write(head.format(len(content)).encode() + content)
    reads = []
    while read := await reader.read(65_536):
        reads.append(read)
    writer.close()
    await writer.wait_closed()
    return reads, b"".join(reads)


async def read_until_error(response: aiohttp.ClientResponse) -> tuple[bytes, Exception]:
    """Return what came of the body before it broke off, or before nothing came for a while."""
    got = b""
    while True:
        try:
            read = await asyncio.wait_for(response.content.readany(), 0.2)
        except (aiohttp.ClientError, TimeoutError) as error:
            return got, error
        assert read, "the body ended properly"
        got += read


STATUSES = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", STATUSES)
async def test_any_status_can_be_asked_for(session, provider, status: int, stream: bool) -> None:
    async with post(session, provider, f"status={status} retry-after=7", stream=stream) as response:
        assert response.status == status
        assert response.headers["retry-after"] == "7"
        assert set((await response.json())["error"]) == {"message", "type", "param", "code"}


async def test_a_code_and_a_date_can_be_asked_for(session, provider) -> None:
    async with post(session, provider, "status=429 code=insufficient_quota retry-after=date+30") as response:
        assert (await response.json())["error"]["code"] == "insufficient_quota"
        wait = parsedate_to_datetime(response.headers["retry-after"]) - datetime.now(UTC)
        assert 25 < wait.total_seconds() <= 30


async def test_an_error_can_be_a_web_page(session, provider) -> None:
    async with post(session, provider, "status=502 html") as response:
        assert response.content_type == "text/html"
        assert "<html>" in await response.text()


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v1/messages", {"type": "overloaded_error", "message": "Overloaded"}),
        (
            "/v1beta/models/gemini-2.5-pro:generateContent",
            {"code": 529, "message": "Overloaded", "status": "UNKNOWN"},
        ),
    ],
)
async def test_each_wire_words_its_errors(session, provider, path: str, wanted: dict[str, Any]) -> None:
    async with session.post(provider.root_url + path, json={}, headers={"x-simulate": "status=529"}) as response:
        assert response.status == 529
        assert (await response.json())["error"] == wanted


@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_is_reset_before_the_first_byte(session, provider, stream: bool) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        async with post(session, provider, "reset", stream=stream):
            pass
    assert provider.calls[-1].disconnected_at is None


async def test_a_stream_is_reset_after_so_many_events(session, provider) -> None:
    async with post(session, provider, "reset=4", stream=True) as response:
        got, error = await read_until_error(response)
    assert isinstance(error, aiohttp.ClientError)
    assert got.count(b"\n\n") == 4
    assert provider.calls[-1].chunks_sent == 4


async def test_a_whole_answer_is_reset_in_its_middle(session, provider) -> None:
    async with post(session, provider, "reset=2") as response:
        assert response.status == 200
        got, error = await read_until_error(response)
    assert isinstance(error, aiohttp.ClientError)
    assert len(got) == 128


@pytest.mark.parametrize("fault", ["reset=0 early-headers", "reset=999"])
async def test_a_reset_strikes_after_the_headers_and_before_the_end(session, provider, fault: str) -> None:
    async with post(session, provider, fault, stream=True) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await response.read()


@pytest.mark.parametrize("stream", [True, False])
async def test_silence_lasts_until_the_caller_hangs_up(session, provider, stream: bool) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(post(session, provider, "silence", stream=stream), 0.1)
    (call,) = provider.calls
    await asyncio.wait_for(call.ended.wait(), 5)
    assert call.disconnected_at is not None
    assert call.disconnected_at - call.at >= 0.09


@pytest.mark.parametrize(("fault", "events"), [("silence=3", 3), ("silence=0 early-headers", 0)])
async def test_a_stream_falls_silent_after_so_many_events(session, provider, fault: str, events: int) -> None:
    async with post(session, provider, fault, stream=True) as response:
        got, error = await read_until_error(response)
    assert isinstance(error, TimeoutError)
    assert got.count(b"\n\n") == events


async def test_a_provider_with_silent_callers_closes_at_once(session) -> None:
    async with SimulatedProvider() as provider:
        waiting = asyncio.ensure_future(post(session, provider, "silence"))
        while not provider.calls:
            await asyncio.sleep(0)
        started = time.perf_counter()
    assert time.perf_counter() - started < 1
    with pytest.raises(aiohttp.ClientError):
        await waiting


async def test_a_slow_drip_takes_its_time(session, provider) -> None:
    started = time.perf_counter()
    async with post(session, provider, "drip=0.01", stream=True, max_tokens=10) as response:
        await response.read()
    assert time.perf_counter() - started >= 0.13


async def test_a_whole_body_can_be_malformed(session, provider) -> None:
    async with post(session, provider, "malformed") as response:
        body = await response.read()
    assert response.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_one_event_of_a_stream_can_be_malformed(session, provider) -> None:
    async with post(session, provider, "malformed=2", stream=True) as response:
        events = (await response.text()).split("\n\n")
    assert json.loads(events[1].removeprefix("data: "))
    with pytest.raises(json.JSONDecodeError):
        json.loads(events[2].removeprefix("data: "))
    assert json.loads(events[3].removeprefix("data: "))


async def test_a_stream_can_end_in_an_error_event(session, provider) -> None:
    async with post(session, provider, "error=2", stream=True) as response:
        events = (await response.text()).removesuffix("\n\n").split("\n\n")
    assert len(events) == 3
    assert json.loads(events[2].removeprefix("data: "))["error"]["type"] == "server_error"


async def test_usage_can_be_missing(session, provider) -> None:
    async with post(session, provider, "no-usage") as response:
        assert "usage" not in await response.json()
    options = {"include_usage": True}
    async with post(session, provider, "no-usage", stream=True, stream_options=options) as response:
        assert "prompt_tokens" not in await response.text()


async def test_usage_can_lie(session, provider) -> None:
    async with post(session, provider, None) as response:
        real = (await response.json())["usage"]
    async with post(session, provider, "usage-factor=3") as response:
        told = (await response.json())["usage"]
    assert told["completion_tokens"] == 3 * real["completion_tokens"]
    assert told["prompt_tokens"] == 3 * real["prompt_tokens"]


@pytest.mark.parametrize("limit", [1, 30, 400])
async def test_a_limit_can_be_ignored(session, provider, limit: int) -> None:
    async with post(session, provider, "ignore-limit", max_tokens=limit) as response:
        answer = await response.json()
    assert answer["usage"]["completion_tokens"] >= 2 * limit
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_a_redirect_an_empty_body_and_huge_headers_can_be_asked_for(session, provider) -> None:
    async with post(session, provider, "redirect=http://127.0.0.1:9/x") as response:
        assert (response.status, response.headers["location"]) == (307, "http://127.0.0.1:9/x")
    async with post(session, provider, "empty") as response:
        assert (response.status, await response.read()) == (200, b"")
    _, answer = await raw_bytes(provider, ask("huge-headers"))
    assert len(answer.partition(b"\r\n\r\n")[0]) > 200_000


async def test_a_stream_can_end_without_done(session, provider) -> None:
    async with post(session, provider, "no-done", stream=True) as response:
        text = await response.text()
    assert "[DONE]" not in text
    assert '"finish_reason":"length"' in text


async def test_pieces_split_lines_and_characters_and_lose_nothing(session, provider) -> None:
    members = {"stream": True, "max_tokens": 400, "seed": 3}
    async with post(session, provider, None, **members) as response:
        plain = await response.text()
    async with post(session, provider, "pieces=3", **members) as response:
        cut = await response.text()
    reads, _ = await raw_bytes(provider, ask("pieces=3", **members))

    def said(text: str) -> list[Any]:
        return [json.loads(event[6:])["choices"] for event in text.split("\n\n")[:-2]]

    assert said(cut) == said(plain)
    assert not plain.isascii()
    assert len(reads) > 1_000
    assert any(not read.rpartition(b"\n")[2].startswith(b"data") for read in reads)


async def test_lines_can_end_in_crlf_and_comments_stand_between_events(session, provider) -> None:
    async with post(session, provider, "crlf comments", stream=True) as response:
        body = await response.read()
    assert body.count(b"\n") == body.count(b"\r\n")
    events = body.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n")
    assert events[0::2] == [b": keep-alive"] * len(events[0::2])
    assert all(event.startswith(b"data: ") for event in events[1::2])
    assert events[-1] == b"data: [DONE]"


async def test_an_unknown_fault_is_a_400_that_lists_what_there_is(session, provider) -> None:
    for words in ("rest=3", "status=many", 'retry-after="'):
        async with post(session, provider, words) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "metadata.simulate"


async def test_faults_are_queued_by_model_and_strike_once(session, provider) -> None:
    provider.faults.queue("status=429", "", Fault(status=500), model="gpt-4o-mini")
    provider.faults.queue("status=503", model="other")
    provider.faults.queue("status=404")
    got = []
    for _ in range(5):
        async with post(session, provider, None) as response:
            got.append(response.status)
    assert got == [429, 200, 500, 404, 200]
    async with post(session, provider, None, model="other") as response:
        assert response.status == 503


async def test_a_standing_fault_strikes_until_it_is_lifted(session, provider) -> None:
    provider.faults.always("status=500", model="gpt-4o-mini")
    provider.faults.queue("status=429")
    got = []
    for _ in range(3):
        async with post(session, provider, None) as response:
            got.append(response.status)
    provider.faults.always("", model="gpt-4o-mini")
    async with post(session, provider, None) as response:
        got.append(response.status)
    assert got == [429, 500, 500, 200]


async def test_a_request_that_names_its_own_fault_leaves_the_queue_alone(session, provider) -> None:
    provider.faults.queue("status=500")
    async with post(session, provider, "status=418") as response:
        assert response.status == 418
    async with post(session, provider, None) as response:
        assert response.status == 500


@given(st.text(alphabet="resetstatus=0123456789 -\"'drip.+", max_size=40))
def test_words_are_read_or_refused_and_nothing_else(words: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_fault(words), Fault)
