"""What the scripts are told: names of tallies, amounts in nUSD and times in ms, in the order the Lua reads."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

from router.budgets.contract import LATE_S, Draw, Hold, OpenHold, rate_key, scope_key
from router.values import EXACT_NUSD, Scope

MOST_REMEMBERED = 4096


class Arguments:
    """The arguments of each script, beside the time and the epoch that all of them begin with."""

    def __init__(self, hold_ttl_s: float) -> None:
        self._hold_ttl_s = hold_ttl_s
        self._tallies: dict[int, tuple[int, Sequence[Scope], tuple[str | int, ...]]] = {}

    def of_hold(self, hold: Hold, hold_id: str, at_s: float, *, forced: bool = False) -> tuple[str | int, ...]:
        args = (
            hold_id,
            int((at_s + self._hold_ttl_s) * 1000),
            hold.amount_nusd,
            hold.lost_nusd,
            int(forced),
            len(hold.scopes),
            len(hold.draws),
            *self._remembered(hold.scopes, at_s),
        )
        if not hold.draws:
            return args
        return args + self.of_draws(hold.draws)

    def of_draws(self, draws: Sequence[Draw]) -> tuple[str | int, ...]:
        return tuple(arg for draw in draws for arg in (rate_key(draw.rate), draw.count, draw.rate.per_minute))

    def of_tallies(self, scopes: Sequence[Scope], now_s: float) -> tuple[str | int, ...]:
        """Return name, limit and time to forget of each tally."""
        args: list[str | int] = []
        for scope in scopes:
            args += [
                scope_key(scope, now_s),
                "-" if scope.is_soft else scope.limit_nusd,
                int((scope.ends_s(now_s) + self._hold_ttl_s + LATE_S) * 1000),
            ]
        return tuple(args)

    def of_restoring(self, how: str, spent: Mapping[Scope, int], now_s: float) -> tuple[str | int, ...]:
        scopes = [replace(scope, limit_nusd=nusd, on_exceeded="reject") for scope, nusd in spent.items()]
        assert all(nusd <= EXACT_NUSD for nusd in spent.values()), "Lua counts exactly up to 2^53"
        return (secrets.token_hex(8), how, len(scopes), *self.of_tallies(scopes, now_s))

    def of_open_holds(self, opened: Sequence[OpenHold]) -> tuple[str | int, ...]:
        args: list[str | int] = []
        for each in opened:
            hold, expires_ms = each.hold, int((each.at_s + self._hold_ttl_s) * 1000)
            names = " ".join(scope_key(scope, each.at_s) for scope in hold.scopes)
            args += [hold.id, expires_ms, hold.amount_nusd, hold.lost_nusd, names]
        return tuple(args)

    def _remembered(self, scopes: Sequence[Scope], now_s: float) -> tuple[str | int, ...]:
        """Return the same of the scopes of holds, which are few: worked out once an hour for the same ones."""
        hour = int(now_s) // 3600
        found = self._tallies.get(id(scopes))
        if found is None or found[0] != hour:
            if len(self._tallies) >= MOST_REMEMBERED:
                self._tallies.clear()
            found = self._tallies[id(scopes)] = hour, scopes, self.of_tallies(scopes, now_s)
        return found[2]
