"""One kept-alive connection and the answers that come over it, one at a time, pushed by the event loop.

llhttp does the framing. Whatever it does not bound is bounded here: the head, trailers, and what nobody reads. A
connection is idle, or it belongs to one response; it is given back only at the proper end of an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from router.providers.http1.endpoint import Origin
from router.providers.http1.errors import AnswerTooLarge, Broken, Dropped, HttpError, Malformed, NotConnected

LARGEST_HEAD_BYTES = 64 * 1024
"""Status line, headers and interim responses together; also how much of framing and trailers may come without body."""
MOST_UNREAD_BYTES = 1024 * 1024
"""What is kept for a reader that does not read; past it the other side has to wait."""
LINGER_S = 1.0
"""How long the end of an answer may take whose reader has seen enough of it."""


class Response:
    """An answer whose head has come. Read it to its end, or close it: until then it holds its connection."""

    __slots__ = ("_arrived", "_connection", "_failure", "_headers", "_pieces", "_unread_bytes", "_waiter", "status")

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self._connection: Connection | None = connection
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._unread_bytes = 0
        self._arrived = False
        self._failure: HttpError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def arrived(self) -> bool:
        """Whether the whole answer is here, so that reading it does not wait."""
        return self._arrived

    def header(self, name: str) -> str | None:
        """Return a header's value, several joined by commas; None where there is none."""
        value = self._headers.get(name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    async def chunk(self) -> bytes:
        """Return what has arrived since the last call, waiting for it if need be; empty at the proper end.

        Raises:
            Broken: the answer ended before its end; what had come before that was returned first.
        """
        while not self._pieces:
            if self._arrived:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait()
        pieces, self._pieces, self._unread_bytes = self._pieces, [], 0
        if self._connection is not None:
            self._connection.resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, most_bytes: int, *, between_s: float | None = None) -> bytes:
        """Return all that is left of the body.

        Raises:
            Broken: the answer ended before its end.
            AnswerTooLarge: there is more of it than `most_bytes`; the connection is closed.
            TimeoutError: nothing came for `between_s`; the connection is closed.
        """
        pieces: list[bytes] = []
        size = 0
        while piece := await self._next_piece(between_s):
            size += len(piece)
            if size > most_bytes:
                self.close()
                raise AnswerTooLarge(f"it is larger than {most_bytes} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def release(self) -> None:
        """Let go of an answer that has said enough: its end, if it comes soon, leaves the connection to others.

        Nothing can be read afterwards.
        """
        connection = self._let_go()
        if connection is not None:
            connection.linger()

    def close(self) -> None:
        """Close the connection at once, wherever the answer stands. Does nothing once the answer arrived."""
        connection = self._let_go()
        if connection is not None:
            connection.abort()

    async def head(self) -> None:
        """Wait for the status and the headers.

        Raises:
            Dropped, Malformed, Broken: none came.
        """
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self._wait()

    def begin(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self._headers = headers

    def take(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._unread_bytes += len(piece)

    def end(self) -> None:
        """Note that all has come; the connection is another's from now on."""
        self._arrived = True
        self._connection = None

    def fail(self, failure: HttpError) -> None:
        self._failure = failure
        self._connection = None

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def unread_bytes(self) -> int:
        return self._unread_bytes

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the proper end of this answer."""
        headers = self._headers
        return bool(self.status) and b"content-length" not in headers and b"transfer-encoding" not in headers

    def _let_go(self) -> Connection | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._failure = Broken("it was closed by its reader")
            self._pieces.clear()
            self._unread_bytes = 0
            self.wake()
        return connection

    async def _next_piece(self, within_s: float | None) -> bytes:
        if self._pieces or self._arrived:
            return await self.chunk()
        async with asyncio.timeout(within_s):
            return await self.chunk()

    async def _wait(self) -> None:
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        arrived = False
        try:
            await waiter
            arrived = True
        finally:
            self._waiter = None
            if not arrived:
                self.close()


class Connection(asyncio.Protocol):
    """A connection to one origin. `idled` is told when it can be used again, `lost` when it is gone."""

    __slots__ = (
        "_barren_bytes",
        "_complete",
        "_head_bytes",
        "_headers",
        "_idled",
        "_interim",
        "_lingering",
        "_lost",
        "_parser",
        "_paused",
        "_response",
        "_spoilt",
        "_transport",
        "idle_since",
        "origin",
    )

    def __init__(self, origin: Origin, idled: Callable[[Connection], None], lost: Callable[[Connection], None]) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._idled = idled
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._response: Response | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = self._barren_bytes = 0
        self._interim = self._complete = self._spoilt = self._paused = False

    @property
    def is_lost(self) -> bool:
        """Whether it is gone for good, or was never made."""
        return self._transport is None

    @property
    def is_usable(self) -> bool:
        """Whether nothing is known yet of its end."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes, headers: bytes = b"") -> Response:
        """Send a request, whose head ends with `Content-Length: `, and return its response, which has yet to come.

        `headers` are further lines, each with its line end.

        Raises:
            NotConnected: the connection is gone; nothing was sent.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise NotConnected("the connection was closed as soon as it was made")
        self._response = response = Response(self)
        self._headers = {}
        self._head_bytes = self._barren_bytes = 0
        self._interim = self._complete = False
        transport.writelines((head, b"%d\r\n%b\r\n" % (len(body), headers), body))
        return response

    def resume(self) -> None:
        """Read on, where reading was stopped because nobody took what had come."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def linger(self) -> None:
        """Wait a little for the end of an answer that nobody reads any more."""
        self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self.abort)
        self.resume()

    def abort(self) -> None:
        """Close at once, whatever is under way. Safe to call again."""
        self._detach(Broken("it was closed"))
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # Nothing was asked, so it can't be an answer.
            self.abort()
            return
        if not response.status:
            self._feed_head(response, data)
        else:
            self._feed_body(response, data)
        if self._response is not response:
            return
        if self._complete:
            self._finish(response)
        elif response.unread_bytes > MOST_UNREAD_BYTES:
            self._hold_back()
        response.wake()

    def eof_received(self) -> None:
        response = self._response
        if response is not None and response.ends_with_connection:
            self._response = None
            response.end()
            response.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        response = self._response
        if response is None or (not response.status and not self._head_bytes):
            self._detach(Dropped("the connection was closed before the answer began"))
        else:
            self._detach(Broken("the connection ended in the middle of the answer"))
        self._transport = None
        # It refers to this object, and this object to it.
        self._parser = None
        self._lost(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            self._spoilt = True

    def on_header(self, name: bytes, value: bytes) -> None:
        response = self._response
        if self._complete or response is None or response.status:
            return
        name, value = name.lower(), value.rstrip(b" \t")
        found = self._headers.get(name)
        self._headers[name] = value if found is None else found + b", " + value

    def on_headers_complete(self) -> None:
        response, parser = self._response, self._parser
        if self._complete or response is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 100:
            raise Malformed(f"its status is {status}")
        if status < 200:
            self._interim = True
            return
        coding = self._headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise Malformed("its transfer-encoding is not chunked")
        response.begin(status, self._headers)

    def on_body(self, body: bytes) -> None:
        if self._response is not None and not self._complete:
            self._response.take(body)

    def on_message_complete(self) -> None:
        if self._complete:
            return
        if self._interim:
            self._interim = False
            self._headers = {}
        else:
            assert self._parser is not None
            self._complete = True
            self._spoilt = not self._parser.should_keep_alive()

    # The steps of receiving.

    def _feed_head(self, response: Response, data: bytes) -> None:
        room = LARGEST_HEAD_BYTES - self._head_bytes
        self._head_bytes += len(data)
        if len(data) <= room:
            self._feed(data)
            return
        self._feed(data[:room])
        if self._response is not response:
            return
        if response.status:
            self._feed_body(response, data[room:])
        else:
            self._refuse(Malformed(f"its head is larger than {LARGEST_HEAD_BYTES} bytes"))

    def _feed_body(self, response: Response, data: bytes) -> None:
        before = response.unread_bytes
        self._feed(data)
        if response.unread_bytes > before:
            self._barren_bytes = 0
            return
        self._barren_bytes += len(data)
        if self._barren_bytes > LARGEST_HEAD_BYTES and not self._complete and self._response is response:
            self._refuse(Broken(f"more than {LARGEST_HEAD_BYTES} bytes came without any of the body"))

    def _feed(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._complete:
                # The answer itself is whole; what follows it is not ours.
                self._spoilt = True
            elif self._response is not None and self._response.status:
                self._refuse(Broken("the answer turned to what is no HTTP"))
            else:
                why = error.__context__ if isinstance(error.__context__, Malformed) else None
                self._refuse(why or Malformed("it is no HTTP/1.1 response"))

    def _finish(self, response: Response) -> None:
        """Give the connection back, or close it where it can't be used again."""
        transport = self._transport
        assert transport is not None
        self._response = None
        response.end()
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        # An answer that came before all of the request was sent leaves the rest of it in the way of the next.
        if self._spoilt or transport.is_closing() or transport.get_write_buffer_size():
            self.abort()
            return
        self.resume()
        self._idled(self)

    def _hold_back(self) -> None:
        if self._lingering is not None:
            self.abort()
        elif not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _refuse(self, failure: HttpError) -> None:
        self._detach(failure)
        self.abort()

    def _detach(self, failure: HttpError) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.fail(failure)
            response.wake()
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
