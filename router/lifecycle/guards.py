"""Guards: whether a canary's latest requests are past the bounds that abort it, or within those that promote it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import get_args

from router.lifecycle.sample import Sample
from router.policy.experiment import Guard, Guards, Measure
from router.values import NUSD_PER_USD

MEASURED: tuple[Measure, ...] = get_args(Measure)


def tripped(guards: Guards, samples: Iterable[Sample]) -> str | None:
    """Return why a canary is to be aborted: the first bound that is passed; None where none is, or it is too early."""
    known = [*samples]
    if len(known) < guards.after_requests:
        return None
    for guard in guards.bounds:
        if (value := measured(guard.measure, known)) is not None and guard.holds(value):
            return f"{_told(guard, value)} over {len(known)} requests"
    return None


def fulfilled(guards: Guards, samples: Iterable[Sample]) -> str | None:
    """Return why a canary is to be promoted: every bound is kept; None where one is not, or it is too early."""
    known = [*samples]
    if len(known) < guards.after_requests:
        return None
    values = [(guard, measured(guard.measure, known)) for guard in guards.bounds]
    if any(value is None or not guard.holds(value) for guard, value in values):
        return None
    return ", ".join(_told(guard, value) for guard, value in values) + f" over {len(known)} requests"


def measured(measure: Measure, samples: Iterable[Sample]) -> float | None:
    """Return a measure over `samples`; None where none of them tells it."""
    known = [*samples]
    match measure:
        case "error_rate":
            return _mean([float(sample.is_error) for sample in known])
        case "cost_usd":
            cost_nusd = _mean([float(sample.cost_nusd) for sample in known])
            return None if cost_nusd is None else cost_nusd / NUSD_PER_USD
        case "latency_p95_ms":
            latencies = sorted(sample.latency_ms for sample in known if sample.latency_ms is not None)
            return latencies[math.ceil(0.95 * len(latencies)) - 1] if latencies else None
        case "verify_pass_rate":
            return _mean([float(sample.passed) for sample in known if sample.passed is not None])


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _told(guard: Guard, value: float | None) -> str:
    return f"{guard.measure} of {value:.6g} is {str(guard).removeprefix(guard.measure).strip()}"
