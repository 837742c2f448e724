"""What a store of the ledger promises, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from router.ledger.rows import Row

Grouping = Literal["task", "model", "account", "rule", "kind", "provider", "outcome", "day"]


@dataclass(frozen=True, slots=True)
class Spend:
    """What one group of requests came to, in nUSD. Savings are `baseline_nusd - charged_nusd`."""

    group: tuple[str, ...]
    """One value for each grouping, in the order asked; empty for the total."""
    requests: int
    charged_nusd: int
    baseline_nusd: int
    overhead_nusd: int
    over_budget_nusd: int
    input_tokens: int
    output_tokens: int


class Store(Protocol):
    """Where rows are kept. Blocking: `LedgerWriter` calls it from a thread of its own."""

    def write(self, rows: Sequence[Row]) -> None:
        """Commit all the rows or none. A row whose id is there already replaces it only while that one is held.

        Raises:
            StoreUnavailable: nothing was committed; the same call may be made again.
        """
        ...

    def spend(self, by: Sequence[Grouping], since: datetime | None) -> list[Spend]:
        """Return what was charged, by group, dearest first; without groups, one row of totals."""
        ...

    def charged_since(self, since: datetime, *, task: str | None, account: str | None) -> int:
        """Return the nUSD charged (or held and never settled) since then, for budgets to start from."""
        ...

    def close(self) -> None: ...
