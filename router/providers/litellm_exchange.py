"""The HTTP exchange beneath one litellm call: what truly happened on the wire, whatever litellm makes of it.

litellm sends a request again when its connection is lost, guesses causes from texts and leaves sockets open.
So all its HTTP clients are given this transport, which keeps our deadlines, allows no second try after a
failure, and can always close the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import cast

import httpx

from router.errors import AnswerBroken, ProviderError, ProviderTimedOut, ProviderUnreachable
from router.policy.target import Deadlines
from router.providers.litellm_watch import Watch
from router.values import Trace

KEPT_ERROR_BYTES = 16_384


class Exchange:
    """Carries the requests of one attempt over a shared pool, and remembers how they went.

    `failure` is set where the connection, a deadline or the answer itself failed, and then tells the cause
    better than any exception of litellm's. `status` and `headers` are those of the last response, and so is
    `error_body`, which is kept of 4xx and 5xx.
    """

    def __init__(
        self, pool: httpx.AsyncBaseTransport, deadlines: Deadlines, target: str, trace: Trace | None = None
    ) -> None:
        self.sent = False
        self.status: int | None = None
        self.headers = httpx.Headers()
        self.error_body = b""
        self.failure: ProviderError | None = None
        self.first_byte_s: float | None = None
        self.watch = Watch(target)
        self._pool = pool
        self._deadlines = deadlines
        self._target = target
        self._trace = trace
        self._started = perf_counter()
        self._response: httpx.Response | None = None

    @property
    def elapsed_s(self) -> float:
        return perf_counter() - self._started

    @contextmanager
    def carrying(self) -> Iterator[None]:
        """Carry the requests that are made inside, by this task and those it starts."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    async def carry(self, request: httpx.Request) -> httpx.Response:
        if self.failure is not None:
            # litellm tries again by itself, and what is sent twice may be billed twice.
            raise httpx.ReadError(self.failure.message, request=request)
        self.sent = True
        # What is compressed can't be watched.
        request.headers["accept-encoding"] = "identity"
        if self._trace is not None:
            request.headers.update(self._trace.headers())
        deadlines = self._deadlines
        connect_s = deadlines.connecting_s(min(deadlines.first_byte_s, max(0.0, deadlines.total_s - self.elapsed_s)))
        request.extensions["timeout"] = {"connect": connect_s, "pool": connect_s, "read": None, "write": None}
        first_byte_at = asyncio.get_running_loop().time() + deadlines.first_byte_s
        try:
            async with asyncio.timeout_at(first_byte_at):
                response = await self._pool.handle_async_request(request)
        except (httpx.TransportError, TimeoutError) as error:
            raise self._failed(self._cause(error)) from None
        self.status, self.headers, self._response = response.status_code, response.headers, response
        return httpx.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=_Body(self, response, first_byte_at),
            extensions=response.extensions,
        )

    async def hang_up(self) -> None:
        """Close the socket of an answer that is not finished. Safe to call again."""
        if self._response is not None:
            response, self._response = self._response, None
            await response.aclose()

    async def body(self, response: httpx.Response, first_byte_at: float) -> AsyncIterator[bytes]:
        """Pass the body on as it comes, watched."""
        kind = response.headers.get("content-type", "")
        parts = self._parts(cast(httpx.AsyncByteStream, response.stream), first_byte_at)
        async with aclosing(parts):
            if response.status_code >= 400:
                async for part in parts:
                    self.error_body = (self.error_body + part)[:KEPT_ERROR_BYTES]
                    yield part
            elif "content-encoding" in response.headers:
                async for part in parts:
                    yield part
            elif kind.startswith("text/event-stream"):
                async for part in parts:
                    yield self.watch.lines(part)
                    self._check()
                yield self.watch.close()
                self._check()
            elif kind.startswith("application/json"):
                yield self.watch.answer(b"".join([part async for part in parts]))
                self._check()
            else:
                async for part in parts:
                    yield part

    async def _parts(self, stream: httpx.AsyncByteStream, first_byte_at: float) -> AsyncGenerator[bytes]:
        parts = aiter(stream)
        deadline = asyncio.timeout_at(first_byte_at)
        while True:
            try:
                async with deadline:
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            except (httpx.TransportError, TimeoutError) as error:
                raise self._failed(self._cause(error)) from None
            if self.first_byte_s is None:
                self.first_byte_s = self.elapsed_s
            yield part
            deadline = asyncio.timeout(self._deadlines.between_bytes_s)

    def _check(self) -> None:
        if self.watch.failure is not None:
            raise self._failed(self.watch.failure)

    def _failed(self, failure: ProviderError) -> httpx.ReadError:
        """Remember our failure, and return what litellm is told: the one error that it does not retry."""
        self.failure = failure
        return httpx.ReadError(failure.message)

    def _cause(self, error: httpx.TransportError | TimeoutError) -> ProviderError:
        deadlines, target = self._deadlines, self._target
        match error:
            case httpx.ConnectTimeout() | httpx.PoolTimeout():
                return ProviderUnreachable(f"{target} could not be connected to in time.")
            case httpx.ConnectError() | httpx.UnsupportedProtocol() | httpx.ProxyError():
                return ProviderUnreachable(f"{target} could not be connected to.")
            case TimeoutError() if self.first_byte_s is None:
                return ProviderTimedOut(f"{target} sent nothing within {deadlines.first_byte_s:g} s.")
            case TimeoutError():
                return ProviderTimedOut(f"{target} fell silent for {deadlines.between_bytes_s:g} s.")
        if self.status is None:
            return AnswerBroken(f"{target} closed the connection without an answer.")
        return AnswerBroken(f"{target} closed the connection in the middle of its answer.")


class Transport(httpx.AsyncBaseTransport):
    """Hands each request to the exchange of the call it is made for, and refuses it where there is none."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _CURRENT.get()
        if exchange is None:
            raise httpx.UnsupportedProtocol("litellm made a request of its own", request=request)
        return await exchange.carry(request)


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: Exchange, response: httpx.Response, first_byte_at: float) -> None:
        self._exchange = exchange
        self._response = response
        self._first_byte_at = first_byte_at

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._exchange.body(self._response, self._first_byte_at)

    async def aclose(self) -> None:
        await self._response.aclose()


_CURRENT: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
