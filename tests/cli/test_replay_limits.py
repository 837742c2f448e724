"""`replay` within the budgets of hours, days and months that the new policies give."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from proxy import running_provider, running_proxy

from cli.running import Run, replayed

ACCOUNTS = "version: 1\nbudget: {%s}\n"


@pytest.fixture(scope="module")
def days(day: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same traffic on the two last days of March and the first of April, 32 requests each, from 10:00 on."""
    copy = tmp_path_factory.mktemp("days") / "ledger.db"
    with closing(sqlite3.connect(day.removeprefix("sqlite:///"))) as source, closing(sqlite3.connect(copy)) as db:
        source.backup(db)
        ids = [row[0] for row in db.execute("SELECT id FROM requests ORDER BY task, id")]
        for number in range(len(ids)):
            # Neighbours by task go to different days, so that each day has all tasks.
            date, minute = ("2026-03-30", "2026-03-31", "2026-04-01")[number % 3], number // 3
            at = f"{date}T10:{minute:02}:00.000000Z"
            db.execute("UPDATE requests SET at = ? WHERE id = ?", (at, ids[number]))
        db.commit()
    return f"sqlite:///{copy}"


def limited(edited: Path, task: str, limits: str, route: str = "") -> None:
    """Give a task no budget but these limits, and other rules where they are given."""
    file = edited / f"{task}.yaml"
    budget = f"budget: {{{limits}}}"
    text, given = re.subn(r"^budget:.*(?:\n .*)*", budget, file.read_text(), flags=re.MULTILINE)
    text = text if given else text.replace("route:", f"{budget}\nroute:", 1)
    file.write_text(f"{text.partition('route:')[0]}route:\n{route}" if route else text)


def of_task(report: Any, task: str) -> Any:
    return next(row for row in report["tasks"] if row["task"] == task)


def test_no_request_is_dearer_than_a_whole_day_may_be(farthing: Run, day: str, edited: Path) -> None:
    limited(edited, "code", "per_day_usd: 0.0001")
    report = replayed(farthing, day, "--policies", edited, "--task", "code")
    assert report["mix_before"].get("premium", 0) > 0
    assert "premium" not in report["mix"]
    assert report["changed_decisions"] > 0
    limited(edited, "code", "per_day_usd: 100")
    assert replayed(farthing, day, "--policies", edited, "--task", "code")["changed_decisions"] == 0


def test_what_comes_after_a_day_s_budget_is_refused(farthing: Run, days: str, edited: Path) -> None:
    limited(edited, "summarise", "per_hour_usd: 100, per_day_usd: 0.0004, on_exceeded: reject")
    limited(edited, "extract", "per_day_usd: 0.0001, on_exceeded: warn")
    report = replayed(farthing, days, "--policies", edited)
    task = of_task(report, "summarise")
    assert 0.0002 < task["replayed_usd"] / 3 <= 0.0004 < task["before_usd"] / 3
    assert 0 < task["refused"] < task["requests"]
    assert task["changed_decisions"] >= task["refused"]
    [met] = report["limits_met"]
    assert met["refused"] == report["refused"] - report["refused_before"] == task["refused"]
    assert met["requests"] >= met["refused"] + met["downgraded"]
    assert (met["scope"], met["name"], met["window"], met["limit_usd"]) == ("task", "summarise", "day", 0.0004)
    assert (met["windows"], met["reached"]) == (3, 3)
    assert of_task(report, "extract")["changed_decisions"] == 0, "a budget that only warns ends nothing"
    out = " ".join(farthing("replay", "--ledger-url", days, "--policies", edited).out.split())
    assert (
        "Limited: the day's budget of the task 'summarise' ($0.000400) had too little left in 3 of 3 days: of " in out
    )
    assert f"{met['refused']} be refused." in out


def test_a_month_s_budget_moves_what_comes_after_it_to_a_cheaper_model(farthing: Run, days: str, edited: Path) -> None:
    whole = replayed(farthing, days, "--policies", edited, "--task", "code")
    premium = "  - use: [premium, cheap]\n"
    limited(edited, "code", "per_month_usd: 0.02", premium)
    report = replayed(farthing, days, "--policies", edited, "--task", "code")
    [met] = report["limits_met"]
    assert (met["window"], met["windows"]) == ("month", 2), "March and April"
    assert met["downgraded"] > 0
    assert set(report["mix"]) >= {"premium", "cheap"}
    assert report["replayed_usd"] <= 2 * 0.02
    assert report["requests"] == whole["requests"]


