"""The ceiling: no honest usage is charged above it, and a budget buys the longest answer under it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from pricing.prices import every_priced_model, price_of, usd
from router.pricing import UNLIMITED_TOKENS, Ask, Bracket, Price, Rates, Schedule, SearchPrice
from router.values import Usage

TIERS = ("default", "flex", "priority", "batch")
ASKABLE = ("images", "audio", "cache_control", "audio_out", "web_search", "tools")

some_rates = st.builds(Rates, *[st.integers(0, 10**12)] * len(Rates._fields))
some_levels = st.lists(st.tuples(st.integers(0, 300_000), some_rates), max_size=3, unique_by=lambda pair: pair[0])


@st.composite
def some_price(draw: st.DrawFn) -> Price:
    """Draw a price in which nothing need make sense: longer input may be cheaper, cached input dearer."""
    tiers = ["default", *draw(st.lists(st.sampled_from(TIERS[1:]), unique=True))]
    schedules = []
    for tier in tiers:
        levels = [Bracket(-1, draw(some_rates)), *(Bracket(*pair) for pair in sorted(draw(some_levels)))]
        schedules.append(Schedule(tier, tuple(levels)))
    fee = st.integers(0, 10**9)
    return Price(
        tuple(schedules),
        request_nusd=draw(fee),
        search=draw(st.none() | st.builds(SearchPrice, fee, fee, fee)),
        most_searches=draw(st.integers(1, 10)),
        always_searches=draw(st.booleans()),
        writes_cache_unasked=draw(st.booleans()),
    )


catalogue_price = st.deferred(lambda: st.sampled_from(every_priced_model()).map(lambda model: price_of(*model)))
any_price = some_price() | catalogue_price

some_ask = st.builds(
    Ask,
    input_tokens=st.integers(0, 600_000),
    choices=st.integers(1, 8),
    service_tier=st.sampled_from([None, *TIERS, "fast", "auto", "unheard-of"]),
    has=st.frozensets(st.sampled_from(ASKABLE)),
    search_context=st.sampled_from([None, "low", "medium", "high"]),
    predicted_tokens=st.integers(0, 2_000),
)


def part_of(whole: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0, whole]) | st.integers(0, whole)


@st.composite
def consistent_usage(draw: st.DrawFn, price: Price, ask: Ask, output_tokens: int) -> Usage:
    """Draw a usage that an honest provider may report for `ask`; its parts may overlap.

    All or nothing is drawn as often as some, for that is where a ceiling that leaves out a class shows.
    """
    input_tokens = draw(part_of(ask.input_tokens))
    answered = draw(part_of(ask.choices * output_tokens + ask.predicted_tokens))
    of_input, of_output = part_of(input_tokens), part_of(answered)
    writes = price.writes_cache_unasked or "cache_control" in ask.has
    hears, sees, speaks = "audio" in ask.has, "images" in ask.has, "audio_out" in ask.has
    searches = price.always_searches or "web_search" in ask.has
    may_be_served = TIERS if ask.service_tier in {"auto", "unheard-of"} else (ask.service_tier or "default", "default")
    return Usage(
        input_tokens=input_tokens,
        output_tokens=answered,
        cached_tokens=draw(of_input),
        cache_write_tokens=draw(of_input) if writes else 0,
        cache_write_1h_tokens=draw(of_input) if writes else 0,
        input_audio_tokens=draw(of_input) if hears else 0,
        cached_audio_tokens=draw(of_input) if hears else 0,
        input_image_tokens=draw(of_input) if sees else 0,
        reasoning_tokens=draw(of_output),
        output_audio_tokens=draw(of_output) if speaks else 0,
        output_image_tokens=draw(of_output),
        searches=draw(st.integers(0, price.most_searches * ask.choices)) if searches else 0,
        search_context=ask.search_context or draw(st.sampled_from(["low", "medium", "high"])),
        service_tier=draw(st.sampled_from(may_be_served)),
    )


@settings(deadline=None)
@given(st.data(), any_price, some_ask, st.integers(0, 20_000))
def test_no_honest_usage_is_charged_above_the_ceiling(
    data: st.DataObject, price: Price, ask: Ask, output_tokens: int
) -> None:
    usage = data.draw(consistent_usage(price, ask, output_tokens))
    assert price.charge_nusd(usage) <= price.ceiling_nusd(ask, output_tokens)


@settings(deadline=None)
@given(any_price, some_ask, st.integers(0, 10**13))
@example(Price.free(), Ask(10), 0)
@example(Price.flat(Rates(*[1] * len(Rates._fields))), Ask(0), 1)
def test_the_answer_that_a_budget_buys_is_the_longest_that_fits(price: Price, ask: Ask, budget_nusd: int) -> None:
    bought = price.output_tokens_within(budget_nusd, ask)
    if bought == -1:
        assert price.ceiling_nusd(ask, 0) > budget_nusd
        return
    assert price.ceiling_nusd(ask, bought) <= budget_nusd
    if bought == UNLIMITED_TOKENS:
        assert price.ceiling_nusd(ask, bought + 1) == price.ceiling_nusd(ask, 0)
    else:
        assert price.ceiling_nusd(ask, bought + 1) > budget_nusd


@settings(deadline=None)
@given(any_price, some_ask, st.integers(0, 9_000), st.integers(0, 300_000), st.integers(0, 9_000))
def test_more_tokens_never_lower_the_ceiling(
    price: Price, ask: Ask, output_tokens: int, more_in: int, more_out: int
) -> None:
    longer = structs.replace(ask, input_tokens=ask.input_tokens + more_in)
    assert price.ceiling_nusd(longer, output_tokens + more_out) >= price.ceiling_nusd(ask, output_tokens)


@settings(deadline=None)
@given(any_price, some_ask, st.integers(0, 20_000))
def test_an_estimate_is_within_the_ceiling(price: Price, ask: Ask, output_tokens: int) -> None:
    served = structs.replace(ask, service_tier=None)
    assert price.estimate_nusd(served, output_tokens) <= price.ceiling_nusd(served, output_tokens)


def test_the_ceiling_takes_the_dearest_class_that_may_apply() -> None:
    own = {"input": 100, "cached_input": 10, "cache_write": 125, "cache_write_1h": 200, "input_audio": 900}
    price = Price.flat(Rates.filled({**own, "output": 400, "reasoning": 600, "output_audio": 2000}))
    ask = Ask(10_000)

    def ceiling(*has: str, output_tokens: int = 0) -> int:
        return price.ceiling_nusd(structs.replace(ask, has=frozenset(has)), output_tokens)

    assert ceiling() == 1
    assert ceiling("cache_control") == 2
    assert ceiling("audio") == ceiling("audio", "cache_control") == 9
    assert ceiling(output_tokens=10_000) == 1 + 6
    assert ceiling("audio_out", output_tokens=10_000) == 1 + 20


@pytest.mark.parametrize("place", range(len(Rates._fields)))
def test_a_usage_all_of_the_dearest_class_is_within_the_ceiling(place: int) -> None:
    price = Price.flat(Rates(*(9 if place == other else 1 for other in range(len(Rates._fields)))))
    usage = Usage(10**6, 10**6)
    all_of_one_class = {
        "input": usage,
        "cached_input": structs.replace(usage, cached_tokens=10**6),
        "cache_write": structs.replace(usage, cache_write_tokens=10**6),
        "cache_write_1h": structs.replace(usage, cache_write_tokens=10**6, cache_write_1h_tokens=10**6),
        "input_audio": structs.replace(usage, input_audio_tokens=10**6),
        "cached_audio": structs.replace(
            usage, cached_tokens=10**6, input_audio_tokens=10**6, cached_audio_tokens=10**6
        ),
        "input_image": structs.replace(usage, input_image_tokens=10**6),
        "output": usage,
        "reasoning": structs.replace(usage, reasoning_tokens=10**6),
        "output_audio": structs.replace(usage, output_audio_tokens=10**6),
        "output_image": structs.replace(usage, output_image_tokens=10**6),
    }
    ask = Ask(10**6, has=frozenset({"audio", "images", "cache_control", "audio_out"}))
    assert price.charge_nusd(all_of_one_class[Rates._fields[place]]) == 9 + 1
    assert price.ceiling_nusd(ask, 10**6) == 9 + 1


def test_the_ceiling_of_longer_input_begins_where_the_charge_does() -> None:
    price = price_of("openai", "gpt-5.4")
    assert price.ceiling_nusd(Ask(272_000), 1_000) == usd("0.695")
    assert price.ceiling_nusd(Ask(272_001), 1_000) == usd("1.382505")


def test_the_ceiling_counts_every_answer_every_search_and_what_was_predicted() -> None:
    flat = Price.flat(Rates.filled({"input": 10**6, "output": 10**6}))
    price = replace(flat, search=SearchPrice(1000, 2000, 3000), most_searches=2)
    assert price.ceiling_nusd(Ask(5, choices=3, predicted_tokens=7), 10) == 5 + 30 + 7
    searching = Ask(0, choices=2, has=frozenset({"web_search"}))
    assert price.ceiling_nusd(searching, 0) == 2 * 2 * 3000
    assert price.ceiling_nusd(structs.replace(searching, search_context="low"), 0) == 2 * 2 * 1000


def test_longer_input_is_never_cheaper_even_where_its_prices_are() -> None:
    dear, cheap = (Rates(*[rate] * len(Rates._fields)) for rate in (2 * 10**6, 10**6))
    price = Price((Schedule("default", (Bracket(-1, dear), Bracket(100, cheap))),))
    assert price.ceiling_nusd(Ask(100), 10) == 220
    assert price.ceiling_nusd(Ask(101), 10) == 222


def test_a_cache_that_is_written_unasked_is_in_every_ceiling() -> None:
    asked = Price.flat(Rates.filled({"input": 100, "cache_write": 125, "cache_write_1h": 200, "output": 400}))
    unasked = replace(asked, writes_cache_unasked=True)
    assert (asked.ceiling_nusd(Ask(10**6), 0), unasked.ceiling_nusd(Ask(10**6), 0)) == (100, 200)


def test_an_estimate_counts_fees_every_answer_and_one_search_rounded_up() -> None:
    flat = Price.flat(Rates.filled({"input": 10**6, "output": 10**6 + 1}))
    price = replace(flat, request_nusd=100, search=SearchPrice(1000, 2000, 3000), most_searches=2)
    assert price.estimate_nusd(Ask(5, choices=3), 10) == 5 + 30 + 1 + 100
    searching = Ask(0, has=frozenset({"web_search"}), search_context="low")
    assert price.estimate_nusd(searching, 0) == 100 + 1000
    assert replace(price, always_searches=True).estimate_nusd(Ask(0), 0) == 100 + 3000


def test_the_tier_asked_for_and_the_standard_tier_are_both_covered() -> None:
    price = price_of("openai", "gpt-5.4")
    asks = {tier: Ask(100_000, service_tier=tier) for tier in (None, "default", "flex", "priority", "fast", "auto")}
    at = {tier: price.ceiling_nusd(ask, 0) for tier, ask in asks.items()}
    assert at[None] == at["default"] == at["flex"] == usd("0.25")
    assert at["priority"] == at["fast"] == at["auto"] == usd("0.50")


def test_a_search_that_every_answer_bills_is_in_every_ceiling() -> None:
    flat = Price.flat(Rates.filled({"input": 0, "output": 0}))
    price = replace(flat, search=SearchPrice(1000, 2000, 3000), always_searches=True)
    assert price.ceiling_nusd(Ask(5, choices=2), 10) == 2 * 3000
