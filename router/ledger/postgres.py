"""The ledger in PostgreSQL, through asyncpg.

Batches are written on the event loop itself. A driver that blocks in a thread would need the interpreter lock for each
of its steps, and a busy loop lends it 5 ms late each time; on the loop, a batch of 100 rows takes 0.7 ms of it.
Questions are rare and may be long: each has a connection and a loop of its own, in a thread.

Every text has the collation "C": bytes decide order and equality, as in SQLite, and times in text sort as times.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]  # it has no annotations

from router.errors import LedgerUnavailable
from router.ledger.contract import Store
from router.ledger.labels import Change
from router.ledger.rows import COLUMNS, NAMES, Row
from router.ledger.schema import at_odds, pending

CONNECT_WITHIN_S = 2.0
WRITE_WITHIN_S = 2.5
"""For one batch, with connecting: less than an answer's last byte waits for its row."""
READ_WITHIN_S = 60.0
MIGRATE_WITHIN_S = 600.0
"""A large table takes its time; other replicas wait for the one that brings the schema up."""

T = TypeVar("T")

_MIGRATION_LOCK = 0x0FA7_0001
"""The advisory lock that all replicas take before they change the schema; a number that nobody else will use."""
_LABELS_LOCK = 0x0FA7_0002
"""Taken by whoever adds labels, until that is committed: a number is then never seen before a lower one."""
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_TYPES = {"TEXT": "text[]", "BIGINT": "bigint[]", "DOUBLE": "float8[]"}
_UPSERT = (
    f"INSERT INTO requests ({', '.join(NAMES)}) SELECT * FROM unnest("  # noqa: S608  names are ours
    + ", ".join(f"${number}::{_TYPES[kind.split()[0]]}" for number, (_, kind, _) in enumerate(COLUMNS, 1))
    + ") ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in NAMES[1:])
    + " WHERE requests.outcome = 'held'"
)


class PostgresStore(Store):
    """The table `requests` in one database; connects when it is needed, and again whenever that was lost.

    The URL is asyncpg's: several hosts, `sslmode`, `sslrootcert`, `target_session_attrs=read-write` and so on.
    """

    name = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        self._where = _without_secrets(url)
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._opened = False

    async def open(self) -> None:
        async with self._turn:
            try:
                await self._connected()
            except _FAILURES as error:
                self.close()
                raise self._away("reached", error) from error
            except BaseException:
                self.close()
                raise

    async def write(self, rows: Sequence[Row]) -> int:
        return await self._written(partial(self._upsert, rows))

    async def change(self, changes: Sequence[Change]) -> int:
        return await self._written(partial(self._change, changes))

    async def _written(self, work: Callable[[], Awaitable[int]]) -> int:
        """Do a piece of writing, alone on the connection, and once more where that was found closed."""
        async with self._turn:
            # One that was idle may have been closed by the other side, which is no reason to say that it is away.
            may_be_stale = self._connection is not None
            try:
                try:
                    return await work()
                except _FAILURES as error:
                    if not may_be_stale or isinstance(error, TimeoutError):
                        raise
                    self.close()
                    return await work()
            except _FAILURES as error:
                self.close()
                raise self._away("written", error) from error
            except BaseException:
                self.close()
                raise

    def ask(self, query: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        try:
            try:
                return _apart(self._fetch(query, values))
            except (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError) as error:
                if (why := at_odds(_apart(self._found()))) is None:
                    raise
                raise LedgerUnavailable(f"The ledger {self._where} can't be read: {why}.", why=why) from error
        except _FAILURES as error:
            raise self._away("read", error) from error

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()

    def _away(self, verb: str, error: BaseException) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"The ledger {self._where} can't be {verb}: {_in_full(error)}.", why=_without_address(error)
        )

    async def _upsert(self, rows: Sequence[Row]) -> int:
        if not rows:
            return 0
        connection = await self._connected()
        status = await connection.execute(_UPSERT, *zip(*rows, strict=True))
        return int(status.rpartition(" ")[2])

    async def _change(self, changes: Sequence[Change]) -> int:
        connection = await self._connected()
        changed = 0
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LABELS_LOCK)
            for statement, values in changes:
                status = await connection.execute(statement, *values)
                changed += int(status.rpartition(" ")[2])
        return changed

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            connection = self._connection = await self._connect()
            await self._migrate(connection)
        return self._connection

    async def _connect(self) -> asyncpg.Connection:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            return await asyncpg.connect(self._url, timeout=CONNECT_WITHIN_S, command_timeout=WRITE_WITHIN_S)

    async def _fetch(self, query: str, values: Sequence[str | int]) -> list[tuple[Any, ...]]:
        async with asyncio.timeout(READ_WITHIN_S):
            connection = await self._connect()
            try:
                async with connection.transaction(readonly=True):
                    return [tuple(row) for row in await connection.fetch(query, *values, timeout=READ_WITHIN_S)]
            finally:
                connection.terminate()

    async def _found(self) -> int:
        """Return the version of the ledger's schema; 0 where it has none."""
        async with asyncio.timeout(READ_WITHIN_S):
            connection = await self._connect()
            try:
                return await _version(connection)
            finally:
                connection.terminate()

    async def _migrate(self, connection: asyncpg.Connection) -> None:
        """Bring the schema up where it is older than ours; on a reconnect, live with one that has become newer."""
        found = await _version(connection)
        if found and self._opened:
            return
        if not list(pending(found)):
            self._opened = True
            return
        async with asyncio.timeout(MIGRATE_WITHIN_S), connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK, timeout=MIGRATE_WITHIN_S)
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS farthing_schema (version INTEGER PRIMARY KEY, at TEXT NOT NULL)"
            )
            for statement in pending(await _version(connection), text='TEXT COLLATE "C"'):
                await connection.execute(statement, timeout=MIGRATE_WITHIN_S)
        self._opened = True


async def _version(connection: asyncpg.Connection) -> int:
    if await connection.fetchval("SELECT to_regclass('farthing_schema')") is None:
        return 0
    return int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM farthing_schema"))


def _apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own, whether or not this thread has one."""
    with ThreadPoolExecutor(1, "ledger-question") as thread:
        return thread.submit(asyncio.run, work).result()


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _in_full(error: BaseException) -> str:
    return str(error).rstrip(".") or "no answer in time"


def _without_address(error: BaseException) -> str:
    """Say what failed; the errors' own words name hosts, databases and users."""
    match error:
        case asyncpg.PostgresError():
            return f"SQLSTATE {error.sqlstate}"
        case TimeoutError():
            return "no answer in time"
        case socket.gaierror():
            return "its host's name is not known"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case _:
            return "no connection"
