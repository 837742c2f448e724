"""uvicorn's HTTP/1.1 protocol, with the bounds that it lacks on a request's head, and what endpoints want to know.

In a request's scope stand `ARRIVED` once all of its body is there, and `GONE` once its caller is. What an endpoint puts
there as `HUNG_UP` is called at that moment, which is cheaper than a task for each request that waits for it.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MOST_HEAD_BYTES = 128 * 1024
"""Of the request line and all headers together, beside the read in which the last of them came."""
HEAD_WITHIN_S = 20.0
READ_WITHIN_S = 60.0
"""A caller who takes nothing for so long of what waits for it is gone; else its provider would be kept for good."""
MOST_WAITING = 8
"""Requests that wait behind the one that is being answered on their connection; with more, nothing is read."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ARRIVED = "farthing.arrived"
GONE = "farthing.gone"
HUNG_UP = "farthing.hung_up"


class BoundedHttp(HttpToolsProtocol):
    """One connection. A head that is too long is a 400, one that comes too slowly ends the connection."""

    _head_bytes = 0
    _in_head = True
    _too_slow: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    read_within_s = READ_WITHIN_S
    _answering: RequestResponseCycle | None = None
    """The request that is being answered; `cycle` is the last that came, which may wait for its turn behind it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._too_slow = self.loop.call_later(HEAD_WITHIN_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._reads_again()
        super().connection_lost(exc)
        cycle = self._answering
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            scope = cast(MutableMapping[str, Any], cycle.scope)
            scope[GONE] = True
            if hung_up := scope.get(HUNG_UP):
                hung_up()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reads_again()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        left = data
        while left:
            left = self._feed(left)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self.send_400_response("The request's headers are too long.")
        elif self._too_slow is None:
            self._too_slow = self.loop.call_later(HEAD_WITHIN_S, self.transport.close)

    def _feed(self, data: bytes) -> bytes:
        """Have the parser read; returns what is left to read, where it takes the rest for another protocol."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() != b"CONNECT":
                return self._head_again() + data[upgrade.args[0] :]
            self.send_400_response("There is no other protocol here.")
        return b""

    def _head_again(self) -> bytes:
        """Write the head that was read without its `Upgrade`, for a parser that has not seen it.

        Java's own client offers HTTP/2 so with every first request. A server may go on in HTTP/1.1 (RFC 9110, 7.8), but
        this parser would not read the body.
        """
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        return b"".join((line, *headers, b"\r\n"))

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_head = False
        self._in_time()
        super().on_headers_complete()
        # The answer to HEAD is a head alone.
        if self.scope["method"] != "HEAD":
            self.cycle.transport = cast(asyncio.Transport, _Joined(self.transport))
        self._read_on()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        cast(MutableMapping[str, Any], self.scope)[ARRIVED] = True
        super().on_message_complete()
        self._read_on()

    def _read_on(self) -> None:
        """Go on reading where uvicorn stops, after a long piece of a body or a further request.

        Nothing tells that the caller hung up while nothing is read.
        """
        if len(self.pipeline) <= MOST_WAITING:
            self.flow.resume_reading()

    def _look_again(self) -> None:
        """Look in a while whether the caller has taken anything of what waits for it; nothing is added meanwhile."""
        self._unread = self.loop.call_later(self.read_within_s, self._look, self._waiting_bytes())

    def _look(self, waiting_bytes: int) -> None:
        if self._waiting_bytes() < waiting_bytes:
            self._look_again()
        else:
            self.transport.abort()

    def _waiting_bytes(self) -> int:
        """Return how much waits for the caller, with what the system keeps for it, which may be megabytes."""
        kept = b""
        with suppress(OSError):
            kept = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(kept, sys.byteorder)

    def _reads_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _in_time(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None


class _Joined:
    """A transport as one response uses it: its head leaves together with the beginning of its body, in one packet."""

    __slots__ = ("_head", "_transport", "close", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""
        self.close = transport.close
        self.is_closing = transport.is_closing

    def write(self, text: bytes) -> None:
        if self._head is None:
            self._transport.write(text)
        elif self._head:
            self._transport.write(self._head + text)
            self._head = None
        elif text == CONTINUE:
            self._transport.write(text)
        else:
            self._head = text
