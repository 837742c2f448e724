"""Failures of targets that speak OpenAI's format, as ours."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import msgspec
from msgspec import Struct

from router.errors import (
    AnswerBroken,
    ProviderDenied,
    ProviderError,
    ProviderFailed,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
)
from router.policy.target import Target
from router.providers.http1 import Broken, Dropped, HttpError, NotConnected

LONGEST_RETRY_AFTER_S = 86_400.0
"""What a longer one is read as, infinity included."""


class ErrorDetail(Struct, frozen=True):
    message: str = ""
    code: str | int | None = None
    param: str | None = None


class ErrorBody(Struct, frozen=True):
    error: ErrorDetail | str


_error = msgspec.json.Decoder(ErrorBody)


def unanswered(error: HttpError, target: Target) -> ProviderError:
    """Turn what happened instead of an answer into our error."""
    match error:
        case NotConnected():
            return ProviderUnreachable(f"{target.name} can't be reached: {error}.")
        case Dropped():
            # As a rule an idle connection, closed at the moment we used it again.
            return ProviderUnreachable(f"{target.name} closed the connection before it answered.")
        case Broken():
            return AnswerBroken(f"{target.name} closed the connection at the start of its answer.")
    return ProviderFailed(f"{target.name} gave no valid HTTP answer: {error}.")


def refusal_of(status: int, retry_after: str | None, raw: bytes, target: Target) -> ProviderError:
    """Turn an HTTP refusal into our error. A 401 or 403 keeps its message to itself, for it may quote a key."""
    said = told_in(raw, target)
    if status in (401, 403, 404):
        what = "there is no such model or URL" if status == 404 else "it does not accept our API key"
        return ProviderDenied(f"{target.name} answered {status}: {what}.", status=status)
    if status < 400 or status in (402, 405, 410) or _detail(raw).code == "insufficient_quota":
        return ProviderDenied(f"{target.name} answered {status}: it does not serve us there.", status=status)
    if status in (429, 503, 529):
        return ProviderOverloaded(
            f"{target.name} answered {status}{said}", status=status, retry_after_s=_seconds(retry_after)
        )
    if status in (400, 413, 422):
        detail = _detail(raw)
        too_long = status == 413 or detail.code == "context_length_exceeded" or "context length" in detail.message
        return ProviderRefused(
            f"{target.name} answered {status}{said}", status=status, param=detail.param, too_long=too_long
        )
    return ProviderFailed(f"{target.name} answered {status}{said}", status=status, retry_after_s=_seconds(retry_after))


def _detail(raw: bytes) -> ErrorDetail:
    try:
        error = _error.decode(raw).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorDetail()
    return ErrorDetail(message=error) if isinstance(error, str) else error


def told_in(raw: bytes, target: Target) -> str:
    """Return ": message" of an error's body without our key, or "." where there is none or it is about a key."""
    detail = _detail(raw)
    if str(detail.code) in ("401", "403", "invalid_api_key") or "api key" in detail.message.lower():
        return "."
    message = detail.message.replace(target.api_key, "***") if target.api_key else detail.message
    return f": {message[:500]}" if message else "."


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date."""
    if retry_after is None:
        return None
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, wait_s), LONGEST_RETRY_AFTER_S)
