"""Takes outcomes from the event loop and commits them in batches.

While one batch is being committed the next one gathers, so that batches grow with the load. Where there is little, a
held row is committed at once, beside the upstream call; where there is much, it waits for company, but no longer than
`HELD_WITHIN_S`, nor once its answer waits for it: a request that is answered sooner is one row. Nothing that was taken
on is dropped. Where the store is away, rows go to the spool and follow in their order when it is back; where there is
no spool, the batch is tried again until it is there. `not_ready` turns new work away when there is no room: while the
store is away or damaged without a spool, and when the queue or the spool is full.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from router.errors import FarthingError, StoreUnavailable
from router.ledger.contract import Store
from router.ledger.instance import own_instance
from router.ledger.rows import HELD_FOR_S, Row, row_of
from router.ledger.spool import Spool
from router.values import Ending, Outcome

MOST_QUEUED_ROWS = 20_000
"""As `Settings.ledger_queue_rows`."""
RETRY_S = 0.25
LONGEST_RETRY_S = 5.0
TRIES_AT_SHUTDOWN = 20
HELD_WITHIN_S = 0.002
FEW_ROWS = 2
"""A batch of so few says that there is no company to wait for."""
SETTLED_WITHIN_S = 0.02
"""A settled row may wait so long for company: its held row is committed already, at its ceiling."""
COMMIT_WITHIN_S = 5.0
"""How long an answer's last byte waits for its row; past that it goes out, and the row follows when it can."""

log = logging.getLogger("farthing.ledger")


