"""The ledger in one SQLite file, in WAL mode: readers such as `farthing spend` never wait for the proxy.

A commit survives the death of the process at any moment (the write-ahead log is in the system's hands by then); what
a power cut may take are the last commits before the next checkpoint.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from router.errors import StoreUnavailable
from router.ledger.contract import Store
from router.ledger.labels import Change
from router.ledger.rows import NAMES, Row
from router.ledger.schema import pending

BUSY_TIMEOUT_S = 5.0
MOST_ROWS_A_STATEMENT = 128
"""One statement writes many rows, so that the interpreter lock is given up once a batch and not once a row."""


class SqliteStore(Store):
    """The table `requests` in one file, made where it is missing, and written by one thread.

    Raises on opening:
        StoreUnavailable: the file can't be opened or is no ledger; the message says which and why.
        SchemaTooNew: a newer Farthing has been there.
    """

    name = "sqlite"

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._writing: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "ledger")
        if read_only:
            if not path.exists():
                raise StoreUnavailable(f"There is no ledger at {path}; nothing was recorded there yet.")
            return
        try:
            self._writing = self._connect()
            _migrate(self._writing)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The ledger {path} can't be opened: {error}.") from error

    async def open(self) -> None:
        return

    async def write(self, rows: Sequence[Row]) -> int:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, rows)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The ledger {self._path} can't be written: {error}.") from error

    async def change(self, changes: Sequence[Change]) -> int:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._change, changes)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The ledger {self._path} can't be written: {error}.") from error

    def ask(self, query: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        try:
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA query_only = ON")
                return connection.execute(query.replace("$", "?"), values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The ledger {self._path} can't be read: {error}.") from error

    def close(self) -> None:
        self._thread.shutdown()
        if self._writing is not None:
            self._writing.close()

    def _change(self, changes: Sequence[Change]) -> int:
        assert self._writing is not None, "a store that was opened to read is not written"
        before = self._writing.total_changes
        self._writing.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in changes:
                self._writing.execute(statement.replace("$", "?"), values)
            self._writing.execute("COMMIT")
        except BaseException:
            if self._writing.in_transaction:
                self._writing.execute("ROLLBACK")
            raise
        return self._writing.total_changes - before

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)

    def _write(self, rows: Sequence[Row]) -> int:
        assert self._writing is not None, "a store that was opened to read is not written"
        before = self._writing.total_changes
        if len(rows) == 1:
            # A statement of its own is a transaction of its own, for less than half of the calls.
            self._writing.execute(_upsert(1), rows[0])
            return self._writing.total_changes - before
        self._writing.execute("BEGIN IMMEDIATE")
        try:
            start = 0
            while start < len(rows):
                size = min(MOST_ROWS_A_STATEMENT, 1 << (len(rows) - start).bit_length() - 1)
                values = [value for row in rows[start : start + size] for value in row]
                self._writing.execute(_upsert(size), values)
                start += size
            self._writing.execute("COMMIT")
        except BaseException:
            if self._writing.in_transaction:
                self._writing.execute("ROLLBACK")
            raise
        return self._writing.total_changes - before


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up, under the lock of a transaction that writes."""
    # The write lock comes first: two processes that both change the mode of a new file would not wait for each other.
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS farthing_schema (version INTEGER PRIMARY KEY, at TEXT NOT NULL)")
        found = connection.execute("SELECT coalesce(max(version), 0) FROM farthing_schema").fetchone()[0]
        for statement in pending(found):
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


@functools.cache
def _upsert(rows: int) -> str:
    """Return the statement that writes this many rows; sizes are powers of two, so there are few of them."""
    marks = "(" + ", ".join("?" * len(NAMES)) + ")"
    changes = ", ".join(f"{name} = excluded.{name}" for name in NAMES[1:])
    return (
        f"INSERT INTO requests ({', '.join(NAMES)}) VALUES {', '.join([marks] * rows)} "  # noqa: S608  names are ours
        f"ON CONFLICT (id) DO UPDATE SET {changes} WHERE requests.outcome = 'held'"
    )
