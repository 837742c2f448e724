"""What deciding costs, of facts alone: many tasks and few, twenty rules each, the last of which is the one that holds.

No network and no process of its own; one decision is timed at a time, and the medians are over the tasks in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from router.policy.claim import claim
from router.policy.decide import decide
from router.policy.facts import Facts
from router.policy.policy import PolicySet
from router.policy.purse import purse_of
from router.policy.reading.load import load_files
from router.pricing import Catalogue

RULES = 20
DECISIONS = 20_000
MODELS = b"""version: 1
models:
  cheap: {target: openai/gpt-4.1-nano}
  standard: {target: openai/gpt-4.1-mini}
  premium: {target: openai/gpt-4.1, kind: premium}
"""
FACTS = Facts(input_tokens=1_200, messages=3, has=frozenset({"tools", "system"}), difficulty=0.3, language="en")


def _condition(number: int) -> str:
    """Return a condition that no other says, and none before it implies."""
    conditions = (
        f"{{difficulty: {{gte: 0.{999 - number}}}}}",
        f"{{input_tokens: {{gt: {50_000 - number}}}, has: images}}",
        f"{{any: [{{messages: {{gt: {100 - number}}}}}, {{language: {{in: [de, fr, ja]}}}}]}}",
        f"{{budget_used_pct: {{gte: {90 - number}}}, messages: {{gt: 10}}, stream: true}}",
    )
    return conditions[number % len(conditions)]


def policies_of(tasks: int) -> PolicySet:
    """Return a set of so many tasks, each with rules of one to three conditions that do not hold but for the last."""
    rules = "".join(
        f"  - {{name: rule-{number}, when: {_condition(number)}, use: premium}}\n" for number in range(RULES - 1)
    )
    files = {
        f"task-{number}.yaml": (
            f"version: 1\ntask: task-{number}\nmatch: {{models: [claimed-{number}]}}\n"
            f"budget: {{per_request_usd: 0.05}}\nroute:\n{rules}  - use: [cheap, standard]\n"
        ).encode()
        for number in range(tasks)
    }
    return load_files({"models.yaml": MODELS, **files}, Catalogue(), {}, Path("policies")).checked()


def median_us(work: Callable[[int], object], times: int = DECISIONS) -> float:
    """Return the median time of `work(0)`, `work(1)`… in microseconds."""
    found = []
    for number in range(times):
        started = time.perf_counter_ns()
        work(number)
        found.append(time.perf_counter_ns() - started)
    return statistics.median(found) / 1e3


def measure_deciding() -> Table:
    """Measure deciding alone, and with finding the task by its `match` and its purse."""
    table = Table(title=f"Deciding with facts given, {RULES} rules a task, the last one holds, medians")
    for heading in ("tasks", "deciding", "claiming by match, then deciding"):
        table.add_column(heading, justify="right")
    for tasks in (10, 1_000):
        policies = policies_of(tasks)
        every = list(policies.policies.values())
        purses = [purse_of(policies, policy, None, None) for policy in every]

        def alone(number: int, policies: PolicySet = policies, every: list = every, purses: list = purses) -> object:
            place = number % len(every)
            return decide(policies, every[place], FACTS, purse=purses[place])

        def claimed(number: int, policies: PolicySet = policies, count: int = tasks) -> object:
            name = f"claimed-{number % count}"
            policy = claim(policies, name, header_task=None, metadata=None, account=None, headers={}).policy
            return decide(policies, policy, FACTS, purse=purse_of(policies, policy, None, None))

        table.add_row(f"{tasks:,}", f"{median_us(alone):.1f} µs", f"{median_us(claimed):.1f} µs")
    return table
