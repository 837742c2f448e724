"""Means and shares with their 95 % intervals: where the true one is in nineteen such samples of twenty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959964
"""Standard deviations to each side that hold 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def mean_of(values: Sequence[float]) -> Mean:
    """Return a mean and its normal 95 % interval, which is without end for one value."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Mean(mean, -math.inf, math.inf)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Mean(mean, mean - Z_95 * spread / math.sqrt(n), mean + Z_95 * spread / math.sqrt(n))


def quality_of(values: Sequence[float]) -> Mean:
    """Return the mean of grades and its 95 % interval: Wilson's where each is right or wrong, else the normal one."""
    if all(value in (0.0, 1.0) for value in values):
        return wilson(math.fsum(values), len(values))
    return mean_of(values)


def wilson(right: float, n: int) -> Mean:
    """Return a share and its 95 % interval by Wilson, which holds for few trials and near 0 and 1."""
    share, square = right / n, Z_95**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z_95 / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Mean(share, max(0.0, middle - half), min(1.0, middle + half))
