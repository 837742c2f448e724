"""What each task was taught, as it is in service now: the one place that tells the gauge of lessons.

Lessons hold for the models that they compared and the weights that they began from; where either changed, they are
learned anew. Knows no ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from router.difficulty.gauge import Gauge
from router.difficulty.lessons import Lessons
from router.difficulty.scorer import Scorer
from router.difficulty.weights import Weights
from router.policy.compared import Compared

log = logging.getLogger("farthing.learning")


@dataclass(frozen=True, slots=True)
class _Entry:
    compared: Compared
    weights: Weights
    lessons: Lessons


class Taught:
    """Lessons by task."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._entries: dict[str, _Entry] = {}
        self._resets: dict[str, int] = {}
        """By task, the last reset that this process followed."""

    def keep_only(self, tasks: Collection[str], weights: Weights) -> None:
        """Put every task but these back to what it was before any lesson."""
        for task in self._entries.keys() - tasks:
            del self._entries[task]
            self._gauge.serve(task, Scorer(weights))

    def lessons(self, task: str, compared: Compared, weights: Weights) -> Lessons | None:
        """Return the lessons to go on with; None where there are none, or where they hold no more."""
        known = self._entries.get(task)
        if known is None or known.compared != compared or known.weights is not weights:
            return None
        return known.lessons

    def serve(self, task: str, compared: Compared, weights: Weights, lessons: Lessons) -> None:
        """Take lessons into service."""
        self._entries[task] = _Entry(compared, weights, lessons)
        before = self._gauge.version(task)
        if lessons.reset_at > self._resets.get(task, 0):
            self._resets[task] = lessons.reset_at
            self._gauge.forget(task)
        if lessons.served.version != before:
            by = f"what label {version} taught" if (version := lessons.served.version) else "no label"
            log.info("The task %s is scored by %s.", task, by)
        self._gauge.serve(task, lessons.served, lessons.shared)
