"""Where replayed dollars pass what policies allow for an hour, a day or a month. Pure; rows come in order of time.

Each request is replayed alone, so that nothing ends when such a budget is used up. It is told here instead: by how much
the sums pass the limits, which a proxy would not have let them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router.values import Level, Scope, Window, usd_number

_BUCKET_CHARS: dict[Window, int] = {"hour": len("2026-11-22T12"), "day": len("2026-11-22"), "month": len("2026-11")}
"""How much of a row's time names the window that it falls into."""


@dataclass(slots=True)
class _Sums:
    """One budget's window that is under way, and what came of those before it."""

    bucket: str
    nusd: int = 0
    windows: int = 0
    passed: int = 0
    beyond_nusd: int = 0

    def close(self, limit_nusd: int) -> None:
        self.windows += 1
        self.passed += self.nusd > limit_nusd
        self.beyond_nusd += max(0, self.nusd - limit_nusd)
        self.nusd = 0


class Limits:
    """Sums up what is drawn on each budget of a window."""

    def __init__(self) -> None:
        self._sums: dict[Scope, _Sums] = {}

    def add(self, levels: Sequence[Level], at: str, nusd: int) -> None:
        """Draw on these budgets at a row's time, which is no earlier than any before it."""
        for level in levels:
            scope = level.scope
            bucket = at[: _BUCKET_CHARS[scope.window]]
            if (sums := self._sums.get(scope)) is None:
                sums = self._sums[scope] = _Sums(bucket)
            elif sums.bucket != bucket:
                sums.close(scope.limit_nusd)
                sums.bucket = bucket
            sums.nusd += nusd

    def report(self) -> list[dict[str, Any]]:
        """Close what is under way, and return the budgets that were passed, the one by most money first."""
        for scope, sums in self._sums.items():
            sums.close(scope.limit_nusd)
        passed = [(scope, sums) for scope, sums in self._sums.items() if sums.passed]
        passed.sort(key=lambda each: (-each[1].beyond_nusd, str(each[0])))
        return [
            {
                "scope": scope.kind,
                "name": scope.name,
                "window": scope.window,
                "limit_usd": usd_number(scope.limit_nusd),
                "windows": sums.windows,
                "passed": sums.passed,
                "beyond_usd": usd_number(sums.beyond_nusd),
            }
            for scope, sums in passed
        ]
