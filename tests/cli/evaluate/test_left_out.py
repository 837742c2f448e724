"""`farthing evaluate`: a line is left out only where it lacks an outcome that is needed for what is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from difficulty.labelled_sets import lines, write

from cli.evaluate.sets import evaluated
from cli.running import Run

FIVE = ("cheap", "small", "middle", "large", "premium")
LONG = "Name a river. " * 600
"""More than 1,000 tokens."""


@pytest.fixture
def five(folder: Path) -> Path:
    """Add a task of five models: short prompts go to the cheap one, those in Spanish to the middle one."""
    target = (
        "{target: openai/x, price: {input_usd_per_mtok: 5, output_usd_per_mtok: 5}, base_url: http://127.0.0.1:9/v1}"
    )
    models = (folder / "models.yaml").read_text()
    (folder / "models.yaml").write_text(models + "".join(f"  {name}: {target}\n" for name in FIVE[1:4]))
    (folder / "five.yaml").write_text(
        "version: 1\ntask: five\nbaseline: premium\nroute:\n"
        "  - {when: {input_tokens: {gt: 1000}}, use: middle}\n"
        "  - {when: {text: {contains: JSON}}, use: cheap, verify: {json: true, escalate_to: large}}\n"
        "  - {when: {text: {contains: sum}}, use: cheap, verify: {json: true, agree: {with: small, by: number}}}\n"
        "  - {when: {messages: {gt: 100}}, use: [small, large, premium]}\n"
        "  - use: cheap\n"
    )
    return folder


def prompts(count: int) -> list[dict[str, Any]]:
    """Return short prompts with an outcome of each of the five."""
    found = lines(count)
    for row in found:
        for at, name in enumerate(FIVE):
            row["outcomes"][name] = {"quality": at / 4, "cost_usd": 0.001 * (at + 1), "answer": "1"}
    return found


def test_five_models_that_fail_now_and_then_leave_out_what_the_two_compared_lack(
    farthing: Run, five: Path, tmp_path: Path
) -> None:
    rows = prompts(100)
    for at, name in enumerate(FIVE):
        for row in rows[8 * at : 8 * at + 8]:
            del row["outcomes"][name]
    found = evaluated(farthing, write(tmp_path / "set.jsonl", rows), five, task="five")
    assert (found["n"], found["left_out"]) == (84, {"lines": 16, "first": 1, "model": "cheap"})
    assert (found["cheap"], found["premium"]) == ("cheap", "premium")
    ways = ("policy", "always_cheap", "always_premium")
    assert [found[name]["cost_usd"] for name in ways] == pytest.approx([84 * 0.001, 84 * 0.001, 84 * 0.005])


@pytest.mark.parametrize(
    ("prompt", "answer", "lacking", "kept"),
    [
        (LONG, "1", "middle", False),
        (LONG, "1", "cheap", False),  # it is compared
        (LONG, "1", "small", True),
        ("Name a river.", "1", "middle", True),
        ("Give JSON.", "1", "large", True),  # the first answer passes
        ("Give JSON.", "no", "large", False),
        ("Give the sum.", "1", "small", False),
        ("Give the sum.", "no", "small", True),  # its second answer is not asked for
    ],
)
def test_a_line_is_left_out_where_it_lacks_what_it_is_sent_to(
    farthing: Run, five: Path, tmp_path: Path, prompt: str, answer: str, lacking: str, kept: bool
) -> None:
    rows = prompts(20)
    rows[4]["prompt"] = prompt
    rows[4]["outcomes"]["cheap"]["answer"] = answer
    whole = evaluated(farthing, write(tmp_path / "whole.jsonl", rows), five, task="five")
    without = evaluated(farthing, write(tmp_path / "less.jsonl", rows[:4] + rows[5:]), five, task="five")
    del rows[4]["outcomes"][lacking]
    found = evaluated(farthing, write(tmp_path / "set.jsonl", rows), five, task="five")
    assert found["left_out"] == (None if kept else {"lines": 1, "first": 5, "model": lacking})
    expected = whole if kept else without
    assert {**found, "left_out": None} == expected


def test_labels_need_the_two_compared_alone(farthing: Run, five: Path, tmp_path: Path) -> None:
    rows = prompts(200)
    del rows[0]["outcomes"]["premium"]
    for row in rows[1:15]:
        del row["outcomes"]["small"]
    file = write(tmp_path / "set.jsonl", rows)
    found = evaluated(farthing, file, five, "--learn", 100, "--scores", tmp_path / "scores.csv", task="five")
    assert (found["learned"], found["learned_to_line"], found["n"]) == (100, 101, 99)
    assert found["left_out"] == {"lines": 1, "first": 1, "model": "premium"}
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 201


def test_a_set_in_which_no_line_can_be_judged_is_refused(farthing: Run, five: Path, tmp_path: Path) -> None:
    rows = prompts(100)
    for row in rows[95:]:
        row["prompt"] = LONG
        del row["outcomes"]["middle"]
    file = write(tmp_path / "set.jsonl", rows)
    ran = farthing("evaluate", file, "--policies", five, "--task", "five", "--learn", 95)
    assert ran.status == 1
    assert "line 96 has none of 'middle'" in ran.err
