"""What a store of budgets promises, whichever it is.

A hold takes from every scope and every rate or from none; a settlement gives back what was not used; whoever asks
twice gets the same result as once. A hold that is never settled expires: it is booked as spent at its ceiling, which
a settlement that comes later corrects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from router.values import Level, Rate, Scope

HOLD_TTL_S = 900.0
"""A hold that is not settled by then is reclaimed: longer than any request may last by default."""
LATE_S = 86_400.0
"""How long after that a settlement still corrects what was booked."""
WITHIN_S = 1.0
"""How long a store that is not in this process may take to answer."""
UNITS = 60_000
"""A bucket's debt is counted in this part of a request or a token, so that a millisecond's refill is a whole number."""


Verb = Literal["hold", "settle", "levels", "rates", "restore", "claim"]
"""What a store that is not in this process is asked to do."""
Timed = Callable[[Verb, float], None]
"""Is told how many seconds one answer took."""


class Draw(Struct, frozen=True):
    """What a request takes of a rate: one request, or its tokens as far as they are known before."""

    rate: Rate
    count: int


class Hold(Struct, frozen=True):
    """What is asked for, under an id that the caller makes. Takes `amount_nusd` of every scope."""

    id: str
    scopes: Sequence[Scope]
    amount_nusd: int
    ceiling_nusd: int = 0
    """What is booked where the hold is never settled; never less than the amount."""
    draws: tuple[Draw, ...] = ()

    @property
    def lost_nusd(self) -> int:
        """What is booked where it is never settled."""
        return max(self.amount_nusd, self.ceiling_nusd)


class Held(Struct, frozen=True):
    """It is held, in every scope."""

    over: tuple[Level, ...] = ()
    """The soft scopes whose limits were spent before it, as a hard one would have had no room for it."""


class Short(Struct, frozen=True):
    """Nothing was taken: `level` is the fullest of the hard scopes that were too full."""

    level: Level


class Limited(Struct, frozen=True):
    """Nothing was taken: `rate` has room for it in `wait_s` seconds, if nobody comes before."""

    rate: Rate
    wait_s: float


Answer = Held | Short | Limited


class OpenHold(Struct, frozen=True):
    """A hold that was made then, and is not settled."""

    hold: Hold
    at_s: float


class Spent(Struct, frozen=True):
    """What the ledger says of every windowed scope's present window: nUSD that are spent, and what is held beside."""

    by_scope: Mapping[Scope, int]
    open: tuple[OpenHold, ...] = ()


Spending = Callable[[], Awaitable[Spent]]
"""Reads it from the ledger."""


class Budgets(Protocol):
    """A store of budgets."""

    async def hold(self, hold: Hold) -> Answer:
        """Set money aside in every scope and draw on every rate, at once. An id that already holds is Held again.

        A hold of nothing is never short. A draw of more than a whole minute's allowance waits for a full bucket.

        Raises:
            StoreUnavailable: the store did not answer in time; nothing stays held.
        """
        ...

    async def settle(self, hold_id: str, charge_nusd: int, used_tokens: int | None = None) -> None:
        """Turn a hold into a charge, in the windows in which it was held. A second call does nothing.

        A charge above the hold is booked whole. `used_tokens` corrects what was drawn of rates in tokens; None
        leaves it. Never fails: where the store is away, it is kept and tried again.
        """
        ...

    async def levels(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        """Return how full each scope is now, in the order given.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        ...

    async def peek(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        """Return what a hold would find in each scope now, in the order given, and take nothing.

        Raises:
            StoreUnavailable: where a hold would.
        """
        ...

    async def peek_rates(self, draws: Sequence[Draw]) -> Limited | None:
        """Return the first rate that would have no room for these draws of a hold now, and take nothing.

        Raises:
            StoreUnavailable: where a hold would.
        """
        ...

    async def restore(self, spent: Mapping[Scope, int]) -> None:
        """Lift each scope's present window to what the ledger says was spent or is held there; never lower it.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        ...

    async def work(self) -> None:
        """Do what the store does in the background, until cancelled."""
        ...

    async def aclose(self) -> None: ...

    @property
    def unsettled(self) -> int:
        """Settlements that were told and are not in the store yet."""
        ...

    @property
    def degraded(self) -> str | None:
        """What is wrong while the store is away, in words without an address; None where all is well."""
        ...


def scope_key(scope: Scope, now_s: float) -> str:
    """Name the counters of a scope's present window; holds no blank."""
    return f"{scope.kind}:{scope.name}:{scope.window}:{scope.bucket(now_s)}"


def rate_key(rate: Rate) -> str:
    """Name the bucket of a rate; holds no blank."""
    return f"{rate.kind}:{rate.name}:{rate.unit}"


def over_of(levels: Sequence[Level]) -> Held:
    """Return a hold's answer, with the soft scopes whose limits are spent."""
    over = tuple(level for level in levels if level.scope.is_soft and level.is_used_up)
    return Held(over) if over else HELD


HELD = Held()
