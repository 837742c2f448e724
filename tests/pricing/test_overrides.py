"""Prices that a models.yaml gives in place of the catalogue's."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal

import pytest

from pricing.prices import usd
from router.pricing import PriceOverride, Rates, TierOverride, override_price
from router.values import Usage


def test_an_override_needs_only_input_and_output() -> None:
    price = override_price(PriceOverride(Decimal("0.10"), Decimal("0.40"), cached_input_usd_per_mtok=Decimal("0.05")))
    assert price.charge_nusd(Usage(1_000_000, 1_000_000)) == usd("0.5")
    assert price.charge_nusd(Usage(1_000_000, 0, cached_tokens=400_000)) == usd("0.08")
    assert price.charge_nusd(Usage(0, 1_000_000, reasoning_tokens=9)) == usd("0.4")


def test_an_override_may_price_every_class_longer_input_and_requests() -> None:
    amounts = {
        member.name: Decimal(place + 1)
        for place, member in enumerate(fields(PriceOverride))
        if member.name.endswith("_usd_per_mtok")
    }
    tier = TierOverride(1_000, input_usd_per_mtok=Decimal(50))
    price = override_price(
        PriceOverride(**amounts, per_request_usd=Decimal("0.001"), per_search_usd=Decimal("0.01"), tiers=(tier,))
    )
    short, longer = (bracket.rates for bracket in price.schedules[0].brackets)
    assert len(set(short)) == len(Rates._fields)
    assert longer == short._replace(input=50 * 10**9)
    assert price.charge_nusd(Usage(1_000, 0)) == usd("0.001") + 1_000 * 1_000
    assert price.charge_nusd(Usage(1_001, 0, searches=1)) == usd("0.011") + 1_001 * 50_000


def test_an_overridden_rate_finer_than_a_nano_dollar_is_rounded_up() -> None:
    price = override_price(PriceOverride(Decimal("0.0000000001"), Decimal(0)))
    assert price.schedules[0].brackets[0].rates.input == 1


@pytest.mark.parametrize("amount", [Decimal(-1), Decimal("NaN"), Decimal("Infinity")])
@pytest.mark.parametrize("key", ["input_usd_per_mtok", "reasoning_usd_per_mtok", "per_request_usd", "per_search_usd"])
def test_an_override_that_is_no_amount_is_refused_by_name(key: str, amount: Decimal) -> None:
    amounts = {"input_usd_per_mtok": Decimal(1), "output_usd_per_mtok": Decimal(1), key: amount}
    with pytest.raises(ValueError, match=f"{key} must be a number of dollars that is not negative"):
        override_price(PriceOverride(**amounts))


@pytest.mark.parametrize("starts", [(0,), (-5,), (10, 10)])
def test_tiers_of_an_override_must_begin_somewhere_of_their_own(starts: tuple[int, ...]) -> None:
    tiers = tuple(TierOverride(start) for start in starts)
    with pytest.raises(ValueError, match="above_input_tokens"):
        override_price(PriceOverride(Decimal(1), Decimal(1), tiers=tiers))
