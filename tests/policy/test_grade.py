"""The grade that a judge's words mean."""

from __future__ import annotations

import time

import msgspec
import pytest

from router.pipeline.judging import grade_in, grade_of

GRADES = [
    ("0.8", 0.8), ("1", 1), ("0", 0), ("**0.9**", 0.9), ("0.5.", 0.5), (".5", 0.5), ("0,8", 0.8), ("yes", 1),
    ("No.", 0), ("Yes, it is.", 1), ("No, it misses 1 point.", 0), ("No issues: 0.9", 0.9), ("Grade: 1", 1),
    ("I give it 1.", 1), ("1. It is polite.", 1), ("0 - it is rude", 0), ("1\n\nIt misses nothing.", 1),
    ("0.9\n\nIt misses 1 point.", 0.9),
    ("0.2/1", 0.2), ("0.2 out of 1", 0.2), ("0.75/1.0", 0.75), ("0.3 (on a scale from 0 to 1)", 0.3),
    ("On a scale from 0.0 to 1.0: 0.3", 0.3), ("1/10", 0.1), ("8/10", 0.8), ("10/10", 1), ("7 out of 10", 0.7),
    ("80%", 0.8), ("<think>0.2 or 1?</think>0.9", 0.9),
    ("0. It says 1,000 instead of 2,000.", 0), ("0\n\nThe price is 0.99.", 0), ("**0.2**\n\nIt should say 0.9.", 0.2),
    ("Yes. " + "It is right. " * 100, 1), ("0.3\n" + "It is 0.9 wrong. " * 100, 0.3),
]  # fmt: skip
NO_GRADES = [
    "", "I like it", "It misses 1 point", "1.5", "2", "10", "100", "-0.5", "11/10", "nan", "0/0", "3 of 4",
    "<think>\nThe answer says 0.9, but", "casino, " + "x" * 996, "1,000",
]  # fmt: skip


@pytest.mark.parametrize(("words", "grade"), GRADES)
def test_a_grade_is_read_however_it_is_worded(words: str, grade: float) -> None:
    assert grade_in(words) == grade


@pytest.mark.parametrize("words", NO_GRADES)
def test_what_is_no_grade_from_0_to_1_is_none(words: str) -> None:
    assert grade_in(words) is None


@pytest.mark.parametrize(("said", "grade"), [("0.9", 0.9), ("", None), (None, None)])
def test_what_a_judge_reasoned_is_no_grade(said: str | None, grade: float | None) -> None:
    message = {"role": "assistant", "content": said, "reasoning_content": "It may be 0.2"}
    assert grade_of(msgspec.json.encode({"choices": [{"index": 0, "message": message}]})) == grade
    assert (grade_of(b'{"choices": []}'), grade_of(b"{}")) == (None, None)


@pytest.mark.parametrize("unit", ["1", "0 ", "0.", "1/", "yes ", "%", "</think>", "\n", "1 out of "])
def test_a_hostile_judge_is_read_in_bounded_time(unit: str) -> None:
    started = time.perf_counter()
    grade_in(unit * 50_000)
    assert time.perf_counter() - started < 1
