"""The HTTP/1.1 client over real sockets: framing wherever the network cuts, reuse, failures, hanging up, TLS."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.errors import AnswerBroken, ProviderDenied, ProviderFailed, ProviderOverloaded, ProviderUnreachable
from router.policy.target import Deadlines, Target
from router.pricing import Price
from router.providers.contract import Call
from router.providers.http1 import (
    AnswerTooLarge,
    Broken,
    Dropped,
    Endpoint,
    HttpClient,
    HttpError,
    InvalidEndpoint,
    Malformed,
    NotConnected,
    Response,
)
from router.providers.http1.connection import LARGEST_HEAD_BYTES, LINGER_S, MOST_UNREAD_BYTES, Connection
from router.providers.http1.endpoint import Origin
from router.providers.http1.pool import Pool
from router.providers.openai import OpenAIWire
from router.tokens import rules_for

AT_ONCE_S = 0.1
CONNECT_S = 5.0
MOST_BYTES = 1 << 30
BODY = b'{"model":"m"}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegin"
pytestmark = pytest.mark.anyio


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


# A peer, and what it was sent.


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


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Peer()) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await closed(client)


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


# What is sent.


async def test_a_request_is_its_constant_head_its_length_and_its_body(client: HttpClient, peer: Peer) -> None:
    endpoint = Endpoint.at(
        f"http://127.0.0.1:{peer.origin.port}/v1/chat?api-version=2", {"Authorization": "Bearer k", "User-Agent": "x"}
    )
    await client.post(endpoint, BODY, connect_s=CONNECT_S)
    head = (
        f"POST /v1/chat?api-version=2 HTTP/1.1\r\nHost: 127.0.0.1:{peer.origin.port}\r\nAuthorization: Bearer k\r\n"
        f"User-Agent: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    assert peer.requests == [(head.encode(), BODY)]


async def test_a_body_of_twenty_megabytes_arrives_whole(client: HttpClient, peer: Peer) -> None:
    body = random.Random(1).randbytes(20_000_000)
    async with asyncio.timeout(20):
        response = await post(client, peer, body)
        assert await response.read(MOST_BYTES) == b"ok"
    assert peer.requests[0][1] == body
    await ask(client, peer)
    assert len(peer.connections) == 1


# How answers are framed. Each is (what comes, whether the peer then closes, what is made of it).

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BIG = bytes(range(256)) * 40


def headers_of(size: int) -> bytes:
    """Return a head of exactly this many bytes."""
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"
    lines = b"".join(b"x-%04d: %s\r\n" % (number, b"v" * 1000) for number in range((size - 2000) // 1010))
    left = size - len(start) - len(lines) - 2
    return start + lines + b"x-last: " + b"v" * (left - 10) + b"\r\n\r\n"


@dataclass(frozen=True)
class Framing:
    raw: bytes
    closes: bool
    expected: bytes | type[HttpError]
    status: int = 200
    reused: bool = False


FRAMINGS = {
    "content-length": Framing(OK, False, b"ok", reused=True),
    "content-length and close": Framing(OK, True, b"ok", reused=True),
    "no body": Framing(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, b"", reused=True),
    "chunked": Framing(CHUNKED + b"3\r\nabc\r\n2800\r\n" + BIG + b"\r\n0\r\n\r\n", False, b"abc" + BIG, reused=True),
    "chunked with extensions": Framing(CHUNKED + b"3;a=b\r\nabc\r\n0;z\r\n\r\n", False, b"abc", reused=True),
    "chunked with trailers": Framing(CHUNKED + b"3\r\nabc\r\n0\r\nx-sum: 1\r\ny:\r\n\r\n", False, b"abc", reused=True),
    "chunked in capitals": Framing(
        b"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked \r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", False, b"0123456789",
        reused=True,
    ),
    "until the connection ends": Framing(b"HTTP/1.1 200 OK\r\n\r\nall of it", True, b"all of it"),
    "until the connection ends, empty": Framing(b"HTTP/1.1 200 OK\r\n\r\n", True, b""),
    "connection: close": Framing(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), False, b"ok"),
    "HTTP/1.0": Framing(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False, b"ok"),
    "HTTP/1.0 until the end": Framing(b"HTTP/1.0 200 OK\r\n\r\nok", True, b"ok"),
    "HTTP/1.0 kept alive": Framing(
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", False, b"ok", reused=True
    ),
    "204": Framing(b"HTTP/1.1 204 No Content\r\n\r\n", False, b"", 204, reused=True),
    "304": Framing(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", False, b"", 304, reused=True),
    "no reason": Framing(b"HTTP/1.1 429\r\ncontent-length: 1\r\n\r\nx", False, b"x", 429, reused=True),
    "after 100 and 103": Framing(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, False, b"ok", reused=True
    ),
    "empty headers": Framing(OK.replace(b"\r\n\r\n", b"\r\nx-a:\r\nx-b: \r\n\r\n"), False, b"ok", reused=True),
    "another answer behind it": Framing(OK + OK, False, b"ok"),
    "junk behind it": Framing(OK + b"\0\0\0", False, b"ok"),
    "junk behind a chunked one": Framing(CHUNKED + b"2\r\nok\r\n0\r\n\r\njunk", False, b"ok"),
    "the largest head": Framing(headers_of(LARGEST_HEAD_BYTES) + b"ok", False, b"ok", reused=True),
    "too large a head": Framing(headers_of(LARGEST_HEAD_BYTES + 1) + b"ok", False, Malformed, 0),
    "endless interim answers": Framing(b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, False, Malformed, 0),
    "switching protocols": Framing(
        b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", False, Malformed, 0
    ),
    "switching protocols, quietly": Framing(b"HTTP/1.1 101 S\r\n\r\n" + OK, False, Malformed, 0),
    "status 0": Framing(OK.replace(b"200", b"000"), False, Malformed, 0),
    "no HTTP": Framing(b"SSH-2.0-OpenSSH_9.2\r\n", False, Malformed, 0),
    "a header without a colon": Framing(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", False, Malformed, 0),
    "two lengths": Framing(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", False, Malformed, 0),
    "a length that is none": Framing(b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok", False, Malformed, 0),
    "a length and chunks": Framing(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        False, Malformed, 0,
    ),
    "another transfer-encoding": Framing(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False, Malformed, 0
    ),
    "nothing at all": Framing(b"", True, Dropped, 0),
    "half a head": Framing(b"HTTP/1.1 200 OK\r\ncontent-le", True, Broken, 0),
    "nothing after an interim answer": Framing(b"HTTP/1.1 100 Continue\r\n\r\n", True, Broken, 0),
    "short of its length": Framing(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", True, Broken),
    "cut in a chunk": Framing(CHUNKED + b"9\r\nok", True, Broken),
    "cut between chunks": Framing(CHUNKED + b"2\r\nok\r\n", True, Broken),
    "cut before the last line": Framing(CHUNKED + b"2\r\nok\r\n0\r\n", True, Broken),
    "a chunk's length that is none": Framing(CHUNKED + b"zz\r\nok\r\n0\r\n\r\n", False, Broken),
    "a chunk longer than its length": Framing(CHUNKED + b"2\r\nokay\r\n0\r\n\r\n", False, Broken),
}  # fmt: skip


async def made_of(client: HttpClient, peer: Peer) -> tuple[int, bytes | type[HttpError]]:
    """Return the status of an answer, 0 where none came, and its body or why there is none."""
    status = 0
    try:
        response = await post(client, peer)
        status = response.status
        return status, await response.read(MOST_BYTES)
    except HttpError as error:
        return status, type(error)


@pytest.mark.parametrize("name", FRAMINGS)
async def test_every_framing_is_read_to_its_proper_end_and_no_further(
    client: HttpClient, peer: Peer, name: str
) -> None:
    framing = FRAMINGS[name]
    peer.answers.append(Answer(framing.raw, "close" if framing.closes else "keep"))
    async with asyncio.timeout(5):
        assert await made_of(client, peer) == (framing.status, framing.expected)
    if framing.reused and not framing.closes:
        assert await ask(client, peer) == b"ok"
        assert len(peer.connections) == 1
    elif not framing.reused:
        await until(lambda: not peer.open)
        assert await ask(client, peer) == b"ok"
        assert len(peer.connections) == 2


@dataclass(frozen=True)
class Outcome:
    status: int
    headers: tuple[str | None, ...]
    body: bytes
    failure: type[HttpError] | None
    idle: bool
    """Whether the connection was given back before the peer closed it."""


async def outcome_of(pieces: list[bytes]) -> Outcome:
    """Feed these pieces, each read by itself, to a connection that has just sent a request; then the peer closes."""
    loop = asyncio.get_running_loop()
    origin = Origin(secure=False, host="127.0.0.1", port=1)
    pool = Pool(60)
    ours, theirs = pair()
    _, connection = await loop.create_connection(lambda: Connection(origin, pool), sock=ours)
    response = connection.send(b"POST / HTTP/1.1\r\nContent-Length: ", b"{}")
    # The loop would call this; called here, the cuts are where we want them and not where the kernel puts them.
    for piece in pieces:
        if connection.is_usable:
            connection.data_received(piece)
    idle = pool.take(origin) is connection
    theirs.shutdown(socket.SHUT_WR)
    body, failure = b"", None
    try:
        async with asyncio.timeout(5):
            await response.head()
            while piece := await response.chunk():
                body += piece
    except HttpError as error:
        failure = type(error)
    connection.abort()
    theirs.close()
    headers = tuple(response.header(name) for name in ("content-length", "transfer-encoding", "x-a", "link"))
    return Outcome(response.status, headers, body, failure, idle)


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    return ours, theirs


def run(coroutine: Coroutine[Any, Any, Outcome], *, fast: bool) -> Outcome:
    return uvloop.run(coroutine) if fast else asyncio.run(coroutine)


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """Cut at these places, taken as distances from one to the next."""
    pieces, start = [], 0
    for place in places:
        pieces.append(raw[start : start + place])
        start += place
    return [piece for piece in (*pieces, raw[start:]) if piece]


SMALL = sorted(name for name, framing in FRAMINGS.items() if len(framing.raw) < 2_000)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(SMALL),
    places=st.lists(st.integers(1, 30), max_size=60),
    changes=st.lists(st.tuples(st.integers(0, 300), st.sampled_from(b"\r\n\0 :;,0129afTHx\xff")), max_size=2),
    fast=st.booleans(),
)
@example(name="chunked with trailers", places=[1] * 300, changes=[], fast=True)
@example(name="after 100 and 103", places=[1] * 300, changes=[], fast=True)
def test_what_is_made_of_an_answer_does_not_depend_on_where_the_network_cuts_it(
    name: str, places: list[int], changes: list[tuple[int, int]], fast: bool
) -> None:
    raw = bytearray(FRAMINGS[name].raw)
    for place, byte in changes:
        if place < len(raw):
            raw[place] = byte
    whole = run(outcome_of([bytes(raw)]), fast=fast)
    in_pieces = run(outcome_of(cut(bytes(raw), places)), fast=fast)
    assert in_pieces == whole


@pytest.mark.parametrize("name", ["the largest head", "too large a head", "endless interim answers", "chunked"])
@pytest.mark.parametrize("step", [997, 8_191, 65_535, 65_536, 65_537])
def test_large_answers_are_the_same_in_pieces_of_any_size(name: str, step: int) -> None:
    raw = FRAMINGS[name].raw
    whole = run(outcome_of([raw]), fast=True)
    assert run(outcome_of([raw[at : at + step] for at in range(0, len(raw), step)]), fast=True) == whole


def test_much_framing_is_fine_where_the_body_comes_with_it() -> None:
    pieces = [b"5;" + b"e" * (LARGEST_HEAD_BYTES // 2), b"\r\nhello\r\n"] * 5
    outcome = run(outcome_of([CHUNKED, *pieces, b"0\r\n\r\n"]), fast=True)
    assert (outcome.body, outcome.failure, outcome.idle) == (b"hello" * 5, None, True)


async def test_headers_are_found_in_any_case_and_joined_where_there_are_several(client: HttpClient, peer: Peer) -> None:
    peer.answers.append(Answer(b"HTTP/1.1 200 OK\r\nRetry-After:  7 \r\nx-A: 1\r\nX-a: 2\r\nContent-Length: 0\r\n\r\n"))
    response = await post(client, peer)
    found = [response.header(name) for name in ("retry-after", "Retry-After", "x-a", "x-b")]
    assert found == ["7", "7", "1, 2", None]


async def test_interim_headers_are_not_those_of_the_answer(client: HttpClient, peer: Peer) -> None:
    peer.answers.append(Answer(b"HTTP/1.1 103 E\r\ncontent-encoding: gzip\r\nlink: x\r\n\r\n" + OK))
    response = await post(client, peer)
    assert (response.status, response.header("link"), response.header("content-encoding")) == (200, None, None)


@pytest.mark.parametrize(
    "endless", [b"0\r\n" + b"x-t: " + b"t" * 1_000_000, b"0\r\n" + b"x-t: t\r\n" * 100_000, b"5;" + b"e" * 1_000_000]
)
async def test_framing_without_an_end_is_broken_off(client: HttpClient, peer: Peer, endless: bytes) -> None:
    peer.answers.append(Answer(CHUNKED + b"2\r\nok\r\n" + endless))
    response = await post(client, peer)
    with pytest.raises(Broken):
        async with asyncio.timeout(5):
            await response.read(MOST_BYTES)
    await until(lambda: not peer.open)


async def test_what_came_before_the_answer_broke_is_read_first(client: HttpClient, peer: Peer) -> None:
    peer.answers.append(Answer(ENDLESS, "reset"))
    response = await post(client, peer)
    await until(lambda: not peer.open)
    assert await response.chunk() == b"begin"
    for _ in range(2):
        with pytest.raises(Broken):
            await response.chunk()


async def test_the_end_of_an_answer_may_be_asked_for_again(client: HttpClient, peer: Peer) -> None:
    response = await post(client, peer)
    assert [await response.read(MOST_BYTES), await response.read(0), await response.chunk()] == [b"ok", b"", b""]


@pytest.mark.parametrize(("most_bytes", "fits"), [(10_000, True), (9_999, False)])
async def test_an_answer_larger_than_its_reader_takes_is_broken_off(
    client: HttpClient, peer: Peer, most_bytes: int, fits: bool
) -> None:
    peer.answers.append(Answer(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000, "close" if fits else "keep"))
    response = await post(client, peer)
    if fits:
        assert len(await response.read(most_bytes)) == 10_000
    else:
        with pytest.raises(AnswerTooLarge):
            await response.read(most_bytes)
        await until(lambda: not peer.open, AT_ONCE_S)


# Reuse.


async def test_one_caller_after_another_needs_one_connection(client: HttpClient, peer: Peer) -> None:
    for _ in range(50):
        assert await ask(client, peer) == b"ok"
    assert len(peer.connections) == 1
    assert len(peer.requests) == 50


async def test_callers_at_the_same_time_have_a_connection_each_and_leave_them_to_the_next(
    client: HttpClient, peer: Peer
) -> None:
    for _ in range(5):
        assert await asyncio.gather(*(ask(client, peer) for _ in range(40))) == [b"ok"] * 40
    assert len(peer.connections) <= 40


async def test_answers_of_many_callers_are_not_mixed_up(client: HttpClient, peer: Peer) -> None:
    class Echo(PeerConnection):
        def _do(self, answer: Answer) -> None:
            body = self._peer.requests[-1][1]
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async def echoed(number: int, port: int) -> None:
        endpoint = Endpoint.at(f"http://127.0.0.1:{port}/", {})
        for again in range(20):
            body = b"%d-%d" % (number, again) * (1 + number % 7)
            response = await client.post(endpoint, body, connect_s=CONNECT_S)
            assert await response.read(MOST_BYTES) == body

    server = await asyncio.get_running_loop().create_server(lambda: Echo(peer), "127.0.0.1", 0)
    async with asyncio.timeout(10):
        await asyncio.gather(*(echoed(number, server.sockets[0].getsockname()[1]) for number in range(20)))
    server.close()


async def test_the_connection_used_last_is_taken_first(client: HttpClient, peer: Peer) -> None:
    peer.answers.extend([Answer()] * 3)
    tasks = [asyncio.create_task(ask(client, peer)) for _ in range(3)]
    await until(lambda: len(peer.requests) == 3)
    for number, last in enumerate((2, 0, 1), 1):
        peer.connections[last].transport.write(OK)
        await until(lambda number=number: sum(task.done() for task in tasks) == number)
    for _ in range(3):
        await ask(client, peer)
    assert [connection.answered for connection in peer.connections] == [1, 4, 1]


async def test_connections_of_one_origin_are_not_used_for_another(client: HttpClient, peer: Peer) -> None:
    async with serving(Peer(Answer(OK.replace(b"ok", b"no")))) as other:
        for _ in range(3):
            assert (await ask(client, peer), await ask(client, other)) == (b"ok", b"no")
        assert (len(peer.connections), len(other.connections)) == (1, 1)


async def test_a_connection_idle_for_long_is_closed(peer: Peer) -> None:
    client = HttpClient(idle_s=0.15)
    await asyncio.gather(*(ask(client, peer) for _ in range(3)))
    idle_since = time.perf_counter()
    for _ in range(4):
        await asyncio.sleep(0.05)
        await ask(client, peer)
    await until(lambda: peer.open == 1)
    assert time.perf_counter() - idle_since >= 0.14
    await until(lambda: not peer.open)
    assert await ask(client, peer) == b"ok"
    await closed(client)


async def test_an_idle_connection_that_the_peer_closed_is_not_used_again(client: HttpClient, peer: Peer) -> None:
    await ask(client, peer)
    peer.connections[0].transport.close()
    await until(lambda: not peer.open)
    assert await ask(client, peer) == b"ok"
    assert len(peer.connections) == 2


async def test_an_idle_connection_that_speaks_unasked_is_closed(client: HttpClient, peer: Peer) -> None:
    await ask(client, peer)
    peer.connections[0].transport.write(OK.replace(b"ok", b"no"))
    await until(lambda: not peer.open)
    assert await ask(client, peer) == b"ok"


async def test_an_answer_that_comes_before_the_whole_request_was_sent_is_read_and_its_connection_closed(
    client: HttpClient, peer: Peer
) -> None:
    peer.answers.append(Answer(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge", at_head=True))
    async with asyncio.timeout(5):
        response = await post(client, peer, b"x" * 50_000_000)
        assert (response.status, await response.read(MOST_BYTES)) == (413, b"large")
    peer.connections[0].transport.resume_reading()
    await until(lambda: not peer.open)
    assert await ask(client, peer) == b"ok"
    assert len(peer.connections) == 2


async def test_an_answer_released_before_its_end_leaves_its_connection_once_the_end_comes(
    client: HttpClient, peer: Peer
) -> None:
    peer.answers.append(Answer(CHUNKED + b"2\r\nok\r\n"))
    response = await post(client, peer)
    assert await response.chunk() == b"ok"
    response.release()
    response.close()
    with pytest.raises(Broken):
        await response.chunk()
    peer.connections[0].transport.write(b"0\r\n\r\n")
    await asyncio.sleep(0.02)
    assert await ask(client, peer) == b"ok"
    assert len(peer.connections) == 1
    await asyncio.sleep(LINGER_S + 0.1)
    assert await ask(client, peer) == b"ok"
    assert len(peer.connections) == 1


async def test_an_answer_released_whose_end_does_not_come_is_closed(client: HttpClient, peer: Peer) -> None:
    peer.answers.extend([Answer(CHUNKED + b"2\r\nok\r\n")] * 2)
    quiet, chatty = await post(client, peer), await post(client, peer)
    quiet.release()
    chatty.release()
    peer.connections[1].transport.write(b"%x\r\n" % (4 * MOST_UNREAD_BYTES) + b"x" * (4 * MOST_UNREAD_BYTES))
    await until(lambda: peer.open == 1, LINGER_S / 2)
    await until(lambda: peer.open == 0, 2 * LINGER_S)


# Failures.


async def test_a_closed_port_is_not_connected(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(NotConnected, match="the connection was refused"):
        await client.post(Endpoint.at(f"http://127.0.0.1:{port}/", {}), BODY, connect_s=CONNECT_S)


async def test_a_peer_that_does_not_accept_is_given_up_on_in_time(client: HttpClient) -> None:
    before = open_files()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        # Fill the queue of those that wait to be accepted; the next is not answered at all.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        endpoint = Endpoint.at(f"http://127.0.0.1:{listening.getsockname()[1]}/", {})
        started = time.perf_counter()
        with pytest.raises(NotConnected, match=r"within 0\.1 s"):
            await client.post(endpoint, BODY, connect_s=0.1)
        assert time.perf_counter() - started < 0.5
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.post(endpoint, BODY, connect_s=CONNECT_S)
        for filler in fillers:
            filler.close()
    await until(lambda: open_files() <= before)


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_lost_before_the_answer_began_is_dropped_new_or_used(
    client: HttpClient, peer: Peer, end: str
) -> None:
    peer.answers.append(Answer(then=end))
    with pytest.raises(Dropped):
        await ask(client, peer)
    await ask(client, peer)
    peer.answers.append(Answer(then=end))
    with pytest.raises(Dropped):
        await ask(client, peer)
    assert len(peer.requests) == 3
    assert len(peer.connections) == 2


async def test_an_answer_until_the_end_of_the_connection_is_broken_by_a_reset(client: HttpClient, peer: Peer) -> None:
    peer.answers.append(Answer(b"HTTP/1.1 200 OK\r\n\r\nhalf"))
    response = await post(client, peer)
    assert await response.chunk() == b"half"
    reset(peer.connections[0].transport)
    with pytest.raises(Broken):
        await response.chunk()


async def test_a_peer_that_takes_nothing_does_not_outlast_the_callers_deadline(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = Endpoint.at(f"http://127.0.0.1:{listening.getsockname()[1]}/", {})
        started = time.perf_counter()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.post(endpoint, b"x" * 20_000_000, connect_s=CONNECT_S)
        assert time.perf_counter() - started < 1
        await closed(client)


async def test_a_peer_is_held_back_while_nobody_reads_and_nothing_is_lost(client: HttpClient, peer: Peer) -> None:
    body = random.Random(2).randbytes(1_000_000) * 64
    peer.answers.append(Answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)))
    response = await post(client, peer)
    left = 0

    def has_stalled() -> bool:
        nonlocal left
        before, left = left, peer.connections[0].transport.get_write_buffer_size()
        return left == before

    await asyncio.sleep(0.1)
    await until(has_stalled)
    assert left > len(body) // 2
    assert response.unread_bytes < 2 * MOST_UNREAD_BYTES
    async with asyncio.timeout(20):
        assert await response.read(MOST_BYTES) == body
    assert await ask(client, peer) == b"ok"
    assert len(peer.connections) == 1


async def test_a_client_that_is_closed_closes_all_and_fails_who_waits(client: HttpClient, peer: Peer) -> None:
    peer.answers.extend([Answer(), Answer(ENDLESS)])
    waiting = asyncio.create_task(post(client, peer))
    await until(lambda: len(peer.requests) == 1)
    begun = await post(client, peer)
    reading = asyncio.create_task(begun.read(MOST_BYTES))
    await ask(client, peer)
    await closed(client)
    await closed(client)
    for task in (waiting, reading):
        with pytest.raises(Broken):
            await task
    await until(lambda: not peer.open, AT_ONCE_S)
    with pytest.raises(NotConnected):
        await ask(client, peer)


# Hanging up.


async def test_closing_an_answer_closes_its_connection_at_once_and_again_does_nothing(
    client: HttpClient, peer: Peer
) -> None:
    peer.usual = Answer(ENDLESS)
    response = await post(client, peer)
    reading = asyncio.create_task(response.read(MOST_BYTES))
    await asyncio.sleep(0.01)
    response.close()
    response.close()
    await until(lambda: not peer.open, AT_ONCE_S)
    with pytest.raises(Broken):
        await reading


async def test_closing_an_answer_that_arrived_leaves_its_connection_to_others(client: HttpClient, peer: Peer) -> None:
    response = await post(client, peer)
    await until(lambda: response.arrived)
    response.close()
    assert await response.read(MOST_BYTES) == b"ok"
    await ask(client, peer)
    assert len(peer.connections) == 1


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


@pytest.mark.parametrize("usual", [Answer(), Answer(ENDLESS), Answer(OK), Answer(b"HTTP/1.1 200 OK\r\nx")])
async def test_a_caller_cancelled_at_any_moment_leaves_no_connection_task_or_file(peer: Peer, usual: Answer) -> None:
    peer.usual = usual
    client = HttpClient()
    files, tasks = open_files(), len(asyncio.all_tasks())
    await hang_ups(client, peer, 100, random.Random(3))
    if usual.raw != OK:
        await until(lambda: not peer.open, AT_ONCE_S)
    peer.usual = Answer(OK)
    for _ in range(5):
        assert await ask(client, peer) == b"ok"
    await closed(client)
    await until(lambda: not peer.open, AT_ONCE_S)
    assert open_files() == files
    assert len(asyncio.all_tasks()) == tasks


# TLS. The certificate says localhost and 127.0.0.1, is valid from 2020 to 2120, and is trusted by nobody.

CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgyTSeGE/jZT8cdCKu
MOrODJN0gd3FiDu9YZy3tsyHPSShRANCAATw5x3tWnx5Y4qi4QTm6sP6s5WZWZlO
z0odqx53/eDx8RHXq4SFcHZW7zpFEkbwwX6x7U9FxHG0kHymBDHaabxB
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBtTCCAVqgAwIBAgIBATAKBggqhkjOPQQDAjAiMSAwHgYDVQQDDBdGYXJ0aGlu
ZyBsb29wYmFjayB0ZXN0czAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAw
MFowIjEgMB4GA1UEAwwXRmFydGhpbmcgbG9vcGJhY2sgdGVzdHMwWTATBgcqhkjO
PQIBBggqhkjOPQMBBwNCAATw5x3tWnx5Y4qi4QTm6sP6s5WZWZlOz0odqx53/eDx
8RHXq4SFcHZW7zpFEkbwwX6x7U9FxHG0kHymBDHaabxBo38wfTAaBgNVHREEEzAR
gglsb2NhbGhvc3SHBH8AAAEwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMC
AoQwHQYDVR0OBBYEFDtu//S4G9u5S1l2UsWUl3MmxcdiMB8GA1UdIwQYMBaAFDtu
//S4G9u5S1l2UsWUl3MmxcdiMAoGCCqGSM49BAMCA0kAMEYCIQD85F7UjdKQfOLg
wklKNi054XpJh73Arviy9DvfUHWaWAIhAK51gOXqg3XhRoRG8xqBR2qgCsJ4T1+4
lMMpIYSGaLrP
-----END CERTIFICATE-----
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    path.write_text(CERTIFICATE)
    return path


@dataclass
class SecurePeer(Peer):
    names: list[str | None] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def running(cls, certificate: Path) -> AsyncIterator[Self]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        peer = cls()

        def note(_: object, name: str | None, __: object) -> None:
            peer.names.append(name)

        context.sni_callback = note
        async with serving(peer, context):
            yield peer


@pytest.fixture
async def secure_peer(certificate: Path) -> AsyncIterator[SecurePeer]:
    async with SecurePeer.running(certificate) as peer:
        yield peer


async def test_a_trusted_certificate_is_accepted_and_the_connection_reused(
    client: HttpClient, secure_peer: SecurePeer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for host in ("localhost", "127.0.0.1"):
        for _ in range(3):
            response = await client.post(secure_peer.endpoint(host), BODY, connect_s=CONNECT_S)
            assert await response.read(MOST_BYTES) == b"ok"
    assert len(secure_peer.connections) == 2
    assert secure_peer.names[0] == "localhost"


async def test_a_certificate_that_nobody_trusts_is_refused_and_nothing_is_sent(
    client: HttpClient, secure_peer: SecurePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with pytest.raises(NotConnected, match="its certificate is not accepted"):
        await post(client, secure_peer)
    assert secure_peer.requests == []
    await until(lambda: not secure_peer.open)


async def test_a_certificate_for_another_name_is_refused(
    client: HttpClient, secure_peer: SecurePeer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(NotConnected, match="its certificate is not accepted"):
        await client.post(secure_peer.endpoint("127.1"), BODY, connect_s=CONNECT_S)
    assert secure_peer.requests == []


async def test_a_peer_that_speaks_no_tls_is_not_connected(client: HttpClient) -> None:
    class Plain(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast(asyncio.Transport, transport).write(b"220 ready\r\n" * 10)

    server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0)
    endpoint = Endpoint.at(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {})
    with pytest.raises(NotConnected, match="TLS could not be agreed on"):
        await client.post(endpoint, BODY, connect_s=CONNECT_S)
    server.close()


async def test_over_tls_a_caller_cancelled_at_any_moment_leaves_no_connection_task_or_file(
    secure_peer: SecurePeer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure_peer.usual = Answer(ENDLESS)
    client = HttpClient()
    files = open_files()
    await hang_ups(client, secure_peer, 40, random.Random(4))
    await until(lambda: not secure_peer.open, AT_ONCE_S)
    response = await post(client, secure_peer)
    assert await response.chunk() == b"begin"
    response.close()
    await until(lambda: not secure_peer.open, AT_ONCE_S)
    await closed(client)
    await until(lambda: open_files() <= files)


async def test_over_tls_a_large_answer_is_held_back_and_whole(
    client: HttpClient, secure_peer: SecurePeer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    body = random.Random(5).randbytes(16_000_000)
    secure_peer.answers.append(Answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)))
    response = await post(client, secure_peer)
    await asyncio.sleep(0.1)
    assert response.unread_bytes < 3 * MOST_UNREAD_BYTES
    async with asyncio.timeout(20):
        assert await response.read(MOST_BYTES) == body


# Endpoints.


async def test_an_ipv6_address_is_called_in_brackets(client: HttpClient) -> None:
    endpoint = Endpoint.at("http://[::1]:8000/v1", {})
    assert endpoint.origin == Origin(secure=False, host="::1", port=8000)
    assert b"Host: [::1]:8000\r\n" in endpoint.head
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    peer = Peer()
    server = await asyncio.get_running_loop().create_server(lambda: PeerConnection(peer), sock=listening)
    endpoint = Endpoint.at(f"http://[::1]:{listening.getsockname()[1]}/", {})
    response = await client.post(endpoint, BODY, connect_s=CONNECT_S)
    assert await response.read(MOST_BYTES) == b"ok"
    server.close()


@pytest.mark.parametrize(
    ("url", "line", "host", "origin"),
    [
        ("http://Api.Example.com", "/", "api.example.com", (False, "api.example.com", 80)),
        ("https://api.example.com:443/v1", "/v1", "api.example.com", (True, "api.example.com", 443)),
        ("https://h:80/a?b=c&d=%20", "/a?b=c&d=%20", "h:80", (True, "h", 80)),
        ("http://h/a b/ü#f", "/a%20b/%C3%BC", "h", (False, "h", 80)),
        ("http://bücher.example/", "/", "xn--bcher-kva.example", (False, "xn--bcher-kva.example", 80)),
    ],
)
def test_an_endpoint_says_where_it_leads(url: str, line: str, host: str, origin: tuple[bool, str, int]) -> None:
    endpoint = Endpoint.at(url, {})
    assert endpoint.head == f"POST {line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: ".encode()
    assert endpoint.origin == origin


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com/v1", "ftp://h/", "unix:///run/x", "http://", "http://:80/", "http://u:secret@h/", "http://u@h/",
        "http://h:99999/", "http://h:x/", "http://[::1/", "http://[zz]/", "http://a b/", "http://h\0/",
        "http://" + "a" * 64,
    ],
)  # fmt: skip
def test_a_url_that_leads_nowhere_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(InvalidEndpoint) as refused:
        Endpoint.at(url, {})
    assert "secret" not in str(refused.value)


@given(name=st.text(max_size=8), value=st.text(max_size=12))
@example(name="a", value="b\r\nHost: x")
@example(name="a: b\r\nc", value="d")
@example(name="a", value="key\n")
def test_no_header_can_end_its_line(name: str, value: str) -> None:
    try:
        head = Endpoint.at("http://h/", {name: value}).head
    except InvalidEndpoint:
        return
    assert head.splitlines() == [
        b"POST / HTTP/1.1", b"Host: h", f"{name}: {value}".encode("ascii"), b"Content-Length: ",
    ]  # fmt: skip


def test_an_endpoint_does_not_show_its_key() -> None:
    assert "sk-1" not in repr(Endpoint.at("http://h/", {"Authorization": "Bearer sk-1"}))


# What the wire lane makes of it.


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
        assert [chunk.text async for chunk in stream] == ["Hi"]
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
