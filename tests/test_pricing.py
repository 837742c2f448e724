"""Prices: exact to the nano-dollar as two judges have it, under the ceiling, never free by mistake.

The judges are litellm's `completion_cost` and `genai-prices`. Where the two agree, our charge must equal the
exact price rounded up; where they differ, or one of them has no price, the usage is left out and counted.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import timeit
import warnings
from collections import Counter
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from router.errors import UnpricedModel
from router.pricing import (
    UNLIMITED_TOKENS,
    Ask,
    Catalogue,
    Level,
    Price,
    PriceOverride,
    Rates,
    Schedule,
    SearchPrice,
    TierOverride,
    override_price,
)
from router.pricing.catalogue import FILE_NAME
from router.values import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

PEAK = datetime(2026, 10, 21, 2, tzinfo=UTC)
"""A Wednesday, 02:00 UTC, when no provider gives its off-peak discount: ours are the dearer hours' prices."""


@cache
def catalogue() -> Catalogue:
    return Catalogue()


def price_of(provider: str, model: str) -> Price:
    return catalogue().entry(provider, model).price


def usd(text: str) -> int:
    """Return dollars as nUSD, which must be whole."""
    nusd = Decimal(text) * 10**9
    assert nusd == int(nusd)
    return int(nusd)


@cache
def every_priced_model() -> tuple[tuple[str, str], ...]:
    """Every (provider, model) of the catalogue that has a price and talks, as models.yaml would name it."""
    kin = {"bedrock_converse": "bedrock", "cohere_chat": "cohere", "text-completion-openai": "openai"}
    listed = json.loads((Path(find_spec("litellm").submodule_search_locations[0]) / FILE_NAME).read_bytes())
    found = []
    for name, entry in listed.items():
        named = entry.get("litellm_provider", "")
        provider = kin.get(named, "vertex_ai" if named.startswith("vertex_ai") else named)
        try:
            priced = catalogue().entry(provider, name.removeprefix(f"{provider}/"))
        except UnpricedModel:
            continue
        if priced.name == name and priced.mode != "embedding":
            found.append((provider, name.removeprefix(f"{provider}/")))
    return tuple(found)


# --- What each class of token costs
# ---------------------------------------------------------------------------


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
    stepped = [price for model in names if len((price := price_of("xai", model)).schedules[0].levels) > 1]
    assert stepped
    for price in stepped:
        above = price.schedules[0].levels[1].above_input_tokens
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


# --- The judges
# -----------------------------------------------------------------------------------------------

GENAI_PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure",
    "bedrock": "aws",
    "cerebras": "cerebras",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "perplexity": "perplexity",
    "together_ai": "together",
    "vertex_ai": "google",
    "xai": "x-ai",
    "zai": "zai",
}


class LeftOut(Exception):
    pass


@dataclass(frozen=True)
class Case:
    provider: str
    model: str
    usage: Usage

    @property
    def price(self) -> Price:
        return price_of(self.provider, self.model)

    @property
    def charge_nusd(self) -> int:
        return self.price.charge_nusd(self.usage)


