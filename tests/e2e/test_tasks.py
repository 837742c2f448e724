"""Which task a request belongs to and which model it gets; the dry run; policies that change while it runs."""

from __future__ import annotations

import hashlib
import shutil
from typing import Any

import pytest
from proxy import Proxy, eventually

from router.providers.simulated import SimulatedProvider

KEYS = {"alpha": "fk-alpha", "beta": "fk-beta"}
ACCOUNTS = "accounts:\n" + "".join(
    f'  {name}: {{keys: ["sha256:{hashlib.sha256(key.encode()).hexdigest()}"]}}\n' for name, key in KEYS.items()
)
TASKS = {
    "header": "task: header\nroute: [{name: by-header, use: cheap}]\n",
    "metadata": "task: metadata\nroute: [{name: by-metadata, use: cheap}]\n",
    "named": "task: named\nroute: [{name: by-model, use: cheap}]\n",
    "m-models": "task: m-models\nmatch: {models: [claimed, both]}\nroute: [{name: by-match, use: cheap}]\n",
    "m-headers": "task: m-headers\nmatch: {headers: {X-Team: Blue}}\nroute: [{name: by-match-header, use: cheap}]\n",
    "m-pair": "task: m-pair\nmatch: {models: [paired], accounts: [beta]}\nroute: [{name: by-pair, use: cheap}]\n",
    "n-accounts": "task: n-accounts\nmatch: {accounts: [beta]}\nroute: [{name: by-match-account, use: cheap}]\n",
    "rules": "task: rules\nbaseline: dear\nbudget: {per_request_usd: 0.05}\nroute:\n"
    "  - {name: tools, when: {has: tools}, use: dear}\n"
    "  - {name: long, when: {input_tokens: {gt: 100}}, use: [cheap, dear]}\n"
    "  - {name: loud, when: {metadata: {tone: {in: [loud, louder]}}}, use: dear}\n"
    "  - {name: wanted, when: {text: {matches: '(?i)parcel'}}, use: thinker}\n"
    "  - {name: streamed, when: {stream: true}, use: dear}\n"
    "  - {name: capped, when: {max_output_tokens: {lte: 10}}, use: dear}\n"
    "  - use: cheap\n",
}


@pytest.fixture(scope="module")
def more_files() -> dict[str, str]:
    return {**TASKS, "accounts": ACCOUNTS}


def ask(proxy: Proxy, *, by: str = "alpha", headers: dict[str, str] | None = None, **members: Any) -> Any:
    key = {"authorization": f"Bearer {KEYS[by]}"}
    return proxy.ask(**{"text": "Hello", "max_tokens": 12, **members}, headers={**key, **(headers or {})})


def task_of(proxy: Proxy, **asked: Any) -> str:
    answer = ask(proxy, **asked)
    assert answer.status_code == 200, answer.text
    row = proxy.row_of(answer)
    assert (row["task"], row["rule"]) == (answer.headers["x-farthing-task"], answer.headers["x-farthing-rule"])
    return str(row["task"])


HEADER = {"x-farthing-task": "header"}
METADATA = {"task": "metadata"}


@pytest.mark.parametrize(
    ("asked", "task"),
    [
        ({"headers": HEADER, "metadata": METADATA, "model": "task:named"}, "header"),
        ({"headers": HEADER, "model": "claimed"}, "header"),
        ({"metadata": METADATA, "model": "task:named"}, "metadata"),
        ({"metadata": METADATA, "model": "claimed", "headers": {"x-team": "Blue"}}, "metadata"),
        ({"model": "task:named", "headers": {"x-team": "Blue"}}, "named"),
        ({"model": "claimed"}, "m-models"),
        ({"model": "claimed", "headers": {"x-team": "Blue"}}, "m-headers"),
        ({"model": "claimed", "headers": {"x-team": "blue"}}, "m-models"),
        ({"model": "auto", "headers": {"x-team": "Blue"}}, "m-headers"),
        ({"model": "auto", "by": "beta"}, "n-accounts"),
        ({"model": "paired", "by": "beta"}, "m-pair"),
        ({"model": "gpt-4o", "by": "beta"}, "default"),
        ({"model": "gpt-4o"}, "default"),
        ({"model": "auto"}, "default"),
        ({"model": "auto", "metadata": {"other": "metadata"}}, "default"),
        ({"model": "auto", "metadata": None}, "default"),
    ],
)  # fmt: skip
def test_the_first_of_header_metadata_model_match_and_default_wins(
    proxy: Proxy, provider: SimulatedProvider, asked: dict[str, Any], task: str
) -> None:
    assert task_of(proxy, **asked) == task