@dataclass(slots=True)
class Batch:
    """Outcomes that are committed together, by id: one that settles before its held row was written replaces it."""

    hurry: Callable[[], None]
    """Have it written now."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    committed: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is committed, or has not been for so long that nobody should wait for it any more."""
    overdue: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Return when it is committed or spooled, or `COMMIT_WITHIN_S` after its first row at the latest."""
        if not self.released.is_set():
            self.hurry()
            await self.released.wait()

    def done(self) -> None:
        if self.overdue is not None:
            self.overdue.cancel()
        self.committed.set()
        self.released.set()

    def release(self) -> None:
        """Let the answers out that wait for these rows."""
        log.error("%d rows are not committed yet; their answers go out all the same.", len(self.outcomes))
        self.released.set()


class LedgerWriter:
    """The only writer of a store in this process; lives on one event loop, and writes between enter and exit."""

    def __init__(
        self,
        store: Store,
        spool: Spool | None = None,
        *,
        most_queued: int = MOST_QUEUED_ROWS,
        held_for_s: float = HELD_FOR_S,
        timed: Callable[[float], None] = lambda taken_s: None,
    ) -> None:
        self._store = store
        self._spool = spool
        self._most_queued = most_queued
        self._held_for_s = held_for_s
        self._timed = timed
        self._instance = own_instance()
        self._loop = asyncio.get_running_loop()
        self._tasks = asyncio.TaskGroup()
        self._working: list[asyncio.Task[None]] = []
        self._wanted = asyncio.Event()
        self._gathering = Batch(self._wanted.set)
        self._writing: Batch | None = None
        self._last_rows = 0
        self._spooled = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._away: str | None = None
        self._no_room: str | None = None
        self._tries_left: int | None = None
        self.held_back: str | None = None
        """Why no work may begin although rows can be taken: set by whoever has to read the ledger first."""
        self.caught_up = asyncio.Event()
        """Set while every row that was spooled, by whichever process, is in the store."""
        self.late_rows = spool.waiting_rows if spool else 0
        """Rows that could not be written at once, in all; those that earlier processes left in the spool among them."""

    @property
    def queued(self) -> int:
        """Rows that are taken on and not in the store yet, the spooled ones among them."""
        return self._in_memory + (self._spool.waiting_rows if self._spool else 0)

    @property
    def not_ready(self) -> str | None:
        """Why no new work should be taken on, without an address. None where all is well, or a spool takes it."""
        if self._no_room or self.held_back:
            return self._no_room or self.held_back
        if self._in_memory >= self._most_queued:
            return f"The ledger's queue is full ({self._in_memory} rows)."
        if self._spool is None and (damage := self._store.damage):
            return damage.told
        if self._spool and self._spool.full:
            return f"The ledger's spool is full ({self._spool.waiting_rows} rows). {self._away or ''}".rstrip()
        return None

    @property
    def degraded(self) -> str | None:
        """What is wrong with the store while work goes on, in words without an address; None where all is well."""
        away = self._away or ((damage := self._store.damage) and damage.told)
        if self._spool is None or not (away or self._spool.waiting_rows):
            return None
        return f"{away or 'The ledger catches up.'} {self._spool.waiting_rows} rows wait in the spool."

    def any_spooled(self) -> bool:
        """Say whether rows of this process, or of one that shares its spool, may not be in the store yet; any thread.

        What an answer waited for is spooled before it is out, so whoever looks here first, and then into the store,
        misses no row of it.
        """
        return self._spool is not None and self._spool.any_wait()

    async def open(self) -> None:
        """Bring the store up, and replay what earlier processes left in the spool.

        Where the store is away and there is a spool, that is left for later.

        Raises:
            StoreUnavailable: it can't be reached, and there is no spool.
            SchemaTooNew: a newer Farthing has been there.
        """
        try:
            await self._store.open()
            while self._spool and (chunk := await self._spool.oldest()):
                await self._store.write(chunk.rows)
                await self._spool.forget(chunk)
        except StoreUnavailable as error:
            if self._spool is None:
                raise
            self._lost(error)
        else:
            self.caught_up.set()

    def record(self, outcome: Outcome) -> Batch:
        """Take an outcome on, and return what it is committed with. Never blocks, never refuses."""
        batch = self._gathering
        if not batch.outcomes:
            batch.overdue = self._loop.call_later(COMMIT_WITHIN_S, batch.release)
        batch.outcomes[outcome.id] = outcome
        if self._writing is None:
            if outcome.ending is not Ending.HELD:
                self._want_within(SETTLED_WITHIN_S)
            elif self._last_rows <= FEW_ROWS:
                self._wanted.set()
            else:
                self._want_within(HELD_WITHIN_S)
        return batch

    async def flush(self) -> None:
        """Wait until what was taken on so far is committed, or spooled."""
        if self._in_memory:
            batch = self._gathering if self._gathering.outcomes else self._writing
            self._wanted.set()
            if batch is not None:
                await batch.committed.wait()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._working.append(self._tasks.create_task(self._write_batches()))
        if self._spool:
            self._working.append(self._tasks.create_task(self._replay(self._spool)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what is queued, or spool it. Rows are lost only where the store is away and there is no spool."""
        self._tries_left = TRIES_AT_SHUTDOWN
        while self._in_memory:
            self._wanted.set()
            await (self._writing or self._gathering).committed.wait()
        for task in self._working:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        if self._spool:
            if self._spool.waiting_rows:
                log.warning("%d rows of the ledger wait in the spool for the next start.", self._spool.waiting_rows)
            self._spool.close()

    @property
    def _in_memory(self) -> int:
        return len(self._gathering.outcomes) + (len(self._writing.outcomes) if self._writing else 0)

    def _want_within(self, within_s: float) -> None:
        """Have what gathers written so soon, or sooner."""
        due = self._loop.time() + within_s
        if self._later is not None:
            if self._later.when() <= due:
                return
            self._later.cancel()
        self._later = self._loop.call_at(due, self._wanted.set)

    async def _write_batches(self) -> None:
        """Commit one batch after the other, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._later is not None:
                self._later.cancel()
                self._later = None
            while self._gathering.outcomes:
                batch = self._writing = self._gathering
                self._gathering = Batch(self._wanted.set)
                outcomes = batch.outcomes.values()
                await self._keep([row_of(outcome, self._instance, self._held_for_s) for outcome in outcomes])
                self._writing = None
                self._last_rows = len(batch.outcomes)
                batch.done()

    async def _keep(self, rows: list[Row]) -> None:
        """Return once the rows are in the store, or in the spool; only a shutdown gives up."""
        while True:
            try:
                await (self._to_store(rows) if self._spool is None else self._to_either(self._spool, rows))
            except (FarthingError, OSError) as error:
                self._turned_away(error)
            except Exception as error:
                log.exception("Rows of the ledger can't be written; this is a bug.")
                self._turned_away(error)
            else:
                if self._no_room:
                    log.warning("The ledger takes rows again.")
                    self._no_room = None
                return
            if self._tries_left is not None:
                self._tries_left -= 1
                if self._tries_left < 0:
                    log.critical("%d rows of the ledger are lost: the store stayed away at shutdown.", len(rows))
                    return
            await asyncio.sleep(RETRY_S)

    async def _to_store(self, rows: list[Row]) -> None:
        started = time.perf_counter()
        try:
            await self._store.write(rows)
        finally:
            self._timed(time.perf_counter() - started)
        self._found()

    async def _to_either(self, spool: Spool, rows: list[Row]) -> None:
        """Write to the store, or behind the rows of this process that wait in the spool."""
        if not self._away and not spool.own_waits:
            try:
                self._require_whole()
                return await self._to_store(rows)
            except StoreUnavailable as error:
                self._lost(error)
        await spool.append(rows)
        self.late_rows += len(rows)
        self.caught_up.clear()
        self._spooled.set()
        return None

    async def _replay(self, spool: Spool) -> None:
        """Bring what was spooled to the store, oldest first, until cancelled."""
        while True:
            await self._spooled.wait()
            pause_s = RETRY_S
            while self._away or spool.waiting_rows:
                try:
                    self._require_whole()
                    if chunk := await spool.oldest():
                        await self._store.write(chunk.rows)
                        await spool.forget(chunk)
                    else:
                        await self._store.open()
                    self._found()
                    pause_s = RETRY_S
                except (FarthingError, OSError) as error:
                    self._lost(error)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_RETRY_S)
                except Exception as error:
                    log.exception("The ledger's spool can't be replayed; this is a bug.")
                    self._lost(error)
                    await asyncio.sleep(LONGEST_RETRY_S)
            self._spooled.clear()
            self.caught_up.set()
            log.warning("The ledger has every row that was spooled.")

    def _require_whole(self) -> None:
        """Make sure that the store is not known to be damaged, so that what it takes can be read again."""
        if damage := self._store.damage:
            raise damage

    def _found(self) -> None:
        if self._away:
            log.warning("The ledger is written again.")
            self._away = None

    def _lost(self, error: Exception) -> None:
        """Note that the store is away."""
        self.caught_up.clear()
        self._spooled.set()
        if not self._away:
            log.error("%s Rows are spooled until it is back.", error)
        self._away = _told(error)

    def _turned_away(self, error: Exception) -> None:
        """Note that rows find no room anywhere."""
        if not self._no_room:
            log.error("%s New requests are refused until that is mended; %d rows wait.", error, self._in_memory)
            self.late_rows += self._in_memory
        self._no_room = _told(error)


def _told(error: Exception) -> str:
    """Say what failed without an address or a path, which the log has."""
    match error:
        case FarthingError():
            return error.told
        case OSError(errno=int(number)):
            return f"The ledger's spool fails ({os.strerror(number).lower()}); the proxy's log says more."
        case _:
            return "The ledger can't be written now; the proxy's log says why."
