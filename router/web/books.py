"""The money of one proxy: its ledger, and the budgets that start from what the ledger says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from router.budgets.contract import HOLD_TTL_S, Budgets
from router.budgets.lengths import Lengths
from router.budgets.open import MEMORY_URL, open_budgets
from router.errors import StoreUnavailable
from router.ledger.contract import Store
from router.ledger.open import open_spool, open_store
from router.ledger.writer import LedgerWriter
from router.lifecycle.scopes import windowed_scopes
from router.metrics import Metrics
from router.policy.policy import PolicySet
from router.settings import Settings
from router.web.spending import Spending, spent

MOST_RECENT = 10_000
"""Answers whose lengths are read at the start."""

log = logging.getLogger("farthing.budgets")


@dataclass(frozen=True, slots=True)
class Books:
    """What is spent, held and left."""

    store: Store
    ledger: LedgerWriter
    """Writes to the store, while it is entered."""
    spending: Spending
    budgets: Budgets


async def open_books(
    settings: Settings, policies: Callable[[], PolicySet], metrics: Metrics, clock: Callable[[], float]
) -> Books:
    """Open the ledger, and the budgets with what it says was spent.

    Where the ledger is away and its rows may wait in a spool, budgets in memory start later: until then the ledger is
    not ready for work.

    Raises:
        StoreUnavailable: the ledger can't be opened.
    """
    store = open_store(settings.ledger_url)
    ledger = LedgerWriter(
        store,
        open_spool(settings.ledger_url, settings.ledger_on_outage, settings.spool),
        most_queued=settings.ledger_queue_rows,
        held_for_s=HOLD_TTL_S,
        timed=partial(metrics.store, store.name, "commit"),
    )
    if store.join() and settings.budgets_url == MEMORY_URL:
        log.warning(
            "Another proxy serves from the ledger %s, and the budgets of this one are in its own memory: together they "
            "may spend each budget twice. Give both --budgets-url redis://HOST:PORT, or each a ledger of its own.",
            settings.ledger_url.removeprefix("sqlite:///"),
        )
    await ledger.open()
    spending = Spending(store, policies, clock)
    budgets = open_budgets(
        settings.budgets_url,
        clock,
        spending=partial(spending.with_holds, ledger),
        late_rows=lambda: ledger.late_rows,
        rebuilt=metrics.rebuilt,
        timed=lambda verb, taken_s: metrics.store("redis", verb, taken_s),
        on_outage=settings.budgets_on_outage,
        replicas=settings.replicas * settings.workers,
    )
    if settings.budgets_url == MEMORY_URL:
        try:
            await budgets.restore(spent(store, windowed_scopes(policies()), clock()))
        except StoreUnavailable as error:
            if not ledger.degraded:
                raise
            ledger.held_back = f"The budgets start from the ledger. {error.told}"
    return Books(store, ledger, spending, budgets)


def lengths_in(store: Store) -> Lengths:
    """Return how long the last answers were; nothing where the ledger is away, for a ceiling serves as well."""
    lengths = Lengths()
    with suppress(StoreUnavailable):
        lengths.restore(store.recent_outputs(MOST_RECENT))
    return lengths
