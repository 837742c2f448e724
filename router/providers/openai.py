"""The wire lane: targets that speak OpenAI's chat-completions format, bytes in and bytes out.

A cancelled wait closes its connection at once. What an attempt comes to is told by the events, not by the end of the
connection, and every failure of HTTP becomes ours here.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator
from types import MappingProxyType, TracebackType

import msgspec
from msgspec import Raw

from router.errors import (
    AnswerBroken,
    ProviderDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimedOut,
)
from router.policy.target import Target
from router.providers.contract import Answer, AnswerEmpty, Call, Chunk
from router.providers.http1 import (
    AnswerTooLarge,
    Endpoint,
    HttpClient,
    HttpError,
    InvalidEndpoint,
    Response,
)
from router.providers.openai_errors import refusal_of, told_in, unanswered
from router.providers.openai_shapes import Body
from router.providers.sse import EventCutter, EventTooLarge, payload
from router.providers.usage import usage_from
from router.values import Trace, Usage

LARGEST_ANSWER_BYTES = 128 * 1024 * 1024
LARGEST_ERROR_BYTES = 64 * 1024

BASE_URLS = MappingProxyType(
    {
        "openai": "https://api.openai.com/v1",
        "cerebras": "https://api.cerebras.ai/v1",
        "deepinfra": "https://api.deepinfra.com/v1/openai",
        "deepseek": "https://api.deepseek.com/v1",
        "fireworks_ai": "https://api.fireworks.ai/inference/v1",
        "groq": "https://api.groq.com/openai/v1",
        "mistral": "https://api.mistral.ai/v1",
        "ollama": "http://127.0.0.1:11434/v1",
        "openrouter": "https://openrouter.ai/api/v1",
        "perplexity": "https://api.perplexity.ai",
        "sambanova": "https://api.sambanova.ai/v1",
        "together_ai": "https://api.together.xyz/v1",
        "xai": "https://api.x.ai/v1",
    }
)
"""Where the providers that speak OpenAI's format are, as their documentation says (2026-11)."""


_body = msgspec.json.Decoder(Body)


class OpenAIWire:
    """The lane. One instance for each event loop; built inside it."""

    def __init__(self) -> None:
        self._http = HttpClient()

    async def whole(self, call: Call) -> Answer:
        started = time.perf_counter()
        async with _deadline(call.deadlines.total_s, "answer", call):
            response = await self._post(call, call.deadlines.total_s)
            first_byte_s = time.perf_counter() - started
            try:
                raw = await _read(response, LARGEST_ANSWER_BYTES, call.deadlines.between_bytes_s)
            finally:
                response.close()
        body = _completion(raw, call.target)
        said = [choice.message for choice in body.choices if choice.message]
        answer = Answer(
            body=raw,
            usage=usage_from(body.usage, body.service_tier),
            reported_model=body.model,
            texts=tuple(message.text() for message in said),
            finish_reason=next((c.finish_reason for c in body.choices), None),
            first_byte_s=first_byte_s,
        )
        if not body.choices:
            raise AnswerEmpty("The provider's answer holds no choice.", answer)
        return answer

    async def stream(self, call: Call) -> OpenAIStream:
        started = time.perf_counter()
        within_s = min(call.deadlines.first_byte_s, call.deadlines.total_s)
        async with _deadline(within_s, "first event", call):
            response = await self._post(call, within_s)
            try:
                stream = OpenAIStream(response, started, call)
                await stream.open()
            except BaseException:
                response.close()
                raise
        return stream

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _post(self, call: Call, within_s: float) -> Response:
        """Send the request and return the response where its status is 200; the caller sees to it that it is in time.

        Raises:
            ProviderError: everything else; the connection is closed or back in the pool by then.
        """
        endpoint = _endpoint(call.target)
        connect_s = call.deadlines.connecting_s(within_s)
        try:
            response = await self._http.post(endpoint, call.body, connect_s=connect_s, headers=_trace_lines(call.trace))
        except HttpError as error:
            raise unanswered(error, call.target) from error
        is_readable = response.header("content-encoding") in (None, "identity")
        if response.status == 200 and is_readable:
            return response
        try:
            raw = await _read(response, LARGEST_ERROR_BYTES, call.deadlines.between_bytes_s) if is_readable else b""
        except ProviderError:
            raw = b""
        finally:
            response.close()
        if response.status == 200:
            raise ProviderFailed(f"{call.target.name} compressed its answer, though we asked it not to.")
        raise refusal_of(response.status, response.header("retry-after"), raw, call.target)


