"""Budgets of one process, in memory: no `await` stands between reading and writing, so every verb is atomic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.values import Level, Scope

HOLD_TTL_S = 900.0
"""A hold that is not settled by then is taken back: longer than any request may last by default."""
MOST_REMEMBERED = 4096

Key = tuple[str, str, str, str]


@dataclass(slots=True)
class _Tally:
    spent_nusd: int = 0
    held_nusd: int = 0


@dataclass(frozen=True, slots=True)
class _Hold:
    tallies: tuple[_Tally, ...]
    """Of the windows in which it was held, whatever the time is when it settles."""
    amount_nusd: int
    expires_s: float


class MemoryBudgets:
    """Holds and charges for one process. Starts from what the ledger says was spent, by `restore`."""

    def __init__(self, clock: Callable[[], float], *, hold_ttl_s: float = HOLD_TTL_S) -> None:
        self._clock = clock
        self._hold_ttl_s = hold_ttl_s
        self._tallies: dict[Key, _Tally] = {}
        self._holds: dict[str, _Hold] = {}
        self._found: dict[int, tuple[int, Sequence[Scope], tuple[_Tally, ...]]] = {}

    def restore(self, scope: Scope, spent_nusd: int) -> None:
        """Set what was already spent in the present window of a scope, as the ledger has it."""
        self._tallies.setdefault(_key(scope, self._clock()), _Tally()).spent_nusd = spent_nusd

    async def hold(self, hold_id: str, scopes: Sequence[Scope], amount_nusd: int) -> Level | None:
        now_s = self._clock()
        self._expire(now_s)
        if not scopes or hold_id in self._holds:
            return None
        tallies = self._tallies_of(scopes, now_s)
        short = [
            Level(scope, tally.spent_nusd, tally.held_nusd)
            for scope, tally in zip(scopes, tallies, strict=True)
            if tally.spent_nusd + tally.held_nusd + amount_nusd > scope.limit_nusd and amount_nusd
        ]
        if short:
            return min(short, key=lambda level: level.left_nusd)
        for tally in tallies:
            tally.held_nusd += amount_nusd
        self._holds[hold_id] = _Hold(tallies, amount_nusd, now_s + self._hold_ttl_s)
        return None

    async def settle(self, hold_id: str, charge_nusd: int) -> None:
        hold = self._holds.pop(hold_id, None)
        if hold is None:
            return
        for tally in hold.tallies:
            tally.held_nusd -= hold.amount_nusd
            tally.spent_nusd += charge_nusd

    async def levels(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        now_s = self._clock()
        self._expire(now_s)
        return tuple(
            Level(scope, tally.spent_nusd, tally.held_nusd)
            for scope, tally in zip(scopes, self._tallies_of(scopes, now_s), strict=True)
        )

    async def aclose(self) -> None:
        self._holds.clear()

    def _tallies_of(self, scopes: Sequence[Scope], now_s: float) -> tuple[_Tally, ...]:
        """Return the tallies of the windows that run now, looked up once an hour for the same sequence of scopes."""
        hour = int(now_s) // 3600
        found = self._found.get(id(scopes))
        if found is None or found[0] != hour or found[1] is not scopes:
            if len(self._found) >= MOST_REMEMBERED:
                self._found.clear()
            keys = [_key(scope, now_s) for scope in scopes]
            found = hour, scopes, tuple(self._tallies.setdefault(key, _Tally()) for key in keys)
            self._found[id(scopes)] = found
        return found[2]

    def _expire(self, now_s: float) -> None:
        """Book holds past their time as spent, oldest first: whoever held them may have had an answer."""
        while self._holds:
            hold_id, hold = next(iter(self._holds.items()))
            if hold.expires_s > now_s:
                return
            del self._holds[hold_id]
            for tally in hold.tallies:
                tally.held_nusd -= hold.amount_nusd
                tally.spent_nusd += hold.amount_nusd


def _key(scope: Scope, now_s: float) -> Key:
    return (scope.kind, scope.name, scope.window, scope.bucket(now_s))