class Judges:
    """litellm and genai-prices, asked for the same usage at the same moment, with no network."""

    def __init__(self) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import genai_prices
            import litellm
            from genai_prices import data_snapshot
            from litellm import _internal_context
            from litellm.types import utils
        litellm.suppress_debug_info = True
        self.genai, self.litellm = genai_prices, litellm
        self.snapshot, self.context, self.types = data_snapshot.get_snapshot(), _internal_context, utils

    def price_nusd(self, case: Case) -> Decimal:
        """Return the exact price that both judges name, in nUSD.

        Raises:
            LeftOut: they don't agree, or one has no price for this; says which.
        """
        theirs = self._genai_nusd(case)
        try:
            ours = self._litellm_nusd(case)
        except Exception:  # litellm raises a bare Exception, or a kind of its own, for what it can't price
            raise LeftOut("litellm: no price") from None
        # A float of dollars is good to about 1e-6 nUSD here: anything more is a different price.
        if abs(ours - theirs) > Decimal("1e-4"):
            raise LeftOut("they differ")
        return theirs

    def _genai_nusd(self, case: Case) -> Decimal:
        used = case.usage
        counts = {
            "input_tokens": used.input_tokens,
            "output_tokens": used.output_tokens,
            "cache_read_tokens": used.cached_tokens,
            "cache_write_tokens": used.cache_write_tokens,
            "cache_write_5m_tokens": used.cache_write_tokens - used.cache_write_1h_tokens,
            "cache_write_1h_tokens": used.cache_write_1h_tokens,
            "input_audio_tokens": used.input_audio_tokens,
            "cache_audio_read_tokens": used.cached_audio_tokens,
            "input_image_tokens": used.input_image_tokens,
            "output_reasoning_tokens": used.reasoning_tokens,
            "output_audio_tokens": used.output_audio_tokens,
            "output_image_tokens": used.output_image_tokens,
            "web_searches": used.searches,
        }
        tier = used.service_tier
        context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier} if tier != "default" else {}
        provider_id = GENAI_PROVIDERS[case.provider]
        try:
            _, model = self.snapshot.find_provider_model(case.model, None, provider_id, None)
            if context and not any(context.items() <= variant.when.items() for variant in model.price_variants or ()):
                raise LeftOut("genai-prices: no price for the tier")
            priced = self.genai.calc_price(
                self.genai.Usage(**{key: count for key, count in counts.items() if count}),
                case.model,
                provider_id=provider_id,
                genai_request_timestamp=PEAK,
                price_context=context or None,
            )
        except LookupError:
            raise LeftOut("genai-prices: no such model") from None
        except ValueError:
            raise LeftOut("genai-prices: can't tell the classes apart") from None
        if used.searches and priced.model_price.web_searches_kcount is None:
            raise LeftOut("genai-prices: no price for searches")
        return priced.total_price * 10**9

    def _litellm_nusd(self, case: Case) -> Decimal:
        used, kinds = case.usage, self.types
        prompt = kinds.PromptTokensDetailsWrapper(
            cached_tokens=used.cached_tokens,
            audio_tokens=used.input_audio_tokens,
            image_tokens=used.input_image_tokens,
            cache_creation_tokens=used.cache_write_tokens,
            web_search_requests=used.searches or None,
        )
        if used.cache_write_tokens:
            prompt.cache_creation_token_details = kinds.CacheCreationTokenDetails(
                ephemeral_5m_input_tokens=used.cache_write_tokens - used.cache_write_1h_tokens,
                ephemeral_1h_input_tokens=used.cache_write_1h_tokens,
            )
        if used.cached_audio_tokens:
            prompt.cached_tokens_details = kinds.CachedTokensDetails(
                audio_tokens=used.cached_audio_tokens,
                text_tokens=used.cached_tokens - used.cached_audio_tokens,
            )
        usage = kinds.Usage(
            prompt_tokens=used.input_tokens,
            completion_tokens=used.output_tokens,
            total_tokens=used.input_tokens + used.output_tokens,
            prompt_tokens_details=prompt,
            completion_tokens_details=kinds.CompletionTokensDetailsWrapper(
                reasoning_tokens=used.reasoning_tokens,
                audio_tokens=used.output_audio_tokens,
                image_tokens=used.output_image_tokens,
            ),
            server_tool_use=kinds.ServerToolUse(web_search_requests=used.searches) if used.searches else None,
        )
        told = {"call_type": "retrieve_batch"} if used.service_tier == "batch" else {"service_tier": used.service_tier}
        with self.context.pinned_billing_time(PEAK), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cost = self.litellm.completion_cost(
                completion_response=kinds.ModelResponse(model=case.model, usage=usage),
                model=f"{case.provider}/{case.model}",
                custom_llm_provider=case.provider,
                **told,
            )
        return Decimal(repr(cost)) * 10**9


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


def judged(judges: Judges, cases: Iterable[Case]) -> list[Case]:
    """Compare every case that the judges agree on, print what was left out, and return those compared."""
    agreed: list[Case] = []
    left_out: Counter[str] = Counter()
    for case in cases:
        try:
            exact_nusd = judges.price_nusd(case)
        except LeftOut as why:
            left_out[str(why)] += 1
            continue
        assert case.charge_nusd == exact_nusd.to_integral_value(ROUND_CEILING), case
        agreed.append(case)
    print(f"\n{len(agreed)} usages agreed on and equal; left out: {dict(left_out.most_common())}")
    return agreed


