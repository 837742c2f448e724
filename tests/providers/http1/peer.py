"""A peer that answers as a test says, what it was sent, and what asks it."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from router.providers.http1 import Endpoint, HttpClient, Response
from router.providers.http1.endpoint import Origin

AT_ONCE_S = 0.5
CONNECT_S = 5.0
MOST_BYTES = 1 << 30
BODY = b'{"model":"m"}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegin"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the peer does with one request: sends `raw`, then keeps the connection, closes it or resets it."""

    raw: bytes = b""
    then: str = "keep"
    at_head: bool = False
    """Answer as soon as the request's head is there."""


@dataclass
class Peer:
    """A server that gives the next of `answers` to each request, else `usual`."""

    usual: Answer = Answer(OK)
    answers: deque[Answer] = field(default_factory=deque)
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: list[PeerConnection] = field(default_factory=list)
    origin: Origin = field(default=Origin(secure=False, host="127.0.0.1", port=0))

    @property
    def open(self) -> int:
        return sum(not connection.lost for connection in self.connections)

    def endpoint(self, host: str = "127.0.0.1") -> Endpoint:
        scheme = "https" if self.origin.secure else "http"
        return Endpoint.at(f"{scheme}://{host}:{self.origin.port}/v1", {"Content-Type": "application/json"})


class PeerConnection(asyncio.Protocol):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._got = b""
        self.lost = False
        self.answered = 0
        self.transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._peer.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (end := self._got.find(b"\r\n\r\n") + 4) >= 4:
            head = self._got[:end]
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            early = bool(self._peer.answers) and self._peer.answers[0].at_head
            if len(self._got) < end + length and not early:
                return
            self._peer.requests.append((head, self._got[end : end + length]))
            self._got = self._got[end + length :]
            self._do(self._peer.answers.popleft() if self._peer.answers else self._peer.usual)
            if early:
                self.transport.pause_reading()
                return

    def _do(self, answer: Answer) -> None:
        self.answered += 1
        if answer.raw:
            self.transport.write(answer.raw)
        match answer.then:
            case "close":
                self.transport.close()
            case "reset":
                reset(self.transport)


def reset(transport: asyncio.Transport) -> None:
    connected = transport.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    transport.abort()


@asynccontextmanager
async def serving(peer: Peer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    server = await asyncio.get_running_loop().create_server(lambda: PeerConnection(peer), host, 0, ssl=tls)
    peer.origin = Origin(tls is not None, host, server.sockets[0].getsockname()[1])
    try:
        yield peer
    finally:
        server.close()
        for connection in peer.connections:
            connection.transport.abort()
        await until(lambda: not peer.open)


async def closed(client: HttpClient) -> None:
    async with asyncio.timeout(5):
        await client.aclose()


async def until(holds: Callable[[], object], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.002)


async def post(client: HttpClient, peer: Peer, body: bytes = BODY) -> Response:
    return await client.post(peer.endpoint(), body, connect_s=CONNECT_S)


async def ask(client: HttpClient, peer: Peer) -> bytes:
    """Post and read the whole answer."""
    async with asyncio.timeout(5):
        return await (await post(client, peer)).read(MOST_BYTES)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def hang_ups(client: HttpClient, peer: Peer, times: int, rng: random.Random) -> None:
    """Cancel callers at moments from before the connection to the middle of the body."""

    async def call() -> bytes:
        return await (await post(client, peer)).read(MOST_BYTES)

    for _ in range(times):
        tasks = [asyncio.create_task(call()) for _ in range(4)]
        for task in tasks:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.003)
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) or each == b"ok" for each in done), done
