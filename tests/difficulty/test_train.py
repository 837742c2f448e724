"""Training is reproducible to the byte, and the shipped weights are what their card says."""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import router.difficulty
from difficulty.labelled_sets import lines, write
from router.difficulty.cues import Shape
from router.difficulty.look import look_at
from router.difficulty.scorer import Scorer
from router.difficulty.train import read_examples, train
from router.difficulty.weights import SHIPPED, read_weights, shipped_weights, write_weights
from router.errors import UnusableFile

CARD = Path(__file__).parents[2] / "docs" / "difficulty.md"
SHIPPED_FILE = Path(router.difficulty.__file__).parent / SHIPPED


def pairs(folder: Path, rows: list[dict[str, Any]]) -> list[Path]:
    """Write a set as a CSV of pairs, gzipped, and the JSON lines of its prompts."""
    table, prompts = folder / "pairs.csv.gz", folder / "prompts.jsonl"
    with gzip.open(table, "wt", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("id", "source", "bench", "task", "weak", "strong", "q_weak", "q_strong"))
        for row in rows:
            outcomes = row["outcomes"]
            qualities = (outcomes["cheap"]["quality"], outcomes["premium"]["quality"])
            writer.writerow((row["id"], "labelled", "b", "", "cheap", "premium", *qualities))
    write(prompts, [{"id": row["id"], "prompt": row["prompt"]} for row in rows])
    return [table, prompts]


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    file = write(tmp_path / "labelled.jsonl", lines(200))
    for name in ("one", "other"):
        write_weights(train(read_examples([file])), tmp_path / name)
    first = (tmp_path / "one").read_bytes()
    assert first == (tmp_path / "other").read_bytes()
    # Of this very made set, on every machine and version of Python.
    assert hashlib.sha256(first).hexdigest() == "5064028bff60c58c9d30bef0a5f4070c55d1a560db3d891836c3b87c0c72f223"


def test_files_of_one_name_train_alike_in_any_order(tmp_path: Path) -> None:
    files = []
    for name, rows in (("one", lines(200)[:100]), ("other", lines(200)[100:])):
        (tmp_path / name).mkdir()
        numbered = [row | {"id": number} for number, row in enumerate(rows)]
        files.append(write(tmp_path / name / "labelled.jsonl", numbered))
    forth, back = train(read_examples(files)), train(read_examples(reversed(files)))
    assert (forth.data_sha256, forth.quantised) == (back.data_sha256, back.quantised)


def test_pairs_and_labelled_lines_train_the_same_words(tmp_path: Path) -> None:
    rows = lines(100)
    one = train(read_examples([write(tmp_path / "labelled.jsonl", rows)]))
    assert train(read_examples(pairs(tmp_path, rows))).quantised == one.quantised


def test_words_that_gain_are_scored_above_those_that_do_not(tmp_path: Path) -> None:
    scorer = Scorer(train(read_examples([write(tmp_path / "labelled.jsonl", lines(400))])))
    poem, city = (look_at(text, Shape()) for text in ("Write a poem about the Rhine", "Which city lies on the Rhine"))
    assert scorer.score(poem).gain > scorer.score(city).gain


def test_worked_examples_that_all_prompts_begin_with_teach_nothing(tmp_path: Path) -> None:
    examples = "".join(f"Q: Which city lies on the river {n}?\nA: None.\n" for n in range(40))
    alone, behind = (
        train(
            read_examples(
                [write(tmp_path / "labelled.jsonl", [row | {"prompt": before + row["prompt"]} for row in rows])]
            )
        )
        for rows, before in ((lines(100), ""), (lines(100), examples))
    )
    assert behind.quantised == alone.quantised


def test_a_source_that_gains_throughout_teaches_nothing(tmp_path: Path) -> None:
    gaining = [
        {"id": f"a{n}", "prompt": f"alpha {n}", "outcomes": {"cheap": {"quality": 0}, "premium": {"quality": 1}}}
        for n in range(60)
    ]
    level = [
        {"id": f"b{n}", "prompt": f"beta {n}", "outcomes": {"cheap": {"quality": 0.9}, "premium": {"quality": 1}}}
        for n in range(60)
    ]
    files = [write(tmp_path / "gaining.jsonl", gaining), write(tmp_path / "level.jsonl", level)]
    assert set(train(read_examples(files)).by_place()) == {0.0}


