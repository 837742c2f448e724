"""The simulated providers on a socket: OpenAI's, Anthropic's and Gemini's formats, with faults on request.

They answer as the real ones do; what is asked for with `simulate` words goes wrong on purpose. Never bound to
anything but loopback. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote

import msgspec
from aiohttp import web
from msgspec import structs

from router.providers.child import LOOPBACK
from router.providers.simulated.address import Address
from router.providers.simulated.anthropic import Anthropic
from router.providers.simulated.compose import Composer
from router.providers.simulated.fault import NO_FAULT, Fault, Faults, parse_fault
from router.providers.simulated.gemini import Gemini
from router.providers.simulated.openai import OpenAI
from router.providers.simulated.question import Beat, Question, Rejection, Reply, Simulation, Wire
from router.values import Usage

LARGEST_BODY_BYTES = 64 * 1024 * 1024

LONGEST_OVERRUN = 100_000
"""Tokens of an answer that ignores its limit."""

SHUTDOWN_S = 0.05
"""How long answers under way are given at the end. Not 0, which aiohttp takes for no limit."""

WHOLE_PIECE_BYTES = 64
"""A whole answer goes out in pieces of this size where a fault is to strike in its middle."""

LONG_BODY_BYTES = 100_000
"""Past this, counting leaves the event loop."""

OPENAI, ANTHROPIC, GEMINI = OpenAI(), Anthropic(), Gemini()

MESSAGES: Mapping[int, str] = {
    400: "The request is invalid.",
    401: "Incorrect API key provided.",
    403: "You are not allowed to use this model.",
    404: "The model does not exist or you do not have access to it.",
    408: "The request timed out.",
    409: "The request conflicts with another one.",
    413: "The request is too large.",
    429: "Rate limit reached for requests. Please try again later.",
    500: "The server had an error while processing your request. Sorry about that!",
    502: "Bad gateway.",
    503: "The engine is currently overloaded, please try again later.",
    504: "Gateway timeout.",
    529: "Overloaded",
}


@dataclass(slots=True)
class ReceivedCall:
    """One request as it came, and how it ended. Moments are those of `time.perf_counter`."""

    path: str
    headers: Mapping[str, str]
    """Lower-case names."""
    raw: bytes
    at: float
    body: Any = None
    """The decoded JSON; None where it is none."""
    chunks_sent: int = 0
    """Events of a stream that were written, or pieces of a whole answer."""
    disconnected_at: float | None = None
    """When the caller closed its socket before it had the whole answer."""
    ended_at: float | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class SimulatedProvider(Address):
    """Three providers on one port: `async with SimulatedProvider() as provider: provider.base_url`.

    `faults` strikes calls by model; `calls` holds what was received, the newest last, and forgets the oldest.
    """

    def __init__(self, simulation: Simulation | None = None, listening: socket.socket | None = None) -> None:
        self._simulation: Final = simulation or Simulation()
        self._composer = Composer(self._simulation)
        self._listening = listening or socket.create_server((LOOPBACK, self._simulation.port))
        self._runner: web.AppRunner | None = None
        self._closing = False
        self.port = self._listening.getsockname()[1]
        self.faults = Faults()
        self.calls: deque[ReceivedCall] = deque(maxlen=self._simulation.calls_kept)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=LARGEST_BODY_BYTES)
        app.router.add_post("/v1/chat/completions", self._chat_completions)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1beta/models/{model}:{action}", self._generate_content)
        app.router.add_get("/v1/models", self._list_models)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        if self._runner is not None:
            await self._runner.cleanup()
        self._listening.close()

    def warm(self) -> None:
        """Load what the first answer would otherwise wait for; may run in a thread."""
        self._composer.warm()

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        return await self._receive(request, OPENAI, request.headers.get("authorization", "")[len("Bearer ") :])

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._receive(request, ANTHROPIC, request.headers.get("x-api-key", ""))

    async def _generate_content(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("x-goog-api-key") or request.query.get("key", "")
        return await self._receive(request, GEMINI, key)

    async def _list_models(self, request: web.Request) -> web.Response:
        names = sorted(self._simulation.models or ("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini"))
        data = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "simulated"} for name in names]
        return _json_response(200, msgspec.json.encode({"object": "list", "data": data}))

    async def _receive(self, request: web.Request, wire: Wire, key: str) -> web.StreamResponse:
        """Write the call down, answer it, and write down how it ended."""
        at = time.perf_counter()
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = ReceivedCall(unquote(request.path_qs), headers, raw, at, _decoded(raw))
        self.calls.append(call)
        try:
            return await self._answer(request, wire, key, call)
        except (asyncio.CancelledError, ConnectionResetError) as error:
            if not self._closing and call.disconnected_at is None:
                call.disconnected_at = time.perf_counter()
            if isinstance(error, ConnectionResetError):
                return web.Response()
            raise
        finally:
            call.ended_at = time.perf_counter()
            call.ended.set()

    async def _answer(self, request: web.Request, wire: Wire, key: str, call: ReceivedCall) -> web.StreamResponse:
        model = request.match_info.get("model") or _member(call.body, "model")
        try:
            fault = self._fault(call, model)
        except ValueError as error:
            return _refusal(wire, Rejection(400, str(error), param="metadata.simulate"), NO_FAULT)
        if self._simulation.api_key is not None and key != self._simulation.api_key:
            return _refusal(wire, Rejection(401, MESSAGES[401]), fault)
        if fault.reset_after == 0 and not fault.early_headers:
            return await _reset(request)
        if fault.silence_after == 0 and not fault.early_headers:
            await _forever()
        if (broken := _broken_whole(fault, wire)) is not None:
            return broken
        question = wire.read(call.raw, model, request.match_info.get("action", ""))
        if isinstance(question, Question):
            reply = await self._reply(question, fault, len(call.raw))
            if isinstance(reply, Reply):
                return await self._play(request, wire, reply, fault, call)
            question = reply
        return _refusal(wire, question, fault)

    def _fault(self, call: ReceivedCall, model: str) -> Fault:
        """Return the fault that the request asks for itself, else the next one set for its model."""
        words = call.headers.get("x-simulate")
        if words is None and isinstance(call.body, dict) and isinstance(call.body.get("metadata"), dict):
            words = call.body["metadata"].get("simulate")
        return parse_fault(words) if isinstance(words, str) else self.faults.take(model)

    async def _reply(self, question: Question, fault: Fault, body_bytes: int) -> Reply | Rejection:
        known = self._simulation.models
        if known is not None and question.model not in known:
            message = f"The model `{question.model}` does not exist or you do not have access to it."
            return Rejection(404, message, code=None)
        if fault.ignore_limit and question.limit is not None:
            question = replace(question, limit=None, at_least=min(2 * question.limit, LONGEST_OVERRUN) + 16)
        if body_bytes > LONG_BODY_BYTES:
            reply = await asyncio.to_thread(self._composer.compose, question)
        else:
            reply = self._composer.compose(question)
        if isinstance(reply, Rejection):
            return reply
        return replace(reply, usage=_told(reply.usage, fault))

    async def _play(
        self, request: web.Request, wire: Wire, reply: Reply, fault: Fault, call: ReceivedCall
    ) -> web.StreamResponse:
        """Send the answer at the model's pace, and let the fault strike when its time has come."""
        pace, stream = self._simulation.pace, reply.question.stream
        response = web.StreamResponse(headers=_headers(reply, fault))
        response.content_type = "text/event-stream" if stream else "application/json"
        if stream:
            response.charset = "utf-8"
            beats = list(wire.events(reply, self._simulation.chunk_tokens))
            first = 0
        else:
            beats, body_bytes = _whole_beats(wire.whole(reply), reply, fault)
            response.content_length = body_bytes
            first = beats[-1].tokens
        if fault.early_headers:
            await response.prepare(request)
        await _until(call.at + pace.due_s(first))
        if not fault.early_headers:
            await response.prepare(request)
        if fault.no_done and stream:
            beats.pop()
        strikes = _strikes(fault, len(beats))
        for place, beat in enumerate(beats):
            await _until(call.at + pace.due_s(beat.tokens))
            match strikes.get(place):
                case "reset":
                    return await _reset(request)
                case "silence":
                    await _forever()
                case "error" if stream:
                    await response.write(wire.error_event())
                    break
                case "malformed" if stream:
                    beat = Beat(beat.raw[: len(beat.raw) * 2 // 3].rstrip() + b"\n\n", beat.tokens)  # noqa: PLW2901
            for piece in _pieces(beat.raw, fault, stream=stream):
                await response.write(piece)
                await asyncio.sleep(fault.drip_s)
            call.chunks_sent += 1
        await response.write_eof()
        return response


def _told(usage: Usage | None, fault: Fault) -> Usage | None:
    """Return the usage as it is reported."""
    if usage is None or fault.no_usage:
        return None
    if fault.usage_factor == 1.0:
        return usage
    factor = fault.usage_factor
    return structs.replace(
        usage,
        input_tokens=round(usage.input_tokens * factor),
        output_tokens=round(usage.output_tokens * factor),
        cached_tokens=round(usage.cached_tokens * factor),
        reasoning_tokens=round(usage.reasoning_tokens * factor),
    )


def _broken_whole(fault: Fault, wire: Wire) -> web.Response | None:
    """Return the answer that a fault gives in place of any other; None where it gives none."""
    if fault.status is not None:
        message = MESSAGES.get(fault.status, "Something went wrong.")
        return _refusal(wire, Rejection(fault.status, message, fault.code), fault)
    if fault.redirect is not None:
        return web.Response(status=307, headers={"location": fault.redirect})
    if fault.empty:
        return _json_response(200, b"")
    return None


def _refusal(wire: Wire, rejection: Rejection, fault: Fault) -> web.Response:
    headers = {"x-request-id": "req_simulated"}
    if (wait := fault.retry_after_header()) is not None:
        headers["retry-after"] = wait
    if fault.html:
        page = f"<html><head><title>{rejection.status}</title></head><body>{rejection.message}</body></html>"
        return web.Response(status=rejection.status, text=page, content_type="text/html", headers=headers)
    return _json_response(rejection.status, wire.error(rejection), headers)


def _json_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _headers(reply: Reply, fault: Fault) -> dict[str, str]:
    headers = {
        "x-request-id": f"req_{reply.id}",
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
    }
    if fault.huge_headers:
        headers["x-padding"] = "x" * 200_000
    return headers


def _whole_beats(body: bytes, reply: Reply, fault: Fault) -> tuple[list[Beat], int]:
    """Return a whole answer as beats, and its length; in many pieces only where a fault needs them."""
    if fault.malformed_after is not None:
        body = body[: len(body) // 2]
    tokens = max(choice.output_tokens for choice in reply.choices)
    cut = fault.reset_after is not None or fault.silence_after is not None
    step = WHOLE_PIECE_BYTES if cut or fault.drip_s else len(body)
    return [Beat(body[start : start + step], tokens) for start in range(0, len(body), step)], len(body)


def _strikes(fault: Fault, beats: int) -> dict[int, str]:
    """Return before which beat which fault strikes; the last one at the latest."""
    asked = {
        "malformed": fault.malformed_after,
        "error": fault.error_after,
        "silence": fault.silence_after,
        "reset": fault.reset_after,
    }
    return {min(after, beats - 1): name for name, after in asked.items() if after is not None}


def _pieces(raw: bytes, fault: Fault, *, stream: bool) -> Iterator[bytes]:
    """Cut an event into what is written at once, with the line ends and comments that are asked for."""
    if stream and fault.comments:
        raw = b": keep-alive\n\n" + raw
    if stream and fault.crlf:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    step = fault.piece_bytes or len(raw)
    for start in range(0, len(raw), step):
        yield raw[start : start + step]


async def _until(moment: float) -> None:
    if (wait := moment - time.perf_counter()) > 0:
        await asyncio.sleep(wait)


async def _forever() -> None:
    """Wait until the caller hangs up, which cancels what waits here."""
    await asyncio.Event().wait()


async def _reset(request: web.Request) -> web.Response:
    """Reset the connection (RST, not FIN). The response that it returns can't be sent any more."""
    # What was written before gets a moment to arrive, as a reset may overtake it.
    await asyncio.sleep(0.01)
    if (transport := request.transport) is not None:
        at_once = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        transport.abort()
    return web.Response()


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _member(body: object, name: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""
