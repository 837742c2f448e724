"""What the wire lane makes of HTTP."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from providers.http1.peer import BODY, CHUNKED, Answer, Peer
from router.errors import AnswerBroken, ProviderDenied, ProviderFailed, ProviderOverloaded, ProviderUnreachable
from router.policy.target import Deadlines, Target
from router.pricing import Price
from router.providers.contract import Call
from router.providers.openai import OpenAIWire
from router.tokens import rules_for

pytestmark = pytest.mark.anyio


def call_to(peer: Peer, *, key: str = "sk-1", body: bytes = BODY) -> Call:
    target = Target(
        "openai", "m", Price.free(), rules_for("openai", "m"), base_url=f"http://127.0.0.1:{peer.origin.port}/v1",
        api_key=key,
    )  # fmt: skip
    return Call("req_1", target, body, Deadlines(connect_s=1, first_byte_s=2, between_bytes_s=2, total_s=5))


@pytest.fixture
async def lane() -> AsyncIterator[OpenAIWire]:
    lane = OpenAIWire()
    yield lane
    await lane.aclose()


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Answer(then="close"), ProviderUnreachable, "closed the connection before it answered"),
        (Answer(b"HTTP/1.1 200 OK\r\nconte", "close"), AnswerBroken, "at the start of its answer"),
        (Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "close"), AnswerBroken, "in the middle"),
        (Answer(b"hello\r\n\r\n"), ProviderFailed, "no valid HTTP answer"),
        (
            Answer(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b"),
            ProviderFailed,
            "compressed its answer, though we asked it not to",
        ),
        (
            Answer(b"HTTP/1.1 429 Slow\r\ncontent-encoding: br\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n\x1f\x8b"),
            ProviderOverloaded,
            "answered 429",
        ),
        (Answer(b"HTTP/1.1 301 Moved\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"), ProviderDenied, "answered 301"),
    ],
)
async def test_each_failure_of_http_is_an_error_of_the_provider(
    lane: OpenAIWire, peer: Peer, answer: Answer, error: type[Exception], said: str
) -> None:
    peer.answers.extend([answer, answer])
    for ask_lane in (lane.whole, lane.stream):
        with pytest.raises(error, match=said):
            await ask_lane(call_to(peer))
    assert len(peer.requests) == 2


async def test_a_stream_ends_at_done_and_its_connection_is_used_again_though_the_last_chunk_comes_later(
    lane: OpenAIWire, peer: Peer
) -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    for _ in range(3):
        peer.answers.append(Answer(CHUNKED + b"%x\r\n%s\r\n" % (len(event), event)))
        stream = await lane.stream(call_to(peer))
        assert [chunk.texts async for chunk in stream] == [{0: "Hi"}]
        await stream.aclose()
        peer.connections[0].transport.write(b"0\r\n\r\n")
        await asyncio.sleep(0.02)
    assert len(peer.connections) == 1


async def test_a_key_that_can_not_be_sent_is_told_of_without_the_key(lane: OpenAIWire, peer: Peer) -> None:
    with pytest.raises(ProviderDenied) as denied:
        await lane.whole(call_to(peer, key="sk-secret\n"))
    assert "Authorization" in denied.value.message
    assert "secret" not in denied.value.message
    assert not peer.connections


async def test_targets_that_edits_took_away_are_forgotten(lane: OpenAIWire) -> None:
    def living() -> int:
        gc.collect()
        return sum(type(each) is Target for each in gc.get_objects())

    async def nobody_answers(number: int) -> None:
        target = Target("openai", "m", Price.free(), rules_for("openai", "m"), base_url="http://127.0.0.1:1/v1")
        with pytest.raises(ProviderUnreachable):
            await lane.whole(Call(f"req_{number}", target, BODY, Deadlines(connect_s=1)))

    before = living()
    for number in range(3_000):
        await nobody_answers(number)
    assert living() - before < 1_100
