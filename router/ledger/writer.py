"""Takes outcomes from the event loop and commits them in batches from a thread of its own.

While one batch is being committed the next one gathers, so that batches grow with the load and a lone caller waits
for none. Nothing that was taken on is dropped: where the store fails, the batch is tried again until it is there,
and `not_ready` turns new work away meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue

from router.errors import StoreUnavailable
from router.ledger.contract import Store
from router.ledger.rows import Row, row_of
from router.values import Ending, Outcome

MOST_QUEUED_ROWS = 20_000
RETRY_S = 0.25
TRIES_AT_SHUTDOWN = 20
SETTLED_WITHIN_S = 0.02
"""A settled row may wait so long for company: its held row is committed already, at its ceiling."""

log = logging.getLogger("farthing.ledger")


@dataclass(slots=True)
class Batch:
    """Rows that are committed together, by id: a row that settles before its held row was written replaces it."""

    rows: dict[str, Row] = field(default_factory=dict)
    committed: asyncio.Event = field(default_factory=asyncio.Event)


class LedgerWriter:
    """The only writer of a store in this process; lives on one event loop."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, *, most_queued: int = MOST_QUEUED_ROWS) -> None:
        self._store = store
        self._loop = loop
        self._most_queued = most_queued
        self._gathering = Batch()
        self._writing: Batch | None = None
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._failing: str | None = None
        self._closing = False
        self._tries_left = TRIES_AT_SHUTDOWN
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_batches, name="ledger", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Rows that are taken on and not committed yet."""
        return len(self._gathering.rows) + (len(self._writing.rows) if self._writing else 0)

    @property
    def not_ready(self) -> str | None:
        """Why no new work should be taken on: the store fails or the queue is full. None where all is well."""
        if self._failing:
            return self._failing
        if self.queued >= self._most_queued:
            return f"The ledger's queue is full ({self.queued} rows)."
        return None

    def record(self, outcome: Outcome) -> asyncio.Event:
        """Take an outcome on; the event is set when it is committed. Never blocks, never refuses."""
        batch = self._gathering
        batch.rows[outcome.id] = row_of(outcome)
        if self._writing is None:
            if outcome.ending is not Ending.HELD:
                self._later = self._later or self._loop.call_later(SETTLED_WITHIN_S, self._submit)
            elif self._soon is None:
                # At the end of this turn of the loop, with whatever else comes in by then.
                self._soon = self._loop.call_soon(self._submit)
        return batch.committed

    async def aclose(self) -> None:
        """Commit what is queued, then let the thread go. Rows are lost only where the store is."""
        self._closing = True
        while self.queued:
            if self._writing is None:
                self._submit()
            else:
                await self._writing.committed.wait()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _submit(self) -> None:
        if self._later is not None:
            self._later.cancel()
        self._soon = self._later = None
        if self._writing is None and self._gathering.rows:
            self._writing, self._gathering = self._gathering, Batch()
            self._queue.put(self._writing)

    def _write_batches(self) -> None:
        """Run in the thread until a None comes."""
        while (batch := self._queue.get()) is not None:
            try:
                self._store.write(list(batch.rows.values()))
            except StoreUnavailable as error:
                self._loop.call_soon_threadsafe(self._failed, batch, error)
            else:
                self._loop.call_soon_threadsafe(self._done, batch)

    def _done(self, batch: Batch) -> None:
        if self._failing:
            log.warning("The ledger is written again.")
            self._failing = None
        self._writing = None
        batch.committed.set()
        self._submit()

    def _failed(self, batch: Batch, error: StoreUnavailable) -> None:
        if not self._failing:
            log.error("%s New requests are refused until it is back; %d rows wait.", error.message, self.queued)
        self._failing = error.message
        self._tries_left -= self._closing
        if self._tries_left < 0:
            log.critical("%d rows of the ledger are lost: the store stayed away at shutdown.", self.queued)
            self._writing, self._gathering = None, Batch()
            batch.committed.set()
            return
        self._loop.call_later(RETRY_S, self._queue.put, batch)
