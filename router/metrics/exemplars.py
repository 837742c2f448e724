"""Exemplars: now and then a value goes into its bucket with the request's id, as far as a scrape has room for them."""

from __future__ import annotations

import math
import time

from prometheus_client import Histogram

from router.values import Outcome

EXEMPLAR_EVERY_S = 0.01
"""Two requests within that time leave one exemplar: it takes longer than all the rest of a request's counting."""
MOST_EXEMPLARS = 400
"""Buckets, about, that have one, at 80 bytes each."""


class Exemplars:
    """Which buckets bear exemplars, and when the next request leaves some. Files that workers share hold none."""

    def __init__(self) -> None:
        self._next_s = 0.0
        self._buckets: set[tuple[int, int]] = set()

    def observe(self, seen: list[tuple[Histogram, float]], outcome: Outcome) -> None:
        """Put values into their buckets, now and then with the request's id."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            for histogram, value in seen:
                histogram.observe(value)
            return
        self._next_s = now_s + EXEMPLAR_EVERY_S
        exemplar = {"request_id": outcome.id}
        if outcome.trace and outcome.trace.sampled:
            exemplar["trace_id"] = outcome.trace.trace_id
        for histogram, value in seen:
            histogram.observe(value, exemplar if self._bears(histogram, value) else None)

    def _bears(self, histogram: Histogram, value: float) -> bool:
        """Say whether the value's bucket bears exemplars; powers of two stand for buckets, which are no wider."""
        bucket = (id(histogram), math.frexp(value)[1])
        if bucket in self._buckets:
            return True
        if len(self._buckets) == MOST_EXEMPLARS:
            return False
        self._buckets.add(bucket)
        return True
