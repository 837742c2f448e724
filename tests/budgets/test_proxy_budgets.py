"""Budgets and rates as a caller meets them: a proxy in front of simulated providers, over real sockets."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from proxy import Proxy, ServeProcess, eventually, running_proxy
from redis_server import PROGRAMS, RedisServer, running_redis

from budgets.conftest import flush
from router.providers.simulated import SimulatedProvider
from router.web.log import SELDOM_S

ACCOUNTS = {"team": "fk-team", "slow": "fk-slow", "wordy": "fk-wordy"}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def files(url: str) -> dict[str, str]:
    return {
        "models": f"""
models:
  cheap: {{target: openai/gpt-4o-mini, base_url: "{url}"}}
  spare: {{target: openai/gpt-4.1-mini, base_url: "{url}"}}
  dear: {{target: openai/gpt-4o, base_url: "{url}", limits: {{requests_per_minute: 2}}}}
""",
        "accounts": f"""
accounts:
  team: {{keys: ["sha256:{digest("fk-team")}"]}}
  slow: {{keys: ["sha256:{digest("fk-slow")}"], limits: {{requests_per_minute: 3}}}}
  wordy: {{keys: ["sha256:{digest("fk-wordy")}"], limits: {{tokens_per_minute: 400}}}}
""",
        "default": "task: default\nroute: [{use: cheap}]\n",
        "soft": "task: soft\nbudget: {per_day_usd: 0.000001, on_exceeded: warn}\nroute: [{use: cheap}]\n",
        "roomy": "task: roomy\nbudget: {per_day_usd: 0.008, on_exceeded: warn}\nroute: [{use: cheap}]\n",
        "hourly": "task: hourly\nbudget: {per_hour_usd: 0.0005}\nroute: [{use: cheap}]\n",
        "busy": "task: busy\nbudget: {per_day_usd: 100}\nroute: [{use: cheap}]\n",
        "limited": "task: limited\nroute: [{use: [dear, cheap]}]\n",
        "again": "task: again\nroute: [{use: [cheap, spare]}]\n",
        "only": "task: only\nroute: [{use: dear}]\n",
        "usual": "task: usual\nbudget: {per_day_usd: 0.02, hold: expected}\nroute: [{use: cheap}]\n",
    }


@pytest.fixture
def proxy(budgets_url: str, provider: SimulatedProvider, tmp_path: Path) -> Iterator[Proxy]:
    with running_proxy(tmp_path, files(provider.base_url), settings={"budgets_url": budgets_url}) as running:
        yield running


def ask(proxy: Proxy, task: str, *, account: str = "team", max_tokens: int = 20) -> httpx.Response:
    headers = {"authorization": f"Bearer {ACCOUNTS[account]}", "x-farthing-task": task}
    return proxy.ask("Hello", headers=headers, max_tokens=max_tokens)


def test_a_soft_budget_warns_and_refuses_nothing(proxy: Proxy) -> None:
    first = ask(proxy, "soft")
    assert first.status_code == 200
    assert "x-farthing-budget-warning" not in first.headers, "nothing was spent before it"
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "its settlement")
    for _ in range(3):
        answer = ask(proxy, "soft")
        assert answer.status_code == 200
        assert "the day's budget of the task 'soft' ($0.000001) is at " in answer.headers["x-farthing-budget-warning"]
    labels = {"scope": "task", "name": "soft", "window": "day"}
    assert proxy.metric("farthing_budget_warnings_total", **labels) == 3
    assert proxy.metric("farthing_budget_spent_usd", **labels) > 0.000001
    assert "x-farthing-budget-warning" not in ask(proxy, "default").headers


def test_a_stream_warns_as_well(proxy: Proxy) -> None:
    ask(proxy, "soft")
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "its settlement")
    headers = {"authorization": "Bearer fk-team", "x-farthing-task": "soft"}
    answer = proxy.ask("Hello", headers=headers, max_tokens=20, stream=True)
    assert "x-farthing-budget-warning" in answer.headers


def test_a_soft_budget_does_not_warn_of_what_answers_may_cost(proxy: Proxy) -> None:
    for _ in range(2):
        answer = ask(proxy, "roomy", max_tokens=16_000)
        assert answer.status_code == 200
        assert proxy.row_of(answer)["held_nusd"] > 8_000_000, "more than the day has"
        assert "x-farthing-budget-warning" not in answer.headers
    assert proxy.metric("farthing_budget_warnings_total") == 0


def test_a_soft_budget_warns_while_each_replica_spends_its_share(provider: SimulatedProvider, tmp_path: Path) -> None:
    with running_redis() as server:
        given = {"budgets_url": server.url, "budgets_on_outage": "local", "replicas": 2}
        with running_proxy(tmp_path, files(provider.base_url), settings=given) as proxy:
            ask(proxy, "soft")
            eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "its settlement")
            told = ask(proxy, "soft").headers["x-farthing-budget-warning"]
            server.kill()
            meanwhile = ask(proxy, "soft")
            assert meanwhile.status_code == 200
            assert meanwhile.headers["x-farthing-budget-warning"].startswith(told.partition(" is at ")[0])


def test_an_account_that_calls_too_fast_is_told_when_it_may_call_again(proxy: Proxy) -> None:
    answers = [ask(proxy, "default", account="slow") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    error = answers[-1].json()["error"]
    assert (error["code"], error["type"]) == ("rate_limited", "rate_limit_error")
    assert "3 requests a minute of the account 'slow'" in error["message"]
    assert 0 < int(answers[-1].headers["retry-after-ms"]) <= 20_000
    assert int(answers[-1].headers["retry-after"]) == -(-int(answers[-1].headers["retry-after-ms"]) // 1000)
    assert "x-should-retry" not in answers[-1].headers
    assert proxy.metric("farthing_refusals_total", reason="rate_limited") == 1
    assert proxy.row_of(answers[-1])["charged_nusd"] == 0
    assert ask(proxy, "default").status_code == 200


def test_ratings_are_bounded_as_requests_are_and_take_nothing_of_these(proxy: Proxy) -> None:
    def rate(request_id: str, account: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {ACCOUNTS[account]}"}
        return proxy.http.post("/v1/feedback", json={"request_id": request_id, "score": 1}, headers=headers)

    answers = [ask(proxy, "default", account="slow") for _ in range(2)]
    request_id = answers[0].headers["x-farthing-request-id"]
    ratings = [rate(request_id, "slow") for _ in range(4)]
    assert [rating.status_code for rating in ratings] == [200, 200, 200, 429]
    error = ratings[-1].json()["error"]
    assert error["code"] == "rate_limited"
    assert "3 ratings a minute of the account 'slow'" in error["message"]
    assert 0 < int(ratings[-1].headers["retry-after-ms"]) <= 20_000
    assert ask(proxy, "default", account="slow").status_code == 200
    assert proxy.metric("farthing_unsettled_holds") == 0
    unlimited = ask(proxy, "default").headers["x-farthing-request-id"]
    assert [rate(unlimited, "team").status_code for _ in range(6)] == [200] * 6


def test_a_request_counts_once_with_its_account_however_often_it_is_tried(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.queue("malformed", model="gpt-4o-mini")
    answers = [ask(proxy, "again", account="slow") for _ in range(4)]
    assert answers[0].headers["x-farthing-attempts"] == "2"
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


def test_tokens_that_were_not_used_may_be_used_by_the_next_request(proxy: Proxy) -> None:
    # 20 tokens of output at the most and few of input: were each debited at 256 of output, two would be too many.
    answers = [ask(proxy, "default", account="wordy") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    answer = ask(proxy, "default", account="wordy", max_tokens=1000)
    assert answer.status_code in (200, 429)
    assert ask(proxy, "default", account="wordy", max_tokens=1000).status_code == 429


def test_tokens_that_were_sent_are_used_as_well(proxy: Proxy) -> None:
    headers = {"authorization": f"Bearer {ACCOUNTS['wordy']}"}
    answers = [proxy.ask("word " * 150, headers=headers, max_tokens=20) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_a_model_that_is_called_too_fast_is_left_out(proxy: Proxy) -> None:
    models = [ask(proxy, "limited").headers["x-farthing-model"] for _ in range(4)]
    assert models == ["dear", "dear", "cheap", "cheap"]
    refused = ask(proxy, "only")
    assert refused.status_code == 429
    assert "2 requests a minute of the model 'dear'" in refused.json()["error"]["message"]


def test_an_hours_budget_refuses_what_does_not_fit_it(proxy: Proxy) -> None:
    statuses = []
    for _ in range(60):
        statuses.append(ask(proxy, "hourly", max_tokens=100).status_code)
        if statuses[-1] != 200:
            break
    assert statuses[-1] == 402
    assert len(statuses) > 3
    left = proxy.metric("farthing_budget_remaining_usd", scope="task", name="hourly", window="hour")
    assert 0 <= left < 0.0005


def test_what_is_usual_is_held_once_twenty_answers_are_known(proxy: Proxy) -> None:
    # An answer of 16,384 tokens may cost almost a cent, so that two of them fill the budget.
    first = proxy.row_of(ask(proxy, "usual", max_tokens=16_000))
    assert first["held_nusd"] > 9_000_000
    for _ in range(20):
        assert ask(proxy, "usual", max_tokens=20).status_code == 200
    answer = ask(proxy, "usual", max_tokens=16_000)
    row = proxy.row_of(answer)
    assert row["held_nusd"] < 1_000_000
    assert row["over_budget_nusd"] == 0
    with ThreadPoolExecutor(8) as callers:
        statuses = list(callers.map(lambda _: ask(proxy, "usual", max_tokens=16_000).status_code, range(8)))
    assert statuses == [200] * 8
    assert proxy.metric("farthing_budget_held_usd", scope="task", name="usual") == 0


def test_what_budgets_and_ledger_say_is_equal_to_the_nano_dollar(proxy: Proxy) -> None:
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda _: ask(proxy, "hourly", max_tokens=50), range(40)))
    rows = [row for row in proxy.rows() if row["task"] == "hourly"]
    labels = {"scope": "task", "name": "hourly", "window": "hour"}
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "every settlement")
    assert proxy.metric_nusd("farthing_budget_spent_usd", **labels) == sum(row["charged_nusd"] for row in rows)
    assert proxy.metric_nusd("farthing_budget_held_usd", **labels) == 0


@pytest.fixture
def outage(provider: SimulatedProvider, tmp_path: Path) -> Iterator[tuple[Proxy, RedisServer]]:
    """A proxy on a Redis that a test may stop and empty."""
    with (
        running_redis() as server,
        running_proxy(tmp_path, files(provider.base_url), settings={"budgets_url": server.url}) as running,
    ):
        yield running, server


def test_while_redis_is_away_a_budget_is_refused_and_by_itself_served_again(outage: tuple[Proxy, RedisServer]) -> None:
    proxy, server = outage
    assert ask(proxy, "hourly").status_code == 200
    server.kill()
    refused = ask(proxy, "hourly")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "store_unavailable"
    away = "The store of budgets can't be reached now (no connection); the proxy's log says more."
    assert refused.json()["error"]["message"] == away
    ready = proxy.http.get("/health/ready")
    assert (ready.status_code, ready.json()["degraded"]) == (200, f"{away} Holds are refused.")
    assert refused.elapsed.total_seconds() < 2.0
    assert ask(proxy, "default").status_code == 200, "nothing limits this one, so it needs no store"
    server.start()
    eventually(lambda: ask(proxy, "hourly").status_code == 200, "an answer")
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "every settlement")
    assert "degraded" not in proxy.http.get("/health/ready").json()
    assert proxy.metric("farthing_budget_rebuilds_total") == 1
    rows = [row for row in proxy.rows() if row["task"] == "hourly"]
    spent = proxy.metric_nusd("farthing_budget_spent_usd", scope="task", name="hourly", window="hour")
    assert spent == sum(row["charged_nusd"] for row in rows)


def test_a_redis_that_hangs_is_away_as_one_that_is_gone(outage: tuple[Proxy, RedisServer]) -> None:
    proxy, server = outage
    assert ask(proxy, "hourly").status_code == 200
    assert server.child is not None
    server.child.send_signal(signal.SIGSTOP)
    try:
        away = "The store of budgets can't be reached now (no answer in time); the proxy's log says more."
        for _ in range(2):
            refused = ask(proxy, "hourly")
            assert (refused.status_code, refused.json()["error"]["message"]) == (503, away)
            assert refused.elapsed.total_seconds() < 2.5
        assert proxy.http.get("/health/ready").json()["degraded"] == f"{away} Holds are refused."
    finally:
        server.child.send_signal(signal.SIGCONT)
    eventually(lambda: ask(proxy, "hourly").status_code == 200, "an answer")


@pytest.mark.parametrize("fault", ["out of memory", "a replica"])
@pytest.mark.parametrize(("on_outage", "status"), [("closed", 503), ("local", 200)])
@pytest.mark.parametrize("version", PROGRAMS)
def test_a_redis_that_answers_and_takes_no_writes_is_away(
    provider: SimulatedProvider, tmp_path: Path, fault: str, on_outage: str, status: int, version: str
) -> None:
    given = {"budgets_on_outage": on_outage}
    with (
        running_redis(version) as server,
        running_proxy(tmp_path, files(provider.base_url), settings={"budgets_url": server.url, **given}) as proxy,
        redis.Redis(port=server.port) as client,
    ):
        assert ask(proxy, "hourly").status_code == 200
        eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "every settlement")
        if fault == "out of memory":
            client.config_set("maxmemory", 1)
        else:
            client.replicaof("127.0.0.1", 1)
        for _ in range(3):
            assert ask(proxy, "hourly").status_code == status
        dry = {"authorization": f"Bearer {ACCOUNTS['team']}", "x-farthing-task": "hourly", "x-farthing-dry-run": "true"}
        assert proxy.ask(headers=dry).status_code == status
        assert "(it takes no writes)" in proxy.http.get("/health/ready").json()["degraded"]
        client.config_set("maxmemory", 0)
        client.replicaof("NO", "ONE")
        eventually(lambda: "degraded" not in proxy.http.get("/health/ready").json(), "a Redis that is back")
        assert ask(proxy, "hourly").status_code == 200
        eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "every settlement")
        spent = proxy.metric_nusd("farthing_budget_spent_usd", scope="task", name="hourly", window="hour")
        assert spent == sum(row["charged_nusd"] for row in proxy.rows() if row["task"] == "hourly")


def logged_through_an_outage(
    folder: Path, url: str, calls: int, *options: str
) -> tuple[list[str], list[dict[str, Any]]]:
    """Have calls refused for a Redis that is away, half of them while planning; return their ids, and the log."""
    by_money = "when: {budget_used_pct: {lt: 90}}"
    policies = {
        "models": f'models:\n  cheap: {{target: openai/gpt-4o-mini, base_url: "{url}"}}\n',
        "held": "task: held\nbudget: {per_hour_usd: 1}\nroute: [{use: cheap}]\n",
        "planned": f"task: planned\nbudget: {{per_hour_usd: 1}}\nroute: [{{{by_money}, use: cheap}}, {{use: cheap}}]\n",
    }
    refused = []
    with running_redis() as server:
        given = ("--budgets-url", server.url, "--simulate", "never", *options)
        with ServeProcess(folder, policies, *given) as process:
            proxy = process.ready()
            assert proxy.ask(headers={"x-farthing-task": "held"}, max_tokens=3).status_code == 200
            server.kill()
            for _ in range(calls // 2):
                for task in ("held", "planned"):
                    answer = proxy.ask(headers={"x-farthing-task": task}, max_tokens=3)
                    assert answer.status_code == 503
                    refused.append(answer.headers["x-farthing-request-id"])
            server.start()
            again = {"x-farthing-task": "planned"}
            eventually(lambda: proxy.ask(headers=again, max_tokens=3).status_code == 200, "an answer")
            process.kill()
            assert process.child.stderr is not None
            return refused, [json.loads(line) for line in process.child.stderr]


def test_an_outage_is_a_few_lines_of_the_log_however_many_calls_it_refuses(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    began = time.monotonic()
    refused, lines = logged_through_an_outage(tmp_path, provider.base_url, 100)
    windows = 1 + int((time.monotonic() - began) / SELDOM_S)
    away = [line for line in lines if line["logger"] == "farthing.budgets"]
    assert ["away: ConnectionError" in away[0]["message"], "is back" in away[-1]["message"]] == [True, True]
    told = [line for line in lines if line["logger"] == "farthing.refused"]
    assert told[0]["request_id"] == refused[0]
    assert "127.0.0.1" in told[0]["message"]
    assert 1 <= len(told) <= windows
    assert len(lines) <= len(told) + 3


def test_at_info_every_call_that_an_outage_refuses_is_in_the_log_by_its_id(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    refused, lines = logged_through_an_outage(tmp_path, provider.base_url, 20, "--log-level", "info")
    told = [line for line in lines if line["logger"] == "farthing.refused"]
    assert {line["request_id"] for line in told} >= set(refused)
    assert all("The store of budgets is away" in line["message"] for line in told)


def test_redis_emptied_under_load_is_rebuilt_from_the_ledger(outage: tuple[Proxy, RedisServer]) -> None:
    proxy, server = outage
    with ThreadPoolExecutor(8) as callers:
        asking = [callers.submit(ask, proxy, "busy") for _ in range(400)]
        for number in (50, 150, 250):
            asking[number].result()
            flush(server)
        statuses = [each.result().status_code for each in asking]
    assert set(statuses) == {200}
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "every settlement")
    spent = proxy.metric_nusd("farthing_budget_spent_usd", scope="task", name="busy", window="day")
    assert proxy.metric("farthing_budget_rebuilds_total") == 3
    assert spent == sum(row["charged_nusd"] for row in proxy.rows())
    assert proxy.metric_nusd("farthing_budget_held_usd", scope="task", name="busy", window="day") == 0


def test_what_a_proxy_spent_is_in_the_next_ones_budgets(provider: SimulatedProvider, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files(provider.base_url)) as first:
        ask(first, "hourly")
        spent = sum(row["charged_nusd"] for row in first.rows())
    labels = {"scope": "task", "name": "hourly", "window": "hour"}
    with running_redis() as server:
        for url in ("memory://", server.url):
            with running_proxy(tmp_path, files(provider.base_url), settings={"budgets_url": url}) as second:
                assert second.metric_nusd("farthing_budget_spent_usd", **labels) == spent > 0
                assert second.metric("farthing_budget_rebuilds_total") == 0


def test_a_second_proxy_whose_budgets_are_its_own_says_so(
    proxy: Proxy, budgets_url: str, provider: SimulatedProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_proxy(tmp_path, files(provider.base_url), settings={"budgets_url": budgets_url}):
        told = [each.getMessage() for each in caplog.records if "Another proxy" in each.getMessage()]
    assert len(told) == (budgets_url == "memory://")
    assert all(str(proxy.ledger) in each and "--budgets-url redis://" in each for each in told)
