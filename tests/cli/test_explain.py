"""`explain`: the same decision as the proxy's dry run, in words and as JSON, with no call made."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy

from cli.running import Run
from router.policy.record import PRIVATE
from router.policy.vocabulary import FACTS


def _written(folder: Path, request: object) -> Path:
    file = folder / "request.json"
    file.write_text(request if isinstance(request, str) else json.dumps(request))
    return file


def test_explain_answers_what_the_dry_run_of_a_proxy_answers(proxy: Proxy, process: Run, tmp_path: Path) -> None:
    body = {
        "model": "task:summarise",
        "messages": [
            {"role": "user", "content": "Fasse zusammen, was der Ausschuss am Dienstag über den Hafen beschlossen hat."}
        ],
        "max_tokens": 300,
        "n": 2,
    }
    asked = urllib.request.Request(
        f"{proxy.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"x-farthing-dry-run": "true", "x-farthing-budget-usd": "0.005", "content-type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=10) as response:
        dry: dict[str, Any] = json.load(response)
    ran = process("explain", "--json", "--budget-usd", "0.005", _written(tmp_path, body))
    assert ran.status == 0
    explained = ran.json
    # The budgets of a day have been drawn on by then, and an hour may have passed.
    for facts in (dry["facts"], explained["facts"]):
        for name in ("hour", "weekday", "budget_used_pct", "budget_remaining_usd"):
            facts.pop(name)
    assert explained == dry
    assert (explained["rule"], explained["model"], explained["budget_usd"]) == ("other-language", "standard", 0.005)


def test_plain_text_from_standard_input_is_one_user_message(farthing: Run, folder: Path) -> None:
    ran = farthing("explain", "--json", "--policies", folder, "-", stdin="Where is my parcel?\n")
    assert ran.status == 0
    assert ran.json["facts"]["messages"] == 1
    in_a_list = farthing(
        "explain", "--json", "--policies", folder, "-", stdin='[{"role":"user","content":"Where is my parcel?"}]'
    )
    assert in_a_list.json["facts"]["input_tokens"] == ran.json["facts"]["input_tokens"]
    assert in_a_list.json["candidates"] == ran.json["candidates"]


def test_the_table_says_why_each_rule_and_candidate(farthing: Run, folder: Path, tmp_path: Path) -> None:
    ran = farthing("explain", "--policies", folder, _written(tmp_path, "Hello there"))
    assert ran.status == 0
    assert "input_tokens > 1000: no" in ran.out
    assert "Task default, rule otherwise → cheap: about $0.000" in ran.out
    assert "\x1b[" not in ran.out, "no colour codes where it is no terminal"
    assert all(len(line.split("  ")) > 1 for line in ran.out.splitlines() if "tokens, clamped" in line)


def test_all_facts_are_worked_out_whatever_the_rules_look_at(farthing: Run, folder: Path, tmp_path: Path) -> None:
    asked = _written(tmp_path, "Was heisst das für mich und warum?\n```\ndef total(): pass\n```")
    (folder / "default.yaml").write_text(
        "task: default\nversion: 1\nbudget: {per_day_usd: 5}\nroute:\n  - {when: {stream: true}, use: premium}\n"
        "  - use: cheap\n"
    )
    explained = farthing("explain", "--json", "--policies", folder, asked).json
    facts = explained["facts"]
    assert (facts["language"], facts["has"]) == ("de", ["code"])
    assert (facts["budget_used_pct"], facts["budget_remaining_usd"]) == (0, 5)
    assert 0 <= facts["difficulty"] <= 1
    assert explained["difficulty"]["pushed_by"]
    assert {*FACTS} - {*facts} == PRIVATE


def test_the_table_shows_the_facts_that_are_told(farthing: Run, folder: Path, tmp_path: Path) -> None:
    told = farthing("explain", "--policies", folder, _written(tmp_path, "1 + 1")).out.split("rule ")[0]
    assert "input_tokens" in told
    assert re.search(r"^language +und$", told, re.MULTILINE), "no letter of it tells one"
    assert "max_output_tokens" not in told, "the caller set none"


def test_a_table_that_is_piped_has_each_row_on_a_line_without_padding(
    farthing: Run, folder: Path, tmp_path: Path
) -> None:
    out = farthing("explain", "--policies", folder, _written(tmp_path, "Hello there")).out
    assert [line for line in out.splitlines() if line != line.rstrip()] == []
    headings = [line for line in out.splitlines() if line.startswith(("fact ", "rule ", "candidate "))]
    assert [line.split()[-1] for line in headings] == ["value", "why", "why"]
    (row,) = (line for line in out.splitlines() if line.startswith("cheap "))
    assert "answers of up to" in row
    longest, reason = re.findall(r"\S+ tokens", row)
    assert longest == reason, "a number is written in one way"
    assert "," in longest


def test_a_named_model_is_pinned(farthing: Run, folder: Path, tmp_path: Path) -> None:
    explained = farthing("explain", "--json", "--model", "premium", "--policies", folder, _written(tmp_path, "Hi")).json
    assert (explained["rule"], explained["model"]) == ("pinned", "premium")


def test_a_refusal_is_an_answer_too(farthing: Run, folder: Path, tmp_path: Path) -> None:
    file = _written(tmp_path, "Hello")
    ran = farthing("explain", "--budget-usd", "0.0000001", "--policies", folder, file)
    assert ran.status == 0
    assert "refused (request_budget_exceeded)" in ran.out
    explained = farthing("explain", "--json", "--budget-usd", "0.0000001", "--policies", folder, file).json
    assert explained["model"] is None
    assert not any(candidate["fits"] for candidate in explained["candidates"])


def test_an_account_brings_its_own_limits(farthing: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "accounts.yaml").write_text(
        f'version: 1\naccounts:\n  web:\n    keys: ["sha256:{"0" * 64}"]\n    budget: {{per_request_usd: 0.002}}\n'
    )
    file = _written(tmp_path, "Hello")
    explained = farthing("explain", "--json", "--account", "web", "--policies", folder, file).json
    assert (explained["budget_usd"], explained["facts"]["account"]) == (0.002, "web")
    unknown = farthing("explain", "--account", "wbe", "--policies", folder, file)
    assert unknown.status == 2
    assert "There is: web." in " ".join(unknown.err.split())


@pytest.mark.parametrize(
    ("request_text", "status", "said"),
    [
        ('{"messages": [', 1, "begins like JSON"),
        ('{"model": "auto"}', 1, "`messages`"),
        ('{"model": "gtp-4", "messages": [{"role": "user", "content": "x"}]}', 1, "no model 'gtp-4'"),
        ("", 1, "is empty"),
        ("\n", 1, "is empty"),
        ("[" * 100_000, 0, ""),
        ('{"a":' * 100_000, 1, "nested too deeply"),
        ('[{"role": "user", "content": "\\ud800"}]', 1, "JSON"),
    ],
)
def test_a_request_that_is_none_is_told_in_one_line(
    farthing: Run, folder: Path, tmp_path: Path, request_text: str, status: int, said: str
) -> None:
    ran = farthing("explain", "--policies", folder, _written(tmp_path, request_text))
    assert ran.status == status
    assert said in ran.err
    assert len(ran.err.splitlines()) <= 1


def test_bytes_that_are_no_text_are_refused(farthing: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "junk"
    file.write_bytes(b"\xff\xfe\x00")
    assert farthing("explain", "--policies", folder, file).status == 1


@pytest.mark.parametrize(
    "wrong",
    [("--budget-usd", "much"), ("--budget-usd", "-1"), ("--header", "no colon"), ("--policies", "/nowhere")],
)
def test_a_wrong_option_is_bad_usage(farthing: Run, folder: Path, tmp_path: Path, wrong: tuple[str, str]) -> None:
    assert farthing("explain", "--policies", folder, *wrong, _written(tmp_path, "Hi")).status == 2


def test_a_missing_file_is_bad_usage(farthing: Run, folder: Path) -> None:
    ran = farthing("explain", "--policies", folder, folder / "nothing.json")
    assert ran.status == 2
    assert "No such file" in ran.err


def test_an_unused_day_bounds_a_request_and_is_said_to_be_taken_as_unused(
    farthing: Run, folder: Path, tmp_path: Path
) -> None:
    file = _written(tmp_path, "Hello")
    budget = "budget: {per_request_usd: 0.02, per_day_usd: 0.01}\n"
    (folder / "day.yaml").write_text(f"version: 1\ntask: day\n{budget}route: [{{use: premium}}]\n")
    explained = farthing("explain", "--json", "--task", "day", "--policies", folder, file).json
    assert (explained["model"], explained["budget_usd"]) == ("premium", 0.01)
    assert 0.0099 < explained["ceiling_usd"] <= 0.01
    said = farthing("explain", "--task", "day", "--policies", folder, file).out
    assert "the day's budget of the task 'day' ($0.01) leaves $0.01" in said
    assert "taken as unused here" in said


def test_nothing_is_said_of_unused_budgets_where_there_are_none(farthing: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "free.yaml").write_text("version: 1\ntask: free\nroute: [{use: cheap}]\n")
    said = farthing("explain", "--task", "free", "--policies", folder, _written(tmp_path, "Hello")).out
    assert "no budget limits it" in said
    assert "unused" not in said


@pytest.mark.parametrize(
    ("verify", "is_said"), [("agree: {with: premium}, escalate_to: premium", True), ("json: true", False)]
)
def test_the_table_says_that_its_estimates_leave_the_checks_out(
    farthing: Run, folder: Path, tmp_path: Path, verify: str, is_said: bool
) -> None:
    (folder / "twice.yaml").write_text(
        f"version: 1\ntask: twice\nroute: [{{use: cheap, verify: {{{verify}, buffer: true}}}}]\n"
    )
    asked = ("explain", "--policies", folder, "--task", "twice", _written(tmp_path, "Which gas do plants take in?"))
    explained, out = farthing(*asked, "--json").json, " ".join(farthing(*asked).out.split())
    [candidate] = explained["candidates"]
    assert (explained["estimate_usd"] > candidate["estimate_usd"]) is is_said
    assert ("The table's estimates are of an answer alone; its checks come on top" in out) is is_said