FIXED_MODELS = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4.1-mini"),
    ("openai", "o3"),
    ("openai", "o4-mini"),
    ("openai", "gpt-5"),
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-5.4"),
    ("openai", "gpt-5.6-sol"),
    ("openai", "gpt-audio"),
    ("openai", "gpt-audio-mini"),
    ("anthropic", "claude-haiku-4-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-6"),
    ("anthropic", "claude-haiku-5-5"),
    ("gemini", "gemini-2.5-pro"),
    ("gemini", "gemini-2.5-flash"),
    ("gemini", "gemini-2.5-flash-lite"),
    ("gemini", "gemini-3.1-pro-preview"),
    ("deepseek", "deepseek-v4-pro"),
    ("groq", "openai/gpt-oss-120b"),
    ("mistral", "mistral-large-latest"),
    ("fireworks_ai", "accounts/fireworks/models/kimi-k3"),
    ("perplexity", "sonar-deep-research"),
    ("xai", "grok-4.5"),
]
FIXED_SHAPES = {
    "plain": [Usage(1_234, 567), Usage(1, 1), Usage(99_999, 16_384)],
    "cached": [Usage(20_011, 567, cached_tokens=12_345), Usage(4_096, 1, cached_tokens=4_096)],
    "reasoning": [
        Usage(3_001, 4_567, reasoning_tokens=3_999),
        Usage(17, 64, cached_tokens=3, reasoning_tokens=64),
    ],
    "written": [Usage(20_011, 567, cached_tokens=345, cache_write_tokens=7_891)],
    "written_1h": [Usage(20_011, 567, cache_write_tokens=7_891, cache_write_1h_tokens=1_777)],
    "audio": [Usage(5_003, 1_001, input_audio_tokens=3_210, output_audio_tokens=700)],
    "audio_in": [Usage(5_003, 1_001, input_audio_tokens=3_210)],
    "cached_audio": [Usage(5_003, 9, cached_tokens=2_000, input_audio_tokens=3_210, cached_audio_tokens=1_000)],
    "images": [Usage(5_003, 1_001, input_image_tokens=3_210)],
    "longer": [
        Usage(boundary * 1000 + past, 1_234, cached_tokens=3_333, reasoning_tokens=99)
        for boundary in (100, 128, 200, 272)
        for past in (0, 1)
    ],
    "flex": [
        Usage(20_011, 567, cached_tokens=345, service_tier="flex"),
        Usage(272_001, 567, cached_tokens=345, service_tier="flex"),
    ],
    "priority": [Usage(20_011, 567, cached_tokens=345, reasoning_tokens=100, service_tier="priority")],
    "fast": [Usage(20_011, 567, service_tier="fast")],
    "batch": [
        Usage(20_011, 567, service_tier="batch"),
        Usage(20_011, 567, cached_tokens=77, service_tier="batch"),
    ],
    "searches": [Usage(1_234, 567, searches=3), Usage(0, 1, searches=1)],
}


def tells(case: Case) -> bool:
    """Whether the case's shape changes its charge: a class that costs what plain tokens do proves little."""
    plain = Usage(case.usage.input_tokens, case.usage.output_tokens)
    return case.charge_nusd != case.price.charge_nusd(plain)


def is_longer(case: Case) -> bool:
    return case.usage.input_tokens > case.price.schedules[0].levels[-1].above_input_tokens > 0


def test_charges_equal_both_judges_over_a_fixed_set_of_shapes(judges: Judges) -> None:
    compared: Counter[str] = Counter()
    telling: Counter[str] = Counter()
    for shape, usages in FIXED_SHAPES.items():
        print(f"\n{shape}:", end="")
        agreed = judged(judges, [Case(*model, usage) for model in FIXED_MODELS for usage in usages])
        compared[shape] = len(agreed)
        telling[shape] = sum(is_longer(case) if shape == "longer" else tells(case) for case in agreed)
    print(f"compared {compared.total()}: {dict(compared)}; of them telling: {dict(telling)}")
    assert compared.total() >= 200
    assert [
        shape for shape in FIXED_SHAPES if shape not in {"plain", "reasoning", "images"} and telling[shape] < 2
    ] == []


