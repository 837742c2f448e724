"""What experiments came to, side by side, from the ledger alone: the numbers behind `farthing experiment`.

Every number bears how many requests it comes from and an interval that holds the true one in nineteen cases of twenty:
Wilson's for shares, the normal one for means, and ranks (distribution-free) for quantiles.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from router.ledger.contract import Store
from router.ledger.rows import time_text
from router.lifecycle.sample import Part, Sample, Tried, part_of, sampled
from router.policy.backtest.intervals import Z_95, wilson
from router.policy.experiment import Side
from router.values import NUSD_PER_USD, Ending

MOST_ROWS_AT_ONCE = 5_000

Interval = dict[str, float | int]
"""`value` between `low` and `high`, from `n` requests."""


@dataclass(slots=True)
class _Mean:
    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        self.total += value
        self.squares += value * value

    def interval(self, least: float = -math.inf, most: float = math.inf) -> Interval | None:
        if not self.n:
            return None
        mean = self.total / self.n
        spread = math.inf if self.n == 1 else math.sqrt(max(0.0, self.squares / self.n - mean**2) / (self.n - 1))
        low, high = max(least, mean - Z_95 * spread), min(most, mean + Z_95 * spread)
        return {"value": mean, "low": low if self.n > 1 else mean, "high": high if self.n > 1 else mean, "n": self.n}


@dataclass(slots=True)
class _Tally:
    """What one side came to so far."""

    cost_nusd: _Mean = field(default_factory=_Mean)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    errors: int = 0
    checked: int = 0
    passed: int = 0
    agreement: _Mean = field(default_factory=_Mean)

    def add(self, sample: Sample) -> None:
        self.cost_nusd.add(sample.cost_nusd)
        self.errors += sample.is_error
        if sample.latency_ms is not None:
            self.latencies.append(sample.latency_ms)
        if sample.passed is not None:
            self.checked += 1
            self.passed += sample.passed
        if sample.agreement is not None:
            self.agreement.add(sample.agreement)

    def told(self) -> dict[str, Any]:
        latencies = sorted(self.latencies)
        requests = self.cost_nusd.n
        return {
            "requests": requests,
            "total_usd": self.cost_nusd.total / NUSD_PER_USD,
            "cost_usd": _scaled(self.cost_nusd.interval(least=0.0), NUSD_PER_USD),
            "latency_p50_ms": quantile(latencies, 0.5),
            "latency_p95_ms": quantile(latencies, 0.95),
            "error_rate": share(self.errors, requests),
            "verify_pass_rate": share(self.passed, self.checked),
            "agreement": self.agreement.interval(0.0, 1.0),
        }


@dataclass(slots=True)
class _Experiment:
    version: str = ""
    """The newest: an edit begins the experiment afresh, and its numbers too."""
    sides_of: dict[str, dict[tuple[Side, str], _Tally]] = field(default_factory=dict)
    """By version."""
    events: list[dict[str, str]] = field(default_factory=list)

    def told(self, name: str) -> dict[str, Any]:
        task, _, rule = name.partition("/")
        ended = [event for event in self.events if event["version"] == self.version]
        # An abortion stands, whatever came before or after it.
        last = next((event for event in ended if event["state"] == "aborted"), ended[-1] if ended else None)
        order = list(Side)
        now = self.sides_of.get(self.version, {})
        sides = sorted(now.items(), key=lambda side: (order.index(side[0][0]), side[0][1]))
        before = [
            tally for version, tallies in self.sides_of.items() if version != self.version for tally in tallies.values()
        ]
        return {
            "task": task,
            "rule": rule,
            "version": self.version,
            "state": last["state"] if last else "running",
            "because": last["because"] if last else None,
            "since": last["at"] if last else None,
            "left_out": sum(tally.cost_nusd.n for tally in before),
            "sides": [{"side": side.value, "model": model or None, **tally.told()} for (side, model), tally in sides],
        }


def experiment_report(store: Store, task: str | None, since: datetime | None) -> dict[str, Any]:
    """Return every experiment with requests since then, each side with its numbers under the newest version; blocks.

    `left_out` are the requests under earlier versions, which tried something else.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    found: dict[str, _Experiment] = {}
    for name, at, outcome, charged_nusd, latency_ms, attempts, facts in _rows(store, task, since):
        if outcome == Ending.EXPERIMENT:
            _note_end(found.setdefault(name, _Experiment()), at, facts)
            continue
        part = part_of(facts)
        if part is None:
            continue
        agreement = facts.get("agreement")
        tried = msgspec.json.decode(attempts, type=list[Tried])
        if sample := sampled(part, tried, charged_nusd, latency_ms, agreement):
            experiment = found.setdefault(part.name, _Experiment())
            experiment.version = part.version
            experiment.sides_of.setdefault(part.version, {}).setdefault(_side(part), _Tally()).add(sample)
    return {"experiments": [found[name].told(name) for name in sorted(found)]}


def share(count: int, of: int) -> Interval | None:
    """Return a share with Wilson's interval; None where there is nothing to take a share of."""
    if not of:
        return None
    found = wilson(count, of)
    return {"value": found.mean, "low": found.low, "high": found.high, "n": of}


def quantile(ascending: list[float], q: float) -> Interval | None:
    """Return a quantile with an interval by ranks, cut to the values there are; None where there are none."""
    n = len(ascending)
    if not n:
        return None
    half = Z_95 * math.sqrt(n * q * (1 - q))
    low, high = max(0, math.floor(n * q - half) - 1), min(n - 1, math.ceil(n * q + half))
    return {"value": ascending[max(0, math.ceil(n * q) - 1)], "low": ascending[low], "high": ascending[high], "n": n}


def _side(part: Part) -> tuple[Side, str]:
    """Name a side; the control is one, whichever model was on trial beside it."""
    return part.side, "" if part.side is Side.CONTROL else part.model


def _note_end(experiment: _Experiment, at: str, facts: dict[str, Any]) -> None:
    ended = facts["experiment"]
    # A state may come without any request that is settled by then.
    experiment.version = experiment.version or ended["version"]
    experiment.events.append(
        {"at": at, "version": ended["version"], "state": ended["state"], "because": str(facts.get("because", ""))}
    )


def _rows(store: Store, task: str | None, since: datetime | None) -> Iterator[tuple[Any, ...]]:
    """Yield what has a part in an experiment, oldest first, a bounded number of rows at a time."""
    at, request_id = time_text(since) if since else "", ""
    where = "facts LIKE '%\"experiment\":{%' AND outcome IN ('answered', 'cut', 'failed', 'shadow', 'experiment')"
    if task is not None:
        where += " AND task = $3"
    while True:
        values: list[str | int] = [at, request_id]
        if task is not None:
            values.append(task)
        rows = store.ask(
            "SELECT id, at, outcome, charged_nusd, latency_ms, attempts, facts FROM requests "  # noqa: S608  ours
            f"WHERE (at > $1 OR (at = $1 AND id > $2)) AND {where} ORDER BY at, id LIMIT {MOST_ROWS_AT_ONCE}",
            values,
        )
        for row in rows:
            facts = msgspec.json.decode(row[-1])
            yield (facts["experiment"]["name"], *row[1:-1], facts)
        if len(rows) < MOST_ROWS_AT_ONCE:
            return
        request_id, at = rows[-1][:2]


def _scaled(interval: Interval | None, by: int) -> Interval | None:
    if interval is None:
        return None
    return {name: number if name == "n" else number / by for name, number in interval.items()}
