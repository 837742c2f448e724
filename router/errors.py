"""Every failure raised on purpose, with its stable code, whether a retry can help, and whether it may be billed.

FarthingError
├── RequestError                 the caller can mend it
│   ├── InvalidRequest           invalid_request
│   │   └── NoSuchEndpoint       not_found
│   ├── InvalidApiKey            invalid_api_key
│   ├── NotAllowed               not_allowed
│   ├── ModelNotFound            model_not_found
│   ├── RequestNotFound          request_not_found
│   ├── RequestTooLarge          request_too_large
│   ├── ContextLengthExceeded    context_length_exceeded
│   ├── IdempotencyMismatch      idempotency_mismatch
│   ├── IdempotencyUnderWay      idempotency_under_way
│   └── RateLimited              rate_limited
├── BudgetError                  the money does not suffice
│   ├── RequestBudgetExceeded    request_budget_exceeded
│   └── BudgetExceeded           budget_exceeded
├── StoreUnavailable             store_unavailable
│   ├── BudgetsUnavailable
│   └── LedgerUnavailable
├── ProviderError                one attempt failed
│   ├── ProviderRefused          it will not take this request, now or later
│   ├── ProviderDenied           our key or account is not good enough there
│   ├── ProviderOverloaded       429 or "overloaded": wait and try again
│   ├── ProviderFailed           5xx, or an answer that is no answer
│   ├── ProviderUnreachable      no connection was made; nothing was sent
│   ├── ProviderTimedOut         a deadline passed while it may have been working
│   └── AnswerBroken             the connection ended in mid-answer
├── UpstreamError                every candidate failed: upstream_error, _unavailable or _timeout
├── NotInstalled                 an optional part was asked for that is not installed
├── UnusableFile                 a file of labels or weights is missing, or is not what it should be
├── PolicyFaults                 the policy folder is not valid; carries every fault
└── UnpricedModel                no price for this model, so it cannot be bounded

Only `web` knows HTTP statuses. Vendor errors become ours in one place per vendor, in `providers`.
"""

from __future__ import annotations

from typing import ClassVar


class FarthingError(Exception):
    """Any failure that Farthing raises on purpose.

    `code` is what a caller may match on; `retryable` says whether the same request may succeed a little later.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.recorded = False
        """Whether an outcome tells of it, so that it is not counted twice."""

    @property
    def told(self) -> str:
        """What a caller hears of it; `message` is for whoever runs the proxy."""
        return self.message


class RequestError(FarthingError):
    """The request itself is at fault; nothing was sent to a provider and nothing is charged."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequest(RequestError):
    code = "invalid_request"


class NoSuchEndpoint(InvalidRequest):
    """A path or a method that there is not."""

    code = "not_found"


class InvalidApiKey(RequestError):
    code = "invalid_api_key"


class NotAllowed(RequestError):
    code = "not_allowed"


class ModelNotFound(RequestError):
    code = "model_not_found"


class RequestNotFound(RequestError):
    """There is no answered request of this id, or it is another account's."""

    code = "request_not_found"


class RequestTooLarge(RequestError):
    code = "request_too_large"


class ContextLengthExceeded(RequestError):
    code = "context_length_exceeded"


class IdempotencyMismatch(RequestError):
    """The Idempotency-Key belongs to another body."""

    code = "idempotency_mismatch"


class IdempotencyUnderWay(RequestError):
    """The first request with this Idempotency-Key is not answered yet."""

    code = "idempotency_under_way"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, param="idempotency-key")
        self.retry_after_s = retry_after_s


class RateLimited(RequestError):
    code = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BudgetError(FarthingError):
    """No candidate fits the money there is; nothing was sent and nothing is charged."""


class RequestBudgetExceeded(BudgetError):
    code = "request_budget_exceeded"


class BudgetExceeded(BudgetError):
    code = "budget_exceeded"


