"""What a store of budgets promises, whichever it is.

A hold takes from every scope or from none; a settlement gives back what was not used; whoever asks twice gets the
same result as once. A hold that is never settled expires, and until then it counts as spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from router.values import Level, Scope


class Budgets(Protocol):
    """A store of budgets."""

    async def hold(self, hold_id: str, scopes: Sequence[Scope], amount_nusd: int) -> Level | None:
        """Set `amount_nusd` aside in every scope at once, under the caller's id.

        Returns None where it was held (also where that id already holds), else the fullest level that was too full:
        then nothing was taken from any scope.

        Raises:
            StoreUnavailable: the store did not answer in time; nothing may be taken for held.
        """
        ...

    async def settle(self, hold_id: str, charge_nusd: int) -> None:
        """Turn a hold into a charge, in the windows in which it was held. A second call does nothing.

        A charge above the hold is booked whole.
        """
        ...

    async def levels(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        """Return how full each scope is now, in the order given."""
        ...

    async def aclose(self) -> None: ...
