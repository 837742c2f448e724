"""What the ledger in a file writes on the event loop, and what it leaves to its thread."""

from __future__ import annotations

import asyncio
import math
import resource
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ledger.outcomes import answered
from router.errors import LedgerUnavailable
from router.ledger.labels import LabelRow
from router.ledger.rows import Row, row_of
from router.ledger.sqlite import BUSY_TIMEOUT_S, CHECKPOINT_ROWS, SqliteStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, slow_s=math.inf)
    yield store
    store.close()


def rows(*numbers: int) -> list[Row]:
    return [row_of(answered(f"id{number:06}", number), "here/1/2") for number in numbers]


def count(store: SqliteStore) -> int:
    found: int = store.ask("SELECT count(*) FROM requests")[0][0]
    return found


async def is_at_once(writing: Awaitable[int]) -> bool:
    """Say whether rows were written by the time that the event loop came round, and wait until they are."""
    task = asyncio.ensure_future(writing)
    await asyncio.sleep(0)
    is_done = task.done()
    await task
    return is_done


async def test_a_row_is_written_on_the_event_loop_and_many_rows_are_not(store: SqliteStore) -> None:
    await store.write(rows(0))
    assert await is_at_once(store.write(rows(1)))
    assert await is_at_once(store.write(rows(2, 3)))
    assert not await is_at_once(store.write(rows(*range(10))))
    assert count(store) == 10


async def test_the_first_row_goes_to_the_thread_for_it_syncs_the_log_that_it_begins(store: SqliteStore) -> None:
    assert not await is_at_once(store.write(rows(1)))
    assert count(store) == 1


async def test_a_row_waits_for_a_held_file_and_the_event_loop_does_not(store: SqliteStore, path: Path) -> None:
    await store.write(rows(0))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing, began = asyncio.create_task(store.write(rows(1))), time.perf_counter()
        await asyncio.sleep(0)
        assert time.perf_counter() - began < BUSY_TIMEOUT_S / 2
        assert not writing.done()
        other.execute("ROLLBACK")
    assert await writing == 1
    assert count(store) == 2


async def test_after_a_slow_write_rows_go_to_the_thread(path: Path) -> None:
    store = SqliteStore(path, slow_s=0)
    await store.write(rows(0))
    assert await is_at_once(store.write(rows(1)))
    assert not await is_at_once(store.write(rows(2)))
    assert count(store) == 3
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


async def test_the_log_stays_small_where_another_process_writes_meanwhile(store: SqliteStore, path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    other, written = SqliteStore(path), 0

    async def write_beside() -> None:
        nonlocal written
        while True:
            written += 1
            await other.write(rows(1_000_000 + written))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        beside = tasks.create_task(write_beside())
        for first in range(0, 16 * CHECKPOINT_ROWS, 50):
            await store.write(rows(*range(first, first + 50)))
        beside.cancel()
    other.close()
    assert written > 1_000
    # Each of the two begins the log anew after so many rows of its own, 16 MB, but where the other is in its way; were
    # it never begun anew, it would have 120 MB and more.
    assert log.stat().st_size < 100_000_000


async def test_labels_alone_do_not_let_the_log_grow(store: SqliteStore, path: Path) -> None:
    for number in range(CHECKPOINT_ROWS // 2):
        await store.label([LabelRow("t", "x", f"id{number}", "check", "a", "b", 0.5, 0.1, 1.0, "y" * 500)])
    assert path.with_name(f"{path.name}-wal").stat().st_size < 20_000_000


async def test_a_log_that_a_crash_left_is_brought_in_by_the_first_write(store: SqliteStore, path: Path) -> None:
    for number in range(1_000):
        await store.write(rows(number))
    crashed = path.with_name("crashed.db")
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{crashed}{end}")
    left = crashed.stat().st_size
    started = SqliteStore(crashed)
    await started.write(rows(1_000))
    assert (crashed.stat().st_size > left + 200_000, count(started)) == (True, 1_001)
    started.close()


@pytest.fixture
def full_at() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow beyond so many bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_rows_are_taken_while_the_log_can_not_be_brought_into_the_file(
    store: SqliteStore, path: Path, full_at: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    for first in range(0, 6 * CHECKPOINT_ROWS, 500):
        await store.write(rows(*range(first, first + 500)))
    size = path.stat().st_size
    assert path.with_name(f"{path.name}-wal").stat().st_size < size / 2
    full_at(size)
    for first in range(6 * CHECKPOINT_ROWS, 8 * CHECKPOINT_ROWS, 500):
        await store.write(rows(*range(first, first + 500)))
    assert "can't be brought into the file" in caplog.text
    assert count(store) == 8 * CHECKPOINT_ROWS


async def test_a_log_that_is_removed_takes_no_rows(store: SqliteStore, path: Path) -> None:
    log = path.with_name("ledger.db-wal")
    await store.write(rows(0, 1))
    log.rename(log.with_suffix(".old"))
    with pytest.raises(LedgerUnavailable, match="was removed or replaced"):
        await store.write(rows(2))
    log.with_suffix(".old").rename(log)
    await store.write(rows(2))
    assert count(store) == 3


@pytest.mark.parametrize("becomes", ["removed", "replaced"])
async def test_a_file_that_is_not_the_one_that_was_opened_takes_no_rows_until_it_is_back(
    store: SqliteStore, path: Path, becomes: str
) -> None:
    await store.write(rows(0))
    path.rename(path.with_suffix(".old"))
    if becomes == "replaced":
        SqliteStore(path.with_suffix(".new")).close()
        path.with_suffix(".new").rename(path)
    for numbers in ([1], range(1, 10)):
        with pytest.raises(LedgerUnavailable, match="was removed or replaced"):
            await store.write(rows(*numbers))
    if becomes == "removed":
        with pytest.raises(LedgerUnavailable, match="can't be read"):
            count(store)
        assert not path.exists(), "a question makes no file"
    path.with_suffix(".old").rename(path)
    await store.write(rows(1))
    assert count(store) == 2


def test_who_joins_is_told_of_every_other_that_serves_and_not_of_one_that_has_ended(
    store: SqliteStore, path: Path
) -> None:
    with closing(SqliteStore(path)) as second:
        assert not store.join()
        assert not store.join()
        assert second.join()
        store.close()
        with closing(SqliteStore(path)) as third:
            assert third.join()
    with closing(SqliteStore(path)) as alone:
        assert not alone.join()
        reading = SqliteStore(path, read_only=True)
        assert count(reading) == 0
        reading.close()
        with closing(SqliteStore(path)) as last:
            assert last.join()
