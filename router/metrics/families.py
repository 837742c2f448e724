"""Every metric there is: name, type, labels, meaning, buckets. The registry and the table in the docs are made of them.

`most_bytes` is a family's part of the 1 MB that a scrape may take; together they leave room for exemplars.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.metrics.words import Overhead

Mode = Literal["livesum", "livemax"]

TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""OpenTelemetry's buckets for gen_ai.client.token.usage (semantic conventions for GenAI metrics, 1.37)."""
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""OpenTelemetry's buckets for gen_ai.server.request.duration."""
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""OpenTelemetry's buckets for gen_ai.server.time_to_first_token."""
TASK_DURATION_BUCKETS = (0.25, 1.0, 2.5, 5.0, 10.0, 30.0)
OVERHEAD_BUCKETS = (0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.005, 0.01, 0.05, 0.1, 1.0)
ANSWER_COST_BUCKETS = (0.0001, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0)
"""A short answer of a small model costs $0.00001; a long one of a large model, with a long prompt, a dollar."""
DIFFICULTY_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RATIO_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0, 1.1, 1.5, 2.0)
AGREEMENT_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
STORE_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, as it is named in a scrape. `text` is its help, and its meaning in the docs."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    mode: Mode = "livemax"
    """How the values of a gauge of several workers become one."""
    most_bytes: int = 20_000

    def counter(self, registry: CollectorRegistry) -> Counter:
        return Counter(self.name, self.text, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        return Histogram(self.name, self.text, self.labels, registry=registry, buckets=self.buckets)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        return Gauge(self.name, self.text, self.labels, registry=registry, multiprocess_mode=self.mode)

    def bytes_of(self, values: tuple[str, ...]) -> int:
        """Return about how long the lines of one set of label values are, with numbers as a busy proxy has them."""
        line = len(self.name) + sum(len(name) + 4 for name in self.labels) + len("".join(values).encode()) + 12
        if self.kind == "histogram":
            return (len(self.buckets) + 3) * (line + len('_bucket,le="0.0025"'))
        return line

    def with_label(self, label: str) -> Family:
        return replace(self, labels=(*self.labels, label))


OVERHEAD_REASONS = ", ".join(f"`{word}`" for word in Overhead)


COST = Family(
    "counter", "farthing_cost_usd_total", "every dollar paid", ("task", "rule", "model", "provider", "kind"),
    most_bytes=44_000,
)  # fmt: skip
BASELINE = Family(
    "counter", "farthing_baseline_cost_usd_total", "what the baseline models would have cost", ("task",)
)  # fmt: skip
OVERHEAD_COST = Family(
    "counter", "farthing_overhead_cost_usd_total",
    f"the part of the cost that bought no answer: {OVERHEAD_REASONS}", ("task", "reason"),
)  # fmt: skip
UNREPORTED = Family(
    "counter", "farthing_unreported_cost_usd_total",
    "the part of the cost that no provider's usage confirms: `counted` by us",
    ("model", "certainty"),
)  # fmt: skip
ORPHANED = Family(
    "gauge", "farthing_orphaned_cost_usd",
    "what the ledger charges, at its ceiling, for requests that a crash cut off, until it is corrected",
)  # fmt: skip
OVER_BUDGET = Family(
    "counter", "farthing_over_budget_usd_total",
    "dollars above requests' budgets, or above what was held for them in a window's; should stay 0",
)  # fmt: skip
REQUESTS = Family(
    "counter", "farthing_requests_total",
    "requests by how they ended: the ledger's [outcomes](operating.md#the-ledger)",
    ("task", "rule", "model", "outcome"), most_bytes=40_000,
)  # fmt: skip
REFUSED = Family(
    "counter", "farthing_refusals_total", "requests refused by Farthing; the reason is the error code",
    ("task", "reason"), most_bytes=15_000,
)  # fmt: skip
ATTEMPT_FAILURES = Family(
    "counter", "farthing_attempt_failures_total", "calls that failed: reasons below", ("model", "reason")
)  # fmt: skip
BREAKERS = Family(
    "gauge", "farthing_breaker_open", "1 while a target that keeps failing is tried after all others",
    ("model", "target"),
)  # fmt: skip
ESCALATED = Family(
    "counter", "farthing_escalations_total",
    "answers that failed a check, by its name, and were asked for again elsewhere",
    ("task", "from", "to", "reason"), most_bytes=8_000,
)  # fmt: skip
CHECKED = Family(
    "counter", "farthing_checked_answers_total",
    "answers of rules with `verify`: `passed`, `escalated`, `failed`, `unchecked`", ("task", "rule", "result"),
    most_bytes=8_000,
)  # fmt: skip
HUNG_CHECKS = Family(
    "counter", "farthing_hung_checks_total",
    "calls of [`python` checks](cascades.md) that hang: `late` took too long, `skipped` were not made, for too many "
    "still hang", ("result",),
)  # fmt: skip
LABELLED = Family(
    "counter", "farthing_learning_labels_total",
    "labels that a task [learns](learning.md) from: `shadow`, `check` or `feedback`", ("task", "source"),
    most_bytes=8_000,
)  # fmt: skip
ANSWER_COST = Family(
    "histogram", "farthing_answer_cost_usd", "dollars paid for one answer", ("task",), ANSWER_COST_BUCKETS,
    most_bytes=92_000,
)  # fmt: skip
TASK_DURATION = Family(
    "histogram", "farthing_task_duration_seconds", "from arrival to the last byte of an answer", ("task",),
    TASK_DURATION_BUCKETS, most_bytes=84_000,
)  # fmt: skip
CACHED = Family(
    "counter", "farthing_cached_input_tokens_total", "tokens of prompts that were read from the provider's cache",
    ("task", "model"), most_bytes=8_000,
)  # fmt: skip
DIFFICULTY = Family(
    "histogram", "farthing_difficulty", "difficulty, where a rule of the task looks at it", ("task",),
    DIFFICULTY_BUCKETS, most_bytes=52_000,
)  # fmt: skip
RATIO = Family("histogram", "farthing_estimate_ratio", "charged / held", (), RATIO_BUCKETS)
OWN = Family("histogram", "farthing_overhead_seconds", "time added by Farthing itself", (), OVERHEAD_BUCKETS)
STORE = Family(
    "histogram", "farthing_store_seconds",
    "time until a store has answered: `redis`: what goes out together, by each verb in it; `sqlite`, `postgresql`: "
    "the `commit` of a batch", ("store", "verb"), STORE_BUCKETS,
)  # fmt: skip
LIMIT = Family(
    "gauge", "farthing_budget_limit_usd", "the limit of each hour, day and month budget", ("scope", "name", "window")
)  # fmt: skip
SPENT = Family("gauge", "farthing_budget_spent_usd", "spent in the present window", LIMIT.labels)
HELD = Family("gauge", "farthing_budget_held_usd", "held for requests under way", LIMIT.labels)
REMAINING = Family("gauge", "farthing_budget_remaining_usd", "what may still be held", LIMIT.labels)
WARNINGS = Family(
    "counter", "farthing_budget_warnings_total", "requests answered although a soft budget was used up", LIMIT.labels
)  # fmt: skip
REBUILDS = Family(
    "counter", "farthing_budget_rebuilds_total", "times that budgets lost by Redis were rebuilt from the ledger"
)  # fmt: skip
UNSETTLED = Family(
    "gauge", "farthing_unsettled_holds", "charges that Redis has not been told yet", mode="livesum"
)  # fmt: skip
INFLIGHT = Family("gauge", "farthing_inflight_requests", "requests under way", mode="livesum")
LOOP_LAG = Family("gauge", "farthing_event_loop_lag_seconds", "how late the event loop last ran a timer")
LEDGER_QUEUE = Family("gauge", "farthing_ledger_queue", "rows not committed yet", mode="livesum")
POLICY_INFO = Family("gauge", "farthing_policy_info", "1 for the policies in force", ("revision",))
RELOADS = Family(
    "counter", "farthing_policy_reloads_total", "policy folders read: `accepted`, `rejected`", ("result",)
)  # fmt: skip
CATALOGUE_AGE = Family("gauge", "farthing_price_catalogue_age_days", "age of the price catalogue")
EXPERIMENT_REQUESTS = Family(
    "counter", "farthing_experiment_requests_total",
    "requests of an experiment: `control`, `canary`, `shadow`; its model `answered` or `failed`",
    ("task", "rule", "side", "result"),
)  # fmt: skip
EXPERIMENT_COST = Family(
    "counter", "farthing_experiment_cost_usd_total", "what they cost", ("task", "rule", "side")
)  # fmt: skip
EXPERIMENT_LATENCY = Family(
    "histogram", "farthing_experiment_latency_seconds",
    "from arrival to the last byte, where the side's model answered", ("task", "rule", "side"), DURATION_BUCKETS,
)  # fmt: skip
EXPERIMENT_CHECKS = Family(
    "counter", "farthing_experiment_checks_total", "answers checked by `verify`: `passed`, `failed`",
    ("task", "rule", "side", "result"),
)  # fmt: skip
EXPERIMENT_AGREEMENT = Family(
    "histogram", "farthing_experiment_agreement", "how much shadows' answers [agree](experiments.md#shadow)",
    ("task", "rule"), AGREEMENT_BUCKETS,
)  # fmt: skip
EXPERIMENT_DROPPED = Family(
    "counter", "farthing_experiment_shadows_dropped_total",
    "requests not mirrored: `queue_full`, `over_budget`, `rate_limited`, `unfit`, "
    "`store_unavailable`, `refused`, `ungraded`, `bug`",
    ("task", "rule", "reason"),
)  # fmt: skip
EXPERIMENT_STATE = Family(
    "gauge", "farthing_experiment_state",
    "1 for where it stands: `paused`, `running`, `aborted`, `promoted`", ("task", "rule", "state"),
)  # fmt: skip
EXPERIMENT_FAMILIES = (
    EXPERIMENT_REQUESTS, EXPERIMENT_COST, EXPERIMENT_LATENCY, EXPERIMENT_CHECKS, EXPERIMENT_AGREEMENT,
    EXPERIMENT_DROPPED, EXPERIMENT_STATE,
)  # fmt: skip
"""Counted by `lifecycle`."""
TOKENS = Family(
    "histogram", "gen_ai_client_token_usage", "tokens of a request: `input`, `output`",
    ("gen_ai_token_type", "gen_ai_request_model", "gen_ai_provider_name"), TOKEN_BUCKETS, most_bytes=130_000,
)  # fmt: skip
DURATION = Family(
    "histogram", "gen_ai_server_request_duration_seconds", "from arrival to the last byte",
    ("gen_ai_request_model", "outcome"), DURATION_BUCKETS, most_bytes=108_000,
)  # fmt: skip
FIRST_TOKEN = Family(
    "histogram", "gen_ai_server_time_to_first_token_seconds", "from arrival to the first byte of the answer",
    ("gen_ai_request_model",), FIRST_TOKEN_BUCKETS, most_bytes=110_000,
)  # fmt: skip

FAMILIES = (
    COST, BASELINE, OVERHEAD_COST, UNREPORTED, ORPHANED, OVER_BUDGET, REQUESTS, REFUSED, ATTEMPT_FAILURES, BREAKERS,
    ESCALATED, CHECKED, HUNG_CHECKS, LABELLED, ANSWER_COST, TASK_DURATION, CACHED, DIFFICULTY, RATIO, OWN, STORE,
    LIMIT, SPENT, HELD, REMAINING, WARNINGS, REBUILDS, UNSETTLED, INFLIGHT, LOOP_LAG, LEDGER_QUEUE, POLICY_INFO,
    RELOADS, CATALOGUE_AGE, *EXPERIMENT_FAMILIES, TOKENS, DURATION, FIRST_TOKEN,
)  # fmt: skip
"""In the order of the docs."""


def table() -> Iterator[str]:
    """Yield the lines of the table in docs/metrics.md."""
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for family in FAMILIES:
        labels = " ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} |{f' {labels} ' if labels else ' '}| {family.text} |"
