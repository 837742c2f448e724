"""Charges are exact to the nano-dollar as two judges have it.

Where the two agree, our charge must equal the exact price rounded up; where they differ, or one of them has no price,
the usage is left out and counted.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from decimal import ROUND_CEILING

import pytest
from msgspec import structs

from pricing.judges import GENAI_PROVIDERS, Case, Judges, LeftOut
from pricing.prices import every_priced_model
from router.values import Usage


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
    return case.usage.input_tokens > case.price.schedules[0].brackets[-1].above_input_tokens > 0


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
    # What speaks hears nothing: audio sent to it has no price that could be right.
    models = [model for model in every_priced_model() if model[0] in GENAI_PROVIDERS and not model[1].endswith("-tts")]
    # Half of the draws are of the models that have tiers and classes of their own, which a plain draw seldom
    # meets.
    drawn = [chance.choice(models if chance.random() < 0.5 else FIXED_MODELS) for _ in range(1_200)]
    agreed = judged(judges, [Case(*model, some_usage(chance)) for model in drawn])
    telling = sum(tells(case) for case in agreed)
    print(f"{telling} of them in a class, length or tier with a rate of its own")
    assert len(agreed) >= 200
    assert telling >= 100
