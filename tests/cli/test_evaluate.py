"""`farthing evaluate` and `farthing difficulty`, as a user runs them."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from difficulty.labelled_sets import lines, write

from cli.running import Run, on_terminal
from router.cli.progress import Work
from router.cli.table import progress_bar

MODELS = """version: 1
models:
  cheap: {target: openai/cheap, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}, base_url: http://127.0.0.1:9/v1}
  premium: {target: openai/dear, price: {input_usd_per_mtok: 10, output_usd_per_mtok: 20}, base_url: http://127.0.0.1:9/v1}
"""
TASK = """version: 1
task: support
baseline: premium
expected_output_tokens: 100
route:
  - name: hard
    when: {difficulty: {gte: 0.7}}
    use: premium
  - use: cheap
"""
ALL_CHEAP = "version: 1\ntask: cheapest\nroute: [{use: cheap}]\n"
CHECKED = "version: 1\ntask: checked\nroute: [{use: cheap, verify: {json: true, escalate_to: premium}}]\n"

SVG = "{http://www.w3.org/2000/svg}"

DIFFERENT = (
    "Which gas do plants take in by day?",
    "Who was the first to sail round the world?",
    "A train leaves at noon. How far is it by three?",
    "Summarise what the court held in 1803, and why.",
    "Sort a list of names by their last letters.",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    for name, text in (("models", MODELS), ("support", TASK), ("cheapest", ALL_CHEAP), ("checked", CHECKED)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write(tmp_path / "labelled.jsonl", lines(600))


def evaluated(farthing: Run, file: Path, folder: Path, *more: object, task: str = "support") -> Any:
    ran = farthing("evaluate", file, "--policies", folder, "--task", task, "--json", *more)
    assert ran.status == 0, ran.err
    return ran.json


def test_it_gives_what_the_contract_states(farthing: Run, labelled: Path, folder: Path) -> None:
    found = evaluated(farthing, labelled, folder)
    assert found["n"] == 600
    for way in ("policy", "always_cheap", "always_premium", "random_same_spend", "oracle"):
        assert set(found[way]) == {"quality", "cost_usd", "premium_share"}, way
    assert set(found["usd_at_quality"]) == {"95", "98", "100"}
    assert found["policy"]["premium_share"] == pytest.approx(0.3, abs=0.02)
    assert found["always_cheap"]["cost_usd"] == pytest.approx(0.06)
    assert found["always_premium"] == {"quality": 1, "cost_usd": pytest.approx(0.66), "premium_share": 1}
    assert found["oracle"]["quality"] == 1
    assert found["oracle"]["cost_usd"] < found["always_premium"]["cost_usd"]
    assert found["random_same_spend"]["cost_usd"] == pytest.approx(found["policy"]["cost_usd"])
    low, high = found["interval_95"]["apgr_usd"]
    assert low < found["apgr_usd"] < high


WAYS = (
    "policy",
    "always_cheap",
    "always_premium",
    "random_same_spend",
    "score_same_spend",
    "longest_same_spend",
    "task_prior_same_spend",
    "oracle",
)


def test_every_figure_has_an_interval_around_it(farthing: Run, labelled: Path, folder: Path) -> None:
    found = evaluated(farthing, labelled, folder)
    within = found["interval_95"]
    figures = [(found[way][name], within[way][name]) for way in WAYS for name in found[way]]
    figures += [(found[name], within[name]) for name in ("apgr_calls", "apgr_usd")]
    for name in ("longest", "task_prior", "usd_at_quality", "random_usd_at_quality"):
        figures += [(figure, within[name][key]) for key, figure in found[name].items()]
    assert len(figures) == 8 * 3 + 2 + 2 * 2 + 2 * 3
    for figure, (low, high) in figures:
        assert low - 1e-9 <= figure <= high + 1e-9
    assert (within["always_cheap"]["premium_share"], within["always_premium"]["premium_share"]) == ([0, 0], [1, 1])
    # That the easiest prompts gain nothing is what no sample can tell.
    assert within["usd_at_quality"]["100"][1] == within["always_premium"]["cost_usd"][1]
    for way in WAYS:
        assert within[way]["quality"][0] < within[way]["quality"][1], way
    assert within["quality"] == within["policy"]["quality"], "the policy's own stand where they stood before"


def test_a_set_of_near_duplicates_is_told(farthing: Run, labelled: Path, folder: Path) -> None:
    # Four templates, whose first lines repeat nothing.
    assert evaluated(farthing, labelled, folder)["near_duplicates"] == 596
    assert evaluated(farthing, labelled, folder, "--learn", 200)["near_duplicates"] == 400
    ran = farthing("evaluate", labelled, "--policies", folder, "--task", "support")
    assert "Warning: 596 of them nearly repeat a line before them" in ran.out


def test_prompts_that_differ_in_figures_alone_are_near_duplicates(farthing: Run, folder: Path, tmp_path: Path) -> None:
    rows = [row | {"prompt": f"Compute {at * 37} * {at + 5}."} for at, row in enumerate(lines(50))]
    assert evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder)["near_duplicates"] == 49


def test_what_all_prompts_share_does_not_make_them_near_duplicates(farthing: Run, folder: Path, tmp_path: Path) -> None:
    head = "Answer as in the examples, and with a letter only.\n\nWhat is two and two?\nA) 4\nB) 5\nAnswer: A\n\n"
    rows = [row | {"prompt": head + text} for row, text in zip(lines(5), DIFFERENT, strict=True)]
    assert evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder)["near_duplicates"] == 0


def test_a_set_of_different_prompts_is_not_warned_of(farthing: Run, folder: Path, tmp_path: Path) -> None:
    rows = [row | {"prompt": text} for row, text in zip(lines(5), DIFFERENT, strict=True)]
    file = write(tmp_path / "set.jsonl", rows)
    assert evaluated(farthing, file, folder)["near_duplicates"] == 0
    assert "nearly repeat" not in farthing("evaluate", file, "--policies", folder, "--task", "support").out


def test_labels_make_the_order_better(farthing: Run, labelled: Path, folder: Path) -> None:
    cold = evaluated(farthing, labelled, folder)
    taught = evaluated(farthing, labelled, folder, "--learn", 200)
    assert taught["n"] == 400
    assert taught["learned"] == 200
    assert taught["apgr_usd"] > cold["apgr_usd"] + 0.05
    assert taught["policy"]["quality"] > taught["random_same_spend"]["quality"] + 0.05


def test_the_scores_do_not_depend_on_the_order_of_the_file(
    farthing: Run, labelled: Path, folder: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned.jsonl"
    turned.write_bytes(b"".join(reversed(labelled.read_bytes().splitlines(keepends=True))))
    found = []
    for file in (labelled, turned):
        evaluated(farthing, file, folder, "--scores", tmp_path / "scores.csv")
        with (tmp_path / "scores.csv").open(newline="") as opened:
            rows = list(csv.reader(opened))
        assert rows[0] == ["id", "score"]
        found.append(dict(rows[1:]))
    assert found[0] == found[1]
    assert len(found[0]) == 600


@pytest.mark.parametrize("cost_usd", [None, 0.001])
def test_what_came_of_the_judged_lines_moves_no_score(
    farthing: Run, folder: Path, tmp_path: Path, cost_usd: float | None
) -> None:
    # Which of two models that no policy names is the better is told by the labels, and by nothing after them.
    rows = lines(300)
    for row in rows:
        row["outcomes"] = {
            f"acme/{name}": {"quality": outcome["quality"]} | ({"cost_usd": cost_usd} if cost_usd else {})
            for name, outcome in row["outcomes"].items()
        }
    found = []
    for _ in range(2):
        file = write(tmp_path / "set.jsonl", rows)
        evaluated(farthing, file, folder, "--learn", 60, "--scores", tmp_path / "scores.csv")
        found.append((tmp_path / "scores.csv").read_text())
        for row in rows[60:]:
            row["outcomes"] = {"acme/cheap": {"quality": 1, "cost_usd": 1}, "acme/premium": {"quality": 0}}
    assert found[0] == found[1]


def test_prompts_of_one_score_are_judged_alike_in_whatever_order(farthing: Run, folder: Path, tmp_path: Path) -> None:
    # The score, the length and the task are the same for all, so that no way to order them is better than chance.
    rows = [row | {"prompt": "Where is my parcel today?"} for row in lines(300)]
    for number, row in enumerate(rows):
        row["outcomes"]["cheap"]["answer"] = "{}" if number % 3 else "no JSON"
    rows.sort(key=lambda row: row["outcomes"]["cheap"]["quality"])
    gaining_first = evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder, task="checked")
    gaining_last = evaluated(farthing, write(tmp_path / "set.jsonl", rows[::-1]), folder, task="checked")
    for found in (gaining_first, gaining_last):
        for level, usd in found["random_usd_at_quality"].items():
            assert found["usd_at_quality"][level] == pytest.approx(usd, abs=0.001), level
        chance = found["random_same_spend"]["quality"]
        assert found["policy"]["premium_share"] == pytest.approx(1 / 3)
        for way in ("score", "longest", "task_prior"):
            assert found[f"{way}_same_spend"]["quality"] == pytest.approx(chance, abs=0.005), way


@pytest.mark.parametrize(("number", "said"), [(1, "1 prompt tells"), (49, "49 prompts tell"), (50, None)])
def test_a_set_that_is_too_small_to_tell_is_warned_of(
    farthing: Run, folder: Path, tmp_path: Path, number: int, said: str | None
) -> None:
    file = write(tmp_path / "set.jsonl", lines(number))
    out = " ".join(farthing("evaluate", file, "--policies", folder, "--task", "support").out.split())
    assert (f"Warning: {said} next to nothing" in out) if said else ("next to nothing" not in out)


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_shares_hold_where_few_prompts_repeat(farthing: Run, folder: Path, tmp_path: Path, distinct: int) -> None:
    (folder / "shared.yaml").write_text(
        "version: 1\ntask: shared\nroute: [{use: [cheap, premium], premium_share: 0.2}]\n"
    )
    rows = [row | {"prompt": DIFFERENT[number % distinct]} for number, row in enumerate(lines(300))]
    file = write(tmp_path / "set.jsonl", rows)
    for task, share in (("support", 0.3), ("shared", 0.2)):
        found = evaluated(farthing, file, folder, task=task)
        assert found["policy"]["premium_share"] == pytest.approx(share, abs=0.02), task


def test_knowing_the_task_is_worth_what_the_best_order_of_tasks_is(farthing: Run, folder: Path, tmp_path: Path) -> None:
    def row(task: str, quality: float, cost_usd: float) -> dict[str, Any]:
        cheap, premium = {"quality": quality, "cost_usd": 0.001}, {"quality": 1, "cost_usd": cost_usd}
        return {"prompt": "a", "task": task, "outcomes": {"cheap": cheap, "premium": premium}}

    # By calls the dear task, which gains 0.9 each, comes first; by dollars the other.
    rows = [row("dear", 0.1, 0.101), row("little", 0.7, 0.011)]
    found = evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder)["task_prior"]
    assert found["apgr_calls"] == pytest.approx((0.9 / 2 + (0.9 + 1.2) / 2) / 2 / 1.2)
    assert found["apgr_usd"] == pytest.approx((0.01 * 0.3 / 2 + 0.1 * (0.3 + 1.2) / 2) / 0.11 / 1.2)


def test_hindsight_takes_the_dearer_model_where_it_was_as_good_for_less(
    farthing: Run, folder: Path, tmp_path: Path
) -> None:
    cheap, premium = {"quality": 1, "cost_usd": 0.3}, {"quality": 1, "cost_usd": 0.1}
    file = write(tmp_path / "set.jsonl", [{"prompt": "a", "outcomes": {"cheap": cheap, "premium": premium}}])
    found = evaluated(farthing, file, folder)
    assert found["oracle"] == {"quality": 1, "cost_usd": pytest.approx(0.1), "premium_share": 1}


def test_models_that_are_equally_good_are_measured(farthing: Run, folder: Path, tmp_path: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        quality = 0.07 + number % 4 / 10  # sums of these, times 100 and by 100, are not always what they were
        outcomes = {name: {"quality": quality, "cost_usd": usd} for name, usd in (("cheap", 0.001), ("premium", 0.01))}
        return {"prompt": f"What is {number}?", "outcomes": outcomes}

    found = evaluated(farthing, write(tmp_path / "set.jsonl", [row(number) for number in range(40)]), folder)
    cheap_usd = found["always_cheap"]["cost_usd"]
    assert found["random_usd_at_quality"] == dict.fromkeys(("95", "98", "100"), cheap_usd)
    assert found["interval_95"]["random_usd_at_quality"]["100"] == pytest.approx([cheap_usd] * 2)


@pytest.mark.parametrize("premium_usd", [0.001, 0.0005])
def test_a_policy_that_spends_less_than_always_cheap_is_measured(
    farthing: Run, folder: Path, tmp_path: Path, premium_usd: float
) -> None:
    poor = "version: 1\ntask: poor\nbudget: {per_request_usd: 0.002, on_exceeded: reject}\nroute: [{use: cheap}]\n"
    (folder / "poor.yaml").write_text(poor)

    def row(number: int) -> dict[str, Any]:
        # Every third is too long for its budget, so that it is refused and costs nothing.
        text = f"What is {number}? " + "word " * (3_000 if number % 3 == 0 else 1)
        cheap = {"quality": number % 2, "cost_usd": 0.001}
        premium = {"quality": 1, "cost_usd": 0.01 if number % 5 else premium_usd}
        return {"prompt": text, "outcomes": {"cheap": cheap, "premium": premium}}

    file = write(tmp_path / "set.jsonl", [row(number) for number in range(40)])
    found = evaluated(farthing, file, folder, task="poor")
    assert found["refused"] == 14
    assert found["policy"]["cost_usd"] < found["always_cheap"]["cost_usd"]
    within = found["interval_95"]
    for way in ("score_same_spend", "longest_same_spend", "task_prior_same_spend"):
        assert within[way]["premium_share"] == [0, 0], "no money is left for the dearer model"
        assert within[way]["cost_usd"] == pytest.approx(within["always_cheap"]["cost_usd"])
        assert 0 < within[way]["quality"][0] < found["always_cheap"]["quality"] < within[way]["quality"][1] < 1


def test_scores_are_written_for_learned_lines_as_well(
    farthing: Run, labelled: Path, folder: Path, tmp_path: Path
) -> None:
    evaluated(farthing, labelled, folder, "--learn", 100, "--scores", tmp_path / "scores.csv")
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 601


def test_a_policy_that_is_always_cheap_costs_what_always_cheap_costs(
    farthing: Run, labelled: Path, folder: Path
) -> None:
    found = evaluated(farthing, labelled, folder, task="cheapest")
    assert found["policy"] == found["always_cheap"]


@pytest.mark.parametrize(
    ("per_day_usd", "when", "way"),
    [(0.0002, "{input_tokens: {gt: 0}}", "always_cheap"), (1, "{budget_remaining_usd: {gte: 1}}", "always_premium")],
)
def test_an_unused_day_is_what_the_policy_sees_and_may_spend(
    farthing: Run, labelled: Path, folder: Path, per_day_usd: float, when: str, way: str
) -> None:
    (folder / "daily.yaml").write_text(
        f"version: 1\ntask: daily\nbudget: {{per_day_usd: {per_day_usd}}}\n"
        f"route: [{{when: {when}, use: premium}}, {{use: cheap}}]\n"
    )
    found = evaluated(farthing, labelled, folder, task="daily")
    assert found["policy"] == found[way]


def test_ten_right_answers_do_not_promise_that_all_will_be(farthing: Run, folder: Path, tmp_path: Path) -> None:
    outcomes = {"cheap": {"quality": 1, "cost_usd": 0.1}, "premium": {"quality": 1, "cost_usd": 1}}
    rows = [{"prompt": f"What is {number}?", "outcomes": outcomes} for number in range(10)]
    found = evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder, task="cheapest")
    # Wilson's interval for 10 of 10.
    assert found["interval_95"]["quality"] == pytest.approx([0.722, 1], abs=0.001)
    outcomes["cheap"]["quality"] = 0.5
    found = evaluated(farthing, write(tmp_path / "set.jsonl", rows[:1]), folder, task="cheapest")
    assert found["interval_95"]["quality"] == [0, 1]


def test_names_of_vendors_are_compared_by_their_cost(farthing: Run, folder: Path, tmp_path: Path) -> None:
    rows = lines(100)
    for row in rows:
        row["outcomes"] = {
            "acme/large": row["outcomes"]["premium"],
            "acme/small": row["outcomes"]["cheap"],
            "acme/middle": {"quality": 0.5, "cost_usd": 0.0005},
        }
    found = evaluated(farthing, write(tmp_path / "vendors.jsonl", rows), folder)
    assert (found["cheap"], found["premium"]) == ("acme/small", "acme/large")
    assert found["not_in_models"] == ["acme/small", "acme/large"]
    said = farthing("evaluate", tmp_path / "vendors.jsonl", "--policies", folder, "--task", "support").out
    assert "models.yaml has no 'acme/small' or 'acme/large'" in " ".join(said.split())
    assert 0 < found["policy"]["premium_share"] < 1


def test_what_has_no_cost_is_priced(farthing: Run, folder: Path, tmp_path: Path) -> None:
    row = {
        "prompt": "one two three",
        "outcomes": {"cheap": {"quality": 0}, "premium": {"quality": 1, "answer": "four five"}},
    }
    found = evaluated(farthing, write(tmp_path / "set.jsonl", [row]), folder)
    # Three words, and seven tokens around them; no answer, so 100 are expected. Then two words of an answer.
    assert found["always_cheap"]["cost_usd"] == pytest.approx(10e-6 + 200e-6, rel=0.05)
    assert found["always_premium"]["cost_usd"] == pytest.approx(100e-6 + 40e-6, rel=0.05)


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


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"prompt": "a", "outcomes": {"m": {"quality": 2}}}, "the quality of m is 2; it goes from 0 to 1"),
        (
            {"prompt": "a", "outcomes": {"m": {"quality": 1.0000001}}},
            "the quality of m is 1.0000001; it goes from 0 to 1",
        ),
        ({"prompt": "a", "outcomes": {"m": {"quality": 1, "cost_usd": -1}}}, "can't be below 0"),
        ({"prompt": "a", "messages": [], "outcomes": {"m": {"quality": 1}}}, "one of `messages` and `prompt`"),
        ({"messages": [], "outcomes": {"m": {"quality": 1}}}, "`messages` is empty"),
        ({"prompt": "a", "outcomes": {}}, "`outcomes` is empty"),
        ({"prompt": "a"}, "missing required field `outcomes`"),
        ("text", "Expected `object`, got `str`; a line is {"),
    ],
)
def test_a_bad_line_is_told_with_its_number(
    farthing: Run, folder: Path, tmp_path: Path, line: object, problem: str
) -> None:
    file = tmp_path / "set.jsonl"
    file.write_bytes(msgspec.json.encode(lines(1)[0]) + b"\n\n" + msgspec.json.encode(line) + b"\n")
    ran = farthing("evaluate", file, "--policies", folder, "--task", "support")
    assert ran.status == 1
    assert f"{file}:3: " in ran.err
    assert problem in ran.err


@pytest.mark.parametrize("content", ["", "{", "\x00", "[1]"])
def test_a_file_that_is_no_set_is_told_without_a_traceback(
    farthing: Run, folder: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "set.jsonl").write_text(content)
    ran = farthing("evaluate", tmp_path / "set.jsonl", "--policies", folder, "--task", "support")
    assert ran.status == 1
    assert ran.err.startswith("farthing: ")


def test_one_model_alone_is_nothing_to_compare(farthing: Run, folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "set.jsonl", [{"prompt": "a", "outcomes": {"m": {"quality": 1}}}])
    ran = farthing("evaluate", file, "--policies", folder, "--task", "support")
    assert ran.status == 1
    assert "Two models at least" in ran.err


def test_a_set_without_two_models_on_every_line_is_refused(farthing: Run, folder: Path, tmp_path: Path) -> None:
    rows = lines(3)
    for row, name in zip(rows, ("cheap", "premium", "cheap"), strict=True):
        row["outcomes"] = {name: row["outcomes"][name]}
    file = write(tmp_path / "set.jsonl", rows)
    ran = farthing("evaluate", file, "--policies", folder, "--task", "support")
    assert ran.status == 1
    assert "line 1 has none of 'premium', which 1 of 3 have" in ran.err


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


def test_a_line_that_lacks_a_model_is_left_out_and_named(farthing: Run, folder: Path, tmp_path: Path) -> None:
    rows = lines(60)
    whole = evaluated(farthing, write(tmp_path / "whole.jsonl", rows[1:]), folder)
    for row in rows:
        row["outcomes"]["other"] = {"quality": 0.5, "cost_usd": 0.002}
    del rows[0]["outcomes"]["premium"]
    file = write(tmp_path / "set.jsonl", rows)
    found = evaluated(farthing, file, folder, "--scores", tmp_path / "scores.csv")
    assert found["left_out"] == {"lines": 1, "first": 1, "model": "premium"}
    assert (found["cheap"], found["premium"], found["n"]) == ("cheap", "premium", 59)
    assert found["always_premium"] == whole["always_premium"]
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 61
    ran = farthing("evaluate", file, "--policies", folder, "--task", "support")
    assert "1 line is left out for want of an outcome: line 1 has none of 'premium'" in " ".join(ran.out.split())


def test_two_lines_of_one_id_are_told_and_judged(farthing: Run, folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "id": "same"} for row in lines(2)]
    ran = farthing("evaluate", write(tmp_path / "set.jsonl", rows), "--policies", folder, "--task", "support", "--json")
    assert (ran.status, ran.json["n"]) == (0, 2)
    assert "lines 1 and 2 have the same id 'same'" in ran.err


def test_a_model_of_unknown_price_is_not_taken_for_free(farthing: Run, folder: Path, tmp_path: Path) -> None:
    free = "  here: {target: openai/here, price: free, base_url: http://127.0.0.1:9/v1}\n"
    (folder / "models.yaml").write_text(MODELS + free)
    (folder / "support.yaml").write_text(TASK.replace("use: cheap", "use: [here, cheap]"))
    rows = [{"prompt": "a", "outcomes": {"x": {"quality": 0}, "y": {"quality": 1}}}]
    found = evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder)
    assert 0 < found["always_cheap"]["cost_usd"] < found["always_premium"]["cost_usd"]


def test_learning_from_everything_leaves_nothing_to_judge(farthing: Run, folder: Path, labelled: Path) -> None:
    ran = farthing("evaluate", labelled, "--policies", folder, "--task", "support", "--learn", 600)
    assert ran.status == 1
    assert "leaves no line" in ran.err


@pytest.mark.parametrize("option", ["--scores", "--plot"])
def test_a_file_that_has_no_folder_is_told_before_any_work(
    farthing: Run, folder: Path, tmp_path: Path, option: str
) -> None:
    unread = tmp_path / "unread.jsonl"
    ran = farthing("evaluate", unread, "--policies", folder, "--task", "support", option, tmp_path / "none" / "a.svg")
    assert ran.status == 2
    assert "There is no folder" in ran.err


@pytest.mark.parametrize("options", [("--task", "nothing"), ("--learn", "-1"), ("--plot", "a.gif")])
def test_bad_usage_ends_with_2(farthing: Run, folder: Path, labelled: Path, options: tuple[str, str]) -> None:
    assert farthing("evaluate", labelled, "--policies", folder, *options).status == 2


def test_the_table_and_the_picture_show_the_same(farthing: Run, folder: Path, labelled: Path, tmp_path: Path) -> None:
    ran = farthing("evaluate", labelled, "--policies", folder, "--task", "support", "--plot", tmp_path / "plot.svg")
    assert "by the policy of the task 'support': cheap or premium." in " ".join(ran.out.split())
    assert "always premium" in ran.out
    assert "random, same spend" in ran.out
    drawn = ET.parse(tmp_path / "plot.svg").getroot()
    assert drawn.tag.endswith("svg")
    assert "this policy" in (tmp_path / "plot.svg").read_text()


def test_the_tables_fit_a_terminal(folder: Path, labelled: Path) -> None:
    shown = on_terminal("evaluate", labelled, "--policies", folder, "--task", "support")
    assert "  95 %" in shown
    assert "APGR is the share of the gap" in shown
    assert max(len(line.rpartition("\r")[2]) for line in shown.splitlines()) <= 80


class Clock:
    """Seconds as the test says."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_long_work_tells_its_share_where_no_terminal_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress_bar() as bar:
        for number in Work(bar, clock).over("Deciding", range(200), 200):
            clock.now_s = number / 10
    assert capsys.readouterr().err.splitlines() == [
        "farthing: Deciding: 25 % of 200",
        "farthing: Deciding: 50 % of 200",
        "farthing: Deciding: 75 % of 200",
    ]


def test_short_work_is_silent_where_no_terminal_shows_a_bar(farthing: Run, folder: Path, labelled: Path) -> None:
    assert farthing("evaluate", labelled, "--policies", folder, "--task", "support").err == ""


@pytest.mark.parametrize("task", ["cheapest", "support"])
def test_no_text_of_the_picture_lies_over_another(
    farthing: Run, folder: Path, labelled: Path, tmp_path: Path, task: str
) -> None:
    file = tmp_path / "plot.svg"
    evaluated(farthing, labelled, folder, "--plot", file, task=task)
    texts = [
        (text.text, float(text.get("x", 0)), float(text.get("y", 0))) for text in ET.parse(file).iter(f"{SVG}text")
    ]
    assert {"always cheap", "this policy", "dollars"} <= {said for said, _, _ in texts}
    for (said, x, y), (other, other_x, other_y) in combinations(texts, 2):
        # At 12 px a letter is about 6 px wide and a line 12 high.
        apart_x = x + 6 * len(said or "") <= other_x or other_x + 6 * len(other or "") <= x
        assert apart_x or abs(y - other_y) >= 12, (said, other)


def test_a_picture_can_be_a_png(farthing: Run, folder: Path, labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    assert farthing("evaluate", labelled, "--policies", folder, "--task", "support", "--plot", file).status == 0
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_reference_without_prompts_is_told(farthing: Run, labelled: Path, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl", [])
    ran = farthing("difficulty", "train", labelled, "--reference", empty, "--out", tmp_path / "weights.json")
    assert ran.status == 1
    assert f"{empty} holds no prompts" in ran.err


def test_train_then_show(farthing: Run, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.json"
    trained = farthing("difficulty", "train", labelled, "--reference", labelled, "--out", out)
    assert trained.status == 0
    assert "600 labelled prompts" in trained.out
    shown = farthing("difficulty", "show", out, "--json").json
    assert shown["trained_on"] == {"labelled": 600}
    assert "mmlupro" in farthing("difficulty", "show").out


def test_show_tells_the_weights_that_a_folder_brings(
    farthing: Run, folder: Path, labelled: Path, tmp_path: Path
) -> None:
    assert farthing("difficulty", "show", "--policies", folder, "--json").json["file"] is None
    own = folder / "difficulty.json"
    assert farthing("difficulty", "train", labelled, "--out", own).status == 0
    shown = farthing("difficulty", "show", "--policies", folder, "--json").json
    assert (shown["file"], shown["trained_on"]) == (str(own), {"labelled": 600})
    assert str(own) in "".join(farthing("difficulty", "show", "--policies", folder).out.split())
