"""A lean HTTP/1.1 load generator: kept-alive connections on uvloop, prebuilt requests, every answer checked.

It must cost less than what it measures, so it looks only for the end of each answer and at its status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run of a load came to. Latencies are in seconds, sorted."""

    requests: int
    failed: int
    elapsed_s: float
    latencies_s: list[float]

    @property
    def per_s(self) -> float:
        return self.requests / self.elapsed_s

    def quantile_ms(self, share: float) -> float:
        return 1e3 * self.latencies_s[min(len(self.latencies_s) - 1, int(share * len(self.latencies_s)))]


class _Caller(asyncio.Protocol):
    """One connection that sends one request after another."""

    def __init__(self, requests: Iterator[bytes], latencies_s: list[float], left: list[int]) -> None:
        """`left` holds how many requests all connections together have yet to send."""
        self._requests = requests
        self._latencies_s = latencies_s
        self._left = left
        self.failed = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  uvloop's is one, and says it is not
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._latencies_s.append(time.perf_counter() - self._sent)
        if self._parser.get_status_code() != 200:
            self.failed += 1
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.failed += 1
            self.done.set_result(None)

    def _send(self) -> None:
        if self._left[0] <= 0:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
            return
        self._left[0] -= 1
        self._parser = httptools.HttpResponseParser(self)
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


async def load(url: str, bodies: Sequence[bytes], *, callers: int, requests: int, key: str | None = None) -> Figures:
    """Send `requests`, these bodies in turn, over `callers` connections, each waiting for its answer first."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    head = "\r\n".join(lines)
    prebuilt = cycle([f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies])
    latencies_s: list[float] = []
    left = [requests]
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = []
    for _ in range(callers):
        _, caller = await loop.create_connection(
            lambda: _Caller(prebuilt, latencies_s, left), parts.hostname, parts.port
        )
        made.append(caller)
    await asyncio.gather(*(caller.done for caller in made))
    elapsed_s = time.perf_counter() - started
    return Figures(len(latencies_s), sum(caller.failed for caller in made), elapsed_s, sorted(latencies_s))
