"""The connections of one event loop: those that are open, and those of them that are idle, last used first.

Every connection is in `_open` from its making to its loss. One that is lost while idle is passed over, and swept.
"""

from __future__ import annotations

import asyncio

from router.providers.http1.connection import Connection
from router.providers.http1.endpoint import Origin


class Pool:
    """There is no limit on its size: how many requests are under way is bounded where requests come in."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def is_closed(self) -> bool:
        return self._emptied is not None

    def take(self, origin: Origin) -> Connection | None:
        """Take the connection that was used last, so that those we have too many of grow old."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
        return None

    def opened(self, connection: Connection) -> None:
        """Count a connection once it is made: uvloop does not tell the end of one whose making was cancelled."""
        if not connection.is_lost:
            self._open.add(connection)
        if self.is_closed:
            connection.abort()

    def idled(self, connection: Connection) -> None:
        """Take a connection back. It is closed when nobody took it for `idle_s`."""
        connection.idle_since = self._loop.time()
        self._idle.setdefault(connection.origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._idle_s, self._sweep)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    async def aclose(self) -> None:
        """Close every connection, whatever is under way on it, and return when all are gone."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        if self._emptied is None:
            self._emptied = self._loop.create_future()
        for connection in list(self._open):
            connection.abort()
        if self._open:
            await asyncio.shield(self._emptied)

    def _sweep(self) -> None:
        """Close what has been idle for long, and come again when the next of them will have been."""
        due = self._loop.time() - self._idle_s
        for connections in self._idle.values():
            while connections and connections[0].idle_since <= due:
                connections.pop(0).abort()
        oldest = [connections[0].idle_since for connections in self._idle.values() if connections]
        self._sweeping = self._loop.call_at(min(oldest) + self._idle_s, self._sweep) if oldest else None
