"""The dry run and /admin/explain tell what the next call meets: its model and its most, or the words of its 402."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy import Proxy, eventually, running_provider, running_proxy
from redis_server import running_redis

from budgets.test_proxy_budgets import digest
from router.providers.simulated import SimulatedProvider

ADMIN = {"authorization": "Bearer admin"}


def files(url: str) -> dict[str, str]:
    return {
        "models": f"""
models:
  cheap: {{target: openai/gpt-4o-mini, base_url: "{url}"}}
  premium: {{target: openai/gpt-4o, base_url: "{url}"}}
  rare: {{target: openai/gpt-4o, base_url: "{url}", limits: {{requests_per_minute: 1}}}}
""",
        "accounts": f"""
budget: {{per_month_usd: 0.05}}
accounts:
  team: {{keys: ["sha256:{digest("fk-team")}"]}}
  small: {{keys: ["sha256:{digest("fk-small")}"], budget: {{per_day_usd: 0.02}}}}
  slow: {{keys: ["sha256:{digest("fk-slow")}"], limits: {{requests_per_minute: 2}}}}
  wordy: {{keys: ["sha256:{digest("fk-wordy")}"], limits: {{tokens_per_minute: 100}}}}
""",
        "default": "task: default\nroute: [{use: premium}]\n",
        "capped": (
            "task: capped\nbudget: {per_request_usd: 0.02, per_day_usd: 0.01}\n"
            "route: [{when: {input_tokens: {lt: 1000}}, use: premium}, {use: cheap}]\n"
        ),
        "strict": "task: strict\nbudget: {per_day_usd: 0.02, on_exceeded: reject}\nroute: [{use: premium}]\n",
        "only": "task: only\nroute: [{use: rare}]\n",
        "either": "task: either\nroute: [{use: [rare, premium]}]\n",
        "fallback": "task: fallback\nbudget: {per_day_usd: 0.02}\nroute: [{use: [cheap, premium]}]\n",
        "soft": "task: soft\nbudget: {per_day_usd: 0.001, on_exceeded: warn}\nroute: [{use: premium}]\n",
    }


@pytest.fixture
def proxy(budgets_url: str, provider: SimulatedProvider, tmp_path: Path) -> Iterator[Proxy]:
    given = {"admin_key": "admin", "budgets_url": budgets_url}
    with running_proxy(tmp_path, files(provider.base_url), settings=given) as running:
        yield running


def ask(proxy: Proxy, task: str, *, account: str = "team", **members: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer fk-{account}", "x-farthing-task": task}
    return proxy.ask("Hello", headers=headers, **members)


def foretold(proxy: Proxy, task: str, *, account: str = "team", **members: Any) -> dict[str, Any]:
    """Return what the dry run says, which /admin/explain says too."""
    headers = {"authorization": f"Bearer fk-{account}", "x-farthing-task": task, "x-farthing-dry-run": "true"}
    dry: dict[str, Any] = proxy.ask("Hello", headers=headers, **members).json()
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], **members}
    explained = proxy.http.post(f"/admin/explain?account={account}&task={task}", json=body, headers=ADMIN).json()
    assert {**explained, "facts": None, "refusal": None} == {**dry, "facts": None, "refusal": None}
    assert without_time(explained["refusal"]) == without_time(dry["refusal"])
    return dry


def without_time(refusal: dict[str, str] | None) -> dict[str, str] | None:
    """Leave out when a limit a minute has room again, which is sooner at each look."""
    return refusal and {**refusal, "message": re.sub(r"again in [0-9.]+ s", "again in a while", refusal["message"])}


def spend(proxy: Proxy, task: str, *, account: str = "team", **members: Any) -> httpx.Response:
    """Call until there is a refusal, and return it."""
    for _ in range(300):
        answer = ask(proxy, task, account=account, **members)
        if answer.status_code != 200:
            eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "every settlement")
            return answer
    raise AssertionError("300 calls did not spend it.")


@pytest.mark.parametrize(
    ("task", "account"), [("strict", "team"), ("capped", "team"), ("default", "small"), ("default", "team")]
)
def test_a_spent_budget_is_refused_by_the_dry_run_in_the_words_of_the_call(
    proxy: Proxy, task: str, account: str
) -> None:
    refused = spend(proxy, task, account=account, max_tokens=100).json()["error"]
    told = foretold(proxy, task, account=account, max_tokens=100)
    assert refused["code"] == "budget_exceeded"
    assert (told["model"], told["ceiling_usd"], told["downgraded"]) == (None, None, False)
    assert told["refusal"] == {"code": refused["code"], "message": refused["message"]}
    assert [candidate["fits"] for candidate in told["candidates"]] == [False] * len(told["candidates"])


def test_a_refusal_tells_what_is_only_held_and_comes_back(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("drip=0.005")
    body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Tell me a long story."}]}
    headers = {"authorization": "Bearer fk-team", "x-farthing-task": "strict"}
    with proxy.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        events = answer.iter_lines()
        next(events)
        refused = ask(proxy, "strict", max_tokens=100)
        told = foretold(proxy, "strict", max_tokens=100)
        held_nusd = proxy.metric_nusd("farthing_budget_held_usd", scope="task", name="strict", window="day")
        assert "data: [DONE]" in list(events)
    message = refused.json()["error"]["message"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "budget_exceeded")
    assert f" beside ${held_nusd / 1e9:.9f}".rstrip("0") + " held for requests under way and begins anew at " in message
    assert message.endswith(" What those under way don't use comes back as they end.")
    assert told["refusal"]["message"] == message
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "the settlement")
    assert foretold(proxy, "strict", max_tokens=100)["refusal"] is None


def test_how_full_the_budgets_are_is_told_though_no_rule_looks_at_it(proxy: Proxy) -> None:
    charged_nusd = proxy.row_of(ask(proxy, "strict", max_tokens=200))["charged_nusd"]
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "the settlement")
    told = foretold(proxy, "strict")["facts"]
    assert told["budget_used_pct"] == pytest.approx(100 * charged_nusd / 20_000_000)
    assert told["budget_remaining_usd"] == pytest.approx(0.02 - charged_nusd / 1e9)
    headers = {"authorization": "Bearer fk-team", "x-farthing-task": "strict", "x-farthing-dry-run": "true"}
    refused = proxy.ask("Hello", headers=headers | {"x-farthing-budget-usd": "0.0000001"}).json()
    assert refused["refusal"]["code"] == "request_budget_exceeded"
    assert refused["facts"]["budget_remaining_usd"] == told["budget_remaining_usd"]


def test_an_answer_is_clamped_to_what_a_day_has_left_as_the_call_is(proxy: Proxy) -> None:
    ask(proxy, "strict", max_tokens=200)
    told = foretold(proxy, "strict")
    row = proxy.row_of(ask(proxy, "strict"))
    assert told["ceiling_usd"] * 1e9 == pytest.approx(row["held_nusd"])
    (candidate,) = told["candidates"]
    assert candidate["clamped"]
    assert told["budget_usd"] < 0.02
    assert told["budget"] == "the day's budget of the task 'strict' ($0.02)"


def test_a_day_that_leaves_less_than_a_request_may_cost_bounds_it_before_it_is_used(proxy: Proxy) -> None:
    told = foretold(proxy, "capped")
    assert (told["model"], told["budget_usd"]) == ("premium", 0.01)
    assert 0.0099 < told["ceiling_usd"] <= 0.01
    row = proxy.row_of(ask(proxy, "capped"))
    assert told["ceiling_usd"] * 1e9 == pytest.approx(row["held_nusd"])


def test_a_cheaper_model_that_the_call_goes_to_is_told(proxy: Proxy) -> None:
    told = {}
    for _ in range(300):
        told = foretold(proxy, "capped", max_tokens=300)
        answer = ask(proxy, "capped", max_tokens=300)
        eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "every settlement")
        if answer.status_code != 200:
            break
        assert told["model"] == answer.headers["x-farthing-model"]
        if told["downgraded"]:
            return
    raise AssertionError("No call went to the cheaper model.")


def test_a_model_behind_the_first_whose_hold_finds_no_room_does_not_fit(proxy: Proxy) -> None:
    told = foretold(proxy, "fallback")
    cheap, premium = told["candidates"]
    assert (told["model"], cheap["fits"], premium["fits"]) == ("cheap", True, False)
    assert "and the day's budget of the task 'fallback' ($0.02) leaves $0.02" in premium["reason"]


def test_a_soft_budget_bounds_nothing(proxy: Proxy) -> None:
    told = foretold(proxy, "soft")
    assert told["model"] == "premium"
    assert told["budget"] == "the month's budget of everything ($0.05)"


@pytest.mark.parametrize(
    ("task", "account", "calls"), [("default", "slow", 2), ("default", "wordy", 1), ("only", "team", 1)]
)
def test_a_full_limit_a_minute_is_refused_by_the_dry_run_as_by_the_call(
    proxy: Proxy, task: str, account: str, calls: int
) -> None:
    for _ in range(calls):
        for _ in range(3):
            assert foretold(proxy, task, account=account, max_tokens=60)["refusal"] is None, "telling uses nothing up"
        assert ask(proxy, task, account=account, max_tokens=60).status_code == 200
    # An answer that was shorter than its limit gives back what it did not use of the tokens.
    told = foretold(proxy, task, account=account, max_tokens=90)
    refused = ask(proxy, task, account=account, max_tokens=90)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (told["model"], told["refusal"]["code"]) == (None, error["code"])
    assert without_time(told["refusal"]) == without_time({"code": error["code"], "message": error["message"]})
    (candidate,) = told["candidates"]
    assert not candidate["fits"]
    assert candidate["reason"].startswith("is called too fast: there is a limit of ")


def test_a_model_that_is_called_too_fast_is_passed_over_by_the_dry_run_as_by_the_call(proxy: Proxy) -> None:
    assert foretold(proxy, "either")["model"] == "rare"
    assert ask(proxy, "either").headers["x-farthing-model"] == "rare"
    told = foretold(proxy, "either")
    assert ask(proxy, "either").headers["x-farthing-model"] == told["model"] == "premium"
    assert [candidate["fits"] for candidate in told["candidates"]] == [False, True]


@pytest.mark.parametrize(("on_outage", "status"), [("closed", 503), ("local", 200)])
def test_limits_alone_need_the_store_for_the_dry_run_as_for_the_call(
    provider: SimulatedProvider, tmp_path: Path, on_outage: str, status: int
) -> None:
    policies = files(provider.base_url)
    policies["accounts"] = policies["accounts"].replace("budget: {per_month_usd: 0.05}\n", "")
    with running_redis() as server:
        given = {"budgets_url": server.url, "budgets_on_outage": on_outage}
        with running_proxy(tmp_path, policies, settings=given) as proxy:
            assert ask(proxy, "default", account="slow", max_tokens=3).status_code == 200
            server.kill()
            headers = {"authorization": "Bearer fk-slow", "x-farthing-dry-run": "true"}
            answers = [proxy.ask(headers=headers), ask(proxy, "default", account="slow", max_tokens=3)]
            assert [answer.status_code for answer in answers] == [status] * 2
            assert ask(proxy, "default", max_tokens=3).status_code == 200, "an account without limits needs no store"


def test_telling_holds_nothing(proxy: Proxy) -> None:
    for _ in range(5):
        foretold(proxy, "capped")
    assert proxy.metric("farthing_budget_held_usd") == 0
    assert proxy.metric("farthing_budget_spent_usd") == 0


@pytest.mark.parametrize(("on_outage", "status"), [("closed", 503), ("local", 200)])
def test_a_store_that_is_away_is_told_as_the_call_meets_it(
    provider: SimulatedProvider, tmp_path: Path, on_outage: str, status: int
) -> None:
    given = {"budgets_on_outage": on_outage, "replicas": 2}
    with (
        running_redis() as server,
        running_proxy(tmp_path, files(provider.base_url), settings={**given, "budgets_url": server.url}) as proxy,
    ):
        ask(proxy, "strict", max_tokens=20)
        server.kill()
        headers = {"authorization": "Bearer fk-team", "x-farthing-task": "strict", "x-farthing-dry-run": "true"}
        told = proxy.ask("Hello", headers=headers)
        answer = ask(proxy, "strict")
        assert (told.status_code, answer.status_code) == (status, status)
        if status == 200:
            assert told.json()["budget_usd"] == pytest.approx(0.01, rel=0.1), "half of what was left, of two replicas"
            held_usd = proxy.row_of(answer)["held_nusd"] / 1e9
            assert told.json()["ceiling_usd"] == pytest.approx(held_usd)
        else:
            assert told.json()["error"] == answer.json()["error"]


def test_a_model_that_is_passed_over_is_not_told_as_the_next_calls(provider: SimulatedProvider, tmp_path: Path) -> None:
    with running_provider() as broken:
        broken.faults.always("status=500")
        given = files(provider.base_url)
        whole = f'gpt-4o-mini, base_url: "{provider.base_url}"'
        given["models"] = given["models"].replace(whole, f'gpt-4o-mini, base_url: "{broken.base_url}", retries: 0')
        with running_proxy(tmp_path, given, settings={"admin_key": "admin", "breaker_failures": 1}) as proxy:
            assert foretold(proxy, "fallback")["model"] == "cheap"

            def opens() -> bool:
                ask(proxy, "fallback", model="cheap", max_tokens=1)
                return proxy.metric("farthing_breaker_open", model="cheap") == 1

            eventually(opens, "a model that is passed over", within_s=20)
            told, row = foretold(proxy, "fallback"), proxy.row_of(ask(proxy, "fallback"))
            assert told["model"] == "premium" == row["routed_model"]
            assert [attempt["model"] for attempt in row["attempts"]] == ["premium"]
            assert told["ceiling_usd"] * 1e9 == pytest.approx(row["held_nusd"])
