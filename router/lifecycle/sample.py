"""What one request says of its side of an experiment, whether it is read from an outcome or from the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from router.policy.experiment import Side
from router.values import BESIDE, PASSING, Attempt, Ending, Outcome

TOLD = frozenset({Ending.ANSWERED, Ending.CUT, Ending.FAILED, Ending.SHADOW})
"""The endings that say something of a model; a caller who hangs up says nothing."""
_GAVE = ("answered", "cut")
_CHECK = "check_"


class Tried(Struct, frozen=True):
    """One attempt, as far as it is looked at here."""

    model: str
    reason: str
    check: str | None = None


class Part(Struct, frozen=True):
    """A request's part in an experiment, as `Trial.recorded` wrote it down."""

    name: str
    version: str
    side: Side
    model: str
    checked: bool = False


class Sample(Struct, frozen=True):
    """What one request came to."""

    cost_nusd: int
    latency_ms: float | None
    """From arrival to the last byte; None where its model gave no answer."""
    is_error: bool
    """Whether its side's model gave no answer, though another one may have."""
    passed: bool | None
    """Whether that answer passed the rule's check; None where there is no check, or no answer."""
    agreement: float | None = None


def part_of(facts: dict[str, Any]) -> Part | None:
    """Return a request's part in an experiment; None where it has none."""
    try:
        return msgspec.convert(facts.get("experiment"), Part)
    except msgspec.ValidationError:
        return None


def sample_of(outcome: Outcome, part: Part) -> Sample | None:
    """Return what an outcome says of its side; None where it says nothing."""
    if outcome.ending not in TOLD:
        return None
    agreement = outcome.facts.get("agreement")
    return sampled(
        part,
        outcome.attempts,
        outcome.charged_nusd,
        outcome.latency_s * 1e3,
        agreement if isinstance(agreement, float) else None,
    )


def sampled(
    part: Part,
    attempts: Iterable[Attempt | Tried],
    cost_nusd: int,
    latency_ms: float,
    agreement: float | None,
) -> Sample | None:
    """Judge a side's model by its own attempts.

    None where it was not called, as above its rate limit, and where the request itself was at fault.
    """
    own = [attempt for attempt in attempts if attempt.reason not in BESIDE]
    tried = [(attempt.model, attempt.reason) for attempt in own]
    if not tried:
        return None
    model = tried[0][0] if part.side is Side.CONTROL else part.model
    reasons = [reason for name, reason in tried if name == model]
    if not reasons or (part.side is not Side.SHADOW and _is_at_fault(tried)):
        return None
    checks = [attempt.check for attempt in own if attempt.model == model and attempt.check]
    failed_check = any(check not in PASSING for check in checks) or any(reason.startswith(_CHECK) for reason in reasons)
    gave = failed_check or any(reason in _GAVE for reason in reasons)
    return Sample(
        cost_nusd,
        latency_ms if gave else None,
        not gave,
        not failed_check if part.checked and gave and part.side is not Side.SHADOW else None,
        agreement,
    )


def _is_at_fault(tried: list[tuple[str, str]]) -> bool:
    """Say whether every model refused a request; a canary that was the only one asked may be at fault itself."""
    return all(reason == "refused" for _, reason in tried) and len({name for name, _ in tried}) > 1
