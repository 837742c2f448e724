"""Budgets of one process, in memory: no `await` stands between reading and writing, so every verb is atomic."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from router.budgets.contract import (
    HELD,
    HOLD_TTL_S,
    LATE_S,
    UNITS,
    Answer,
    Draw,
    Hold,
    Limited,
    Short,
    over_of,
    rate_key,
    scope_key,
)
from router.values import Level, Scope

MOST_REMEMBERED = 4096
LONGEST_WINDOW_S = 31 * 86_400.0
LONGEST_LEAD_MS = 60_000
"""A bucket last touched further in the future than this met a clock that jumped; it drains from now on."""


@dataclass(slots=True)
class _Tally:
    ends_s: int
    made_at: float
    """When it was first counted in, by a clock that does not jump."""
    spent_nusd: int = 0
    held_nusd: int = 0


@dataclass(slots=True)
class _Bucket:
    """What is drawn of a rate and not drained yet, in 1/UNITS of a request or a token."""

    debt: int = 0
    at_ms: int = 0

    def drained(self, per_minute: int, now_ms: int) -> int:
        """Bring the debt to the present, and return it."""
        if now_ms - self.at_ms > 0 or self.at_ms - now_ms > LONGEST_LEAD_MS:
            self.debt = max(0, self.debt - max(0, now_ms - self.at_ms) * per_minute)
            self.at_ms = now_ms
        return self.debt


@dataclass(frozen=True, slots=True)
class _Taken:
    hold: Hold
    tallies: tuple[_Tally, ...]
    """Of the windows in which it was held, whatever the time is when it settles."""
    until_s: float
    """While open, when it expires; once expired, when it is forgotten."""


class MemoryBudgets:
    """Holds and charges for one process. Starts from what the ledger says was spent, by `restore`."""

    def __init__(self, clock: Callable[[], float], *, hold_ttl_s: float = HOLD_TTL_S) -> None:
        self._clock = clock
        self._hold_ttl_s = hold_ttl_s
        self._tallies: dict[str, _Tally] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._open: dict[str, _Taken] = {}
        self._expired: dict[str, _Taken] = {}
        self._hour = 0
        self._found: dict[int, tuple[Sequence[Scope], tuple[_Tally, ...]]] = {}

    async def hold(self, hold: Hold) -> Answer:
        now_s = self._clock()
        self._expire(now_s)
        if hold.id in self._open or hold.id in self._expired:
            return HELD
        tallies = self._tallies_of(hold.scopes, now_s)
        if amount_nusd := hold.amount_nusd:
            short = [
                Level(scope, tally.spent_nusd, tally.held_nusd)
                for scope, tally in zip(hold.scopes, tallies, strict=True)
                if tally.spent_nusd + tally.held_nusd + amount_nusd > scope.limit_nusd and not scope.is_soft
            ]
            if short:
                return Short(min(short, key=lambda level: level.left_nusd))
        if hold.draws and (limited := self._draw(hold.draws, int(now_s * 1000))):
            return limited
        for tally in tallies:
            tally.held_nusd += amount_nusd
        self._open[hold.id] = _Taken(hold, tallies, now_s + self._hold_ttl_s)
        if not any(scope.is_soft for scope in hold.scopes):
            return HELD
        return over_of(_levels(hold.scopes, tallies))

    async def settle(self, hold_id: str, charge_nusd: int, used_tokens: int | None = None) -> None:
        if taken := self._open.pop(hold_id, None):
            for tally in taken.tallies:
                tally.held_nusd -= taken.hold.amount_nusd
                tally.spent_nusd += charge_nusd
        elif taken := self._expired.pop(hold_id, None):
            for tally in taken.tallies:
                tally.spent_nusd += charge_nusd - taken.hold.lost_nusd
        if taken and used_tokens is not None:
            for draw in taken.hold.draws:
                if draw.rate.unit == "tokens":
                    bucket = self._buckets[rate_key(draw.rate)]
                    bucket.debt = max(0, bucket.debt + (used_tokens - draw.count) * UNITS)

    async def levels(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        now_s = self._clock()
        self._expire(now_s)
        return _levels(scopes, self._looked_up(scopes, now_s))

    async def peek(self, scopes: Sequence[Scope]) -> tuple[Level, ...]:
        return await self.levels(scopes)

    async def peek_rates(self, draws: Sequence[Draw]) -> Limited | None:
        return self._limited(draws, int(self._clock() * 1000))

    async def restore(self, spent: Mapping[Scope, int]) -> None:
        for (_, spent_nusd), tally in zip(spent.items(), self._tallies_of(tuple(spent), self._clock()), strict=True):
            tally.spent_nusd = max(tally.spent_nusd, spent_nusd - tally.held_nusd)

    async def work(self) -> None:
        """Do nothing: there is nothing to do."""

    async def aclose(self) -> None:
        self._open.clear()

    @property
    def unsettled(self) -> int:
        return 0

    @property
    def degraded(self) -> None:
        return None

    def _draw(self, draws: tuple[Draw, ...], now_ms: int) -> Limited | None:
        """Draw on every rate or on none."""
        if limited := self._limited(draws, now_ms):
            return limited
        for draw in draws:
            self._buckets[rate_key(draw.rate)].debt += draw.count * UNITS
        return None

    def _limited(self, draws: Sequence[Draw], now_ms: int) -> Limited | None:
        """Return the first rate that has no room; bring every bucket up to it to the present."""
        for draw in draws:
            per_minute = draw.rate.per_minute
            debt = self._buckets.setdefault(rate_key(draw.rate), _Bucket()).drained(per_minute, now_ms)
            if (over := debt + (min(draw.count, per_minute) - per_minute) * UNITS) > 0:
                return Limited(draw.rate, -(-over // per_minute) / 1000)
        return None

    def _tallies_of(self, scopes: Sequence[Scope], now_s: float) -> tuple[_Tally, ...]:
        """Return the tallies of the windows that run now, looked up once an hour for the same scopes of holds."""
        hour = int(now_s) // 3600
        if hour != self._hour or len(self._found) >= MOST_REMEMBERED:
            self._turn(hour, now_s)
        found = self._found.get(id(scopes))
        if found is None:
            found = self._found[id(scopes)] = scopes, self._looked_up(scopes, now_s)
        return found[1]

    def _looked_up(self, scopes: Sequence[Scope], now_s: float) -> tuple[_Tally, ...]:
        return tuple(
            self._tallies.setdefault(scope_key(scope, now_s), _Tally(scope.ends_s(now_s), time.monotonic()))
            for scope in scopes
        )

    def _turn(self, hour: int, now_s: float) -> None:
        """Forget the windows that are over for a day, and were for a month's time, lest a clock that jumps loses one.

        A hold made in one of them keeps its tallies.
        """
        old = time.monotonic() - LONGEST_WINDOW_S
        self._hour = hour
        self._found.clear()
        self._tallies = {
            key: tally for key, tally in self._tallies.items() if tally.ends_s + LATE_S > now_s or tally.made_at > old
        }

    def _expire(self, now_s: float) -> None:
        """Book holds past their time as spent, oldest first: whoever held them may have had an answer."""
        while self._open:
            hold_id, taken = next(iter(self._open.items()))
            if taken.until_s > now_s:
                break
            del self._open[hold_id]
            for tally in taken.tallies:
                tally.held_nusd -= taken.hold.amount_nusd
                tally.spent_nusd += taken.hold.lost_nusd
            self._expired[hold_id] = _Taken(taken.hold, taken.tallies, taken.until_s + LATE_S)
        while self._expired:
            hold_id, taken = next(iter(self._expired.items()))
            if taken.until_s > now_s:
                break
            del self._expired[hold_id]


def _levels(scopes: Sequence[Scope], tallies: Sequence[_Tally]) -> tuple[Level, ...]:
    return tuple(Level(scope, tally.spent_nusd, tally.held_nusd) for scope, tally in zip(scopes, tallies, strict=True))