class StoreUnavailable(FarthingError):
    """A budget or the ledger can't be reached and the fail mode is closed; nothing was sent."""

    code = "store_unavailable"
    retryable = True
    part: ClassVar[str | None] = None
    """Which part is away, where the message may say at which address, which is no caller's business."""
    retry_after_s: float | None = None
    """When it is worth asking again, where that is to be told."""

    def __init__(self, message: str, *, why: str | None = None) -> None:
        """`why` is what failed, in a few words without an address."""
        super().__init__(message)
        self.why = why

    @property
    def told(self) -> str:
        if self.part is None:
            return self.message
        if self.why is None:
            return f"{self.part} can't be reached now; the proxy's log says why."
        return f"{self.part} can't be reached now ({self.why}); the proxy's log says more."


class LedgerUnavailable(StoreUnavailable):
    """The ledger can't be read or written."""

    part = "The ledger"


class BudgetsUnavailable(StoreUnavailable):
    """The store of budgets is not asked, or does not answer."""

    part = "The store of budgets"


class ProviderError(FarthingError):
    """One attempt at one provider failed.

    `reason` is one word of a closed vocabulary, for metrics. `billable` says whether the provider may charge for
    the attempt all the same, so that the caller of the attempt counts it. `retryable` is about the same target;
    `elsewhere` says whether another candidate may still do it.
    """

    reason: ClassVar[str] = "failed"
    billable: ClassVar[bool] = False
    elsewhere: ClassVar[bool] = True

    def __init__(self, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class ProviderRefused(ProviderError):
    """The provider says that the request is wrong (400, 413, 422): another model may take it, a retry won't help."""

    reason = "refused"

    def __init__(
        self, message: str, *, status: int | None = None, param: str | None = None, too_long: bool = False
    ) -> None:
        super().__init__(message, status=status)
        self.param = param
        self.too_long = too_long


class ProviderDenied(ProviderError):
    """401, 403 or 404: our key or the model's name is wrong there. Its message may quote a key and is never told."""

    reason = "denied"


class ProviderOverloaded(ProviderError):
    reason = "overloaded"
    retryable = True


class ProviderFailed(ProviderError):
    reason = "failed"
    retryable = True


class ProviderUnreachable(ProviderError):
    reason = "unreachable"
    retryable = True


class ProviderTimedOut(ProviderError):
    """A deadline passed after the request was sent: it is not tried again on the same target, and may be billed."""

    reason = "timeout"
    billable = True


class AnswerBroken(ProviderError):
    """The connection ended, or turned to nonsense, after the request was sent: it may be billed."""

    reason = "broken"
    billable = True


class UpstreamError(FarthingError):
    """Every candidate failed; the message tells the last cause, without any secret.

    The code follows the last cause: `upstream_timeout`, `upstream_unavailable` (unreachable or overloaded) or
    `upstream_error`.
    """

    code = "upstream_error"
    retryable = True

    def __init__(self, message: str, *, cause: ProviderError) -> None:
        super().__init__(message)
        self.cause = cause


class UpstreamUnavailable(UpstreamError):
    code = "upstream_unavailable"


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"


class NotInstalled(FarthingError):
    """An optional part was asked for that is not installed; the message says how to install it."""

    code = "not_installed"


class UnusableFile(FarthingError):
    code = "unusable_file"


class PolicyFaults(FarthingError):
    """The policy folder is not valid and none of it is used; `faults` are all of them, a line each.

    `causes` are those of them that keep it from being used: neither warnings nor what money can't buy.
    """

    code = "policy_faults"

    def __init__(self, faults: tuple[str, ...], causes: tuple[str, ...] | None = None) -> None:
        super().__init__("The policies are not valid:\n" + "\n".join(faults))
        self.faults = faults
        self.causes = faults if causes is None else causes


class NotAdmitted(PolicyFaults):
    """The policy folder is valid, but what it needs to come into force is away; it may be tried again as it is."""


class UnpricedModel(FarthingError):
    """No price is known for this model, so nothing that uses it can be bounded."""

    code = "unpriced_model"
