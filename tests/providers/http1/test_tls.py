"""TLS: whom a client trusts, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, cast

import pytest

from providers.http1.peer import (
    AT_ONCE_S,
    BODY,
    CONNECT_S,
    ENDLESS,
    MOST_BYTES,
    Answer,
    Peer,
    closed,
    hang_ups,
    open_files,
    post,
    serving,
    until,
)
from router.providers.http1 import Endpoint, HttpClient, NotConnected
from router.providers.http1.connection import MOST_UNREAD_BYTES

pytestmark = pytest.mark.anyio


# The certificate says localhost and 127.0.0.1, is valid from 2020 to 2120, and is trusted by nobody.

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
