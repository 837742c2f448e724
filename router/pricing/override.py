"""Prices written by hand in models.yaml, in dollars per million tokens, turned into a `Price`.

What is left out costs what litellm and the providers take in its place (cached input as input, reasoning as
output); nothing that is left out is free.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, Decimal
from typing import Final

from router.pricing.price import STANDARD_TIER, Bracket, Price, Rates, Schedule, SearchPrice, TokenClass
from router.values import NUSD_PER_USD, nusd_cost


@dataclass(frozen=True, slots=True)
class TierOverride:
    """Rates of requests whose input is longer than `above_input_tokens`; None stays as it is below that."""

    above_input_tokens: int
    input_usd_per_mtok: Decimal | None = None
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    input_audio_usd_per_mtok: Decimal | None = None
    cached_audio_usd_per_mtok: Decimal | None = None
    input_image_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    reasoning_usd_per_mtok: Decimal | None = None
    output_audio_usd_per_mtok: Decimal | None = None
    output_image_usd_per_mtok: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """The `price:` of a model in models.yaml, key by key. Only the rates of plain input and output are
    required.
    """

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    input_audio_usd_per_mtok: Decimal | None = None
    cached_audio_usd_per_mtok: Decimal | None = None
    input_image_usd_per_mtok: Decimal | None = None
    reasoning_usd_per_mtok: Decimal | None = None
    output_audio_usd_per_mtok: Decimal | None = None
    output_image_usd_per_mtok: Decimal | None = None
    per_request_usd: Decimal = Decimal(0)
    per_search_usd: Decimal | None = None
    tiers: tuple[TierOverride, ...] = ()


_KEY_BY_CLASS: Final[dict[TokenClass, str]] = {
    "input": "input_usd_per_mtok",
    "cached_input": "cached_input_usd_per_mtok",
    "cache_write": "cache_write_usd_per_mtok",
    "cache_write_1h": "cache_write_1h_usd_per_mtok",
    "input_audio": "input_audio_usd_per_mtok",
    "cached_audio": "cached_audio_usd_per_mtok",
    "input_image": "input_image_usd_per_mtok",
    "output": "output_usd_per_mtok",
    "reasoning": "reasoning_usd_per_mtok",
    "output_audio": "output_audio_usd_per_mtok",
    "output_image": "output_image_usd_per_mtok",
}


def override_price(override: PriceOverride) -> Price:
    """Return the price that `override` states.

    A cache write is taken as billed wherever it is priced above input, asked for or not: what is held may be
    too much by that, and never too little.

    Raises:
        ValueError: an amount is negative or no number, or the tiers don't begin at different lengths above 0.
    """
    own = _own_rates(override)
    brackets = [Bracket(-1, Rates.filled(own))]
    starts = [tier.above_input_tokens for tier in override.tiers]
    if len(set(starts)) < len(starts) or min(starts, default=1) < 1:
        message = f"tiers must each have their own above_input_tokens of at least 1, not {starts}"
        raise ValueError(message)
    for tier in sorted(override.tiers, key=lambda tier: tier.above_input_tokens):
        own = own | _own_rates(tier)
        brackets.append(Bracket(tier.above_input_tokens, Rates.filled(own)))
    search = override.per_search_usd
    search_nusd = None if search is None else nusd_cost(_checked("per_search_usd", search))
    return Price(
        (Schedule(STANDARD_TIER, tuple(brackets)),),
        request_nusd=nusd_cost(_checked("per_request_usd", override.per_request_usd)),
        search=None if search_nusd is None else SearchPrice(search_nusd, search_nusd, search_nusd),
        writes_cache_unasked=True,
    )


def _own_rates(stated: PriceOverride | TierOverride) -> dict[TokenClass, int]:
    known = {member.name for member in fields(stated)}
    amounts = {cls: getattr(stated, key) for cls, key in _KEY_BY_CLASS.items() if key in known}
    return {cls: _rate(_KEY_BY_CLASS[cls], amount) for cls, amount in amounts.items() if amount is not None}


def _rate(key: str, usd_per_mtok: Decimal) -> int:
    return int((_checked(key, usd_per_mtok) * NUSD_PER_USD).to_integral_value(ROUND_CEILING))


def _checked(key: str, amount: Decimal) -> Decimal:
    if not amount.is_finite() or amount < 0:
        message = f"{key} must be a number of dollars that is not negative, not {amount}"
        raise ValueError(message)
    return amount