def test_a_name_of_models_yaml_pins_that_model_whatever_the_task(proxy: Proxy, provider: SimulatedProvider) -> None:
    for headers in ({}, HEADER, {"x-farthing-task": "rules"}):
        answer = ask(proxy, model="dear", headers=headers)
        row = proxy.row_of(answer)
        assert (row["routed_model"], row["rule"], row["requested_model"]) == ("dear", "pinned", "dear")
        assert provider.calls[-1].body["model"] == "gpt-4o"


def test_a_pinned_model_is_still_bound_by_its_tasks_budget(proxy: Proxy, provider: SimulatedProvider) -> None:
    ask(proxy, model="dear", headers={"x-farthing-task": "rules"}, max_tokens=16_000)
    assert provider.calls[-1].body["max_tokens"] < 5_000


def test_an_unknown_model_is_a_404_that_lists_what_there_is(proxy: Proxy, provider: SimulatedProvider) -> None:
    for headers in ({}, HEADER):
        answer = ask(proxy, model="gpt-99", headers=headers)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        for name in ("gpt-99", "auto", "cheap", "dear", "task:header", "claimed", "gpt-4o"):
            assert name in error["message"]
    assert not provider.calls


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"headers": {"x-farthing-task": "heade"}}, "x-farthing-task"),
        ({"metadata": {"task": "metadat"}}, "metadata.task"),
        ({"model": "task:name"}, "model"),
    ],
)
def test_an_unknown_task_is_refused_with_what_was_meant(
    proxy: Proxy, provider: SimulatedProvider, asked: dict[str, Any], param: str
) -> None:
    answer = ask(proxy, **asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert {"header": "header", "metadata": "metadata", "named": "named"}.keys() & set(error["message"].split("'"))


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("asked", "rule", "model"),
    [
        ({"tools": [TOOL]}, "tools", "dear"),
        ({"text": "word " * 200}, "long", "cheap"),
        ({"metadata": {"tone": "louder"}}, "loud", "dear"),
        ({"metadata": {"tone": "quiet"}}, "otherwise", "cheap"),
        ({"text": "My PARCEL is late", "max_tokens": 300}, "wanted", "thinker"),
        ({"stream": True}, "streamed", "dear"),
        ({"max_tokens": 10}, "capped", "dear"),
        ({"max_tokens": 11}, "otherwise", "cheap"),
        ({"max_tokens": 11, "max_completion_tokens": None}, "otherwise", "cheap"),
    ],
)
def test_the_first_rule_that_holds_decides(
    proxy: Proxy, provider: SimulatedProvider, asked: dict[str, Any], rule: str, model: str
) -> None:
    answer = ask(proxy, headers={"x-farthing-task": "rules"}, **asked)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["x-farthing-rule"], answer.headers["x-farthing-model"]) == (rule, model)


def test_a_dry_run_explains_and_calls_nobody(proxy: Proxy, provider: SimulatedProvider) -> None:
    before = len(proxy.rows())
    headers = {"x-farthing-task": "rules", "x-farthing-dry-run": "true"}
    for stream in (False, True):
        answer = ask(proxy, text="word " * 200, headers=headers, stream=stream, max_tokens=100)
        explained = answer.json()
        assert explained.keys() >= {"task", "rule", "model", "estimate_usd", "budget_usd", "facts", "candidates"}
        assert (explained["task"], explained["rule"], explained["model"]) == ("rules", "long", "cheap")
        assert explained["budget_usd"] == 0.05
        tokens = explained["facts"]["input_tokens"]
        assert tokens > 200
        cheap, dear = explained["candidates"]
        assert cheap.keys() >= {"model", "fits", "ceiling_usd", "max_output_tokens", "reason"}
        assert (cheap["model"], dear["model"]) == ("cheap", "dear")
        assert (cheap["fits"], cheap["max_output_tokens"]) == (True, 100)
        assert cheap["ceiling_usd"] == round((tokens * 150 + 100 * 600) / 1e9, 9)
        assert explained["estimate_usd"] <= cheap["ceiling_usd"]
    assert not provider.calls
    assert len(proxy.rows()) == before