def test_rules_see_what_the_replayed_requests_left(farthing: Run, days: str, edited: Path) -> None:
    rules = "  - name: early\n    when: {budget_used_pct: {lt: 50}, budget_remaining_usd: {gt: 0.01}}\n"
    rules += "    use: premium\n  - {name: late, use: cheap}\n"
    limited(edited, "code", "per_day_usd: 0.04", rules)
    report = replayed(farthing, days, "--policies", edited, "--task", "code")
    assert report["mix"].keys() == {"premium", "cheap"}
    assert report["unknown"]["requests"] == 0, "how full the budgets are is worked out, whatever was recorded"
    limited(edited, "code", "per_day_usd: 400", rules)
    assert replayed(farthing, days, "--policies", edited, "--task", "code")["mix"].keys() == {"premium"}


def test_the_budget_of_everything_counts_tasks_that_are_not_replayed(farthing: Run, days: str, edited: Path) -> None:
    whole = replayed(farthing, days, "--policies", edited)
    (edited / "accounts.yaml").write_text(ACCOUNTS % f"per_month_usd: {whole['recorded_usd'] / 4:.6f}")
    report = replayed(farthing, days, "--policies", edited, "--task", "summarise")
    assert report["requests"] == of_task(whole, "summarise")["requests"]
    [met] = report["limits_met"]
    assert (met["scope"], met["window"]) == ("global", "month")
    (edited / "code.yaml").unlink()
    assert replayed(farthing, days, "--policies", edited, "--task", "summarise")["limits_met"] == [met]
    assert replayed(farthing, days, "--policies", edited)["replayed_usd"] <= 2 * met["limit_usd"]


def test_the_part_of_a_window_before_since_counts_as_it_was_charged(farthing: Run, days: str, edited: Path) -> None:
    def refused(since: str) -> tuple[int, list[int]]:
        report = replayed(farthing, days, "--policies", edited, "--task", "summarise", "--since", since)
        return report["refused"], [met["windows"] for met in report["limits_met"]]

    ledger = days.removeprefix("sqlite:///")
    with closing(sqlite3.connect(ledger)) as db:
        query = "SELECT at, charged_nusd FROM requests WHERE task = 'summarise' AND at LIKE '2026-03-31%' ORDER BY at"
        rows = db.execute(query).fetchall()
    half = rows[len(rows) // 2][0]
    first_usd = sum(charged for at, charged in rows if at < half) / 1e9
    limited(edited, "summarise", f"per_day_usd: {first_usd:.9f}, on_exceeded: reject")
    of_next_day, _ = refused("2026-04-01")
    left = sum(at >= half for at, _ in rows)
    assert refused(half) == (left + of_next_day, [2]), "nothing is left of the day, and those before are not counted"
    limited(edited, "summarise", f"per_month_usd: {first_usd:.9f}, on_exceeded: reject")
    assert refused(half) == (left + of_next_day, [2])
    assert refused("2026-03-31T23:00") == (of_next_day, [1]), "a month that begins has all of its budget"


def test_requests_beside_each_other_meet_what_they_met_under_the_same_policies(farthing: Run, tmp_path: Path) -> None:
    files = {
        "models": "models:\n  premium: {target: openai/gpt-4.1, retries: 0}\n",
        "default": "task: default\nmin_output_tokens: 1000\nbudget: {per_day_usd: 0.012, on_exceeded: reject}\n"
        "route:\n  - use: premium\n",
    }
    with running_provider() as provider, running_proxy(tmp_path, files, simulated_url=provider.root_url) as proxy:
        provider.faults.always("silence=2", model="gpt-4.1")
        body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
        with proxy.http.stream("POST", "/v1/chat/completions", json=body | {"max_tokens": 1400}) as answer:
            assert answer.status_code == 200
            assert proxy.ask(max_tokens=1400).status_code == 402, "the one under way holds what is left"
        proxy.rows()
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    report = replayed(farthing, ledger, "--policies", tmp_path / "policies")
    assert (report["refused_before"], report["refused"], report["changed_decisions"]) == (1, 1, 0)
    assert report["recorded_usd"] == report["replayed_usd"]
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db, db:
        db.execute("UPDATE requests SET charged_nusd = charged_nusd + 1 WHERE charged_nusd > 0")
    report = replayed(farthing, ledger, "--policies", tmp_path / "policies")
    assert (report["refused_before"], report["refused"]) == (1, 0), "what was before it came to something else"
    file = tmp_path / "policies" / "default.yaml"
    file.write_text(file.read_text().replace("0.012", "0.0121"))
    report = replayed(farthing, ledger, "--policies", tmp_path / "policies")
    assert (report["refused_before"], report["refused"]) == (1, 0), "other policies are replayed one after another"
    options = ("replay", "--ledger-url", ledger, "--policies", tmp_path / "policies")
    assert "Assumed: one request after another. 1 request fewer" in farthing(*options).out
    assert "one request after another" not in farthing(*options, "--against", tmp_path / "policies").out
