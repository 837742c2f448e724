"""`farthing evaluate`: sets that tell little, lines that are wrong, and bad usage."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from difficulty.labelled_sets import lines, write

from cli.evaluate.sets import DIFFERENT, MODELS, TASK, evaluated
from cli.running import Run


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


@pytest.mark.parametrize(("number", "said"), [(1, "1 prompt tells"), (49, "49 prompts tell"), (50, None)])
def test_a_set_that_is_too_small_to_tell_is_warned_of(
    farthing: Run, folder: Path, tmp_path: Path, number: int, said: str | None
) -> None:
    file = write(tmp_path / "set.jsonl", lines(number))
    out = " ".join(farthing("evaluate", file, "--policies", folder, "--task", "support").out.split())
    assert (f"Warning: {said} next to nothing" in out) if said else ("next to nothing" not in out)


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


def test_half_a_surrogate_pair_is_read_as_a_sign(farthing: Run, folder: Path, tmp_path: Path) -> None:
    written = b"\n".join(msgspec.json.encode(line) for line in lines(60)).replace(
        b'"prompt":"', b'"prompt":"\\ud83d ', 1
    )
    (tmp_path / "set.jsonl").write_bytes(written)
    assert evaluated(farthing, tmp_path / "set.jsonl", folder)["n"] == 60


@pytest.mark.parametrize("content", ['{"prompt": "\\ud83d', "", "{", "\x00", "[1]"])
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


def test_a_model_of_the_policy_on_too_few_lines_is_told_with_what_stands_in_for_it(
    farthing: Run, folder: Path, tmp_path: Path
) -> None:
    rows = lines(60)
    for number, row in enumerate(rows):
        row["outcomes"]["other"] = {"quality": 0.5, "cost_usd": 0.002}
        if number % 4 == 0:
            del row["outcomes"]["premium"]
    del rows[1]["outcomes"]["cheap"]
    file = write(tmp_path / "set.jsonl", rows)
    found = evaluated(farthing, file, folder)
    assert (found["n"], found["left_out"]["lines"]) == (59, 1)
    assert found["on_too_few_lines"] == {"premium": {"lines": 45, "of": 60, "taken_for": "other"}}
    ran = farthing("evaluate", file, "--policies", folder, "--task", "support")
    assert "'premium' has an outcome on 45 of 60 lines" in " ".join(ran.out.split())


def test_a_model_that_the_policy_does_not_use_may_be_on_a_few_lines(
    farthing: Run, folder: Path, tmp_path: Path
) -> None:
    rows = lines(60)
    rows[0]["outcomes"]["other"] = {"quality": 0.5, "cost_usd": 0.002}
    assert evaluated(farthing, write(tmp_path / "set.jsonl", rows), folder)["on_too_few_lines"] == {}


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


def test_a_set_by_whose_prices_nothing_can_be_saved_is_told(farthing: Run, folder: Path, tmp_path: Path) -> None:
    free = "  here: {target: openai/here, price: free, base_url: http://127.0.0.1:9/v1}\n"
    (folder / "models.yaml").write_text(MODELS + free)
    (folder / "support.yaml").write_text(TASK.replace("use: cheap", "use: here"))
    for names, told in ((("x", "y"), True), (("here", "y"), False)):
        rows = [{"prompt": "a", "outcomes": {names[0]: {"quality": 0}, names[1]: {"quality": 1}}}]
        file = write(tmp_path / "set.jsonl", rows)
        ran = farthing("evaluate", file, "--policies", folder, "--task", "support")
        assert ("Warning: 'y' costs no more here than 'x'" in " ".join(ran.out.split())) == told


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


@pytest.mark.parametrize("option", ["--scores", "--plot"])
def test_the_set_itself_is_not_written_over(farthing: Run, folder: Path, tmp_path: Path, option: str) -> None:
    file = write(tmp_path / "set.svg", lines(2))
    (tmp_path / "again.svg").hardlink_to(file)
    before = file.read_bytes()
    ran = farthing("evaluate", file, "--policies", folder, "--task", "support", option, tmp_path / "again.svg")
    assert (ran.status, file.read_bytes()) == (2, before)
    assert "would be overwritten" in " ".join(ran.err.split())


def test_the_plot_does_not_take_the_place_of_the_scores(farthing: Run, folder: Path, tmp_path: Path) -> None:
    file, both = write(tmp_path / "set.jsonl", lines(2)), tmp_path / "both.svg"
    options = ("--policies", folder, "--task", "support", "--scores", both, "--plot", tmp_path / "." / "both.svg")
    assert farthing("evaluate", file, *options).status == 2
    assert not both.exists()
