"""The ledger in one SQLite file, in WAL mode: readers such as `farthing spend` never wait for the proxy.

A commit survives the death of the process at any moment (the write-ahead log is in the system's hands by then); what
a power cut may take are the last commits before the next checkpoint.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router.errors import StoreUnavailable
from router.ledger.contract import Grouping, Spend
from router.ledger.rows import COLUMNS, NAMES, Row

BUSY_TIMEOUT_S = 5.0
MOST_ROWS_A_STATEMENT = 128
"""One statement writes many rows, so that the interpreter lock is given up once a batch and not once a row."""

_COLUMN_OF: dict[Grouping, str] = {
    "task": "task",
    "model": "coalesce(routed_model, '-')",
    "account": "coalesce(account, '-')",
    "rule": "rule",
    "kind": "coalesce(kind, '-')",
    "provider": "coalesce(provider, '-')",
    "outcome": "outcome",
    "day": "substr(at, 1, 10)",
}
_SUMS = (
    "charged_nusd",
    "baseline_nusd",
    "overhead_nusd",
    "over_budget_nusd",
    "input_tokens",
    "output_tokens",
)


class SqliteStore:
    """The table `requests` in one file, made where it is missing.

    Raises on opening:
        StoreUnavailable: the file can't be opened or is no ledger; the message says which and why.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        if read_only and not path.exists():
            raise StoreUnavailable(f"There is no ledger at {path}; nothing was recorded there yet.")
        try:
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            if read_only:
                self._connection.execute("PRAGMA query_only = ON")
            else:
                self._migrate()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The ledger {path} can't be opened: {error}.") from error

    def write(self, rows: Sequence[Row]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                start = 0
                while start < len(rows):
                    size = min(MOST_ROWS_A_STATEMENT, 1 << (len(rows) - start).bit_length() - 1)
                    values = [value for row in rows[start : start + size] for value in row]
                    self._connection.execute(_upsert(size), values)
                    start += size
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The ledger {self._path} can't be written: {error}.") from error

    def spend(self, by: Sequence[Grouping], since: datetime | None) -> list[Spend]:
        groups = [_COLUMN_OF[grouping] for grouping in by]
        sums = [f"coalesce(sum({name}), 0)" for name in _SUMS]
        query = f"SELECT count(*), {', '.join(sums + groups)} FROM requests WHERE at >= ?"  # noqa: S608  no input in it
        if groups:
            query += f" GROUP BY {', '.join(groups)} ORDER BY 2 DESC, 1 DESC, {', '.join(groups)}"
        rows = self._read(query, (_text(since) if since else "",))
        return [Spend(tuple(row[7:]), *row[:7]) for row in rows]

    def charged_since(self, since: datetime, *, task: str | None, account: str | None) -> int:
        query, values = "SELECT coalesce(sum(charged_nusd), 0) FROM requests WHERE at >= ?", [_text(since)]
        for column, value in (("task", task), ("account", account)):
            if value is not None:
                query += f" AND {column} = ?"
                values.append(value)
        return int(self._read(query, values)[0][0])

    def close(self) -> None:
        self._connection.close()

    def _read(self, query: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The ledger {self._path} can't be read: {error}.") from error

    def _migrate(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS requests ({columns})")
        self._connection.execute("CREATE INDEX IF NOT EXISTS requests_at ON requests (at)")


@functools.cache
def _upsert(rows: int) -> str:
    """Return the statement that writes this many rows; sizes are powers of two, so there are few of them."""
    marks = "(" + ", ".join("?" * len(NAMES)) + ")"
    changes = ", ".join(f"{name} = excluded.{name}" for name in NAMES[1:])
    return (
        f"INSERT INTO requests ({', '.join(NAMES)}) VALUES {', '.join([marks] * rows)} "  # noqa: S608  names are ours
        f"ON CONFLICT (id) DO UPDATE SET {changes} WHERE requests.outcome = 'held'"
    )


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
