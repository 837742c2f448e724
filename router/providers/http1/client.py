"""Posting a request: over an idle connection where there is one, else over a new one, made within the caller's limit.

Names are looked up off the event loop. Certificates and host names are checked; no proxy of the environment is used.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping, Sequence

import aiohappyeyeballs
import certifi

from router.providers.http1.connection import Connection, Response
from router.providers.http1.endpoint import Endpoint, Origin
from router.providers.http1.errors import NotConnected
from router.providers.http1.pool import Pool

IDLE_CONNECTION_S = 60.0
NEXT_ADDRESS_AFTER_S = 0.25
"""How long one address of a name is waited for before the next is tried beside it (RFC 8305)."""


class HttpClient:
    """Posts requests. One instance for each event loop; built inside it."""

    def __init__(self, *, idle_s: float = IDLE_CONNECTION_S) -> None:
        self._pool = Pool(idle_s)
        self._tls: ssl.SSLContext | None = None
        self._tls_lock = asyncio.Lock()

    async def post(self, endpoint: Endpoint, body: bytes, *, connect_s: float, headers: bytes = b"") -> Response:
        """Send a request and return its response once the head is there.

        `headers` are those of this request alone: lines of ASCII, each with its line end.

        Raises:
            NotConnected: nothing was sent; also after `connect_s` of connecting.
            Dropped, Malformed, Broken: it was sent, in part at least, and no response came.
        """
        connection = self._pool.take(endpoint.origin) or await self._connection(endpoint.origin, connect_s)
        response = connection.send(endpoint.head, body, headers)
        await response.head()
        return response

    async def aclose(self) -> None:
        """Close every connection, whatever is under way on it, and return when all are gone."""
        await self._pool.aclose()

    async def _connection(self, origin: Origin, connect_s: float) -> Connection:
        if self._pool.is_closed:
            raise NotConnected("the client is closed")
        connection = Connection(origin, self._pool.idled, self._pool.lost)
        made = False
        try:
            async with asyncio.timeout(connect_s):
                await self._connect(connection)
            made = True
        except TimeoutError as error:
            raise NotConnected(f"there was no connection within {connect_s:g} s") from error
        except OSError as error:
            raise NotConnected(_why(error)) from error
        finally:
            if not made:
                connection.abort()
        self._pool.opened(connection)
        return connection

    async def _connect(self, connection: Connection) -> None:
        origin = connection.origin
        tls = await self._tls_context() if origin.secure else None
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            sock=await _connected_socket(origin),
            ssl=tls,
            server_hostname=origin.host.rstrip(".") if tls else None,
        )

    async def _tls_context(self) -> ssl.SSLContext:
        """Return the context, made off the event loop when it is first needed: reading the roots takes 20 ms."""
        async with self._tls_lock:
            if self._tls is None:
                self._tls = await asyncio.to_thread(trusting_context, os.environ)
            return self._tls


def trusting_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that trusts certifi's roots, or those that SSL_CERT_FILE or SSL_CERT_DIR name instead."""
    file, folder = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    context = ssl.create_default_context(cafile=file or (None if folder else certifi.where()), capath=folder or None)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _connected_socket(origin: Origin) -> socket.socket:
    try:
        connected = await aiohappyeyeballs.start_connection(
            await _addresses(origin), happy_eyeballs_delay=NEXT_ADDRESS_AFTER_S
        )
    except RuntimeError as error:
        # So uvloop tells of some failures to connect.
        raise ConnectionError from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connected


async def _addresses(origin: Origin) -> Sequence[aiohappyeyeballs.AddrInfoType]:
    """Look a name up, off the event loop; an address is only read."""
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        return socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM, flags=numeric)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)


def _why(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted ({error.verify_message})"
        case ssl.SSLError():
            return "TLS could not be agreed on"
        case socket.gaierror():
            return "its name does not resolve"
        case ConnectionRefusedError():
            return "the connection was refused"
    return os.strerror(error.errno).lower() if error.errno else "no connection could be made"
