"""No request costs more than its budget, over sockets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from proxy import Proxy, events, eventually, said

from e2e.conftest import MODELS
from router.providers.simulated import SimulatedProvider
from router.tokens import Counter, rules_for

IN, OUT = 150, 600
"""gpt-4o-mini: what a token costs, in nUSD."""

MORE_MODELS = """
  free:
    target: openai/gpt-4o-mini
    base_url: {url}
    price: free
  tuned:
    target: openai/support-ft-v3
    base_url: {url}
    price: {{input_usd_per_mtok: 0.15, output_usd_per_mtok: 0.60}}
"""
TASKS = {
    "penny": "task: penny\nbudget: {per_request_usd: 0.001}\nroute: [{use: cheap}]\n",
    "down": "task: down\nbudget: {per_request_usd: 0.0005}\nroute:\n"
    "  - {name: best, when: {input_tokens: {gte: 0}}, use: dear}\n  - {use: cheap}\n",
    "reject": "task: reject\nbudget: {per_request_usd: 0.0005, on_exceeded: reject}\nroute:\n"
    "  - {name: best, when: {input_tokens: {gte: 0}}, use: dear}\n  - {use: cheap}\n",
    "long": "task: long\nmin_output_tokens: 500\nbudget: {per_request_usd: 0.001}\nroute: [{use: [dear, cheap]}]\n",
    "checked": "task: checked\nbudget: {per_request_usd: 0.01}\n"
    "route: [{use: cheap, verify: {json: true, escalate_to: dear}}]\n",
    "checked-poor": "task: checked-poor\nbudget: {per_request_usd: 0.0006}\n"
    "route: [{use: cheap, verify: {json: true, escalate_to: dear}}]\n",
    "daily": "task: daily\nbudget: {per_day_usd: 0.0001}\nroute: [{use: cheap}]\n",
    "dated": "task: dated\nbudget: {per_day_usd: 1000}\nroute: [{use: cheap}]\n",
    "warned": "task: warned\nbudget: {per_day_usd: 1000, on_exceeded: warn}\nroute: [{use: cheap}]\n",
    "tuned": "task: tuned\nbudget: {per_request_usd: 0.001}\nroute: [{use: tuned}]\n",
    "nothing": "task: nothing\nroute: [{use: [cheap, free]}]\n",
}


@pytest.fixture(scope="module")
def more_files(shared_provider: SimulatedProvider) -> dict[str, str]:
    return {"models": (MODELS + MORE_MODELS).format(url=shared_provider.base_url), **TASKS}


def ask(proxy: Proxy, task: str, budget_usd: float | str | None = None, **members: Any) -> httpx.Response:
    headers = {"x-farthing-task": task}
    if budget_usd is not None:
        headers["x-farthing-budget-usd"] = budget_usd if isinstance(budget_usd, str) else f"{budget_usd:.9f}"
    return proxy.ask(headers=headers, **members)


def input_tokens(proxy: Proxy, answer: httpx.Response) -> int:
    return int(proxy.row_of(answer)["facts"]["input_tokens"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_the_limit_is_what_the_dollars_buy_for_all_answers_together(
    proxy: Proxy, provider: SimulatedProvider, n: int, stream: bool
) -> None:
    answer = ask(proxy, "penny", n=n, stream=stream)
    sent = provider.calls[-1].body["max_tokens"]
    row = proxy.row_of(answer)
    assert sent == (1_000_000 - row["facts"]["input_tokens"] * IN) // (n * OUT)
    assert row["held_nusd"] <= 1_000_000
    assert row["charged_nusd"] <= row["held_nusd"]


@pytest.mark.parametrize(("header", "wanted_usd"), [("0.0002", 0.0002), ("0.5", 0.001), ("1e-4", 0.0001)])
def test_the_callers_budget_tightens_and_never_loosens(
    proxy: Proxy, provider: SimulatedProvider, header: str, wanted_usd: float
) -> None:
    answer = ask(proxy, "penny", header)
    assert answer.status_code == 200
    bought = (round(wanted_usd * 1e9) - input_tokens(proxy, answer) * IN) // OUT
    assert provider.calls[-1].body["max_tokens"] == bought


def test_at_least_the_policys_least_answer_is_bought_or_nothing(proxy: Proxy, provider: SimulatedProvider) -> None:
    needs_nusd = input_tokens(proxy, ask(proxy, "penny", max_tokens=1)) * IN + 64 * OUT
    provider.calls.clear()
    assert ask(proxy, "penny", needs_nusd / 1e9).status_code == 200
    assert provider.calls[-1].body["max_tokens"] == 64
    provider.calls.clear()
    refused = ask(proxy, "penny", (needs_nusd - 1) / 1e9)
    assert refused.status_code == 402
    assert not provider.calls


def test_a_caller_who_asks_for_less_than_the_least_answer_gets_it(proxy: Proxy, provider: SimulatedProvider) -> None:
    budget_nusd = input_tokens(proxy, ask(proxy, "penny", max_tokens=1)) * IN + 10 * OUT
    assert ask(proxy, "penny", budget_nusd / 1e9, max_tokens=10).status_code == 200
    assert ask(proxy, "penny", budget_nusd / 1e9, max_tokens=11).status_code == 402


def test_a_refusal_says_what_it_would_have_taken_and_whose_budget_it_is(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    refused = ask(proxy, "penny", 0.00001)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["type"]) == (402, "request_budget_exceeded", "budget_error")
    assert refused.headers["x-should-retry"] == "false"
    row = proxy.row_of(refused)
    needs_usd = (row["facts"]["input_tokens"] * IN + 64 * OUT) / 1e9
    for part in ("x-farthing-budget-usd", "$0.00001", f"${needs_usd:.8f}".rstrip("0"), "'cheap'", "'penny'"):
        assert part in error["message"]
    assert (row["outcome"], row["refusal"]) == ("refused", "request_budget_exceeded")
    assert (row["charged_nusd"], row["held_nusd"], row["attempts"]) == (0, 0, [])
    assert not provider.calls


@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_of_nothing_buys_what_is_free(proxy: Proxy, provider: SimulatedProvider, stream: bool) -> None:
    answer = ask(proxy, "nothing", "0", stream=stream, max_tokens=50)
    assert answer.headers["x-farthing-model"] == "free"
    assert proxy.row_of(answer)["charged_nusd"] == 0
    assert ask(proxy, "penny", "0").status_code == 402


def test_too_little_money_for_the_best_model_buys_the_next(proxy: Proxy, provider: SimulatedProvider) -> None:
    answer = ask(proxy, "down")
    assert (answer.status_code, answer.headers["x-farthing-model"]) == (402, "") or (
        answer.headers["x-farthing-model"] == "cheap"
    )
    assert provider.calls[-1].body["model"] == "gpt-4o-mini"


def test_a_policy_may_reject_instead(proxy: Proxy, provider: SimulatedProvider) -> None:
    refused = ask(proxy, "reject")
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "request_budget_exceeded")
    assert "'dear'" in refused.json()["error"]["message"]
    assert not provider.calls


def test_a_candidate_that_can_not_give_the_least_answer_is_passed_over(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    answer = ask(proxy, "long")
    assert answer.headers["x-farthing-model"] == "cheap"
    assert provider.calls[-1].body["max_tokens"] >= 500


def test_a_caller_can_not_ask_for_more_than_the_model_gives(proxy: Proxy, provider: SimulatedProvider) -> None:
    ask(proxy, "default", max_tokens=1_000_000_000)
    assert provider.calls[-1].body["max_tokens"] == 16_384


def test_an_escalation_draws_on_the_same_allowance(proxy: Proxy, provider: SimulatedProvider) -> None:
    answer = ask(proxy, "checked", max_tokens=2_000)
    row = proxy.row_of(answer)
    assert [attempt["reason"] for attempt in row["attempts"]] == ["check_json", "answered"]
    assert answer.headers["x-farthing-model"] == "dear"
    left_nusd = 10_000_000 - row["attempts"][0]["charged_nusd"]
    bought = (left_nusd - row["facts"]["input_tokens"] * 2_500) // 10_000
    assert provider.calls[-1].body["max_tokens"] == bought < 2_000
    assert row["overhead_nusd"] == row["attempts"][0]["charged_nusd"]
    assert row["charged_nusd"] <= 10_000_000
    poor = ask(proxy, "checked-poor", max_tokens=200)
    assert (poor.status_code, poor.headers["x-farthing-model"]) == (200, "cheap")
    assert proxy.row_of(poor)["overhead_nusd"] == 0


def test_a_day_that_is_spent_is_refused_by_name_with_what_was_left(proxy: Proxy, provider: SimulatedProvider) -> None:
    while (answer := ask(proxy, "daily", max_tokens=60)).status_code == 200:
        pass
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (402, "budget_exceeded")
    rows = [row for row in proxy.rows() if row["task"] == "daily"]
    spent_nusd = sum(row["charged_nusd"] for row in rows)
    assert 0 < spent_nusd <= 100_000
    assert f"${(100_000 - spent_nusd) / 1e9:.9f}".rstrip("0") in error["message"]
    assert "task 'daily'" in error["message"]
    assert "day" in error["message"]
    labels = {"scope": "task", "name": "daily", "window": "day"}
    assert proxy.metric_nusd("farthing_budget_spent_usd", **labels) == spent_nusd
    assert proxy.metric_nusd("farthing_budget_held_usd", **labels) == 0
    assert proxy.metric_nusd("farthing_budget_remaining_usd", **labels) == 100_000 - spent_nusd


@pytest.mark.parametrize("asked", [{}, {"n": 3}, {"stream_options": {"include_usage": True}}])
def test_a_stream_that_would_pass_the_bound_is_ended_as_at_a_limit(
    proxy: Proxy, provider: SimulatedProvider, asked: dict[str, Any]
) -> None:
    provider.faults.always("ignore-limit drip=0.004")
    over_before = proxy.metric_nusd("farthing_over_budget_usd_total")
    n = asked.get("n", 1)
    answer = ask(proxy, "penny", n * 0.000042, stream=True, **asked)
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
    endings = [
        choice["index"]
        for each in events(answer.text)
        for choice in each["choices"]
        if choice["finish_reason"] == "length"
    ]
    assert sorted(endings) == list(range(n))
    row = proxy.row_of(answer)
    assert (row["outcome"], row["certainty"]) == ("cut", "counted")
    given = sum(len(COUNTER.encode(said(answer.text, index))) for index in range(n))
    assert given * OUT <= n * 42_000 - row["facts"]["input_tokens"] * IN
    assert row["over_budget_nusd"] == max(0, row["charged_nusd"] - n * 42_000)
    assert row["over_budget_nusd"] < 30 * OUT
    assert proxy.metric_nusd("farthing_over_budget_usd_total") - over_before == row["over_budget_nusd"]
    call = provider.calls[-1]
    eventually(lambda: call.disconnected_at, "the provider's connection to be closed")
    if "stream_options" in asked:
        assert events(answer.text)[-1]["usage"]["completion_tokens"] == row["output_tokens"]


def test_a_stream_whose_tokens_are_estimated_is_ended_once_it_surely_passed_the_bound(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("ignore-limit drip=0.001")
    answer = ask(proxy, "tuned", stream=True, max_tokens=40)
    row = proxy.row_of(answer)
    factor = rules_for("openai", "support-ft-v3").factor
    assert factor > 1
    assert row["outcome"] == "cut"
    # Its own tokens may be so many fewer than our estimate, and no more.
    assert 40 <= len(COUNTER.encode(said(answer.text))) <= 40 * factor + 1


def test_a_whole_answer_that_passed_the_bound_is_charged_in_full_and_metered(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("ignore-limit")
    before = proxy.metric_nusd("farthing_over_budget_usd_total")
    answer = ask(proxy, "penny", 0.0001)
    row = proxy.row_of(answer)
    usage = answer.json()["usage"]
    assert row["charged_nusd"] == usage["prompt_tokens"] * IN + usage["completion_tokens"] * OUT > 100_000
    assert row["over_budget_nusd"] == row["charged_nusd"] - 100_000
    assert proxy.metric_nusd("farthing_over_budget_usd_total") - before == row["over_budget_nusd"]


def test_a_stream_under_a_days_budget_alone_is_ended_where_its_hold_is_used_up(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("ignore-limit drip=0.004")
    before = proxy.metric_nusd("farthing_over_budget_usd_total")
    answer = ask(proxy, "dated", stream=True, max_tokens=12)
    row = proxy.row_of(answer)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert (row["outcome"], len(COUNTER.encode(said(answer.text)))) == ("cut", 12)
    assert row["held_nusd"] == row["facts"]["input_tokens"] * IN + 12 * OUT
    assert 0 < row["over_budget_nusd"] == row["charged_nusd"] - row["held_nusd"] < 30 * OUT
    assert proxy.metric_nusd("farthing_over_budget_usd_total") - before == row["over_budget_nusd"]
    eventually(lambda: provider.calls[-1].disconnected_at, "the provider's connection to be closed")


def test_a_whole_answer_above_what_a_days_budget_held_for_it_is_metered(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("ignore-limit")
    before = proxy.metric_nusd("farthing_over_budget_usd_total")
    row = proxy.row_of(ask(proxy, "dated", max_tokens=12))
    assert row["over_budget_nusd"] == row["charged_nusd"] - row["held_nusd"] > 0
    assert proxy.metric_nusd("farthing_over_budget_usd_total") - before == row["over_budget_nusd"]


@pytest.mark.parametrize("task", ["default", "warned"])
@pytest.mark.parametrize("stream", [False, True])
def test_where_no_budget_bounds_a_request_its_answer_is_the_providers_to_end(
    proxy: Proxy, provider: SimulatedProvider, task: str, stream: bool
) -> None:
    provider.faults.always("ignore-limit")
    row = proxy.row_of(ask(proxy, task, stream=stream, max_tokens=12))
    assert row["outcome"] == "answered"
    assert row["output_tokens"] > 12
    assert row["over_budget_nusd"] == 0


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("task", "asked"), [("penny", {}), ("dated", {"max_tokens": 120})])
def test_a_stream_that_keeps_its_limit_to_the_last_token_is_not_touched(
    proxy: Proxy, provider: SimulatedProvider, task: str, asked: dict[str, Any], n: int
) -> None:
    for seed in range(5):
        answer = ask(proxy, task, 0.0003 if task == "penny" else None, stream=True, n=n, seed=seed, **asked)
        row = proxy.row_of(answer)
        assert (row["outcome"], row["certainty"], row["over_budget_nusd"]) == ("answered", "reported", 0)


class _O200k:
    def encode(self, text: str) -> list[int]:
        return [0] * Counter().count_text(text, rules_for("openai", "gpt-4o"))


COUNTER = _O200k()
