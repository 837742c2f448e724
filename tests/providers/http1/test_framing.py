"""How answers are framed, wherever the network cuts them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers.http1.peer import AT_ONCE_S, CHUNKED, ENDLESS, MOST_BYTES, OK, Answer, Peer, ask, post, until
from router.providers.http1 import AnswerTooLarge, Broken, Dropped, HttpClient, HttpError, Malformed
from router.providers.http1.connection import LARGEST_HEAD_BYTES, Connection
from router.providers.http1.endpoint import Origin
from router.providers.http1.pool import Pool

pytestmark = pytest.mark.anyio


# Each is (what comes, whether the peer then closes, what is made of it).

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
    _, connection = await loop.create_connection(lambda: Connection(origin, pool.idled, pool.lost), sock=ours)
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
