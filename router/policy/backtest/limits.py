"""What replayed requests draw on the budgets of hours, days and months, and what those have left. Rows come in order.

Requests are drawn one after another, at what they cost: what those under way beside each other held is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from router.values import Level, Scope, Window, usd_number

_BUCKET_CHARS: dict[Window, int] = {"hour": len("2026-11-22T12"), "day": len("2026-11-22"), "month": len("2026-11")}
"""How much of a row's time names the window that it falls into."""


@dataclass(slots=True)
class Limit:
    """One budget: how full its window that is under way is, and what it has ended so far. Times never go back."""

    scope: Scope
    differs: bool = False
    """Whether anything in this window cost, or went, otherwise than was recorded."""
    requests: int = 0
    """How many it had no room for as they were decided first."""
    downgraded: int = 0
    """Those of them that went to another model for it."""
    refused: int = 0
    _bucket: str = ""
    _nusd: int = 0
    _windows: int = 0
    _reached: int = 0
    _is_met: bool = False
    _is_reached: bool = False

    @property
    def level(self) -> Level:
        """How full it is."""
        return Level(self.scope, self._nusd, held_nusd=0)

    def meet(self, at: str) -> None:
        """Note that a request is there, before it is decided."""
        self._turn(at)
        if not self._is_met:
            self._is_met = True
            self._windows += 1

    def draw(self, at: str, nusd: int) -> None:
        self._turn(at)
        self._nusd += nusd

    def bind(self, *, refused: bool, downgraded: bool) -> None:
        """Note that it had no room for the request that met it last, and what became of that."""
        self.requests += 1
        self.refused += refused
        self.downgraded += downgraded
        if not self._is_reached:
            self._is_reached = True
            self._reached += 1

    def report(self) -> dict[str, Any]:
        return {
            "scope": self.scope.kind,
            "name": self.scope.name,
            "window": self.scope.window,
            "limit_usd": usd_number(self.scope.limit_nusd),
            "windows": self._windows,
            "reached": self._reached,
            "requests": self.requests,
            "downgraded": self.downgraded,
            "refused": self.refused,
        }

    def _turn(self, at: str) -> None:
        bucket = at[: _BUCKET_CHARS[self.scope.window]]
        if bucket != self._bucket:
            self._bucket, self._nusd = bucket, 0
            self.differs = self._is_met = self._is_reached = False


class Limits:
    """Every budget of a window that replayed requests draw on."""

    def __init__(self) -> None:
        self._by_scope: dict[Scope, Limit] = {}

    def of(self, scopes: Iterable[Scope]) -> tuple[Limit, ...]:
        return tuple(self._by_scope.setdefault(scope, Limit(scope)) for scope in scopes)

    def report(self) -> list[dict[str, Any]]:
        """Return the budgets that had no room for a request, the one that had none for most first."""
        met = [limit for limit in self._by_scope.values() if limit.requests]
        met.sort(key=lambda limit: (-limit.requests, str(limit.scope)))
        return [limit.report() for limit in met]
