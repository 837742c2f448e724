"""`farthing difficulty`: weights that are trained and shown, what a ledger's labels taught, and `reset`."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from difficulty.labelled_sets import lines, write

from cli.running import Run
from router.difficulty.cues import Shape
from router.difficulty.look import look_at, written
from router.ledger.labels import LabelRow, Source
from router.ledger.open import open_store

HARD, EASY = ("an invoice", "a refund", "a tax form"), ("a parcel", "an address", "a password")
TASK = """version: 1
task: default
learn: {}
route:
  - {name: hard, when: {difficulty: {gte: 0.7}}, use: premium}
  - use: cheap
"""
MODELS = "version: 1\nmodels:\n  cheap: {target: openai/gpt-4.1-nano}\n  premium: {target: openai/gpt-4.1}\n"


def label(at: int, source: Source) -> LabelRow:
    dice = random.Random(at)
    is_hard = dice.random() < 0.4
    about = dice.choice(HARD if is_hard else EASY)
    look = look_at(f"Customer {at} writes about {about}. What should our reply be?", Shape())
    gain = float(dice.random() < (0.7 if is_hard else 0.1))
    said = msgspec.json.encode(written(look)).decode()
    return LabelRow("default", "2026-11-22", f"{at}", source, "cheap", "premium", gain, 0.001, 0.05, said)


@pytest.fixture
def options(tmp_path: Path) -> tuple[str, ...]:
    """What names a folder of policies and a ledger with labels."""
    return with_labels(tmp_path, 400)


def with_labels(tmp_path: Path, count: int) -> tuple[str, ...]:
    (tmp_path / "models.yaml").write_text(MODELS)
    (tmp_path / "default.yaml").write_text(TASK)
    url = f"sqlite:///{tmp_path / 'ledger.db'}"

    async def fill() -> None:
        store = open_store(url)
        labels = [label(at, "feedback" if at % 10 == 0 else "shadow") for at in range(count)]
        await store.label(labels)
        store.close()

    asyncio.run(fill())
    return ("--task", "default", "--ledger-url", url)


def test_show_tells_labels_quality_and_version(farthing: Run, options: tuple[str, ...], tmp_path: Path) -> None:
    told = farthing("difficulty", "show", *options, "--policies", tmp_path, "--json").json
    assert told["labels"] == {"shadow": 360, "feedback": 40}
    assert 0 < told["version"] <= told["newest"] == 400
    held_back = told["held_back"]
    assert held_back["served"]["error"] < held_back["cold"]["error"]
    assert held_back["served"]["recovered"] > held_back["cold"]["recovered"]
    assert told["drift"]["gain_before"] == pytest.approx(told["drift"]["gain_now"], abs=0.15)
    table = farthing("difficulty", "show", *options, "--policies", tmp_path).out
    assert "shadow 360" in table
    assert "random 0.50" in table


def test_labels_that_nothing_serves_by_yet_are_told_what_is_waited_for(farthing: Run, tmp_path: Path) -> None:
    shown = farthing("difficulty", "show", *with_labels(tmp_path, 9), "--policies", tmp_path).out
    assert "no label, until what they teach is seen to tell those held back better" in shown


SHADOW = "{shadow: {model: premium, budget_per_day_usd: PER_DAY, grade: agree}}\nbudget: {per_request_usd: 0.05}"


@pytest.mark.parametrize(("per_day", "is_told"), [("0.0499", True), ("0.05", False)])
def test_a_budget_that_buys_no_second_answer_is_told(
    farthing: Run, options: tuple[str, ...], tmp_path: Path, per_day: str, is_told: bool
) -> None:
    (tmp_path / "default.yaml").write_text(TASK.replace("{}", SHADOW.replace("PER_DAY", per_day), 1))
    asked = farthing("difficulty", "show", *options, "--policies", tmp_path, "--json").json["second_answers"]
    assert (asked["per_day_usd"], asked["holds_usd"]) == (float(per_day), 0.05)
    shown = " ".join(farthing("difficulty", "show", *options, "--policies", tmp_path).out.split())
    assert ("budget of second answers" in shown) == is_told
    assert ("raise budget_per_day_usd" in shown) == is_told


def test_a_reset_leaves_nothing_but_its_number(farthing: Run, options: tuple[str, ...], tmp_path: Path) -> None:
    assert "forgotten" in farthing("difficulty", "reset", *options).out
    told = farthing("difficulty", "show", *options, "--policies", tmp_path, "--json").json
    assert (told["labels"], told["version"], told["newest"]) == ({}, 0, 401)
    assert "has learned nothing" in farthing("difficulty", "reset", *options).out


def test_a_reset_of_a_task_that_is_nowhere_tells_those_that_there_are(
    farthing: Run, options: tuple[str, ...], tmp_path: Path
) -> None:
    models = "version: 1\nmodels: {small: {target: openai/small, price: free, base_url: http://127.0.0.1:9/v1}}\n"
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "models.yaml").write_text(models)
    (folder / "support.yaml").write_text("version: 1\ntask: support\nroute: [{use: small}]\n")
    misspelt = ("difficulty", "reset", "--task", "suport", *options[2:], "--policies")
    unknown = farthing(*misspelt, folder)
    assert unknown.status == 2
    assert "no task 'suport'" in " ".join(unknown.err.replace("│", "").split())
    assert "There is: support, default." in " ".join(unknown.err.replace("│", "").split())
    nowhere = farthing(*misspelt, tmp_path / "none")
    assert nowhere.status == 2
    assert "There is: default." in " ".join(nowhere.err.replace("│", "").split())
    unlearned = farthing("difficulty", "reset", "--task", "support", *options[2:], "--policies", folder)
    assert (unlearned.status, unlearned.out) == (0, "The task support has learned nothing.\n")


def test_what_is_not_there_is_said(farthing: Run, options: tuple[str, ...], tmp_path: Path) -> None:
    unknown = farthing("difficulty", "show", "--task", "none", *options[2:], "--policies", tmp_path)
    assert unknown.status == 2
    assert "there is: default" in unknown.err
    missing = farthing(
        "difficulty", "show", "--task", "default", "--ledger-url", "sqlite:///no.db", "--policies", tmp_path
    )
    assert missing.status != 0
    assert "Traceback" not in missing.err


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write(tmp_path / "labelled.jsonl", lines(600))


def test_a_reference_without_prompts_is_told(farthing: Run, labelled: Path, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl", [])
    ran = farthing("difficulty", "train", labelled, "--reference", empty, "--out", tmp_path / "weights.json")
    assert ran.status == 1
    assert f"{empty} holds no prompts" in ran.err


@pytest.mark.parametrize("read_as", ["labelled", "reference"])
def test_what_is_trained_on_is_not_written_over(farthing: Run, labelled: Path, tmp_path: Path, read_as: str) -> None:
    reference = write(tmp_path / "reference.jsonl", lines(60))
    out = labelled if read_as == "labelled" else reference
    before = out.read_bytes()
    ran = farthing("difficulty", "train", labelled, "--reference", reference, "--out", out)
    assert (ran.status, out.read_bytes()) == (2, before)
    assert "would be overwritten" in " ".join(ran.err.split())


def test_train_then_show(farthing: Run, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.json"
    trained = farthing("difficulty", "train", labelled, "--reference", labelled, "--out", out)
    assert trained.status == 0
    assert "600 labelled prompts" in trained.out
    assert trained.err == ""
    shown = farthing("difficulty", "show", out, "--json").json
    assert shown["trained_on"] == {"labelled": 600}
    assert "mmlupro" in farthing("difficulty", "show").out


@pytest.mark.parametrize(
    ("cheap", "premium", "said"),
    [
        (1.0, 1.0, "in none of the 60 prompts does the better model do better than the other"),
        (0.2, 0.9, "in all of the 60 prompts the better model does better by the same"),
    ],
)
def test_labels_that_tell_nothing_are_told(
    farthing: Run, tmp_path: Path, cheap: float, premium: float, said: str
) -> None:
    outcomes = {"cheap": {"quality": cheap}, "premium": {"quality": premium}}
    alike = write(tmp_path / "alike.jsonl", [{**line, "outcomes": outcomes} for line in lines(60)])
    trained = farthing("difficulty", "train", alike, "--out", tmp_path / "weights.json")
    assert trained.status == 0
    assert trained.err.startswith(f"farthing: {said}")
    assert trained.err.endswith(".\n")


@pytest.mark.parametrize(("weak", "strong", "is_told"), [("0", "1", False), ("1", "0", True)])
def test_pairs_whose_strong_model_is_the_worse_one_are_told(
    farthing: Run, tmp_path: Path, weak: str, strong: str, is_told: bool
) -> None:
    prompts = write(tmp_path / "prompts.jsonl", [{"id": line["id"], "prompt": line["prompt"]} for line in lines(60)])
    table = ["id,source,task,weak,strong,q_weak,q_strong"]
    table += [f"p{at},s,t,cheap,premium,{weak if at % 3 else strong},{strong if at % 3 else weak}" for at in range(60)]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(table) + "\n")
    trained = farthing("difficulty", "train", pairs, prompts, "--out", tmp_path / "weights.json")
    assert trained.status == 0
    wrong = "farthing: the model that is named as strong does worse on the whole, by 0.33: "
    assert trained.err.startswith(wrong) == is_told
    assert ("the wrong way round?\n" in trained.err) == is_told


def test_show_tells_the_weights_that_a_folder_brings(
    farthing: Run, folder: Path, labelled: Path, tmp_path: Path
) -> None:
    assert farthing("difficulty", "show", "--policies", folder, "--json").json["file"] is None
    own = folder / "difficulty.json"
    assert farthing("difficulty", "train", labelled, "--out", own).status == 0
    shown = farthing("difficulty", "show", "--policies", folder, "--json").json
    assert (shown["file"], shown["trained_on"]) == (str(own), {"labelled": 600})
    assert str(own) in "".join(farthing("difficulty", "show", "--policies", folder).out.split())
