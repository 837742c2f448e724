"""`farthing evaluate`: what each way to spend costs and keeps, and within which interval."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from difficulty.labelled_sets import lines, write

from cli.evaluate.sets import DIFFERENT, evaluated
from cli.running import Run


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
