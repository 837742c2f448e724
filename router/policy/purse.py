"""What one request may cost: the tightest of the limits of its policy, its account, everybody and the caller."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from router.errors import InvalidRequest
from router.policy.decide import Purse
from router.policy.policy import Account, Policy, PolicySet
from router.values import EXACT_NUSD, nusd_limit

BUDGET_HEADER = "x-farthing-budget-usd"
LONGEST_NUMBER = 40


def purse_of(policies: PolicySet, policy: Policy, account: Account | None, budget_nusd: int | None) -> Purse | None:
    """Return the tightest of the limits on one request; a caller's own limit tightens and never loosens."""
    downgrade = policy.budget.on_exceeded != "reject"
    limits = [
        (policy.budget.per_request_nusd, f"the request's budget in the policy '{policy.task}'"),
        (policies.budget.per_request_nusd, "the request's budget in accounts.yaml"),
        (budget_nusd, f"the request's budget in {BUDGET_HEADER}"),
    ]
    if account:
        limits.append((account.budget.per_request_nusd, f"the request's budget of account '{account.name}'"))
    purses = [Purse(nusd, whose, may_downgrade=downgrade) for nusd, whose in limits if nusd is not None]
    return min(purses, key=lambda purse: purse.nusd, default=None)


def asked_nusd(text: str) -> int:
    """Read a caller's own limit, as in the header x-farthing-budget-usd, in nUSD.

    Raises:
        InvalidRequest: it is no plain amount of dollars.
    """
    try:
        amount = Decimal(text) if len(text) <= LONGEST_NUMBER and "_" not in text else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0 or not (amount == 0 or -12 <= amount.adjusted() <= 12):
        raise InvalidRequest(
            f"The header {BUDGET_HEADER} must be an amount of dollars such as 0.01, not {text[:40]!r}.",
            param=BUDGET_HEADER,
        )
    return min(nusd_limit(amount), EXACT_NUSD)
