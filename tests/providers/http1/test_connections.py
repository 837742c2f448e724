"""Connections: their reuse, their failures, and callers who hang up."""

from __future__ import annotations

import asyncio
import random
import socket
import time

import pytest

from providers.http1.peer import (
    AT_ONCE_S,
    BODY,
    CHUNKED,
    CONNECT_S,
    ENDLESS,
    MOST_BYTES,
    OK,
    Answer,
    Peer,
    PeerConnection,
    ask,
    closed,
    hang_ups,
    open_files,
    post,
    reset,
    serving,
    until,
)
from router.providers.http1 import Broken, Dropped, Endpoint, HttpClient, NotConnected
from router.providers.http1.connection import LINGER_S, MOST_UNREAD_BYTES

pytestmark = pytest.mark.anyio


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
