"""The closed vocabularies of labels called `reason`, `store` and `verb`: no other word becomes a label's value.

What is no word of a vocabulary is counted as `_other`; tests hold them against what raises and calls.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from router.policy.verify import NAMES
from router.values import BESIDE

OTHER = "_other"
NONE = "none"


class Overhead(StrEnum):
    """What money went to that bought no answer."""

    FAILED = "failed"
    """The whole request failed."""
    FAILED_LEG = "failed_leg"
    """A call failed, was cut off, or was given up, and another one gave the answer."""
    ESCALATION = "escalation"
    """An answer did not pass its check, and another one was asked for."""
    AGREE = "agree"
    """A second answer, to see whether both agree."""
    JUDGE = "judge"
    """A model that graded the answer."""
    SHADOW = "shadow"
    """A request's copy that an experiment sent to another model."""


class Failure(StrEnum):
    """Why a call failed: the reasons of `ProviderError`s."""

    REFUSED = "refused"
    DENIED = "denied"
    OVERLOADED = "overloaded"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BROKEN = "broken"


class Refusal(StrEnum):
    """The codes of the errors with which Farthing itself turns a request away."""

    INVALID_REQUEST = "invalid_request"
    INVALID_API_KEY = "invalid_api_key"
    NOT_ALLOWED = "not_allowed"
    REQUEST_BUDGET_EXCEEDED = "request_budget_exceeded"
    BUDGET_EXCEEDED = "budget_exceeded"
    MODEL_NOT_FOUND = "model_not_found"
    REQUEST_NOT_FOUND = "request_not_found"
    NOT_FOUND = "not_found"
    REQUEST_TOO_LARGE = "request_too_large"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_UNDER_WAY = "idempotency_under_way"
    RATE_LIMITED = "rate_limited"
    STORE_UNAVAILABLE = "store_unavailable"


CHECKS = frozenset(NAMES)
"""Which check an answer did not pass."""
FAILURES = frozenset(Failure) | {f"check_{name}" for name in NAMES}
REFUSALS = frozenset(Refusal)
NO_FAILURES = frozenset({"answered", "cut", "cancelled", *BESIDE})
"""How attempts end that did what was asked of them."""

StoreName = Literal["redis", "sqlite", "postgresql"]
StoreVerb = Literal["hold", "settle", "levels", "rates", "restore", "claim", "commit"]


def word(text: str, vocabulary: frozenset[str]) -> str:
    """Return `text` where it is a word of the vocabulary, else `_other`."""
    return text if text in vocabulary else OTHER