def some_usage(chance: random.Random) -> Usage:
    """Return a usage of a random shape, of classes that a provider may report together."""
    near_boundary = [boundary * 1000 + past for boundary in (32, 100, 128, 200, 256, 272, 512) for past in (0, 1)]
    input_tokens = chance.choice([chance.randint(1, 10_000), chance.randint(1, 600_000), *near_boundary])
    output_tokens = chance.randint(0, 20_000)
    usage = Usage(input_tokens, output_tokens)
    if chance.random() < 0.5:
        usage = structs.replace(usage, cached_tokens=chance.randint(0, input_tokens))
    if chance.random() < 0.3:
        written = chance.randint(0, input_tokens - usage.cached_tokens)
        usage = structs.replace(usage, cache_write_tokens=written, cache_write_1h_tokens=chance.randint(0, written))
    if chance.random() < 0.3:
        audio = chance.randint(0, input_tokens - usage.cached_tokens - usage.cache_write_tokens)
        usage = structs.replace(usage, input_audio_tokens=audio)
    if chance.random() < 0.4:
        usage = structs.replace(usage, reasoning_tokens=chance.randint(0, output_tokens))
    if chance.random() < 0.3:
        audio = chance.randint(0, output_tokens - usage.reasoning_tokens)
        usage = structs.replace(usage, output_audio_tokens=audio)
    if chance.random() < 0.1:
        usage = structs.replace(usage, searches=chance.randint(1, 4))
    if chance.random() < 0.4:
        usage = structs.replace(usage, service_tier=chance.choice(["flex", "priority", "fast", "batch"]))
    return usage


def test_charges_equal_both_judges_over_a_set_drawn_anew_at_each_run(judges: Judges) -> None:
    seed = int(os.environ.get("FARTHING_TEST_SEED", time.time_ns()))
    print(f"\nFARTHING_TEST_SEED={seed}")
    chance = random.Random(seed)
    models = [model for model in every_priced_model() if model[0] in GENAI_PROVIDERS]
    # Half of the draws are of the models that have tiers and classes of their own, which a plain draw seldom
    # meets.
    drawn = [chance.choice(models if chance.random() < 0.5 else FIXED_MODELS) for _ in range(1_200)]
    agreed = judged(judges, [Case(*model, some_usage(chance)) for model in drawn])
    telling = sum(tells(case) for case in agreed)
    print(f"{telling} of them in a class, length or tier with a rate of its own")
    assert len(agreed) >= 200
    assert telling >= 100


# --- The ceiling
# ----------------------------------------------------------------------------------------------

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
        levels = [Level(-1, draw(some_rates)), *(Level(*pair) for pair in sorted(draw(some_levels)))]
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


def test_the_tier_asked_for_and_the_standard_tier_are_both_covered() -> None:
    price = price_of("openai", "gpt-5.4")
    asks = {tier: Ask(100_000, service_tier=tier) for tier in (None, "default", "flex", "priority", "fast", "auto")}
    at = {tier: price.ceiling_nusd(ask, 0) for tier, ask in asks.items()}
    assert at[None] == at["default"] == at["flex"] == usd("0.25")
    assert at["priority"] == at["fast"] == at["auto"] == usd("0.50")


# --- The catalogue
# --------------------------------------------------------------------------------------------


def test_an_entry_tells_limits_and_what_the_model_lacks() -> None:
    cheap = catalogue().entry("openai", "gpt-4o-mini")
    assert (cheap.max_input_tokens, cheap.max_output_tokens, cheap.mode) == (128_000, 16_384, "chat")
    assert cheap.lacks == {"audio", "audio_out"}
    assert catalogue().entry("openai", "gpt-3.5-turbo").lacks >= {"images", "audio", "json_schema"}
    assert catalogue().entry("anthropic", "claude-sonnet-4-5").lacks == {"audio", "audio_out"}
    assert catalogue().entry("openai", "gpt-5").supports_reasoning
    assert not cheap.supports_reasoning


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::AbC123", "ft:gpt-4o-mini-2024-07-18"),
        ("azure", "gpt-4o-mini", "azure/gpt-4o-mini"),
        ("azure", "eu/gpt-4o-mini", "azure/eu/gpt-4o-mini"),
        ("gemini", "gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("vertex_ai", "gemini-2.5-pro", "gemini-2.5-pro"),
        ("bedrock", "anthropic.claude-opus-4-7", "anthropic.claude-opus-4-7"),
        ("groq", "openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"),
    ],
)
def test_a_model_is_found_under_the_name_its_provider_has_in_the_catalogue(
    provider: str, model: str, name: str
) -> None:
    assert catalogue().entry(provider, model).name == name


