"""How calls by litellm's lane fail: each fault as its own error, in time, with no key in its words."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from providers.litellm_calls import FAMILIES, KEY, MODELS, call, open_lane, streamed, target, tells, whole
from router.errors import (
    AnswerBroken,
    ProviderDenied,
    ProviderError,
    ProviderFailed,
    ProviderOverloaded,
    ProviderRefused,
    ProviderTimedOut,
    ProviderUnreachable,
)
from router.policy.target import Deadlines
from router.providers.contract import Chunk
from router.providers.simulated import SimulatedProvider, Simulation

FAULTS: list[tuple[str, type[ProviderError], int | None]] = [
    ("status=400", ProviderRefused, 400),
    ("status=413", ProviderRefused, 413),
    ("status=401", ProviderDenied, 401),
    ("status=403", ProviderDenied, 403),
    ("status=404", ProviderDenied, 404),
    ("status=429 retry-after=7", ProviderOverloaded, 429),
    ("status=529", ProviderOverloaded, 529),
    ("status=500", ProviderFailed, 500),
    ("status=502 html", ProviderFailed, 502),
    ("status=503", ProviderOverloaded, 503),
    ("status=503 html", ProviderFailed, 503),
    ("redirect", ProviderFailed, 307),
    ("reset", AnswerBroken, None),
    ("empty", AnswerBroken, None),
]


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("fault", "expected", "status"), FAULTS, ids=[fault[0] for fault in FAULTS])
async def test_each_fault_is_its_own_error_and_is_not_retried(
    family: str, streaming: bool, fault: str, expected: type[ProviderError], status: int | None
) -> None:
    async with SimulatedProvider() as provider:
        provider.faults.always(fault)
        with pytest.raises(ProviderError) as raised:
            await (streamed if streaming else whole)(target(family, provider))
        assert len(provider.calls) == 1
    assert type(raised.value) is expected
    assert raised.value.status == status
    assert raised.value.retry_after_s == (7.0 if "retry-after" in fault else None)
    assert KEY not in raised.value.message


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("fault", ["malformed", "reset=1", "early-headers reset"])
async def test_a_whole_answer_that_breaks_off_is_broken(family: str, fault: str) -> None:
    async with SimulatedProvider() as provider:
        provider.faults.always(fault)
        with pytest.raises(AnswerBroken):
            await whole(target(family, provider))
        assert len(provider.calls) == 1


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize(
    ("fault", "expected"),
    [("reset=5", AnswerBroken), ("malformed=5", AnswerBroken), ("error=5", ProviderFailed)],
)
async def test_a_stream_that_fails_in_its_middle_gives_what_came_and_the_cause(
    family: str, fault: str, expected: type[ProviderError]
) -> None:
    got: list[Chunk] = []
    async with SimulatedProvider(tells("It is on its way. " * 100)) as provider, open_lane() as lane:
        provider.faults.always(fault)
        stream = await lane.stream(call(target(family, provider), max_tokens=2_000))
        with pytest.raises(expected):  # noqa: PT012 - what came before it is looked at
            async for chunk in stream:
                got.append(chunk)  # noqa: PERF401
        assert len(provider.calls) == 1
    assert "".join(chunk.texts.get(0, "") for chunk in got)
    assert [chunk.finish_reason for chunk in got if chunk.finish_reason] == []


@pytest.mark.anyio
async def test_a_stream_that_ends_without_a_reason_is_broken_not_finished() -> None:
    async with SimulatedProvider(tells("It is on its way. " * 100)) as provider:
        provider.faults.always("no-done")
        with pytest.raises(AnswerBroken):
            await streamed(target("gemini", provider), max_tokens=2_000)


@pytest.mark.anyio
@FAMILIES
async def test_an_error_in_place_of_the_first_event_can_be_tried_again(family: str) -> None:
    async with SimulatedProvider() as provider:
        provider.faults.always("error=0")
        with pytest.raises(ProviderOverloaded):
            await streamed(target(family, provider))


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("fault", ["pieces=7", "crlf", "comments", "crlf pieces=1"])
async def test_events_may_come_in_any_pieces(family: str, fault: str) -> None:
    async with SimulatedProvider(tells("Où est mon colis ?")) as provider:
        provider.faults.always(fault)
        chunks = await streamed(target(family, provider))
    assert "".join(chunk.texts.get(0, "") for chunk in chunks) == "Où est mon colis ?"
    assert chunks[-1].usage is not None


@pytest.mark.anyio
async def test_a_prompt_that_is_too_long_says_so() -> None:
    def refuse(*_: object) -> None:
        return None

    limits = {MODELS["anthropic"]: 20}
    async with SimulatedProvider(Simulation(context_tokens_by_model=limits, answerer=refuse)) as provider:
        with pytest.raises(ProviderRefused) as raised:
            await whole(target("anthropic", provider), messages=[{"role": "user", "content": "word " * 900}])
    assert raised.value.too_long


@pytest.mark.anyio
async def test_what_a_provider_says_of_the_request_is_told_without_a_key() -> None:
    import httpx

    from router.providers.litellm_errors import provider_error
    from router.providers.litellm_exchange import Exchange

    async with SimulatedProvider() as provider:
        to = target("anthropic", provider)
    exchange = Exchange(httpx.AsyncHTTPTransport(), Deadlines(), to.name)
    exchange.status = 400
    words = f"bad tool in {KEY}, AIzaSyA1234567, api_key=hunter2 and Bearer abc.def"
    exchange.error_body = json.dumps({"error": {"message": words}}).encode()
    told = provider_error(ValueError(), exchange, to).message
    assert "bad tool" in told
    assert not [secret for secret in (KEY, "AIzaSyA", "hunter2", "abc.def") if secret in told]


@pytest.mark.anyio
@FAMILIES
async def test_no_connection_is_unreachable(family: str) -> None:
    async with SimulatedProvider() as provider:
        to = target(family, provider)
    for ask in (whole, streamed):
        with pytest.raises(ProviderUnreachable):
            await ask(to)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "deadlines", [Deadlines(connect_s=0.2), Deadlines(first_byte_s=0.5), Deadlines(total_s=0.5)], ids=repr
)
async def test_an_address_that_never_answers_is_unreachable_in_time(deadlines: Deadlines) -> None:
    import socket

    # A full backlog drops what comes next, so that connecting never ends.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.socket() as first,
        socket.socket() as second,
    ):
        for taker in (first, second):
            taker.setblocking(False)
            taker.connect_ex(full.getsockname())
        async with SimulatedProvider() as provider:
            to = target("anthropic", provider, base_url=f"http://127.0.0.1:{full.getsockname()[1]}")
        with pytest.raises(ProviderUnreachable):
            await whole(to, deadlines)


@pytest.mark.anyio
@FAMILIES
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("fault", "deadlines"),
    [
        ("silence", Deadlines(first_byte_s=0.2)),
        ("early-headers silence", Deadlines(first_byte_s=0.2)),
        ("silence=2", Deadlines(between_bytes_s=0.2)),
        ("silence", Deadlines(total_s=0.3)),
        ("drip=0.05 pieces=20", Deadlines(total_s=0.3)),
    ],
    ids=["first byte", "first byte after headers", "between bytes", "total", "total of a trickle"],
)
async def test_each_deadline_ends_a_call(family: str, streaming: bool, fault: str, deadlines: Deadlines) -> None:
    async with SimulatedProvider(tells("It is on its way. " * 100)) as provider:
        provider.faults.always(fault)
        began = time.perf_counter()
        with pytest.raises(ProviderTimedOut):
            await (streamed if streaming else whole)(target(family, provider), deadlines, max_tokens=2_000)
        assert time.perf_counter() - began < 2
        await asyncio.wait_for(provider.calls[-1].ended.wait(), 2)
        assert provider.calls[-1].disconnected_at is not None


@pytest.mark.anyio
@pytest.mark.parametrize("family", ["anthropic", "gemini"])
async def test_a_missing_key_is_denied(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with SimulatedProvider(Simulation(api_key=KEY)) as provider:
        with pytest.raises(ProviderDenied):
            await whole(target(family, provider, api_key=None))
        with pytest.raises(ProviderDenied):
            await whole(target(family, provider, api_key="sk-a-wrong-one"))
