"""The ledger in one SQLite file, in WAL mode: readers such as `farthing spend` never wait for the proxy.

A commit survives the death of the process at any moment (the write-ahead log is in the system's hands by then); what
a power cut may take are the last commits before the next checkpoint.

A row or two are written on the event loop, in 0.05 ms and beside the upstream call: to hand them to a thread and back
costs more than that. Whatever waits for a disk or a lock belongs to the thread: bigger batches, the first write and
each after a checkpoint (they sync the log's new head), checkpoints, a file that another process holds, and a while of
everything where a write has been slow.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from router.errors import LedgerUnavailable
from router.ledger.contract import Store
from router.ledger.labels import Change
from router.ledger.rows import NAMES, Row
from router.ledger.schema import at_odds, pending

BUSY_TIMEOUT_S = 5.0
LARGEST_CHECKED_BYTES = 256_000_000
"""A start looks whether a file up to this size is whole, in 0.3 s at the most where the system has it in memory."""
ROWS_AT_ONCE = 2
"""Batches of so few are written on the event loop."""
SLOW_S = 0.005
"""A write on the event loop that took longer sends all of the next `SHUNNED_S` to the thread."""
SHUNNED_S = 10.0
CHECKPOINT_ROWS = 4_000
"""After so many rows of this process the log, of 14 MB by then at the most, is brought into the file."""
CHECKPOINT_ALONE_S = 0.1
"""So long a checkpoint waits for other processes' writes and questions to end; meanwhile none of them writes."""
ROWS_OF_A_BATCH = 3
"""A batch fills the log by so many rows beside its own: the pages of the indexes that it touches."""
MOST_ROWS_A_STATEMENT = 128
"""One statement writes many rows, so that the interpreter lock is given up once a batch and not once a row."""

_VERSION = "SELECT coalesce(max(version), 0) FROM farthing_schema"
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOT_THERE = ("no such column", "no such table")
"""How SQLite begins to say that a question is at odds with the schema; it has no code of its own for that."""

log = logging.getLogger("farthing.ledger")