def test_a_fine_tune_has_its_own_price_not_that_of_its_base() -> None:
    tuned = price_of("openai", "ft:gpt-4o-mini-2024-07-18:acme::AbC123")
    assert tuned.charge_nusd(Usage(1_000_000, 0)) == usd("0.30")


@pytest.mark.parametrize(
    ("provider", "model", "words"),
    [
        ("openai", "gpt-4o-minni", "Near it: openai/gpt-4o-mini"),
        ("anthropic", "gpt-4o-mini", "At other providers: "),
        ("opnai", "gpt-4o", "At other providers: openai/gpt-4o,"),
        ("gemini", "azure/gpt-4o", "no entry for this model at this provider"),
        ("openai", "ft:gpt-99:acme::1", "no entry for this model at this provider"),
        ("openai", "support-ft-v3", "Give it a `price:` in models.yaml, or `price: free`"),
        ("openai", "gpt-image-1", "the catalogue lists it as 'image_generation'"),
        ("azure_ai", "model_router", "price of input or output is missing or zero"),
        ("gemini", "gemma-3-27b-it", "price of input or output is missing or zero"),
        ("github_copilot", "gpt-4o", "no price of input or of output"),
        ("openai", "", "no entry for this model at this provider"),
        ("one of https", "sample_spec", "no entry for this model at this provider"),
    ],
)
def test_what_has_no_price_is_refused_with_what_to_do(provider: str, model: str, words: str) -> None:
    with pytest.raises(UnpricedModel) as refused:
        catalogue().entry(provider, model)
    assert words in refused.value.message
    assert "models.yaml" in refused.value.message


def test_no_model_of_the_catalogue_is_free_in_any_tier_or_length() -> None:
    models = every_priced_model()
    assert len(models) > 1_000
    for model in models:
        for schedule in price_of(*model).schedules:
            for _, rates in schedule.levels:
                assert rates.input > 0, (model, schedule.service_tier)
                assert rates.output > 0, (model, schedule.service_tier)
                assert rates.cache_write > 0, (model, schedule.service_tier)


def test_a_region_that_costs_more_is_charged_more() -> None:
    entry = catalogue().entry("openai", "gpt-5.4")
    assert entry.price_in("eu").charge_nusd(Usage(1_000, 0)) == entry.price.charge_nusd(Usage(1_100, 0))
    assert entry.price_in("global") == entry.price_in("moon") == entry.price


def test_the_catalogue_is_as_old_as_the_newest_date_it_mentions(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(
        '{"a-2026-03-04": {"deprecation_date": "2026-10-09", "source": "seen 2026-02-01"}, "b": {"note": "2999-01-01"}}'
    )
    ours = Catalogue(file)
    assert ours.newest_date == date(2026, 3, 4)
    assert ours.age_days(date(2026, 3, 14)) == 10.0
    assert ours.age_days(date(2026, 3, 1)) == 0.0
    assert catalogue().newest_date <= datetime.now(UTC).date()
    assert catalogue().age_days(catalogue().newest_date + timedelta(days=3)) == 3.0


def test_prices_are_read_without_importing_litellm() -> None:
    code = (
        "import sys; from router.pricing import Catalogue; Catalogue().entry('openai', 'gpt-4o-mini');"
        "sys.exit('litellm' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


# --- Overrides
# ------------------------------------------------------------------------------------------------


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
    short, longer = (level.rates for level in price.schedules[0].levels)
    assert len(set(short)) == len(Rates._fields)
    assert longer == short._replace(input=50 * 10**9)
    assert price.charge_nusd(Usage(1_000, 0)) == usd("0.001") + 1_000 * 1_000
    assert price.charge_nusd(Usage(1_001, 0, searches=1)) == usd("0.011") + 1_001 * 50_000


def test_an_overridden_rate_finer_than_a_nano_dollar_is_rounded_up() -> None:
    price = override_price(PriceOverride(Decimal("0.0000000001"), Decimal(0)))
    assert price.schedules[0].levels[0].rates.input == 1


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


# --- Speed
# ----------------------------------------------------------------------------------------------------


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