class OpenAIStream:
    """One streamed answer; see `AnswerStream` for what it promises."""

    def __init__(self, response: Response, started: float, call: Call) -> None:
        self.first_byte_s = 0.0
        self._response = response
        self._started = started
        self._deadlines = call.deadlines
        self._target = call.target
        self._cutter = EventCutter()
        self._first: Chunk | None = None
        self._failure: ProviderError | None = None
        self._begun = self._finished = self._done = False

    async def open(self) -> None:
        """Wait for the first event."""
        while self._first is None:
            self._first = await self._read_chunk()
        self.first_byte_s = time.perf_counter() - self._started

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if (first := self._first) is not None:
            self._first = None
            return first
        if self._done:
            raise StopAsyncIteration
        left_s = self._started + self._deadlines.total_s - time.perf_counter()
        try:
            async with asyncio.timeout(min(self._deadlines.between_bytes_s, left_s)):
                while (chunk := await self._read_chunk()) is None:
                    pass
        except TimeoutError as error:
            await self.aclose()
            what = "in all" if left_s < self._deadlines.between_bytes_s else "between two events"
            raise ProviderTimedOut(f"The stream was ended: it took too long {what}.") from error
        if self._done and not (chunk.raw or chunk.usage):
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._done = True
        self._response.close()

    async def _read_chunk(self) -> Chunk | None:
        """Read once from the network; None where no whole event came of it. Sets `_done` at the stream's proper end."""
        if self._failure is not None:
            raise self._failure
        try:
            data = await self._response.chunk()
            events = self._cutter.feed(data)
        except EventTooLarge as error:
            raise AnswerBroken("The stream sent an event without an end.") from error
        except HttpError as error:
            raise AnswerBroken("The connection ended in the middle of the answer.") from error
        if not data and not events:
            return self._at_end()
        return self._chunk(events) if events else None

    def _at_end(self) -> Chunk:
        """The connection ended without [DONE]: proper only where every choice had finished."""
        rest = self._cutter.finish()
        chunk = self._chunk([rest.rstrip(b"\r\n") + b"\n\n"]) if rest else Chunk(b"")
        if not self._finished:
            raise AnswerBroken("The connection ended in the middle of the answer.")
        self._done = True
        self._response.close()
        return chunk

    def _event_body(self, data: bytes) -> Body:
        try:
            body = _body.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise AnswerBroken("The stream sent an event that is not a chat completion chunk.") from error
        if _is_set(body.error):
            said = f"The provider ended the stream with an error{told_in(data, self._target)}"
            raise AnswerBroken(said) if self._begun else ProviderFailed(said)
        self._begun = True
        return body

    def _chunk(self, events: list[bytes]) -> Chunk:
        passed: list[bytes] = []
        texts: dict[int, str] = {}
        usage: Usage | None = None
        usage_event = b""
        last: Body | None = None
        finish_reason: str | None = None
        for event in events:
            data = payload(event)
            if not data:
                passed.append(event)
                continue
            if data == b"[DONE]":
                self._done = self._finished = True
                self._response.release()
                break
            try:
                last = body = self._event_body(data)
            except ProviderError as error:
                if not passed:
                    raise
                # What came before it in the same read is still good, and is passed on first.
                self._failure = error
                break
            if (reported := usage_from(body.usage, body.service_tier)) is not None:
                usage, usage_event = reported, b"" if body.choices else event
                if not body.choices:
                    continue
            for choice in body.choices:
                if choice.delta is not None and (said := choice.delta.text()):
                    index = choice.index if isinstance(choice.index, int) else 0
                    texts[index] = texts[index] + said if index in texts else said
                    if reported is None:
                        usage, usage_event = None, b""
                if choice.finish_reason is not None:
                    finish_reason, self._finished = choice.finish_reason, True
            passed.append(event)
        return Chunk(
            raw=b"".join(passed),
            texts=texts,
            usage=usage,
            usage_event=usage_event,
            reported_model=last.model if last else None,
            finish_reason=finish_reason,
            id=last.id if last else None,
            created=last.created if last else None,
        )


@functools.lru_cache(maxsize=1024)
def _endpoint(target: Target) -> Endpoint:
    """Return where a target's requests go; not kept for good, for each edit of the policies makes all targets anew.

    Raises:
        ProviderDenied: it can't be called as it is configured.
    """
    base = target.base_url or BASE_URLS.get(target.provider)
    if base is None:
        raise ProviderDenied(f"{target.name} has no base_url, and we know none for '{target.provider}'.")
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "farthing"}
    if target.api_key and target.provider == "azure":
        headers["api-key"] = target.api_key
    elif target.api_key:
        headers["Authorization"] = f"Bearer {target.api_key}"
    path, mark, query = base.partition("?")
    try:
        return Endpoint.at(f"{path.rstrip('/')}/chat/completions{mark}{query}", headers)
    except InvalidEndpoint as error:
        raise ProviderDenied(f"{target.name} can't be called as it is configured. {error}") from error


def _trace_lines(trace: Trace | None) -> bytes:
    if trace is None:
        return b""
    return "".join(f"{name}: {value}\r\n" for name, value in trace.headers().items()).encode("ascii")


def _is_set(member: Raw) -> bool:
    return bytes(member) not in (b"", b"null")


def _completion(raw: bytes, target: Target) -> Body:
    try:
        body = _body.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerBroken("The provider's answer is not a chat completion.") from error
    if _is_set(body.error) and not body.choices:
        raise ProviderFailed(f"The provider answered 200 with an error{told_in(raw, target)}")
    return body


async def _read(response: Response, most_bytes: int, between_bytes_s: float) -> bytes:
    """Read a body whole.

    Raises:
        AnswerBroken: the connection ended early, or the body is larger than `most_bytes`.
        ProviderTimedOut: nothing came for `between_bytes_s`.
    """
    try:
        return await response.read(most_bytes, between_s=between_bytes_s)
    except TimeoutError as error:
        raise ProviderTimedOut("The answer was ended: it took too long between two pieces.") from error
    except AnswerTooLarge as error:
        raise AnswerBroken(f"The answer is larger than {most_bytes} bytes.") from error
    except HttpError as error:
        raise AnswerBroken("The connection ended in the middle of the answer.") from error


class _deadline:  # noqa: N801  reads as the verb it is
    """`asyncio.timeout` whose passing is a ProviderTimedOut."""

    __slots__ = ("_call", "_timeout", "_what")

    def __init__(self, seconds: float, what: str, call: Call) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._what = what
        self._call = call

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as passed:
            raise ProviderTimedOut(f"{self._call.target.name} gave no {self._what} in time.") from passed
