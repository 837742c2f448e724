"""An outcome as a row of the table `requests`: the columns, their types and their order, for every store.

Whatever callers and providers sent, every store takes the row: one that it refused would stop all behind it.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from router.values import EXACT_NUSD, Attempt, Ending, Outcome, Usage

CORRECTION = "correction"
"""The outcome of a row that an operator adds to correct another one; `charged_nusd` is the difference."""

HELD_FOR_S = 900.0
"""A row that is held for longer than any request may last has lost its owner."""

COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("id", "TEXT PRIMARY KEY", 1),
    ("at", "TEXT NOT NULL", 1),
    ("account", "TEXT", 1),
    ("task", "TEXT NOT NULL", 1),
    ("rule", "TEXT NOT NULL", 1),
    ("policy_revision", "TEXT NOT NULL", 1),
    ("requested_model", "TEXT NOT NULL", 1),
    ("routed_model", "TEXT", 1),
    ("reported_model", "TEXT", 1),
    ("provider", "TEXT", 1),
    ("kind", "TEXT", 1),
    ("outcome", "TEXT NOT NULL", 1),
    ("refusal", "TEXT", 1),
    ("certainty", "TEXT NOT NULL", 1),
    ("input_tokens", "BIGINT", 1),
    ("cached_tokens", "BIGINT", 1),
    ("cache_write_tokens", "BIGINT", 1),
    ("output_tokens", "BIGINT", 1),
    ("reasoning_tokens", "BIGINT", 1),
    ("estimated_nusd", "BIGINT NOT NULL", 1),
    ("held_nusd", "BIGINT NOT NULL", 1),
    ("charged_nusd", "BIGINT NOT NULL", 1),
    ("baseline_nusd", "BIGINT NOT NULL", 1),
    ("overhead_nusd", "BIGINT NOT NULL", 1),
    ("over_budget_nusd", "BIGINT NOT NULL", 1),
    ("attempts", "TEXT NOT NULL", 1),
    ("difficulty", "DOUBLE PRECISION", 1),
    ("facts", "TEXT NOT NULL", 1),
    ("latency_ms", "DOUBLE PRECISION NOT NULL", 1),
    ("first_token_ms", "DOUBLE PRECISION", 1),
    ("instance", "TEXT", 2),
    ("held_until", "TEXT", 2),
    ("corrects", "TEXT", 2),
    ("note", "TEXT", 2),
)
"""Name, type, and the version of the schema that brought it; new ones come last and may be null."""
NAMES = tuple(name for name, _, _ in COLUMNS)

Row = tuple[Any, ...]
"""One value for each of `COLUMNS`."""


def row_of(outcome: Outcome, instance: str | None = None, held_for_s: float = HELD_FOR_S) -> Row:
    """Write an outcome as a row of `instance`, the process that answers for it."""
    usage = outcome.usage
    tokens = (
        (
            _number(usage.input_tokens),
            _number(usage.cached_tokens),
            _number(usage.cache_write_tokens),
            _number(usage.output_tokens),
            _number(usage.reasoning_tokens),
        )
        if usage
        else (None, None, None, None, None)
    )
    held = outcome.ending is Ending.HELD
    return (
        outcome.id,
        time_text(outcome.at),
        _text(outcome.account),
        _text(outcome.task),
        _text(outcome.rule),
        outcome.policy_revision,
        _text(outcome.requested_model),
        _text(outcome.routed_model),
        _text(outcome.reported_model),
        outcome.provider,
        outcome.kind,
        outcome.ending.value,
        outcome.refusal,
        outcome.certainty.value,
        *tokens,
        _number(outcome.estimated_nusd),
        _number(outcome.held_nusd),
        _number(outcome.charged_nusd),
        _number(outcome.baseline_nusd),
        _number(outcome.overhead_nusd),
        _number(outcome.over_budget_nusd),
        _json([_attempt(attempt) for attempt in outcome.attempts]) if outcome.attempts else "[]",
        outcome.difficulty,
        _json(outcome.facts),
        outcome.latency_s * 1e3,
        None if outcome.first_token_s is None else outcome.first_token_s * 1e3,
        instance,
        time_text(outcome.at + timedelta(seconds=held_for_s)) if held else None,
        None,
        None,
    )


@functools.lru_cache(maxsize=4096)
def time_text(at: datetime) -> str:
    """Write a time as UTC to the microsecond, always of one length, so that the order of texts is that of times.

    Remembered, for a request's row is written when it is held and again when it settles.
    """
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")[:-6] + "Z"


def _attempt(attempt: Attempt) -> dict[str, object]:
    check = {"check": attempt.check} if attempt.check else {}
    if attempt.because:
        check["because"] = attempt.because
    return {
        "model": attempt.model,
        "target": attempt.target,
        "reason": attempt.reason,
        "status": attempt.status,
        "charged_nusd": _number(attempt.charge_nusd),
        "certainty": attempt.certainty.value,
        "input_tokens": _number(attempt.usage.input_tokens) if attempt.usage else None,
        "output_tokens": _number(attempt.usage.output_tokens) if attempt.usage else None,
        "ms": round(attempt.duration_s * 1e3, 3),
        **(_classes(attempt.usage) if attempt.usage else {}),
        **check,
    }


def _classes(usage: Usage) -> dict[str, object]:
    """Return what else a usage says where it says more than input and output, so that it can be priced again."""
    if usage == Usage(usage.input_tokens, usage.output_tokens):
        return {}
    said = {name: getattr(usage, name) for name in _CLASSES}
    return {
        name: _number(value) if isinstance(value, int) else value
        for name, value in said.items()
        if value != _USUAL[name]
    }


_CLASSES = Usage.__struct_fields__[2:]
_USUAL = dict(zip(_CLASSES, Usage.__struct_defaults__, strict=True))


def _number(number: int) -> int:
    """Keep a number that a provider made up within what every store can hold and sum up."""
    return number if -EXACT_NUSD < number < EXACT_NUSD else EXACT_NUSD if number > 0 else -EXACT_NUSD


def _text(text: str | None) -> str | None:
    """Write a stranger's text so that it can be stored: PostgreSQL takes no NUL, no store half a surrogate pair."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


_encode = msgspec.json.Encoder().encode


def _json(value: object) -> str:
    return _encode(value).decode()
