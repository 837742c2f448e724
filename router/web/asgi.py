"""The little of ASGI that the hot endpoints need: a body within a limit, a response, and a caller who hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

from router.errors import InvalidRequest, RequestTooLarge
from router.web.http import ARRIVED, GONE, HUNG_UP

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


class CallerGone(Exception):
    """The caller hung up before its request was whole."""


class BodyTooSlow(InvalidRequest):
    """The body did not arrive in its time; the rest of it is not waited for."""


async def read_body(scope: Scope, receive: Receive, most_bytes: int, within_s: float) -> bytes:
    """Read a request's body.

    Raises:
        RequestTooLarge: it is, or says it is, larger than `most_bytes`.
        BodyTooSlow: it was not there after `within_s`.
        InvalidRequest: it is compressed, which we do not read.
        CallerGone: there is nobody to answer.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > most_bytes:
            raise _too_large(most_bytes)
        if name == b"content-encoding" and value != b"identity":
            raise InvalidRequest("The body is compressed; send it without content-encoding.", param="content-encoding")
    if ARRIVED in scope:
        return await _whole_body(receive, most_bytes)
    try:
        async with asyncio.timeout(within_s):
            return await _whole_body(receive, most_bytes)
    except TimeoutError:
        raise BodyTooSlow(f"The body did not arrive within {within_s:g} s.") from None


async def _whole_body(receive: Receive, most_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > most_bytes:
            raise _too_large(most_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _too_large(most_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body is larger than {most_bytes} bytes, the most this proxy takes.")


def id_headers(request_id: str) -> Headers:
    """Return a request's id under our name, and under the one that OpenAI's SDKs look for."""
    return [(b"x-farthing-request-id", request_id.encode()), (b"x-request-id", request_id.encode())]


async def respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send a whole response."""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class HangUp:
    """Cancels what runs inside it when the caller hangs up, and swallows that cancellation; then `happened` is true.

    A plain ASGI endpoint is not cancelled by its server.
    """

    __slots__ = ("_scope", "_task", "happened")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.happened = False

    def __enter__(self) -> HangUp:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if GONE in self._scope:
            self._hung_up()
        self._scope[HUNG_UP] = self._hung_up
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        del self._scope[HUNG_UP]
        if self.happened and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            return True
        return False

    def _hung_up(self) -> None:
        self.happened = True
        self._task.cancel()
