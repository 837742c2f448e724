"""The catalogue: how a model is found, what it lacks, and that none is free by mistake."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from pricing.prices import catalogue, every_priced_model, price_of, usd
from router.errors import UnpricedModel
from router.pricing import Catalogue
from router.values import Usage


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
            for _, rates in schedule.brackets:
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
