"""What counting one request costs, and what one scrape does, by how many tasks and models there are.

No network and no process of its own. Others share the machine: processor time is what counts, of the quickest round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import structs
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

from router.metrics import Metrics
from router.metrics.text import OPENMETRICS, encoder_for
from router.values import Certainty, Ending, Outcome, Usage

REQUESTS = 20_000
ROUNDS = 7
ORDINARY = Outcome(
    id="019ab3c2-7f10-7d8e-9a53-000000000000",
    at=datetime.fromtimestamp(0, UTC),
    account=None,
    task="support",
    rule="routine",
    policy_revision="0123456789ab",
    requested_model="auto",
    ending=Ending.ANSWERED,
    certainty=Certainty.REPORTED,
    routed_model="cheap",
    provider="openai",
    kind="routine",
    usage=Usage(1_000, 200, cached_tokens=10),
    difficulty=0.4,
    held_nusd=4_000_000,
    charged_nusd=2_000_000,
    baseline_nusd=3_000_000,
    latency_s=0.3,
    first_token_s=0.1,
    own_s=0.0002,
)
"""An answer whose prompt was cached in part, to a task whose rules look at the difficulty."""


def best_s(work: Callable[[], object]) -> float:
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def measure_counting() -> Table:
    """Measure `record` and a scrape in OpenMetrics."""
    table = Table(title="Counting a request, and a scrape in OpenMetrics, processor time")
    for heading in ("tasks x models", "a request", "a scrape", "its size"):
        table.add_column(heading, justify="right")
    for tasks, models in ((1, 1), (10, 5), (1_000, 50)):
        table.add_row(f"{tasks:,} x {models}", *_measured(tasks, models))
    return table


def _measured(tasks: int, models: int) -> tuple[str, str, str]:
    outcomes = [
        structs.replace(ORDINARY, task=f"customer-task-{task:04}", routed_model=f"house-model-{model:02}")
        for task in range(tasks)
        for model in range(models)
    ]
    metrics = Metrics(CollectorRegistry())
    for outcome in outcomes:
        metrics.record(outcome)
    sample = (outcomes * (REQUESTS // len(outcomes) + 1))[:REQUESTS]

    def count() -> None:
        for outcome in sample:
            metrics.record(outcome)

    encode, _ = encoder_for(OPENMETRICS)
    request_us = 1e6 * best_s(count) / REQUESTS
    scrape_ms = 1e3 * best_s(lambda: encode(metrics.registry))
    return f"{request_us:.1f} µs", f"{scrape_ms:.1f} ms", f"{len(encode(metrics.registry)):,} bytes"


if __name__ == "__main__":
    Console(width=100).print(measure_counting())
