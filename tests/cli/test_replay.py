"""`replay`: recorded traffic under other policies; under the very ones that made it, nothing changes to the nano."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from proxy import running_provider, running_proxy

from cli.running import Run, replayed

NEW_TEXT = "when: {text: {contains: parcel}}"


def test_the_policies_that_made_it_reproduce_every_decision_and_every_dollar(farthing: Run, day: str) -> None:
    report = replayed(farthing, day, "--policies", "policies")
    spent = farthing("spend", "--json", FARTHING_LEDGER_URL=day).json
    assert report["requests"] == spent["requests"] == 96
    assert report["changed_decisions"] == 0
    assert report["recorded_usd"] == report["replayed_usd"] == spent["total_usd"] > 0
    assert report["mix"] == report["mix_before"]
    assert report["limits_met"] == []
    assert sum(report["mix"].values()) == pytest.approx(1)
    assert report["refused"] == report["refused_before"] >= 2
    assert report["largest"] == []
    assert report["unknown"]["requests"] == 0, "conditions on text are recorded as what they came to"
    by_rule = farthing("spend", "--by", "rule", "--json", FARTHING_LEDGER_URL=day).json["rows"]
    assert "letter" in {row["rule"] for row in by_rule}, "the day has requests that a condition on text decides"


def test_all_to_premium_costs_more_and_moves_what_was_not_there(farthing: Run, day: str, edited: Path) -> None:
    text = (edited / "support.yaml").read_text()
    head, _, _ = text.partition("route:")
    (edited / "support.yaml").write_text(f"{head}route:\n  - use: premium\n")
    report = replayed(farthing, day, "--policies", edited)
    support = next(row for row in report["tasks"] if row["task"] == "support")
    assert 0 < report["changed_decisions"] == support["changed_decisions"]
    assert report["replayed_usd"] > report["recorded_usd"]
    assert support["mix"]["premium"] > 0.9, "all but those that name a model themselves"
    assert report["difference_usd"] == pytest.approx(report["replayed_usd"] - report["recorded_usd"], abs=1e-9)
    low, high = report["difference_interval_usd"]
    assert low < report["difference_usd"] < high
    assert report["quality_risk"] == {
        "requests": 0,
        "share": 0.0,
        "moves": [{"from": "routine", "to": "premium", "requests": support["changed_decisions"]}],
    }
    assert len(report["largest"]) == min(50, support["changed_decisions"])
    moved = [abs(move["replayed_usd"] - move["before_usd"]) for move in report["largest"]]
    assert moved == sorted(moved, reverse=True)


def test_tasks_are_replayed_alone(farthing: Run, day: str) -> None:
    whole = {row["task"]: row for row in replayed(farthing, day, "--policies", "policies")["tasks"]}
    both = replayed(farthing, day, "--policies", "policies", "--task", "support,code", "--task", "support")
    assert both["tasks"] == [whole["code"], whole["support"]]
    assert both["requests"] == whole["code"]["requests"] + whole["support"]["requests"] > 0
    ran = farthing("replay", "--ledger-url", day, "--task", "suport")
    assert ran.status == 2
    assert "The ledger has no request of the task 'suport'. It has: code," in " ".join(ran.err.replace("│", "").split())


def test_quality_at_risk_is_the_share_that_leaves_premium(farthing: Run, day: str, edited: Path) -> None:
    for file in edited.glob("*.yaml"):
        file.write_text(file.read_text().replace("use: premium", "use: cheap").replace("use: [premium, ", "use: ["))
    report = replayed(farthing, day, "--policies", edited)
    risk = report["quality_risk"]
    assert risk["requests"] > 0
    assert risk["share"] == risk["requests"] / 96
    assert risk["moves"] == [{"from": "premium", "to": "routine", "requests": risk["requests"]}]
    assert report["replayed_usd"] < report["recorded_usd"]


def test_a_price_that_changes_moves_money_and_no_decision(farthing: Run, day: str, edited: Path) -> None:
    models = (edited / "models.yaml").read_text()
    dearer = "  premium:\n    price: {input_usd_per_mtok: 4, cached_input_usd_per_mtok: 1, output_usd_per_mtok: 16}\n"
    (edited / "models.yaml").write_text(models.replace("  premium:\n", dearer))
    report = replayed(farthing, day, "--policies", edited)
    by_model = farthing("spend", "--by", "model", "--json", FARTHING_LEDGER_URL=day).json["rows"]
    premium_usd = next(row["cost_usd"] for row in by_model if row["model"] == "premium")
    kept = [move for move in report["largest"] if move["model_before"] == move["model"] == "premium"]
    assert kept
    assert all(move["replayed_usd"] == pytest.approx(2 * move["before_usd"], abs=1e-8) for move in kept)
    assert report["difference_usd"] <= premium_usd + 1e-7


def test_a_new_condition_on_text_is_told_as_not_known(farthing: Run, day: str, edited: Path) -> None:
    text = (edited / "default.yaml").read_text()
    rule = f"route:\n  - name: parcels\n    {NEW_TEXT}\n    use: premium\n"
    (edited / "default.yaml").write_text(text.replace("route:\n", rule))
    report = replayed(farthing, day, "--policies", edited)
    requests = next(row["requests"] for row in report["tasks"] if row["task"] == "default")
    assert report["unknown"] == {"requests": requests, "rules": {"default/parcels": requests}}
    assert report["changed_decisions"] == 0, "it is taken not to hold"
    ran = farthing("replay", "--ledger-url", day, "--policies", edited)
    assert f"Not known: {requests} requests" in ran.out


def test_a_fact_that_was_not_worked_out_is_not_known(farthing: Run, day: str, edited: Path) -> None:
    text = (edited / "extract.yaml").read_text()
    rule = "route:\n  - name: german\n    when: {language: de, input_tokens: {gte: 1}}\n    use: premium\n"
    (edited / "extract.yaml").write_text(text.replace("route:\n", rule))
    report = replayed(farthing, day, "--policies", edited)
    assert set(report["unknown"]["rules"]) == {"extract/german"}
    text = text.replace("route:\n", rule.replace("gte: 1}", "gte: 500000}"))
    (edited / "extract.yaml").write_text(text)
    report = replayed(farthing, day, "--policies", edited)
    assert report["unknown"]["requests"] == 0, "what holds whatever the language was is known"


@pytest.mark.parametrize(
    "rules",
    [
        "  - name: hard\n    when: {difficulty: {gte: 0.7}}\n    use: premium\n  - {name: easy, use: cheap}\n",
        "  - {name: hard, use: [cheap, premium], premium_share: 0.3}\n",
    ],
)
def test_a_difficulty_that_was_not_worked_out_is_evenly_spread(
    farthing: Run, day: str, edited: Path, rules: str
) -> None:
    head, _, _ = (edited / "extract.yaml").read_text().partition("route:")
    (edited / "extract.yaml").write_text(f"{head}route:\n{rules}")
    report = replayed(farthing, day, "--policies", edited)
    extract = next(row for row in report["tasks"] if row["task"] == "extract")
    routed = extract["requests"] - extract["refused"]
    assert extract["mix"]["premium"] == pytest.approx(0.3, abs=1.5 / routed)
    assert set(report["spread"]["rules"]) == {"extract/hard"}
    assert report["unknown"]["requests"] == 0
    ran = farthing("replay", "--ledger-url", day, "--policies", edited)
    assert f"Assumed: the difficulty of {report['spread']['requests']} requests was not recorded" in ran.out
    again = replayed(farthing, day, "--policies", edited, "--against", edited)
    assert (again["changed_decisions"], again["difference_usd"]) == (0, 0), "a request has one place under both"
    head, _, _ = (edited / "extract.yaml").read_text().partition("route:")
    (edited / "extract.yaml").write_text(f"{head}route:\n  - use: cheap\n")
    assert replayed(farthing, day, "--policies", edited)["spread"] == {"requests": 0, "rules": {}}


def test_against_compares_two_folders(farthing: Run, day: str, edited: Path) -> None:
    text = (edited / "summarise.yaml").read_text()
    head, _, _ = text.partition("route:")
    (edited / "summarise.yaml").write_text(f"{head}route:\n  - use: premium\n")
    ledger = replayed(farthing, day, "--policies", edited)
    forth = replayed(farthing, day, "--policies", edited, "--against", "policies")
    back = replayed(farthing, day, "--policies", "policies", "--against", edited)
    assert (forth["before_usd"], forth["replayed_usd"]) == (ledger["recorded_usd"], ledger["replayed_usd"])
    assert (back["before_usd"], back["replayed_usd"]) == (forth["replayed_usd"], forth["before_usd"])
    assert back["changed_decisions"] == forth["changed_decisions"] > 0
    assert (back["mix"], back["mix_before"]) == (forth["mix_before"], forth["mix"])


def test_markdown_is_a_comment_for_a_pull_request(farthing: Run, day: str, edited: Path) -> None:
    text = (edited / "summarise.yaml").read_text()
    head, _, _ = text.partition("route:")
    (edited / "summarise.yaml").write_text(f"{head}route:\n  - use: premium\n")
    ran = farthing("replay", "--ledger-url", day, "--policies", edited, "--markdown")
    lines = ran.out.splitlines()
    assert lines[0] == f"### Replay of 96 requests: `{edited}` beside recorded"
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {8, 7}
    assert "<details>" in ran.out


def test_since_leaves_out_what_is_older(farthing: Run, day: str) -> None:
    assert replayed(farthing, day, "--policies", "policies", "--since", "2999-01-01")["requests"] == 0
    assert replayed(farthing, day, "--policies", "policies", "--since", "1h")["requests"] == 96
    ran = farthing("replay", "--ledger-url", day, "--policies", "policies", "--since", "2999-01-01")
    assert "Nothing was recorded" in ran.out


def test_escalations_failures_and_pins_stand_as_they_were(farthing: Run, tmp_path: Path) -> None:
    files = {
        "models": "models:\n  cheap: {target: openai/gpt-4.1-nano, retries: 0}\n"
        "  premium: {target: openai/gpt-4.1, kind: premium, retries: 0}\n"
        "  odd: {target: openai/gpt-4.1-mini, retries: 0}\n",
        "default": "task: default\nbudget: {per_request_usd: 0.01}\nroute:\n"
        "  - {use: cheap, verify: {json: true, escalate_to: premium}}\n",
        "backed": "task: backed\nmatch: {models: [gpt-9]}\nroute:\n  - use: [odd, cheap]\n",
    }
    with running_provider() as provider, running_proxy(tmp_path, files, simulated_url=provider.root_url) as proxy:
        assert proxy.ask(max_tokens=20).headers["x-farthing-model"] == "premium", "it is no JSON"
        assert proxy.ask(model="premium", max_tokens=7).headers["x-farthing-rule"] == "pinned"
        assert proxy.ask(headers={"x-farthing-budget-usd": "0.0000001"}).status_code == 402
        provider.faults.always("status=500", model="gpt-4.1-mini")
        assert proxy.ask(model="gpt-9", max_tokens=9).status_code == 200
        rows = proxy.rows()
    assert [row["outcome"] for row in rows] == ["answered", "answered", "refused", "answered"]
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    report = replayed(farthing, ledger, "--policies", tmp_path / "policies")
    assert report["changed_decisions"] == 0
    assert report["recorded_usd"] == report["replayed_usd"] == sum(row["charged_nusd"] for row in rows) / 1e9
    backed = (tmp_path / "policies" / "backed.yaml").read_text()
    (tmp_path / "policies" / "backed.yaml").write_text(backed.replace("gpt-9", "gpt-10"))
    (tmp_path / "policies" / "default.yaml").write_text(
        (tmp_path / "policies" / "default.yaml").read_text() + "match: {models: [gpt-9]}\n"
    )
    report = replayed(farthing, ledger, "--policies", tmp_path / "policies")
    assert report["changed_decisions"] == 1, "a request that named no task is claimed anew"


def test_models_are_there_as_they_were_and_not_as_they_are_here(
    farthing: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "models": "models:\n  cheap: {target: openai/gpt-4.1-nano}\n"
        '  there: {target: openai/a, base_url: "${THERE_URL}", price: free, optional: true}\n'
        '  away: {target: openai/b, base_url: "${AWAY_URL}", price: free, optional: true}\n',
        "default": "task: default\nroute: [{use: [away, there, cheap]}]\n",
    }
    with running_provider() as provider:
        monkeypatch.setenv("THERE_URL", f"{provider.root_url}/v1")
        with running_proxy(tmp_path, files, simulated_url=provider.root_url) as proxy:
            assert proxy.ask(max_tokens=3).headers["x-farthing-model"] == "there"
            assert proxy.rows()
    monkeypatch.delenv("THERE_URL")
    monkeypatch.setenv("AWAY_URL", "http://127.0.0.1:9/v1")
    report = replayed(farthing, f"sqlite:///{tmp_path / 'ledger.db'}", "--policies", tmp_path / "policies")
    assert (report["requests"], report["changed_decisions"]) == (1, 0)


def test_rows_of_before_and_corrections_stand_on_both_sides(farthing: Run, day: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(day.removeprefix("sqlite:///"))) as source, closing(sqlite3.connect(copy)) as db:
        source.backup(db)
        db.execute("UPDATE requests SET facts = json_remove(facts, '$.first_model')")
        db.execute("UPDATE requests SET facts = 'nonsense' WHERE rowid = (SELECT min(rowid) FROM requests)")
        db.commit()
        (first_id,) = db.execute("SELECT id FROM requests WHERE outcome = 'answered' LIMIT 1").fetchone()
    ledger = f"sqlite:///{copy}"
    correct = farthing("spend", "--correct", first_id, "--usd", "1.5", "--note", "bill", FARTHING_LEDGER_URL=ledger)
    assert correct.status == 0, correct.err
    report = replayed(farthing, ledger, "--policies", "policies")
    assert (report["requests"], report["unreadable"]) == (95, 1)
    assert report["recorded_usd"] == report["replayed_usd"] > 1.4
    assert report["recorded_usd"] == farthing("spend", "--json", FARTHING_LEDGER_URL=ledger).json["total_usd"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--json", "--markdown"), "not both"),
        (("--since", "yesterday"), "is no time"),
        (("--against", "/nowhere"), "no folder"),
    ],
)
def test_a_wrong_option_is_bad_usage(farthing: Run, folder: Path, options: tuple[str, ...], said: str) -> None:
    ran = farthing("replay", "--policies", folder, *options)
    assert ran.status == 2
    assert said in " ".join(ran.err.split())


def test_a_ledger_that_is_not_there_is_told_in_one_line(farthing: Run, folder: Path, tmp_path: Path) -> None:
    ran = farthing("replay", "--policies", folder, "--ledger-url", f"sqlite:///{tmp_path / 'none.db'}")
    assert ran.status == 1
    assert ran.err.startswith("farthing: There is no ledger at ")
    assert len(ran.err.splitlines()) == 1


def test_a_task_that_nobody_answers_has_no_model_in_its_mix(farthing: Run, day: str, edited: Path) -> None:
    text = (edited / "support.yaml").read_text()
    head, _, _ = text.partition("budget:")
    poor = "budget: {per_request_usd: 0.000000001, on_exceeded: reject}\nroute: [{use: premium}]\n"
    (edited / "support.yaml").write_text(head.partition("route:")[0] + poor)
    ran = farthing("replay", "--ledger-url", day, "--policies", edited)
    assert ran.status == 0, ran.err
    (row,) = (line for line in ran.out.splitlines() if line.startswith("support "))
    assert row.split()[-1] == "none"
