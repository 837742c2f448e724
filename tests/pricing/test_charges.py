"""What a usage is charged: each token in one class, rounded up once, in a few microseconds."""

from __future__ import annotations

import timeit
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from functools import partial

import pytest

from pricing.prices import every_priced_model, price_of, usd
from router.pricing import UNLIMITED_TOKENS, Ask, Price, Rates, SearchPrice
from router.values import Usage


def test_plain_tokens_cost_what_the_price_page_says() -> None:
    # gpt-4o-mini: $0.15, $0.075 cached and $0.60 for a million tokens.
    price = price_of("openai", "gpt-4o-mini")
    assert price.charge_nusd(Usage(1_000_000, 1_000_000)) == usd("0.75")
    assert price.charge_nusd(Usage(1_000_000, 0, cached_tokens=1_000_000)) == usd("0.075")


def test_a_charge_is_rounded_up_once_and_as_a_whole() -> None:
    price = Price.flat(Rates.filled({"input": 400_000, "output": 400_000}))
    assert price.charge_nusd(Usage(1, 0)) == 1
    assert price.charge_nusd(Usage(1, 1)) == 1
    assert price.charge_nusd(Usage(1, 2)) == 2
    assert price.charge_nusd(Usage(0, 0)) == 0


def test_rates_that_are_uplifted_are_rounded_up() -> None:
    flat = Price.flat(Rates(*[3] * len(Rates._fields)))
    assert flat.uplifted(Decimal("1.1")) == Price.flat(Rates(*[4] * len(Rates._fields)))


@pytest.mark.parametrize(
    ("parts", "classes"),
    [
        ({"cached_tokens": 20}, {"cached_input": 10, "output": 10}),
        ({"cached_tokens": 4, "cached_audio_tokens": 9}, {"cached_audio": 4, "input": 6, "output": 10}),
        ({"cache_write_tokens": 20}, {"cache_write": 10, "output": 10}),
        ({"cached_tokens": 6, "cache_write_tokens": 6}, {"cached_input": 6, "cache_write": 4, "output": 10}),
        (
            {"cache_write_tokens": 4, "cache_write_1h_tokens": 9},
            {"cache_write_1h": 4, "input": 6, "output": 10},
        ),
        ({"input_audio_tokens": 20}, {"input_audio": 10, "output": 10}),
        (
            {"input_audio_tokens": 9, "cached_tokens": 4, "cached_audio_tokens": 9},
            {"cached_audio": 4, "input_audio": 5, "input": 1, "output": 10},
        ),
        (
            {"input_audio_tokens": 3, "cached_tokens": 4, "cached_audio_tokens": 4},
            {"cached_audio": 4, "input": 6, "output": 10},
        ),
        ({"input_image_tokens": 20}, {"input_image": 10, "output": 10}),
        ({"input_audio_tokens": 6, "input_image_tokens": 6}, {"input_audio": 6, "input_image": 4, "output": 10}),
        ({"output_audio_tokens": 20}, {"input": 10, "output_audio": 10}),
        ({"output_image_tokens": 20}, {"input": 10, "output_image": 10}),
        ({"output_audio_tokens": 6, "output_image_tokens": 6}, {"input": 10, "output_audio": 6, "output_image": 4}),
        ({"reasoning_tokens": 20}, {"input": 10, "reasoning": 10}),
        ({"output_image_tokens": 6, "reasoning_tokens": 6}, {"input": 10, "output_image": 6, "reasoning": 4}),
    ],
)
def test_parts_that_are_more_than_their_whole_are_cut_to_it(parts: dict[str, int], classes: dict[str, int]) -> None:
    rates = Rates(*(11**place * 10**6 for place in range(len(Rates._fields))))
    found, counted = Price.flat(rates).charge_nusd(Usage(10, 10, **parts)), {}
    for name in Rates._fields:
        found, counted[name] = divmod(found, 11)
    assert {name: count for name, count in counted.items() if count} == classes


def test_each_token_is_priced_in_one_class_only() -> None:
    rates = Rates(*(10 ** (6 + place) for place in range(len(Rates._fields))))
    usage = Usage(
        input_tokens=1 + 1 + 1 + 1 + 1 + 1 + 1,
        output_tokens=1 + 1 + 1 + 1,
        cached_tokens=2,
        cached_audio_tokens=1,
        cache_write_tokens=2,
        cache_write_1h_tokens=1,
        input_audio_tokens=2,
        input_image_tokens=1,
        reasoning_tokens=1,
        output_audio_tokens=1,
        output_image_tokens=1,
    )
    assert Price.flat(rates).charge_nusd(usage) == int("1" * len(Rates._fields))