class SqliteStore(Store):
    """The table `requests` in one file, made where it is missing.

    Raises on opening:
        LedgerUnavailable: the file can't be opened, is no ledger or is damaged; the message says which and why.
        SchemaTooNew: a newer Farthing has been there.
    """

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        slow_s: float = SLOW_S,
        largest_checked_bytes: int = LARGEST_CHECKED_BYTES,
    ) -> None:
        self._path = path
        self._slow_s = slow_s
        self._writing: sqlite3.Connection | None = None
        self._at_once: sqlite3.Connection | None = None
        self._at_once_from = 0.0
        # The first write begins the log, or brings in what a killed process left there: either waits for a disk.
        self._unchecked_rows = CHECKPOINT_ROWS
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._file: tuple[int, int] | None = None
        self._is_damaged = False
        self._joined: int | None = None
        if read_only:
            if not path.exists():
                raise LedgerUnavailable(
                    f"There is no ledger at {path}; nothing was recorded there yet. Run this where the proxy "
                    "runs, or name its ledger: --ledger-url sqlite:///FILE (or FARTHING_LEDGER_URL).",
                    why="there is no file",
                )
            return
        try:
            self._writing = self._connect()
            if path.stat().st_size <= largest_checked_bytes:
                _check(self._writing)
            else:
                log.info("The ledger %s is too large to be checked at a start; PRAGMA quick_check does that.", path)
            _migrate(self._writing)
            self._at_once = self._connect(timeout_s=0)
            for connection in (self._writing, self._at_once):
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA wal_autocheckpoint = 0")
            # From its first read on, a connection makes the log where there is none, and nobody deletes it.
            self._writing.execute("SELECT version FROM farthing_schema").fetchall()
        except sqlite3.Error as error:
            if _is_damage(error):
                raise self._damaged(str(error)) from error
            why = str(error) if path.parent.is_dir() else f"there is no folder {path.parent}, so make it"
            raise LedgerUnavailable(f"The ledger {path} can't be opened: {why}.", why=str(error)) from error
        self._file = _identity(path)
        self._log_path = path.with_name(f"{path.name}-wal")
        self._log = _identity(self._log_path)
        """The write-ahead log, which stays the same while a connection is open."""

    async def open(self) -> None:
        return

    def join(self) -> bool:
        """Take a lock on a file beside the ledger: on its own file, SQLite would lose its locks by that.

        All who serve share it; who finds that it can be had alone is the first. The system frees it, however we end.
        """
        if self._joined is not None:
            return False
        beside = self._path.with_name(f"{self._path.name}-serving")
        try:
            self._joined = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._joined, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                fcntl.flock(self._joined, fcntl.LOCK_SH)
        except OSError as error:
            log.info("Whether another proxy serves from the ledger %s can't be told: %s.", self._path, error.strerror)
        return False

    async def write(self, rows: Sequence[Row]) -> int:
        self._check_file()
        checkpoint = self._checkpoint_is_due(len(rows))
        if len(rows) <= ROWS_AT_ONCE and not checkpoint and (written := self._write_at_once(rows)) is not None:
            return written
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, rows, checkpoint)
        except sqlite3.Error as error:
            raise self._unavailable(error, "written", str(error)) from error

    async def change(self, changes: Sequence[Change]) -> int:
        self._check_file()
        checkpoint = self._checkpoint_is_due(len(changes))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._change, changes, checkpoint)
        except sqlite3.Error as error:
            raise self._unavailable(error, "written", str(error)) from error

    def ask(self, query: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        try:
            # A connection by name alone would make the file where it was removed.
            found = f"{self._path.absolute().as_uri()}?mode=rw"
            with closing(sqlite3.connect(found, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True)) as connection:
                connection.execute("PRAGMA query_only = ON")
                return connection.execute(query.replace("$", "?"), values).fetchall()
        except sqlite3.Error as error:
            odds = at_odds(self._version()) if str(error).startswith(_NOT_THERE) else None
            why = odds or str(error)
            raise self._unavailable(error, "read", why) from error

    @property
    def damage(self) -> LedgerUnavailable | None:
        return self._damaged("the proxy met it before") if self._is_damaged else None

    def _unavailable(self, error: sqlite3.Error, done: str, why: str) -> LedgerUnavailable:
        """Return an error as ours."""
        if not _is_damage(error):
            return LedgerUnavailable(f"The ledger {self._path} can't be {done}: {why}.", why=why)
        self._note_damage(why)
        return self._damaged(why)

    def _note_damage(self, why: str) -> None:
        """Remember that the file is damaged, for that does not mend itself; another file in its place is not meant."""
        if self._file is not None and _identity(self._path) == self._file and not self._is_damaged:
            self._is_damaged = True
            log.critical("%s", self._damaged(why))

    def _damaged(self, why: str) -> LedgerUnavailable:
        name = self._path.name
        return LedgerUnavailable(
            f"The ledger {self._path} is damaged: {why}. Stop the proxy, move {name}, {name}-wal and {name}-shm to "
            "another folder, and start it again: it begins an empty ledger, in which budgets count from nothing, and "
            f"replays what is in the spool. `sqlite3 {name} .recover` there reads what is left of the old rows.",
            why="its file is damaged",
        )

    def _version(self) -> int:
        try:
            with closing(self._connect()) as connection:
                return int(connection.execute(_VERSION).fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def close(self) -> None:
        self._thread.shutdown()
        if self._joined is not None:
            os.close(self._joined)
            self._joined = None
        for connection in (self._at_once, self._writing):
            if connection is not None:
                connection.close()

    def _check_file(self) -> None:
        """Look whether what is written would be found again: a file that was removed takes writes without complaint.

        Raises:
            LedgerUnavailable: another file is in the place of the ledger or of its log, or none.
        """
        if (_identity(self._path), _identity(self._log_path)) != (self._file, self._log):
            raise LedgerUnavailable(
                f"The ledger {self._path} or its log {self._log_path.name} was removed or replaced under the proxy "
                "that has it open; put both files back, or stop the proxy and start it again.",
                why="its file was removed or replaced",
            )

    def _checkpoint_is_due(self, rows: int) -> bool:
        """Say whether a checkpoint goes before a batch of so many rows, and count the batch."""
        is_due = self._unchecked_rows >= CHECKPOINT_ROWS
        self._unchecked_rows = rows + ROWS_OF_A_BATCH + (0 if is_due else self._unchecked_rows)
        return is_due

    def _change(self, changes: Sequence[Change], checkpoint: bool) -> int:
        def work(connection: sqlite3.Connection) -> None:
            for statement, values in changes:
                connection.execute(statement.replace("$", "?"), values)

        return self._in_transaction(work, checkpoint)

    def _connect(self, *, timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=timeout_s, isolation_level=None, check_same_thread=False)

    def _write_at_once(self, rows: Sequence[Row]) -> int | None:
        """Write on the event loop, and return how many rows changed; None where that is the thread's work."""
        started = time.perf_counter()
        if self._at_once is None or started < self._at_once_from:
            return None
        try:
            written = self._at_once.execute(_upsert(len(rows)), [value for row in rows for value in row]).rowcount
        except sqlite3.Error as error:
            if _is_damage(error):
                # The thread may have the page in memory, and write it once more.
                self._note_damage(str(error))
            written = None
        if (ended := time.perf_counter()) - started > self._slow_s:
            self._at_once_from = ended + SHUNNED_S
        return written

    def _write(self, rows: Sequence[Row], checkpoint: bool) -> int:
        def work(connection: sqlite3.Connection) -> None:
            start = 0
            while start < len(rows):
                size = min(MOST_ROWS_A_STATEMENT, 1 << (len(rows) - start).bit_length() - 1)
                values = [value for row in rows[start : start + size] for value in row]
                connection.execute(_upsert(size), values)
                start += size

        return self._in_transaction(work, checkpoint)

    def _in_transaction(self, work: Callable[[sqlite3.Connection], None], checkpoint: bool) -> int:
        """Do a work whole or not at all, and return how many rows it changed."""
        connection = self._writing
        assert connection is not None, "a store that was opened to read is not written"
        if checkpoint:
            _checkpoint(connection, self._path)
        before = connection.total_changes
        connection.execute("BEGIN IMMEDIATE")
        try:
            work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return connection.total_changes - before


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file is at a path now; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  half the time of pathlib's, twice a batch
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _DAMAGE


def _check(connection: sqlite3.Connection) -> None:
    """Look whether the file is whole.

    Raises:
        DatabaseError: it is not.
    """
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        damage = sqlite3.DatabaseError(" ".join(found.removeprefix("*** in database main ***").split()))
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up, under the lock of a transaction that writes."""
    # The write lock comes first: two processes that both change the mode of a new file would not wait for each other.
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS farthing_schema (version INTEGER PRIMARY KEY, at TEXT NOT NULL)")
        found = connection.execute(_VERSION).fetchone()[0]
        for statement in pending(found):
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA journal_mode = WAL")


def _checkpoint(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the log into the file, before a write and not after it: whoever is next begins the log and syncs its head.

    The first step lets others write. Were they always writing, the log would never begin anew; so what they wrote
    meanwhile, which is little, is brought in while nobody writes. Where that can't be had soon, it waits for next time,
    and so does all where the disk is full or fails: whether the rows find room is for their own write to say.
    """
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        connection.execute(f"PRAGMA busy_timeout = {int(CHECKPOINT_ALONE_S * 1000)}")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
    except sqlite3.Error as error:
        log.error("The log of the ledger %s can't be brought into the file, and grows: %s.", path, error)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")


@functools.cache
def _upsert(rows: int) -> str:
    """Return the statement that writes this many rows; sizes are powers of two, so there are few of them."""
    marks = "(" + ", ".join("?" * len(NAMES)) + ")"
    changes = ", ".join(f"{name} = excluded.{name}" for name in NAMES[1:])
    return (
        f"INSERT INTO requests ({', '.join(NAMES)}) VALUES {', '.join([marks] * rows)} "  # noqa: S608  names are ours
        f"ON CONFLICT (id) DO UPDATE SET {changes} WHERE requests.outcome = 'held'"
    )
