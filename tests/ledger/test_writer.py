"""The writer: batches, what it says when there is no room, and an outage of the store from end to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger.outcomes import answered, held
from ledger.server import PostgresServer
from router.errors import StoreUnavailable
from router.ledger.contract import Store
from router.ledger.labels import Change
from router.ledger.open import open_store
from router.ledger.postgres import WRITE_WITHIN_S
from router.ledger.rows import Row
from router.ledger.spool import Spool
from router.ledger.writer import LedgerWriter

pytestmark = pytest.mark.anyio
WITHIN_S = 20.0


class Gate(Store):
    """A store that a test holds up or takes away, before a real one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.away = False
        self.batches: list[list[str]] = []

    async def open(self) -> None:
        await self.store.open()

    async def write(self, rows: Sequence[Row]) -> int:
        self.batches.append([row[0] for row in rows])
        await self.open_gate.wait()
        if self.away:
            raise StoreUnavailable("It is away.")
        return await self.store.write(rows)

    async def change(self, changes: Sequence[Change]) -> int:
        return await self.store.change(changes)

    def ask(self, query: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        return self.store.ask(query, values)

    def close(self) -> None:
        self.store.close()

    def let_one_through(self) -> None:
        """Let what is being written on, and close the gate behind it."""
        self.open_gate.set()
        self.open_gate.clear()


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    gate = Gate(open_store(f"sqlite:///{tmp_path / 'gated.db'}"))
    yield gate
    gate.close()


@pytest.fixture
def spool(tmp_path: Path) -> Callable[[], Spool]:
    return lambda: Spool(tmp_path / "spool", "here/1/2")


@asynccontextmanager
async def writing(store: Store, spool: Spool | None = None, **options: Any) -> AsyncIterator[LedgerWriter]:
    writer = LedgerWriter(store, spool, **options)
    await writer.open()
    async with writer:
        try:
            yield writer
        except BaseException:
            if isinstance(store, Gate):
                # What failed is told, and not waited out behind a closed gate.
                store.away = False
                store.open_gate.set()
            raise


async def within(work: Coroutine[Any, Any, Any]) -> Any:
    async with asyncio.timeout(WITHIN_S):
        return await work


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds():
            await asyncio.sleep(0.005)


def ids(store: Store) -> list[str]:
    return [row[0] for row in store.ask("SELECT id FROM requests ORDER BY id")]


async def test_rows_that_come_while_one_is_committed_are_committed_together(gate: Gate) -> None:
    async with writing(gate) as writer:
        gate.open_gate.clear()
        events = [writer.record(held("first", 1))]
        await until(lambda: gate.batches)
        events += [writer.record(held(f"{number:03}", 1)) for number in range(300)]
        assert (writer.queued, writer.not_ready) == (301, None)
        gate.open_gate.set()
        for event in events:
            await within(event.wait())
        assert [len(batch) for batch in gate.batches] == [1, 300]
        assert writer.queued == 0


async def test_a_row_that_settles_before_it_is_written_is_written_once(gate: Gate) -> None:
    async with writing(gate) as writer:
        writer.record(held("a", 900))
        await within(writer.record(answered("a", 5)).wait())
    assert gate.batches == [["a"]]
    assert gate.store.spend((), None)[0].charged_nusd == 5


async def test_a_full_queue_turns_new_work_away_and_keeps_what_it_took(gate: Gate) -> None:
    async with writing(gate, most_queued=10) as writer:
        gate.open_gate.clear()
        for number in range(12):
            assert (writer.not_ready is None) == (number < 10)
            writer.record(held(f"{number:02}", 1))
        assert writer.not_ready == "The ledger's queue is full (12 rows)."
        gate.open_gate.set()
        await until(lambda: writer.queued == 0)
        assert writer.not_ready is None
    assert len(ids(gate)) == 12


async def test_without_a_spool_work_is_refused_until_the_store_is_back(gate: Gate) -> None:
    async with writing(gate) as writer:
        gate.away = True
        event = writer.record(held("a", 1))
        await until(lambda: writer.not_ready)
        assert (writer.not_ready, writer.queued, event.released.is_set()) == ("It is away.", 1, False)
        gate.away = False
        await within(event.wait())
        assert (writer.not_ready, writer.queued, writer.late_rows) == (None, 0, 1)
    assert ids(gate) == ["a"]


async def test_with_a_spool_work_goes_on_and_follows_in_order(gate: Gate, spool: Callable[[], Spool]) -> None:
    async with writing(gate, spool()) as writer:
        gate.away = True
        await within(writer.record(held("a", 900)).wait())
        await within(writer.record(held("b", 900)).wait())
        await within(writer.record(answered("a", 5)).wait())
        assert (writer.not_ready, writer.queued, ids(gate)) == (None, 3, [])
        assert writer.degraded == "It is away. 3 rows wait in the spool."
        gate.away = False
        await within(writer.caught_up.wait())
        assert (writer.queued, writer.degraded, ids(gate)) == (0, None, ["a", "b"])
        assert gate.spend((), None)[0].charged_nusd == 905
        await within(writer.record(held("c", 1)).wait())
        assert gate.batches[-1] == ["c"], "straight to the store again"


async def test_a_row_never_overtakes_those_of_its_process_that_wait_in_the_spool(
    gate: Gate, spool: Callable[[], Spool]
) -> None:
    async with writing(gate, spool()) as writer:
        gate.away = True
        for event in [writer.record(held(f"{number:03}", 1)) for number in range(600)]:
            await within(event.wait())
        gate.open_gate.clear()
        gate.away = False
        before = len(gate.batches)
        await until(lambda: len(gate.batches) > before)
        gate.let_one_through()
        await until(lambda: len(gate.batches) > before + 1)
        assert writer.queued < 600, "a part of them is there, so the store is known to be back"
        await within(writer.record(answered("new", 5)).wait())
        assert ["new"] not in gate.batches
        assert (writer.late_rows, writer.caught_up.is_set()) == (601, False)
        gate.open_gate.set()
        await within(writer.caught_up.wait())
        assert gate.batches[-1][-1] == "new"
    assert len(ids(gate)) == 601


async def test_a_flush_waits_for_what_is_written_and_for_what_gathers_behind_it(gate: Gate) -> None:
    async with writing(gate) as writer:
        gate.open_gate.clear()
        writer.record(held("first", 1))
        await until(lambda: gate.batches)
        writer.record(held("second", 1))
        flushing = asyncio.ensure_future(writer.flush())
        await asyncio.sleep(0)
        gate.let_one_through()
        await until(lambda: len(gate.batches) == 2)
        assert not flushing.done()
        gate.open_gate.set()
        await within(flushing)
        assert ids(gate) == ["first", "second"]


async def test_a_full_spool_turns_new_work_away(gate: Gate, tmp_path: Path) -> None:
    async with writing(gate, Spool(tmp_path / "spool", "here/1/2", largest_bytes=3_000)) as writer:
        gate.away = True
        taken = 0
        while writer.not_ready is None:
            await within(writer.record(held(f"{taken:03}", 1)).wait())
            taken += 1
            assert taken < 100, "it is never full"
        assert writer.not_ready == f"The ledger's spool is full ({taken} rows). It is away."
        gate.away = False
        await until(lambda: writer.not_ready is None)
        await within(writer.caught_up.wait())
    assert len(ids(gate)) == taken


async def test_a_stop_while_the_store_is_away_leaves_the_rows_to_the_next_start(
    gate: Gate, spool: Callable[[], Spool]
) -> None:
    gate.away = True
    async with writing(gate, spool()) as writer:
        writer.record(held("a", 1))
    gate.away = False
    async with writing(gate, spool()) as writer:
        assert (writer.queued, writer.caught_up.is_set(), ids(gate)) == (0, True, ["a"])


async def test_a_stop_loses_nothing_while_the_store_is_slow(gate: Gate) -> None:
    async with writing(gate) as writer:
        gate.open_gate.clear()
        for number in range(100):
            writer.record(answered(f"{number:03}", 1))
        await until(lambda: gate.batches)
        writer.record(answered("behind", 1))
        asyncio.get_running_loop().call_later(0.05, gate.let_one_through)
        asyncio.get_running_loop().call_later(0.10, gate.open_gate.set)
    assert len(ids(gate)) == 101


async def test_a_database_that_is_away_at_the_start_gets_all_once_it_is_there(
    postgres: PostgresServer, spool: Callable[[], Spool]
) -> None:
    store = open_store(postgres.new_database())
    await asyncio.to_thread(postgres.stop)
    try:
        async with writing(store, spool()) as writer:
            assert writer.not_ready is None
            assert "can't be reached" in (writer.degraded or "")
            assert not writer.caught_up.is_set()
            await within(writer.record(held("a", 1)).wait())
            await asyncio.to_thread(postgres.start)
            await within(writer.caught_up.wait())
            assert await asyncio.to_thread(ids, store) == ["a"]
    finally:
        await asyncio.to_thread(postgres.start)
        store.close()


async def test_a_database_that_hangs_is_away_in_bounded_time(
    postgres: PostgresServer, spool: Callable[[], Spool]
) -> None:
    store = open_store(postgres.new_database())
    loop = asyncio.get_running_loop()
    async with writing(store, spool()) as writer:
        await within(writer.record(held("a", 1)).wait())
        postgres.pause()
        try:
            began = loop.time()
            await within(writer.record(held("b", 1)).wait())
            assert loop.time() - began < WRITE_WITHIN_S + 2.0
            began = loop.time()
            await within(writer.record(held("c", 1)).wait())
            assert loop.time() - began < 1.0, "once it is known to be away, nobody waits for it"
        finally:
            postgres.resume()
        await within(writer.caught_up.wait())
        assert await asyncio.to_thread(ids, store) == ["a", "b", "c"]
    store.close()


async def test_a_restart_of_an_idle_database_is_not_noticed(
    postgres: PostgresServer, spool: Callable[[], Spool]
) -> None:
    store = open_store(postgres.new_database())
    async with writing(store, spool()) as writer:
        await within(writer.record(held("a", 1)).wait())
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        await within(writer.record(held("b", 1)).wait())
        assert (writer.degraded, writer.queued) == (None, 0)
    store.close()


async def test_a_database_that_is_stopped_under_load_misses_nothing_and_has_nothing_twice(
    postgres: PostgresServer, spool: Callable[[], Spool]
) -> None:
    store = open_store(postgres.new_database())
    known: dict[str, int] = {}

    async def request(number: int) -> None:
        await within(writer.record(held(f"{number:06}", 1_000)).wait())
        await asyncio.sleep(0.002)
        known[f"{number:06}"] = number % 7
        writer.record(answered(f"{number:06}", number % 7))

    async def caller(first: int) -> None:
        for number in range(first, 1_000_000, 20):
            await request(number)
            if stopped.is_set():
                return

    stopped = asyncio.Event()
    async with writing(store, spool()) as writer, asyncio.TaskGroup() as callers:
        for first in range(20):
            callers.create_task(caller(first))
        for _ in range(2):
            before = len(known)
            await until(lambda: len(known) > before + 500)  # noqa: B023  called in this turn of the loop
            await asyncio.to_thread(postgres.stop)
            assert writer.not_ready is None
            before = len(known)
            await until(lambda: len(known) > before + 1_000)  # noqa: B023
            assert writer.degraded
            await asyncio.to_thread(postgres.start)
            await within(writer.caught_up.wait())
        stopped.set()
    rows = await asyncio.to_thread(store.ask, "SELECT id, charged_nusd FROM requests")
    store.close()
    print(f"{len(rows)} requests over two outages")
    assert len(rows) == len(known)
    assert dict(rows) == known