def test_too_few_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="10 prompts with the outcomes of two models are too few"):
        train(read_examples([write(tmp_path / "labelled.jsonl", lines(10))]))


def test_a_pair_without_its_prompt_is_told_with_its_line(tmp_path: Path) -> None:
    table, prompts = pairs(tmp_path, lines(60))
    prompts.write_bytes(b"".join(prompts.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(UnusableFile, match=r"pairs.csv.gz:2: .* has no prompt for the id 'p0'"):
        read_examples([table, prompts])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("made,poems,cheap", "the row has fewer columns than the first line"),
        (f'made,"{"x" * 200_000}",cheap,premium,0,1,p0', r"field larger than field limit \(131072\)"),
    ],
)
def test_a_row_that_is_no_pair_is_told_with_its_line(tmp_path: Path, row: str, said: str) -> None:
    table, prompts = tmp_path / "pairs.csv", write(tmp_path / "prompts.jsonl", lines(2))
    table.write_text(f"source,task,weak,strong,q_weak,q_strong,id\n{row}\n")
    with pytest.raises(UnusableFile, match=rf"pairs.csv:2: {said}"):
        read_examples([table, prompts])


def test_prompts_that_are_nested_without_end_are_told_with_their_line(tmp_path: Path) -> None:
    table, prompts = pairs(tmp_path, lines(60))
    with prompts.open("a") as more:
        more.write('{"x": ' + "[" * 100_000)
    with pytest.raises(UnusableFile, match=r"prompts.jsonl:61: it is nested too deeply to be read"):
        read_examples([table, prompts])


@pytest.mark.parametrize("quality", ["nan", "7", "-0.1", "inf", "", "good"])
def test_a_pair_whose_quality_is_none_is_told_with_its_line(tmp_path: Path, quality: str) -> None:
    table, prompts = tmp_path / "pairs.csv", write(tmp_path / "prompts.jsonl", lines(2))
    head = "id,source,task,weak,strong,q_weak,q_strong"
    table.write_text(f"{head}\np0,made,poems,cheap,premium,0,1\np1,made,poems,cheap,premium,{quality},1\n")
    with pytest.raises(UnusableFile, match=rf"pairs.csv:3: q_weak is '{quality}' .* numbers from 0 to 1"):
        read_examples([table, prompts])


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"format": 9}'])
def test_a_file_that_is_no_weights_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.json").write_bytes(content)
    with pytest.raises(UnusableFile, match=r"weights\.json"):
        read_weights(tmp_path / "weights.json")


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("format", 2, r"is of format 2; this version reads 1"),
        ("quantised", "AAAA", r"damaged"),
        ("reference", [0.0], r"damaged"),
        ("reference", [float(-at) for at in range(101)], r"damaged"),
        ("spread", 0, r"damaged"),
    ],
)
def test_what_is_wrong_with_weights_is_told(tmp_path: Path, member: str, value: object, said: str) -> None:
    weights = msgspec.json.decode(SHIPPED_FILE.read_bytes()) | {member: value}
    (tmp_path / "weights.json").write_bytes(msgspec.json.encode(weights))
    with pytest.raises(UnusableFile, match=said):
        read_weights(tmp_path / "weights.json")


def test_weights_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_weights(shipped_weights(), tmp_path / "weights.json")
    write_weights(read_weights(tmp_path / "weights.json"), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == SHIPPED_FILE.read_bytes()


def test_the_card_tells_of_the_shipped_weights() -> None:
    card, weights = CARD.read_text("utf-8"), shipped_weights()
    assert hashlib.sha256(SHIPPED_FILE.read_bytes()).hexdigest() in card
    assert weights.data_sha256 in card
    for prompts in weights.trained_on.values():
        assert f"{prompts:,}" in card
    assert re.search(rf"{SHIPPED_FILE.stat().st_size:,} bytes", card)
    assert SHIPPED_FILE.stat().st_size < 1_000_000


def test_the_reference_ascends() -> None:
    reference = shipped_weights().reference
    assert reference == sorted(reference)
