"""What litellm raises, as ours: the only place where its exceptions are told apart.

What was seen on the wire comes first, because litellm guesses causes from texts. A text of the provider's is
passed on only where it speaks of the request, and without anything that looks like a key.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import httpx
import msgspec
import openai
from litellm import exceptions as vendor

from router.errors import (
    AnswerBroken,
    ProviderDenied,
    ProviderError,
    ProviderFailed,
    ProviderOverloaded,
    ProviderRefused,
    ProviderTimedOut,
    ProviderUnreachable,
)
from router.policy.target import Target
from router.providers.litellm_exchange import Exchange

LONGEST_MESSAGE = 500

LONGEST_WAIT_S = 86_400.0

KEYS = re.compile(
    r"(?ix) \b (?: sk-|pk-|rk-|AIza|AKIA|ASIA|ya29\.|gsk_|xai-|hf_|bearer\s|basic\s ) [\w.\-+/=*]+"
    r" | \b (?: api[-_\s]?key|key|secret|password|authorization ) [\"']?\s*[=:]\s*[\"']? [^\s\"'&,}]+"
)


def provider_error(error: Exception, exchange: Exchange, target: Target) -> ProviderError:
    """Return the cause of a failed attempt, as one of ours."""
    if isinstance(error, ProviderError):
        return error
    if exchange.failure is not None:
        return exchange.failure
    if isinstance(error, vendor.MidStreamFallbackError) and error.original_exception is not None:
        return provider_error(error.original_exception, exchange, target)
    if exchange.status is None:
        return _unseen(error, target)
    if 200 <= exchange.status < 300:
        return AnswerBroken(f"{target.name} gave an answer that can't be understood.", status=exchange.status)
    return _of_status(exchange.status, error, exchange, target)


def retry_after_s(headers: httpx.Headers, body: bytes) -> float | None:
    """Return how long the provider asks us to wait: by header (seconds or a date), or Gemini's own way."""
    asked = headers.get("retry-after", "").strip()
    if milliseconds := re.fullmatch(r"\d+(\.\d+)?", headers.get("retry-after-ms", "").strip()):
        seconds = float(milliseconds[0]) / 1_000
    elif re.fullmatch(r"\d+(\.\d+)?", asked):
        seconds = float(asked)
    elif asked:
        try:
            seconds = (parsedate_to_datetime(asked).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except ValueError:
            return None
    elif delay := re.search(rb'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"', body):
        seconds = float(delay[1])
    else:
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_S)


def _of_status(status: int, error: Exception, exchange: Exchange, target: Target) -> ProviderError:
    wait_s = retry_after_s(exchange.headers, exchange.error_body)
    said = _said(exchange.error_body)
    if status in (401, 402, 403, 404):
        return ProviderDenied(f"{target.name} did not accept our key or the model's name.", status=status)
    if status in (429, 529) or (status == 503 and "overloaded" in said.lower()):
        return ProviderOverloaded(f"{target.name} is overloaded or limits us.", status=status, retry_after_s=wait_s)
    if status >= 500 or status < 400 or status == 408:
        return ProviderFailed(f"{target.name} failed with status {status}.", status=status, retry_after_s=wait_s)
    if "api key" in said.lower():
        # Google answers 400 to a key that is not valid.
        return ProviderDenied(f"{target.name} did not accept our key.", status=status)
    return _refused(target, said, status, too_long=isinstance(error, vendor.ContextWindowExceededError))


def _unseen(error: Exception, target: Target) -> ProviderError:
    """Tell apart what failed before anything was sent, or was sent by other means than HTTP clients."""
    match error:
        case vendor.Timeout():
            return ProviderTimedOut(f"{target.name} did not answer in time.")
        case vendor.AuthenticationError() | vendor.PermissionDeniedError() | vendor.NotFoundError():
            return ProviderDenied(f"{target.name} did not accept our key or the model's name.")
        case vendor.PaymentRequiredError():
            return ProviderDenied(f"{target.name} did not accept our account.")
        case vendor.RateLimitError():
            return ProviderOverloaded(
                f"{target.name} is overloaded or limits us.",
                status=429,
                retry_after_s=retry_after_s(error.response.headers, b""),
            )
        case vendor.ImageFetchError():
            return _refused(target, "it takes no image by its URL here; send the image as a data URL", 400)
        case vendor.ContextWindowExceededError():
            return _refused(target, error.message, error.status_code, too_long=True)
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            return _refused(target, error.message, error.status_code)
        case openai.APIConnectionError() if _is_of_network(error):
            return ProviderUnreachable(f"{target.name} could not be connected to.")
        case vendor.ServiceUnavailableError() | openai.InternalServerError() | vendor.BadGatewayError():
            return ProviderFailed(f"{target.name} failed.", status=error.status_code)
        case vendor.APIResponseValidationError():
            return AnswerBroken(f"{target.name} gave an answer that can't be understood.")
    if missing := re.search(r"No module named '([\w.]+)'|[Mm]issing (boto3)", str(error)):
        package = missing[1] or missing[2]
        return ProviderDenied(f"{target.name} needs a Python package that is not installed: {package}.")
    if re.search(r"(?i)api[ _-]?key", str(error)):
        return ProviderDenied(f"{target.name} needs an API key.")
    return _refused(target, "litellm could not translate it for this provider", None)


def _refused(target: Target, said: str, status: int | None, *, too_long: bool = False) -> ProviderRefused:
    clean = re.sub(r"\blitellm\.\w+: |\w+Exception - ", "", said)
    clean = clean.replace(target.api_key, "[key]") if target.api_key else clean
    clean = KEYS.sub("[key]", clean)[:LONGEST_MESSAGE]
    message = f"{target.name} refused the request: {clean}" if clean else f"{target.name} refused the request."
    return ProviderRefused(message, status=status, too_long=too_long)


def _said(body: bytes) -> str:
    """Return the message in a provider's error, or nothing: what is no JSON may be a page of anything."""
    try:
        error: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    error = error[0] if isinstance(error, list) and error else error
    error = error.get("error", error) if isinstance(error, dict) else error
    said = error.get("message", "") if isinstance(error, dict) else error
    return said if isinstance(said, str) else ""


def _is_of_network(error: BaseException) -> bool:
    """Whether a failure of the network is beneath an exception, which litellm also uses for its own bugs."""
    seen: BaseException | None = error
    for _ in range(10):
        seen = seen and (seen.__cause__ or seen.__context__)
        if isinstance(seen, httpx.TransportError | aiohttp.ClientError | OSError):
            return True
    return False
