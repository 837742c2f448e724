"""Staying on a warm cache: by the real prices, as long as it is warm, and never against what a policy means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from proxy import Proxy, running_proxy

from router.providers.simulated import SimulatedProvider

MODELS = """
models:
  strong:
    target: openai/strong
    base_url: {url}
    price: {{input_usd_per_mtok: 2, cached_input_usd_per_mtok: {cached}, output_usd_per_mtok: 4}}
  light:
    target: openai/light
    base_url: {url}
    price: {{input_usd_per_mtok: 1, cached_input_usd_per_mtok: 1, output_usd_per_mtok: 4}}
"""
TASK = """
task: default
stick: conversation
expected_output_tokens: 1
route:
  - {name: first, when: {messages: {lte: 1}}, use: strong}
  - {name: later, use: light}
"""
LONG = "one two three four five six seven eight nine ten " * 300
"""About 3,000 tokens."""


@dataclass
class Clock:
    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _files(provider: SimulatedProvider, cached: float, task: str = TASK) -> dict[str, str]:
    return {"models": MODELS.format(url=provider.base_url, cached=cached), "default": task}


@pytest.fixture
def cheap_cache(provider: SimulatedProvider, tmp_path: Path, clock: Clock) -> Iterator[Proxy]:
    """A proxy whose strong model reads from its cache for a fifth of what the light one costs."""
    with running_proxy(tmp_path, _files(provider, 0.2), clock=clock) as proxy:
        yield proxy


def _first(proxy: Proxy, text: str = LONG) -> list[dict[str, str]]:
    """Ask for the first time, and return the conversation with its second question."""
    asked = [{"role": "user", "content": text}]
    answer = proxy.ask(messages=asked, max_tokens=5)
    said = answer.json()["choices"][0]["message"]["content"]
    proxy.row_of(answer)
    return [*asked, {"role": "assistant", "content": said}, {"role": "user", "content": "And then?"}]


def _model(proxy: Proxy, messages: list[dict[str, str]]) -> str:
    answer = proxy.ask(messages=messages, max_tokens=5)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-farthing-model"]


def test_a_conversation_stays_where_its_cache_makes_it_cheaper(cheap_cache: Proxy) -> None:
    assert _model(cheap_cache, _first(cheap_cache)) == "strong"


def test_a_conversation_moves_where_the_cache_saves_too_little(provider: SimulatedProvider, tmp_path: Path) -> None:
    with running_proxy(tmp_path, _files(provider, 1.5)) as proxy:
        assert _model(proxy, _first(proxy)) == "light"


def test_a_conversation_that_nobody_has_cached_goes_by_the_rules(cheap_cache: Proxy) -> None:
    _first(cheap_cache)
    other = [{"role": "user", "content": "No. " + LONG}, *_first(cheap_cache, "Short?")[1:]]
    assert _model(cheap_cache, other) == "light"


def test_a_prompt_too_short_to_be_cached_goes_by_the_rules(cheap_cache: Proxy) -> None:
    assert _model(cheap_cache, _first(cheap_cache, "Where is my parcel?")) == "light"


def test_a_conversation_whose_tools_changed_goes_by_the_rules(cheap_cache: Proxy) -> None:
    messages = _first(cheap_cache)
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    answer = cheap_cache.ask(messages=messages, tools=tools, tool_choice="none", max_tokens=5)
    assert answer.headers["x-farthing-model"] == "light"


@pytest.mark.parametrize(("later_s", "model"), [(299, "strong"), (301, "light")])
def test_a_cache_is_warm_for_five_minutes(cheap_cache: Proxy, clock: Clock, later_s: int, model: str) -> None:
    messages = _first(cheap_cache)
    clock.now_s += later_s
    assert _model(cheap_cache, messages) == model


def test_a_policy_that_asks_for_a_dearer_model_gets_it(provider: SimulatedProvider, tmp_path: Path) -> None:
    task = TASK.replace("use: strong", "use: LIGHT").replace("use: light", "use: strong").replace("LIGHT", "light")
    models = _files(provider, 2)["models"].replace("cached_input_usd_per_mtok: 1,", "cached_input_usd_per_mtok: 0.01,")
    with running_proxy(tmp_path, {"models": models, "default": task}) as proxy:
        assert _model(proxy, _first(proxy)) == "strong"


def test_a_rule_may_do_without(provider: SimulatedProvider, tmp_path: Path) -> None:
    task = TASK.replace("use: light}", "use: light, stick: none}")
    with running_proxy(tmp_path, _files(provider, 0.2, task)) as proxy:
        assert _model(proxy, _first(proxy)) == "light"


def test_a_dry_run_says_why_it_stays_in_dollars(cheap_cache: Proxy) -> None:
    messages = _first(cheap_cache)
    explained = cheap_cache.ask(messages=messages, max_tokens=5, headers={"x-farthing-dry-run": "true"}).json()
    stick = explained["stick"]
    assert (explained["model"], stick["model"], stick["elsewhere"], stick["stays"]) == (
        "strong",
        "strong",
        "light",
        True,
    )
    assert stick["cached_tokens"] > 2900
    assert stick["cached_tokens"] % 128 == 0
    tokens = explained["facts"]["input_tokens_by_model"]["strong"]
    uncached = tokens - stick["cached_tokens"]
    assert stick["stay_usd"] == pytest.approx((0.2 * stick["cached_tokens"] + 2 * uncached + 4) / 1e6)
    assert stick["switch_usd"] == pytest.approx((tokens + 4) / 1e6)
    assert stick["reason"].startswith(f"stays: {stick['cached_tokens']} tokens are cached at 'strong'")
    [candidate] = [each for each in explained["candidates"] if each["model"] == "strong"]
    assert stick["reason"] in candidate["reason"]


def test_what_was_cached_is_what_was_charged(cheap_cache: Proxy) -> None:
    messages = _first(cheap_cache)
    row = cheap_cache.row_of(cheap_cache.ask(messages=messages, max_tokens=5))
    assert row["routed_model"] == "strong"
    assert 0 < row["cached_tokens"] <= row["input_tokens"]
    assert row["charged_nusd"] < 1000 * row["input_tokens"]
