"""`farthing evaluate`: cascades, whose checks are paid and judge the answers that the set has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from difficulty.labelled_sets import lines, write

from cli.evaluate.sets import CHECKED, evaluated
from cli.running import Run


def test_a_failed_check_escalates_and_both_are_paid(farthing: Run, folder: Path, tmp_path: Path) -> None:
    def row(answer: str) -> dict[str, Any]:
        cheap = {"quality": 0.0, "cost_usd": 0.01, "answer": answer}
        return {"prompt": "Give JSON", "outcomes": {"cheap": cheap, "premium": {"quality": 1.0, "cost_usd": 0.1}}}

    found = evaluated(farthing, write(tmp_path / "set.jsonl", [row("{}"), row("no")]), folder, task="checked")
    assert found["policy"] == {"quality": 0.5, "cost_usd": pytest.approx(0.12), "premium_share": 0.5}
    assert found["checks"] == {
        "n": 2, "passed": 0.5, "escalated": 0.5, "quality_if_passed": 0.0, "not_judged": [],
        "lines_not_judged": 0, "judge_calls": 0, "judge_usd": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "escalated"),
    [
        ("per_request_usd: 0.0003", 0),
        ("per_request_usd: 0.01", 1),
        ("per_day_usd: 0.1", 0),
        ("per_day_usd: 0.1, on_exceeded: warn", 1),
        ("per_day_usd: 10", 1),
        ("per_month_usd: 0.005", 1),  # the first answer is bound by it, and so what is left of it buys a short one
        ("per_request_usd: 0.01, per_month_usd: 0.02", 1),
    ],
)
def test_an_escalation_that_a_budget_does_not_buy_is_not_forecast(
    farthing: Run, folder: Path, tmp_path: Path, budget: str, escalated: int
) -> None:
    bounded = CHECKED.replace("task: checked", f"task: bounded\nbudget: {{{budget}}}")
    (folder / "bounded.yaml").write_text(bounded)
    cheap = {"quality": 0.0, "cost_usd": 0.00002, "answer": "no JSON"}
    row = {"prompt": "Give JSON", "outcomes": {"cheap": cheap, "premium": {"quality": 1.0, "cost_usd": 0.002}}}
    found = evaluated(farthing, write(tmp_path / "set.jsonl", [row]), folder, task="bounded")
    assert (found["checks"]["passed"], found["checks"]["escalated"]) == (0, escalated)
    assert found["policy"]["quality"] == escalated
    assert found["policy"]["cost_usd"] == pytest.approx(0.00002 + 0.002 * escalated)


def test_an_outcome_that_cost_more_than_a_request_may_is_told(farthing: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "bounded.yaml").write_text(
        CHECKED.replace("task: checked", "task: bounded\nbudget: {per_request_usd: 0.0034}")
    )
    # In floats, 0.0012 and 0.0022 are more than 0.0034.
    cheap = {"quality": 0.0, "cost_usd": 0.0012, "answer": "no JSON"}
    rows = [
        {"prompt": "Give JSON", "outcomes": {"cheap": cheap, "premium": {"quality": 1.0, "cost_usd": usd}}}
        for usd in (0.0022, 0.0023, 0.5)
    ]
    file = write(tmp_path / "set.jsonl", rows)
    assert evaluated(farthing, file, folder, task="bounded")["beyond_budget"] == 2
    assert evaluated(farthing, file, folder, task="checked")["beyond_budget"] == 0
    ran = farthing("evaluate", file, "--policies", folder, "--task", "bounded")
    assert "2 of them cost more in the set than a request may" in " ".join(ran.out.split())


PRICE = "{input_usd_per_mtok: 1, output_usd_per_mtok: 1}"


def agreeing(folder: Path, second: str) -> None:
    """Add a task whose cheap answers must agree with a second one."""
    (folder / "agreeing.yaml").write_text(
        "version: 1\ntask: agreeing\nbaseline: premium\nroute:\n  - use: cheap\n"
        f"    verify: {{agree: {{with: {second}, by: number}}, escalate_to: premium, buffer: false}}\n"
    )
    models = (folder / "models.yaml").read_text()
    (folder / "models.yaml").write_text(models + f"  second: {{target: openai/second, price: {PRICE}}}\n")


def agreement(first: str | None, second: str | None) -> dict[str, Any]:
    """Return a line with what two models answered to a sum whose result is 7; None where it was not written down."""
    outcomes: dict[str, dict[str, Any]] = {
        "cheap": {"quality": float(first == "7"), "cost_usd": 0.01},
        "second": {"quality": float(second == "7"), "cost_usd": 0.02},
        "premium": {"quality": 1.0, "cost_usd": 0.1, "answer": "7"},
    }
    for model, said in (("cheap", first), ("second", second)):
        if said is not None:
            outcomes[model]["answer"] = f"The answer is {said}."
    return {"prompt": "What is 3 + 4?", "outcomes": outcomes}


def test_a_cascade_by_agreement_pays_for_both_answers_and_escalates_where_they_differ(
    farthing: Run, folder: Path, tmp_path: Path
) -> None:
    agreeing(folder, "second")
    rows = [agreement("7", "7.0"), agreement("8", "7"), agreement("8", "8"), agreement("7", "9")]
    found = evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder, task="agreeing")
    assert found["policy"] == {"quality": 0.75, "cost_usd": pytest.approx(4 * 0.03 + 2 * 0.1), "premium_share": 0.5}
    assert found["checks"]["quality_if_passed"] == 0.5


def test_answers_that_were_not_written_down_are_no_disagreement(farthing: Run, folder: Path, tmp_path: Path) -> None:
    agreeing(folder, "second")
    rows = [agreement("8", "7"), agreement(None, "7"), agreement("8", None), agreement(None, None)]
    file = write(tmp_path / "set.jsonl", rows)
    found = evaluated(farthing, file, folder, task="agreeing")
    assert found["policy"]["cost_usd"] == pytest.approx(4 * 0.03 + 0.1)
    assert found["checks"]["escalated"] == 0.25
    assert (found["checks"]["not_judged"], found["checks"]["lines_not_judged"]) == (["agree"], 3)
    ran = farthing("evaluate", file, "--policies", folder, "--task", "agreeing")
    assert "Taken as passed on 3 of them, for the set can't tell: agree." in ran.out


@pytest.mark.parametrize("second", ["cheap", "second"])
def test_an_agreement_that_the_set_can_not_tell_is_paid_and_told(
    farthing: Run, folder: Path, tmp_path: Path, second: str
) -> None:
    # The set has one answer of each model, so not whether a model agrees with itself, or with one that is not there.
    agreeing(folder, second)
    row = agreement("8", None)
    del row["outcomes"]["second"]
    found = evaluated(farthing, write(tmp_path / "set.jsonl", [row]), folder, task="agreeing")
    # 14 tokens of the prompt and 256 that are expected of the answer, at a millionth of a dollar each.
    expected = 0.01 if second == "cheap" else 0.00027
    assert found["policy"]["cost_usd"] == pytest.approx(0.01 + expected, abs=1e-5)
    assert (found["checks"]["passed"], found["checks"]["not_judged"]) == (1, ["agree"])


def test_one_line_without_a_second_answer_does_not_make_all_untold(farthing: Run, folder: Path, tmp_path: Path) -> None:
    agreeing(folder, "second")
    rows = lines(60)
    for row in rows:
        row["outcomes"]["cheap"]["answer"] = "The answer is 1."
        row["outcomes"]["second"] = {"quality": 1.0, "cost_usd": 0.0001, "answer": "The answer is 2."}
    del rows[7]["outcomes"]["second"]
    found = evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder, task="agreeing")
    assert found["left_out"] == {"lines": 1, "first": 8, "model": "second"}
    assert found["checks"]["lines_not_judged"] == 0


def test_a_judge_is_paid_for_the_answers_that_come_to_it(farthing: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "judging.yaml").write_text(
        "version: 1\ntask: judging\nroute:\n  - use: cheap\n"
        "    verify: {json: true, judge: {model: premium, question: Good?}, escalate_to: premium, buffer: false}\n"
    )

    def row(answer: str) -> dict[str, Any]:
        cheap = {"quality": 1.0, "cost_usd": 0.01, "answer": answer}
        return {"prompt": "Give JSON", "outcomes": {"cheap": cheap, "premium": {"quality": 1.0, "cost_usd": 0.1}}}

    file = write(tmp_path / "set.jsonl", [row("{}"), row("[" + "1, " * 1000 + "1]"), row("no")])
    found = evaluated(farthing, file, folder, task="judging")
    checks = found["checks"]
    assert (checks["judge_calls"], checks["not_judged"]) == (2, ["judge"])
    # About 3,000 tokens of the longer answer, at ten millionths of a dollar; each call also has what a judge is told.
    assert 0.03 < checks["judge_usd"] < 0.04
    assert found["policy"]["cost_usd"] == pytest.approx(3 * 0.01 + 0.1 + checks["judge_usd"])
    assert "2 grades of a judge" in farthing("evaluate", file, "--policies", folder, "--task", "judging").out


def test_a_check_without_an_answer_to_hold_it_against_is_told(farthing: Run, folder: Path, tmp_path: Path) -> None:
    row = {"prompt": "Give JSON", "outcomes": {"cheap": {"quality": 0.0}, "premium": {"quality": 1.0}}}
    found = evaluated(farthing, write(tmp_path / "set.jsonl", [row]), folder, task="checked")
    assert (found["checks"]["passed"], found["checks"]["not_judged"]) == (1, ["json"])
    ran = farthing("evaluate", tmp_path / "set.jsonl", "--policies", folder, "--task", "checked")
    assert "With an `answer` in each outcome it can tell: json." in " ".join(ran.out.split())


def test_the_schema_that_a_line_asks_for_is_what_its_answer_is_held_against(
    farthing: Run, folder: Path, tmp_path: Path
) -> None:
    fitting = CHECKED.replace("task: checked", "task: fitting").replace("json: true", "json_schema: true")
    (folder / "fitting.yaml").write_text(fitting)
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}

    def row(answer: str) -> dict[str, Any]:
        return {
            "prompt": "What is the total?",
            "response_format": {"type": "json_schema", "json_schema": {"name": "total", "schema": schema}},
            "outcomes": {"cheap": {"quality": 0, "answer": answer}, "premium": {"quality": 1}},
        }

    file = write(tmp_path / "set.jsonl", [row('{"total": 1}'), row('{"sum": 1}'), row("1")])
    assert evaluated(farthing, file, folder, task="fitting")["checks"]["passed"] == pytest.approx(1 / 3)