def test_a_dry_run_decides_as_the_request_itself_does(proxy: Proxy, provider: SimulatedProvider) -> None:
    for asked in ({"tools": [TOOL]}, {"text": "parcel", "max_tokens": 500}, {"model": "dear"}, {"n": 3}):
        headers = {"x-farthing-task": "rules", "x-farthing-budget-usd": "0.01"}
        explained = ask(proxy, headers={**headers, "x-farthing-dry-run": "true"}, **asked).json()
        row = proxy.row_of(ask(proxy, headers=headers, **asked))
        assert (explained["rule"], explained["model"]) == (row["rule"], row["routed_model"])
        assert round(explained["estimate_usd"] * 1e9) == row["estimated_nusd"]
        assert round(explained["candidates"][0]["ceiling_usd"] * 1e9) == row["held_nusd"]
        assert explained["facts"]["input_tokens"] == row["facts"]["input_tokens"]


def test_a_dry_run_of_what_would_be_refused_says_why(proxy: Proxy, provider: SimulatedProvider) -> None:
    headers = {"x-farthing-task": "rules", "x-farthing-dry-run": "true", "x-farthing-budget-usd": "0.0000001"}
    explained = ask(proxy, headers=headers).json()
    assert explained["model"] is None
    assert explained["refusal"]["code"] == "request_budget_exceeded"
    assert [candidate["fits"] for candidate in explained["candidates"]] == [False] * len(explained["candidates"])
    assert all("needs $" in candidate["reason"] for candidate in explained["candidates"])


def test_the_rows_hold_no_text_and_no_key(proxy: Proxy, provider: SimulatedProvider) -> None:
    secret = "xyzzy-secret-text"
    answer = ask(proxy, text=secret, metadata={"note": secret}, user=secret, headers={"x-note": secret})
    proxy.row_of(answer)
    files = list(proxy.ledger.parent.glob("ledger.db*"))
    assert files
    for file in files:
        data = file.read_bytes()
        assert secret.encode() not in data
        assert not any(key.encode() in data for key in KEYS.values())
    assert secret not in proxy.http.get("/metrics").text


def test_a_policy_that_changes_is_in_force_for_the_next_request(proxy: Proxy, provider: SimulatedProvider) -> None:
    proxy.rewrite(named="task: named\nroute: [{name: changed, use: dear}]\n")
    answer = ask(proxy, model="task:named")
    assert (answer.headers["x-farthing-rule"], answer.headers["x-farthing-model"]) == ("changed", "dear")
    proxy.rewrite(named=TASKS["named"])
    assert ask(proxy, model="task:named").headers["x-farthing-model"] == "cheap"
    assert ask(proxy, model="auto").status_code == 200


@pytest.mark.parametrize(
    "broken", ["task: named\nroute: [{use: no-such-model}]\n", "task: [\n", "", "\x00", "ruote: 5\n"]
)
def test_a_broken_edit_leaves_the_last_good_policies_running(
    proxy: Proxy, provider: SimulatedProvider, broken: str
) -> None:
    rejected = proxy.metric("farthing_policy_reloads_total", result="rejected")
    revision = proxy.http.get("/health/ready").json()["policy_revision"]
    proxy.rewrite(named=broken)
    assert proxy.metric("farthing_policy_reloads_total", result="rejected") == rejected + 1
    assert task_of(proxy, model="task:named") == "named"
    assert proxy.http.get("/health/ready").json()["policy_revision"] == revision
    assert proxy.metric("farthing_policy_info", revision=revision) == 1
    proxy.rewrite(named=TASKS["named"])


def test_a_folder_that_is_replaced_whole_is_read_again(proxy: Proxy, provider: SimulatedProvider) -> None:
    aside = proxy.policies.with_name("aside")
    proxy.policies.rename(aside)
    assert task_of(proxy, model="task:named") == "named"
    shutil.copytree(aside, proxy.policies)
    (proxy.policies / "named.yaml").write_text("version: 1\ntask: named\nroute: [{name: anew, use: dear}]\n")

    def anew() -> bool:
        return bool(ask(proxy, model="task:named").headers["x-farthing-rule"] == "anew")

    eventually(anew, "the new folder's policies in force")
