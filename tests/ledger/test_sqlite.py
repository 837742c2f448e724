"""What the ledger in a file writes on the event loop, and what it leaves to its thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ledger.outcomes import answered
from router.ledger.rows import Row, row_of
from router.ledger.sqlite import CHECKPOINT_ROWS, SqliteStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


def rows(*numbers: int) -> list[Row]:
    return [row_of(answered(f"id{number:06}", number), "here/1/2") for number in numbers]


def count(store: SqliteStore) -> int:
    found: int = store.ask("SELECT count(*) FROM requests")[0][0]
    return found


def has_thread() -> bool:
    return any(thread.name.startswith("ledger") for thread in threading.enumerate())


async def test_a_row_is_written_without_a_thread_and_many_rows_with_one(store: SqliteStore) -> None:
    await store.write(rows(1))
    await store.write(rows(2, 3))
    assert (count(store), has_thread()) == (3, False)
    await store.write(rows(*range(10)))
    assert (count(store), has_thread()) == (10, True)


async def test_a_row_waits_for_a_held_file_and_the_event_loop_does_not(store: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(store.write(rows(1)))
        while not has_thread():
            await asyncio.sleep(0)
        assert not writing.done()
        other.execute("ROLLBACK")
    assert await writing == 1
    assert count(store) == 1


async def test_after_a_slow_write_rows_go_to_the_thread(path: Path) -> None:
    store = SqliteStore(path, slow_s=0)
    await store.write(rows(1))
    assert not has_thread()
    await store.write(rows(2))
    assert (count(store), has_thread()) == (2, True)
    store.close()


@pytest.mark.parametrize("size", [1, 2, 50])
async def test_the_log_is_brought_into_the_file_and_stays_small(store: SqliteStore, path: Path, size: int) -> None:
    log = path.with_name(f"{path.name}-wal")
    largest = 0
    for first in range(0, 2 * CHECKPOINT_ROWS, size):
        await store.write(rows(*range(first, first + size)))
        largest = max(largest, log.stat().st_size)
    assert largest < 20_000_000
    assert path.stat().st_size > CHECKPOINT_ROWS * 200
    assert count(store) == 2 * CHECKPOINT_ROWS
