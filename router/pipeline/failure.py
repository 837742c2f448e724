"""The errors that callers get: of a refusal, and of the last failure where every candidate failed."""

from __future__ import annotations

from router.errors import (
    BudgetExceeded,
    ContextLengthExceeded,
    FarthingError,
    InvalidRequest,
    ModelNotFound,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderTimedOut,
    ProviderUnreachable,
    RequestBudgetExceeded,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.policy.decide import Refusal
from router.values import Attempt


def refused(refusal: Refusal) -> FarthingError:
    """Turn a refusal into the error that the caller gets."""
    match refusal.code:
        case "request_budget_exceeded":
            return RequestBudgetExceeded(refusal.message)
        case "budget_exceeded":
            return BudgetExceeded(refusal.message)
        case "context_length_exceeded":
            return ContextLengthExceeded(refusal.message, param="messages")
        case "model_not_found":
            return ModelNotFound(refusal.message, param="model")
        case _:
            return InvalidRequest(refusal.message)


def every_failed(last: ProviderError, attempts: list[Attempt]) -> FarthingError:
    """Turn the last failure into the caller's error; a request that every provider refused is the caller's to mend."""
    if isinstance(last, ProviderRefused) and all(attempt.reason == last.reason for attempt in attempts):
        if last.too_long:
            return ContextLengthExceeded(last.message, param=last.param or "messages")
        return InvalidRequest(last.message, param=last.param)
    tried = "one attempt" if len(attempts) == 1 else f"{len(attempts)} attempts"
    message = f"Every candidate failed ({tried}). The last: {last.message}"
    match last:
        case ProviderTimedOut():
            return UpstreamTimeout(message, cause=last)
        case ProviderUnreachable() | ProviderOverloaded():
            return UpstreamUnavailable(message, cause=last)
        case _:
            return UpstreamError(message, cause=last)
