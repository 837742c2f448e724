"""An outcome as a row of the table `requests`: the columns, their types and their order, for every store."""

from __future__ import annotations

from typing import Any

import msgspec

from router.values import Attempt, Outcome

COLUMNS: tuple[tuple[str, str], ...] = (
    ("id", "TEXT PRIMARY KEY"),
    ("at", "TEXT NOT NULL"),
    ("account", "TEXT"),
    ("task", "TEXT NOT NULL"),
    ("rule", "TEXT NOT NULL"),
    ("policy_revision", "TEXT NOT NULL"),
    ("requested_model", "TEXT NOT NULL"),
    ("routed_model", "TEXT"),
    ("reported_model", "TEXT"),
    ("provider", "TEXT"),
    ("kind", "TEXT"),
    ("outcome", "TEXT NOT NULL"),
    ("refusal", "TEXT"),
    ("certainty", "TEXT NOT NULL"),
    ("input_tokens", "BIGINT"),
    ("cached_tokens", "BIGINT"),
    ("cache_write_tokens", "BIGINT"),
    ("output_tokens", "BIGINT"),
    ("reasoning_tokens", "BIGINT"),
    ("estimated_nusd", "BIGINT NOT NULL"),
    ("held_nusd", "BIGINT NOT NULL"),
    ("charged_nusd", "BIGINT NOT NULL"),
    ("baseline_nusd", "BIGINT NOT NULL"),
    ("overhead_nusd", "BIGINT NOT NULL"),
    ("over_budget_nusd", "BIGINT NOT NULL"),
    ("attempts", "TEXT NOT NULL"),
    ("difficulty", "DOUBLE PRECISION"),
    ("facts", "TEXT NOT NULL"),
    ("latency_ms", "DOUBLE PRECISION NOT NULL"),
    ("first_token_ms", "DOUBLE PRECISION"),
)
NAMES = tuple(name for name, _ in COLUMNS)

Row = tuple[Any, ...]
"""One value for each of `COLUMNS`."""


def row_of(outcome: Outcome) -> Row:
    """Write an outcome as a row; `at` is UTC to the microsecond, so that text order is time order."""
    usage = outcome.usage
    tokens = (
        (
            usage.input_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
        )
        if usage
        else (None, None, None, None, None)
    )
    return (
        outcome.id,
        outcome.at.isoformat(timespec="microseconds")[:-6] + "Z",
        outcome.account,
        outcome.task,
        outcome.rule,
        outcome.policy_revision,
        outcome.requested_model,
        outcome.routed_model,
        outcome.reported_model,
        outcome.provider,
        outcome.kind,
        outcome.ending.value,
        outcome.refusal,
        outcome.certainty.value,
        *tokens,
        outcome.estimated_nusd,
        outcome.held_nusd,
        outcome.charged_nusd,
        outcome.baseline_nusd,
        outcome.overhead_nusd,
        outcome.over_budget_nusd,
        _json([_attempt(attempt) for attempt in outcome.attempts]) if outcome.attempts else "[]",
        outcome.difficulty,
        _json(outcome.facts),
        outcome.latency_s * 1e3,
        None if outcome.first_token_s is None else outcome.first_token_s * 1e3,
    )


def _attempt(attempt: Attempt) -> dict[str, object]:
    return {
        "model": attempt.model,
        "target": attempt.target,
        "reason": attempt.reason,
        "status": attempt.status,
        "charged_nusd": attempt.charge_nusd,
        "certainty": attempt.certainty.value,
        "input_tokens": attempt.usage.input_tokens if attempt.usage else None,
        "output_tokens": attempt.usage.output_tokens if attempt.usage else None,
        "ms": round(attempt.duration_s * 1e3, 3),
    }


_encode = msgspec.json.Encoder().encode


def _json(value: object) -> str:
    return _encode(value).decode()
