"""How far the baseline may be off: what it would be if the baseline model had answered at its own usual length.

A row's `baseline_nusd` prices the tokens that were really answered, by whichever model. Another model would have
written more, or less. Where the ledger has answers of the baseline model to the same task, it says how long they
usually are; nothing is said where it has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from router.ledger.contract import Grouping, Store
from router.policy.policy import PolicySet
from router.pricing import Price
from router.values import Usage

FEWEST = 10
"""Of fewer answers of the baseline model to a task no usual length is made out."""
MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Shift:
    """What a baseline would change by, in nUSD, with `requests` answers at the baseline model's usual length."""

    nusd: int
    requests: int


def shifts(
    store: Store,
    policies: PolicySet,
    by: Sequence[Grouping],
    since: datetime | None,
    tasks: Sequence[str] = (),
) -> Mapping[tuple[str, ...], Shift]:
    """Return what each group's baseline would change by; groups of which nothing is known are not there.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    usual = {
        (length.task, length.routed_model): Fraction(length.output_tokens, length.requests)
        for length in store.lengths((), since, tasks)
        if length.requests >= FEWEST
    }
    found: dict[tuple[str, ...], tuple[Fraction, int]] = {}
    for row in store.lengths(by, since, tasks):
        policy = policies.policies.get(row.task)
        if policy is None or policy.baseline is None or row.routed_model == policy.baseline:
            continue
        usual_tokens = usual.get((row.task, policy.baseline))
        if usual_tokens is None:
            continue
        rate_nusd = _token_nusd(policies.models[policy.baseline].targets[0].price, row.input_tokens // row.requests)
        nusd, requests = found.get(row.group, (Fraction(0), 0))
        nusd += rate_nusd * (usual_tokens * row.requests - row.output_tokens)
        found[row.group] = nusd, requests + row.requests
    return {group: Shift(round(nusd), requests) for group, (nusd, requests) in found.items()}


def _token_nusd(price: Price, input_tokens: int) -> Fraction:
    """Return what one token of output costs behind an input of this length."""
    most, none = (price.charge_nusd(Usage(input_tokens, output)) for output in (MANY, 0))
    return Fraction(most - none, MANY)
