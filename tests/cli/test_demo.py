"""`demo`: a deterministic day of valid requests, sent through a real proxy, whose own ledger agrees with the sums."""

from __future__ import annotations

import json
import socket
from collections import Counter
from pathlib import Path

import pytest
from proxy import Proxy

from cli.running import Run, served
from router.chat import ChatBody
from router.cli.demo.send import Result
from router.cli.demo.tally import tallied
from router.cli.demo.traffic import Errand, day

TASKS = ("code", "default", "extract", "legal-drafting", "summarise", "support")
NAMES = ("auto", "cheap", "standard", "gpt-4o", "support-bot", *(f"task:{task}" for task in TASKS))


def test_the_same_seed_gives_the_same_day() -> None:
    assert day(TASKS, NAMES, 240, 1) == day(TASKS, NAMES, 240, 1)
    assert day(TASKS, NAMES, 240, 1) != day(TASKS, NAMES, 240, 2)


@pytest.mark.parametrize("requests", [1, 5, 6, 7, 30, 240, 241])
def test_a_day_has_just_as_many_requests_as_asked_for(requests: int) -> None:
    assert len(day(TASKS, NAMES, requests, 1)) == requests


def test_every_task_gets_some_known_or_not() -> None:
    errands = day(("default", "poetry", "support"), ("task:poetry",), 30, 3)
    assert Counter(errand.task for errand in errands).keys() == {"default", "poetry", "support"}


def test_every_request_is_valid_and_names_its_task() -> None:
    for errand in day(TASKS, NAMES, 500, 5):
        chat = ChatBody(errand.body).chat
        named = errand.headers.get("x-farthing-task") or chat.model.removeprefix("task:")
        claimed = {"gpt-4o": "default", "support-bot": "support", "auto": "default"}
        assert claimed.get(named, named) == errand.task
        assert bool(chat.stream) is errand.streamed


def _has(errands: list[Errand], what: str) -> bool:
    return any(what in json.dumps(json.loads(errand.body)) for errand in errands)


def test_a_day_is_varied() -> None:
    errands = day(TASKS, NAMES, 240, 1)
    for what in ("image_url", '"tools"', "tool_call_id", "json_schema", "json_object", "max_completion_tokens"):
        assert _has(errands, what), what
    assert _has(errands, "Paket")
    assert any("注文番号" in errand.body.decode("unicode_escape", "replace") for errand in errands)
    assert max(len(errand.body) for errand in errands) > 50_000
    assert min(len(errand.body) for errand in errands) < 300
    assert 60 < sum(errand.streamed for errand in errands) < 150
    assert sum(errand.headers.get("x-farthing-budget-usd") == "0.0000001" for errand in errands) == 15


def test_what_is_not_told_saves_nothing() -> None:
    by_task, total = tallied(
        [
            Result("b", "answered", "cheap", cost_nusd=10, baseline_nusd=None),
            Result("a", "answered", "cheap", cost_nusd=10, baseline_nusd=100),
            Result("a", "failed", code="upstream_error"),
            Result("a", "refused", code="request_budget_exceeded"),
        ]
    )
    assert [*by_task] == ["a", "b"]
    assert (total.requests, total.answered, total.refused, total.failed, total.untold) == (4, 2, 1, 1, 1)
    assert (total.cost_nusd, total.baseline_nusd, total.saved_nusd) == (20, 110, 90)


def test_the_demo_and_the_ledger_agree(proxy: Proxy, process: Run, farthing: Run) -> None:
    ran = process("demo", "--url", proxy.url, "--requests", "48", "--concurrency", "48", "--json")
    assert ran.status == 0, ran.err
    sums = ran.json
    assert (sums["requests"], sums["failed"]) == (48, 0)
    assert sums["refused"] == sums["codes"]["request_budget_exceeded"] >= 2
    assert sums["answered"] + sums["refused"] == 48
    assert {row["task"] for row in sums["rows"]} == set(TASKS)
    assert sums["baseline_usd"] > sums["total_usd"] > 0
    assert len(proxy.rows()) == 48
    spent = farthing("spend", "--by", "task", "--json", "--ledger-url", f"sqlite:///{proxy.ledger}").json
    assert (spent["requests"], spent["total_usd"]) == (48, sums["total_usd"])
    assert {row["task"]: row["cost_usd"] for row in spent["rows"]} == {
        row["task"]: row["cost_usd"] for row in sums["rows"]
    }


def test_the_table_shows_where_each_task_went(proxy: Proxy, farthing: Run) -> None:
    ran = farthing("demo", "--url", f"{proxy.url}/v1/", "--requests", "12", "--concurrency", "12", "--seed", "4")
    assert ran.status == 0, ran.out + ran.err
    assert all(task in ran.out for task in TASKS)
    assert "12 requests in " in ran.out
    assert "%" in ran.out
    assert ran.err == "", "no progress bar where it is no terminal"


def test_the_port_that_a_proxy_was_given_is_the_demos_too(proxy: Proxy, farthing: Run) -> None:
    port = str(proxy.port)
    ran = farthing("demo", "--requests", "1", "--json", FARTHING_PORT=port)
    assert (ran.status, ran.json["answered"] + ran.json["refused"]) == (0, 1), ran.err
    ran = farthing("demo", "--requests", "1", "--json", "--port", port, FARTHING_PORT="1")
    assert ran.status == 0, ran.err


def test_no_proxy_is_told_with_what_to_start(farthing: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ran = farthing("demo", "--url", f"http://127.0.0.1:{port}", "--requests", "3")
    assert (ran.status, ran.out) == (1, "")
    assert f"No proxy answers at http://127.0.0.1:{port}." in ran.err
    assert "make run" in ran.err


@pytest.mark.parametrize("url", ["not a url", "ftp://127.0.0.1", "http://"])
def test_a_url_that_is_none_is_told(farthing: Run, url: str) -> None:
    ran = farthing("demo", "--url", url)
    assert ran.status == 1
    assert "is not the URL of a proxy" in ran.err


def test_keys_are_asked_for_and_failures_are_told(farthing: Run, folder: Path) -> None:
    made = farthing("keys", "new", "--account", "demo", "--json").json
    (folder / "accounts.yaml").write_text(f'version: 1\naccounts:\n  demo: {{keys: ["{made["sha256"]}"]}}\n')
    # Nothing listens there, so every attempt fails at once.
    (folder / "models.yaml").write_text(
        "version: 1\nmodels:\n  cheap: {target: openai/gpt-4.1-nano, base_url: http://127.0.0.1:9/v1, retries: 0}\n"
        "  premium: {target: openai/gpt-4.1, base_url: http://127.0.0.1:9/v1, retries: 0}\n"
    )
    environ = {"FARTHING_LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}"}
    with served("--policies", str(folder), environ=environ) as url:
        keyless = farthing("demo", "--url", url)
        assert keyless.status == 1
        assert "--key" in keyless.err
        ran = farthing("demo", "--url", url, "--requests", "10", "--json", FARTHING_KEY=made["key"])
    assert ran.status == 1
    assert (ran.json["answered"], ran.json["failed"] + ran.json["refused"]) == (0, 10)
    assert ran.json["codes"]["upstream_unavailable"] == ran.json["failed"] > 0
