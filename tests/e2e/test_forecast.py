"""A cascade by agreement, run through the proxy over a real socket, costs and keeps what was forecast for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy import Proxy, running_provider, running_proxy

from router.policy.closed_answer import number_in
from router.policy.forecast import Forecast, Known, Mean, forecast, mean_of
from router.policy.verify import Agree, Verify
from router.providers.simulated import Knows, Simulation, truth_of

MODELS = """
models:
  cheap: {{target: openai/gpt-4.1-nano, base_url: "{url}"}}
  second: {{target: openai/gpt-4o-mini, base_url: "{url}"}}
  dear: {{target: openai/gpt-4.1, base_url: "{url}", kind: premium}}
"""
SUMS = """
task: sums
baseline: dear
budget: {per_request_usd: 0.01}
route: [{use: cheap, verify: {agree: {with: second, by: number}, escalate_to: dear, buffer: true}}]
"""
KNOWS = Knows({"gpt-4.1-nano": 0.7, "gpt-4o-mini": 0.75, "gpt-4.1": 0.95})
VERIFY = Verify(agree=Agree("second", "number"), escalate_to="dear")
PROMPTS = [f"What is {17 * n + 3} + {29 * n + 8}?" for n in range(300)]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder: Path = tmp_path_factory.mktemp("forecast")
    default = "task: default\nroute: [{use: [cheap, second, dear]}]\n"
    with (
        running_provider(Simulation(answerer=KNOWS)) as provider,
        running_proxy(
            folder, {"models": MODELS.format(url=provider.base_url), "sums": SUMS, "default": default}
        ) as running,
    ):
        yield running


def outcome(proxy: Proxy, prompt: str, model: str) -> Known:
    """Ask through the proxy, and grade the answer as a labelled set would."""
    answer = proxy.ask(prompt, model=model, max_tokens=60)
    text = answer.json()["choices"][0]["message"]["content"]
    cost_usd = float(answer.headers["x-farthing-cost-usd"])
    return Known(float(number_in(text) == truth_of(prompt)), cost_usd, text)


@pytest.fixture(scope="module")
def expected(proxy: Proxy) -> Forecast:
    """A forecast from the first half of the prompts, each asked of each model."""
    return forecast(
        [{model: outcome(proxy, prompt, model) for model in ("cheap", "second", "dear")} for prompt in PROMPTS[:150]],
        "cheap",
        VERIFY,
    )


def test_the_same_prompts_cost_and_keep_exactly_what_was_forecast(proxy: Proxy, expected: Forecast) -> None:
    measured = [outcome(proxy, prompt, "task:sums") for prompt in PROMPTS[:150]]
    assert mean_of([known.quality for known in measured]).mean == expected.quality.mean
    assert mean_of([known.cost_usd for known in measured]).mean == pytest.approx(expected.cost_usd.mean, rel=1e-9)


def test_other_prompts_cost_and_keep_what_was_forecast_within_its_interval(proxy: Proxy, expected: Forecast) -> None:
    def within(found: Mean, interval: Mean) -> bool:
        print(f"measured {found.mean:.6f}, forecast {interval.low:.6f} to {interval.high:.6f}")
        return interval.low <= found.mean <= interval.high

    before = proxy.metric("farthing_checked_answers_total", task="sums")
    measured = [outcome(proxy, prompt, "task:sums") for prompt in PROMPTS[150:]]
    assert within(mean_of([known.quality for known in measured]), expected.quality)
    assert within(mean_of([known.cost_usd for known in measured]), expected.cost_usd)
    assert proxy.metric("farthing_checked_answers_total", task="sums") == before + 150
    assert proxy.metric("farthing_over_budget_usd_total") == 0


def test_the_cascade_keeps_the_dear_model_s_quality_for_less(proxy: Proxy, expected: Forecast) -> None:
    dear = [outcome(proxy, prompt, "dear") for prompt in PROMPTS[:150]]
    assert expected.right_if_passed is not None
    assert expected.right_if_passed.low > 0.9
    assert expected.quality.mean >= mean_of([known.quality for known in dear]).mean - 0.02
    assert expected.cost_usd.mean < 0.8 * mean_of([known.cost_usd for known in dear]).mean