def test_parts_that_exceed_their_whole_are_cut_to_it() -> None:
    price = Price.flat(Rates.filled({"input": 10**6, "output": 10**6, "cached_input": 10**5, "reasoning": 3 * 10**6}))
    assert price.charge_nusd(Usage(10, 0, cached_tokens=99, cache_write_tokens=99, input_audio_tokens=99)) == 1
    assert price.charge_nusd(Usage(0, 10, reasoning_tokens=99, output_audio_tokens=4)) == 4 + 6 * 3


def test_a_class_without_a_price_costs_what_it_is_part_of() -> None:
    rates = Rates.filled({"input": 7, "output": 11})
    assert set(rates[:7]) == {7}
    assert set(rates[7:]) == {11}
    assert Rates.filled({"input": 7, "output": 11, "input_audio": 50}).cached_audio == 50
    assert Rates.filled({"input": 7, "output": 11, "input_audio": 50, "cached_input": 3}).cached_audio == 3


@pytest.mark.parametrize(
    ("provider", "model", "input_tokens", "plain", "longer"),
    [
        ("openai", "gpt-5.4", 272_000, "2.50", "5.00"),
        ("gemini", "gemini-2.5-pro", 200_000, "1.25", "2.50"),
        ("dashscope", "qwen3-max", 32_000, "1.20", "2.40"),
    ],
)
def test_longer_input_is_dearer_from_one_token_above_the_boundary(
    provider: str, model: str, input_tokens: int, plain: str, longer: str
) -> None:
    price = price_of(provider, model)
    for tokens, rate in ((input_tokens, plain), (input_tokens + 1, longer)):
        exact = Decimal(rate) * 1000 * tokens
        assert price.charge_nusd(Usage(tokens, 0)) == exact.to_integral_value(ROUND_CEILING)


def test_xai_bills_longer_input_from_the_boundary_itself() -> None:
    names = [model for provider, model in every_priced_model() if provider == "xai"]
    stepped = [price for model in names if len((price := price_of("xai", model)).schedules[0].brackets) > 1]
    assert stepped
    for price in stepped:
        above = price.schedules[0].brackets[1].above_input_tokens
        assert (above + 1) % 1000 == 0
        assert price.charge_nusd(Usage(above + 1, 0)) > price.charge_nusd(Usage(above, 0)) * 1.5


def test_service_tiers_have_their_own_rates_and_unknown_ones_cost_the_standard() -> None:
    price = price_of("openai", "gpt-5.4")
    tokens = partial(Usage, 1_000_000 // 4, 0)
    assert price.charge_nusd(tokens()) == usd("0.625")
    assert price.charge_nusd(tokens(service_tier="flex")) == usd("0.3125")
    assert price.charge_nusd(tokens(service_tier="priority")) == usd("1.25")
    assert price.charge_nusd(tokens(service_tier="fast")) == usd("1.25")
    assert price.charge_nusd(tokens(service_tier="batch")) == usd("0.3125")
    assert price.charge_nusd(tokens(service_tier="scale")) == usd("0.625")


def test_searches_and_fees_come_on_top() -> None:
    price = Price.flat(Rates.filled({"input": 10**6, "output": 10**6}))
    priced = replace(price, request_nusd=5, search=SearchPrice(100, 200, 300))
    assert priced.charge_nusd(Usage(1, 1)) == 7
    assert priced.charge_nusd(Usage(1, 1, searches=2, search_context="low")) == 207
    assert priced.charge_nusd(Usage(1, 1, searches=2)) == 407
    assert priced.charge_nusd(Usage(1, 1, searches=1, search_context="vast")) == 307


def test_free_costs_nothing_whatever_is_used() -> None:
    usage = Usage(10**9, 10**9, searches=9, cached_tokens=5, service_tier="priority")
    assert Price.free().charge_nusd(usage) == 0
    assert Price.free().ceiling_nusd(Ask(10**9, has=frozenset({"web_search"})), 10**9) == 0
    assert Price.free().output_tokens_within(0, Ask(10**9)) == UNLIMITED_TOKENS


def test_pricing_takes_a_few_microseconds() -> None:
    price, usage, ask = price_of("openai", "gpt-4o-mini"), Usage(1234, 567), Ask(1234)
    timed = {
        "charge": partial(price.charge_nusd, usage),
        "ceiling": partial(price.ceiling_nusd, ask, 500),
        "within": partial(price.output_tokens_within, 10**7, ask),
    }
    us = {name: min(timeit.repeat(call, number=5_000, repeat=5)) / 5_000 * 1e6 for name, call in timed.items()}
    print({name: f"{taken:.2f} us" for name, taken in us.items()})
    assert max(us.values()) < 10  # About 1 here: catches a Decimal on the path, not a busy machine.
