"""Our errors as HTTP: the only place that knows statuses, and OpenAI's shape of an error."""

from __future__ import annotations

import logging
import math

import msgspec

from router.errors import FarthingError, IdempotencyUnderWay, RateLimited, RequestError, StoreUnavailable, UpstreamError
from router.web.asgi import Headers

refused = logging.getLogger("farthing.refused")

STATUS = {
    "invalid_request": 400,
    "invalid_api_key": 401,
    "not_allowed": 403,
    "request_budget_exceeded": 402,
    "budget_exceeded": 402,
    "model_not_found": 404,
    "request_not_found": 404,
    "not_found": 404,
    "request_too_large": 413,
    "context_length_exceeded": 400,
    "idempotency_mismatch": 422,
    "idempotency_under_way": 409,
    "rate_limited": 429,
    "upstream_error": 502,
    "upstream_unavailable": 503,
    "upstream_timeout": 504,
    "store_unavailable": 503,
}

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "budget_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def status_of(error: FarthingError) -> int:
    return STATUS.get(error.code, 500)


def error_body(error: FarthingError) -> bytes:
    """Write an error in OpenAI's shape."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.told,
                "type": _TYPES.get(status_of(error), "api_error"),
                "param": error.param if isinstance(error, RequestError) else None,
                "code": error.code,
            }
        }
    )


def keep_for_operators(error: FarthingError, request_id: str) -> None:
    """Log which request was refused because a part is away, and where that is, which its caller is not told."""
    if isinstance(error, StoreUnavailable):
        fields = {"request_id": request_id, "error": error.code}
        refused.warning("refused: %s", error.message, extra={"part": error.part, "fields": fields})


def error_headers(error: FarthingError) -> Headers:
    """Return what tells an SDK whether, and when, to try again."""
    if not error.retryable:
        return [(b"x-should-retry", b"false")]
    wait_s = None
    if isinstance(error, RateLimited | IdempotencyUnderWay | StoreUnavailable):
        wait_s = error.retry_after_s
    elif isinstance(error, UpstreamError):
        wait_s = error.cause.retry_after_s
    if wait_s is None:
        return []
    # Whole seconds for everybody, and the exact time for the SDKs that look for it.
    wait_ms = math.ceil(wait_s * 1000)
    return [(b"retry-after", str(-(-wait_ms // 1000)).encode()), (b"retry-after-ms", str(wait_ms).encode())]
