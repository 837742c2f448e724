"""What is sent, and where a URL leads."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.http1.peer import BODY, CONNECT_S, MOST_BYTES, Peer, PeerConnection, ask, post
from router.providers.http1 import Endpoint, HttpClient, InvalidEndpoint
from router.providers.http1.endpoint import Origin

pytestmark = pytest.mark.anyio


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
