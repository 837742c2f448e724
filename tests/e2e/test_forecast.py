"""A cascade by agreement, run through the proxy over a real socket, costs and keeps what `farthing evaluate` said."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from proxy import Proxy, running_provider, running_proxy

from router.policy.closed_answer import number_in
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
PROMPTS = [f"What is {17 * n + 3} + {29 * n + 8}?" for n in range(300)]
LABELLED, OTHERS = PROMPTS[:150], PROMPTS[150:]


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


class Outcome(NamedTuple):
    """One answer, graded as a labelled set would have it."""

    quality: float
    cost_usd: float
    answer: str


def outcome(proxy: Proxy, prompt: str, model: str) -> Outcome:
    answer = proxy.ask(prompt, model=model, max_tokens=60)
    text = answer.json()["choices"][0]["message"]["content"]
    return Outcome(float(number_in(text) == truth_of(prompt)), float(answer.headers["x-farthing-cost-usd"]), text)


@pytest.fixture(scope="module")
def expected(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `evaluate` says of the proxy's own policies, from half of the prompts, each asked of each model."""
    file = tmp_path_factory.mktemp("labelled") / "labelled.jsonl"
    with file.open("w") as opened:
        for prompt in LABELLED:
            outcomes = {model: outcome(proxy, prompt, model)._asdict() for model in ("cheap", "second", "dear")}
            opened.write(json.dumps({"prompt": prompt, "outcomes": outcomes}) + "\n")
    command = [
        sys.executable,
        "-m",
        "router",
        "evaluate",
        file,
        "--policies",
        proxy.policies,
        "--task",
        "sums",
        "--json",
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measured(proxy: Proxy, prompts: list[str], model: str) -> tuple[float, float]:
    """Return the quality (a mean) and the dollars (a total) of so many answers."""
    outcomes = [outcome(proxy, prompt, model) for prompt in prompts]
    return statistics.fmean(each.quality for each in outcomes), sum(each.cost_usd for each in outcomes)


def test_the_same_prompts_cost_and_keep_exactly_what_was_forecast(proxy: Proxy, expected: Any) -> None:
    quality, cost_usd = measured(proxy, LABELLED, "task:sums")
    assert quality == pytest.approx(expected["policy"]["quality"], abs=1e-9)
    assert cost_usd == pytest.approx(expected["policy"]["cost_usd"], rel=1e-9)


def test_other_prompts_cost_and_keep_what_was_forecast_within_its_interval(proxy: Proxy, expected: Any) -> None:
    before = proxy.metric("farthing_checked_answers_total", task="sums")
    for name, found in zip(("quality", "cost_usd"), measured(proxy, OTHERS, "task:sums"), strict=True):
        low, high = expected["interval_95"][name]
        print(f"{name}: measured {found:.6f}, forecast {low:.6f} to {high:.6f}")
        assert low <= found <= high
    assert proxy.metric("farthing_checked_answers_total", task="sums") == before + len(OTHERS)
    assert proxy.metric("farthing_over_budget_usd_total") == 0


def test_the_cascade_keeps_the_dear_model_s_quality_for_less(proxy: Proxy, expected: Any) -> None:
    quality, cost_usd = measured(proxy, LABELLED, "dear")
    assert expected["checks"]["quality_if_passed"] > 0.9
    assert expected["policy"]["quality"] >= quality - 0.02
    assert expected["policy"]["cost_usd"] < 0.8 * cost_usd
