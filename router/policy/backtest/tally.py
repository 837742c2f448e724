"""What replayed requests come to: dollars, mix, changed decisions. Constant memory, however many requests are added.

Dollars are sums of whole nUSD. An interval is that of a sum over requests drawn anew from the same traffic (95 %, by
the normal approximation): it says how far the figures rest on a few dear requests, not how sure the assumptions are.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from router.policy.backtest.intervals import Z_95
from router.policy.backtest.recorded import Played, Record
from router.values import usd_number

MOST_MOVES = 50
"""How many of the requests that move most money are kept."""


@dataclass(slots=True)
class Sum:
    """A sum in nUSD, and what its interval is worked out from."""

    nusd: int = 0
    squares: float = 0.0

    def add(self, nusd: int) -> None:
        self.nusd += nusd
        self.squares += float(nusd) * nusd

    def interval_usd(self, count: int) -> list[float]:
        """Return the two ends of the interval of a sum over `count` requests, in dollars."""
        if count < 2:
            return [usd_number(self.nusd)] * 2
        variance = max(0.0, self.squares - float(self.nusd) * self.nusd / count) / (count - 1)
        reach = Z_95 * math.sqrt(count * variance)
        return [(self.nusd - reach) / 1e9, (self.nusd + reach) / 1e9]


@dataclass(slots=True)
class Part:
    """The tally of one task, or of all."""

    requests: int = 0
    changed: int = 0
    before_nusd: int = 0
    after_nusd: int = 0
    mix_before: Counter[str] = field(default_factory=Counter)
    mix_after: Counter[str] = field(default_factory=Counter)
    refused_before: int = 0
    refused_after: int = 0

    def add(self, before: Played, after: Played) -> None:
        self.requests += 1
        self.changed += before.first_model != after.first_model
        self.before_nusd += before.nusd
        self.after_nusd += after.nusd
        self.refused_before += before.first_model is None
        self.refused_after += after.first_model is None
        if before.answered_by is not None:
            self.mix_before[before.answered_by] += 1
        if after.answered_by is not None:
            self.mix_after[after.answered_by] += 1


@dataclass(slots=True)
class Tally:
    """Requests before and after, added one by one."""

    all: Part = field(default_factory=Part)
    tasks: dict[str, Part] = field(default_factory=dict)
    recorded: Sum = field(default_factory=Sum)
    before: Sum = field(default_factory=Sum)
    after: Sum = field(default_factory=Sum)
    difference: Sum = field(default_factory=Sum)
    moves_of_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved_down: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    unknown_requests: int = 0
    spread: Counter[str] = field(default_factory=Counter)
    spread_requests: int = 0
    recounted: int = 0
    unreadable: int = 0
    corrected_nusd: int = 0
    """What corrections added, which no policy changes."""
    _largest: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)

    def add(self, record: Record, before: Played, after: Played) -> None:
        self.all.add(before, after)
        if (part := self.tasks.get(record.task)) is None:
            part = self.tasks[record.task] = Part()
        part.add(before, after)
        difference_nusd = after.nusd - before.nusd
        self.recorded.add(record.charged_nusd)
        self.before.add(before.nusd)
        self.after.add(after.nusd)
        self.difference.add(difference_nusd)
        if after.unknown_rules:
            self.unknown_requests += 1
            self.unknown.update(f"{record.task}/{rule}" for rule in after.unknown_rules)
        if after.spread_rules:
            self.spread_requests += 1
            self.spread.update(f"{record.task}/{rule}" for rule in after.spread_rules)
        self.recounted += after.recounted
        if before.first_model != after.first_model or difference_nusd:
            self._moved(record, before, after, difference_nusd)

    def add_correction(self, charged_nusd: int) -> None:
        self.corrected_nusd += charged_nusd

    def add_unreadable(self, charged_nusd: int) -> None:
        """Add a row that can't be played: its dollars stand on both sides."""
        self.unreadable += 1
        self.corrected_nusd += charged_nusd

    def _moved(self, record: Record, before: Played, after: Played, difference_nusd: int) -> None:
        if before.kind != after.kind and before.kind and after.kind and before.first_model != after.first_model:
            self.moves_of_kind[before.kind, after.kind] += 1
            self.moved_down += difference_nusd < 0
        size = abs(difference_nusd)
        if len(self._largest) == MOST_MOVES and size <= self._largest[0][0]:
            return
        entry = (size, self.all.requests, _move(record, before, after))
        if len(self._largest) < MOST_MOVES:
            heapq.heappush(self._largest, entry)
        else:
            heapq.heapreplace(self._largest, entry)

    def report(self) -> dict[str, Any]:
        """Return everything in dollars and shares, for JSON. `before` is the ledger, or what --against names."""
        count = self.all.requests
        fixed_nusd = self.corrected_nusd
        return {
            "requests": count,
            "recorded_usd": usd_number(self.recorded.nusd + fixed_nusd),
            "before_usd": usd_number(self.before.nusd + fixed_nusd),
            "replayed_usd": usd_number(self.after.nusd + fixed_nusd),
            "before_interval_usd": self.before.interval_usd(count),
            "replayed_interval_usd": self.after.interval_usd(count),
            "difference_usd": usd_number(self.difference.nusd),
            "difference_interval_usd": self.difference.interval_usd(count),
            "changed_decisions": self.all.changed,
            "mix": _shares(self.all.mix_after),
            "mix_before": _shares(self.all.mix_before),
            "refused": self.all.refused_after,
            "refused_before": self.all.refused_before,
            "quality_risk": {
                "requests": self.moved_down,
                "share": self.moved_down / count if count else 0.0,
                "moves": [
                    {"from": before, "to": after, "requests": number}
                    for (before, after), number in self.moves_of_kind.most_common()
                ],
            },
            "tasks": [_task(name, part) for name, part in sorted(self.tasks.items())],
            "largest": [move for _, _, move in sorted(self._largest, key=lambda entry: (-entry[0], entry[1]))],
            "unknown": {"requests": self.unknown_requests, "rules": dict(self.unknown.most_common())},
            "spread": {"requests": self.spread_requests, "rules": dict(self.spread.most_common())},
            "recounted": self.recounted,
            "unreadable": self.unreadable,
        }


def _task(name: str, part: Part) -> dict[str, Any]:
    return {
        "task": name,
        "requests": part.requests,
        "before_usd": usd_number(part.before_nusd),
        "replayed_usd": usd_number(part.after_nusd),
        "changed_decisions": part.changed,
        "refused_before": part.refused_before,
        "refused": part.refused_after,
        "mix_before": _shares(part.mix_before),
        "mix": _shares(part.mix_after),
    }


def _move(record: Record, before: Played, after: Played) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": record.at,
        "task": record.task,
        "rule_before": before.rule,
        "rule": after.rule,
        "model_before": before.first_model,
        "model": after.first_model,
        "before_usd": usd_number(before.nusd),
        "replayed_usd": usd_number(after.nusd),
    }


def _shares(mix: Counter[str]) -> dict[str, float]:
    total = mix.total()
    return {name: number / total for name, number in mix.most_common()}
