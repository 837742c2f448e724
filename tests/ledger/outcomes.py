"""Outcomes to write down."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from router.values import Certainty, Ending, Outcome, Usage

NOW = datetime(2026, 11, 21, 12, 30, 0, 123_456, tzinfo=UTC)


def outcome(request_id: str, ending: Ending, charged_nusd: int, **others: Any) -> Outcome:
    return Outcome(
        **{
            "id": request_id,
            "at": NOW,
            "account": "one",
            "task": "support",
            "rule": "routine",
            "policy_revision": "r1",
            "requested_model": "auto",
            "ending": ending,
            "certainty": Certainty.CEILING if ending is Ending.HELD else Certainty.REPORTED,
            "routed_model": "cheap",
            "provider": "openai",
            "kind": "routine",
            "charged_nusd": charged_nusd,
            "held_nusd": charged_nusd,
            **others,
        }
    )


def held(request_id: str, ceiling_nusd: int, **others: Any) -> Outcome:
    return outcome(request_id, Ending.HELD, ceiling_nusd, **others)


def answered(request_id: str, charged_nusd: int, **others: Any) -> Outcome:
    usage = Usage(input_tokens=1_000, output_tokens=100)
    return outcome(request_id, Ending.ANSWERED, charged_nusd, **{"usage": usage, **others})
