"""Material that a question is asked of, in the same message."""

from __future__ import annotations

import pytest

from router.difficulty.cues import NAMES, Shape
from router.difficulty.gauge import Gauge
from router.difficulty.look import look_at
from router.difficulty.material import END_CHARS, FEWEST_CHARS, FEWEST_NAMED_CHARS, without_material

PAGE = ("Rain falls. Why it falls, and how to prove it, must be explained step by step. " * 20)[: FEWEST_CHARS + 100]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Context: {PAGE}\n\nQuestion: Who was wet?\nAnswer:", "Question: Who was wet?\nAnswer:"),
        (f"Use the context.\n\n{PAGE}\nQuestion: Who was wet?", "Question: Who was wet?"),
        (f"Why is this slow?\n{PAGE}\nquery: SELECT 1 FROM rain", "Why is this slow?\nquery: SELECT 1 FROM rain"),
        (f"Tell who was wet.\n\nArticle:\n{PAGE}\nQuestion: Who then?", "Tell who was wet.\n\nQuestion: Who then?"),
        (f"{PAGE}\n---\n**User question:** Who was wet?", "**User question:** Who was wet?"),
        (f"{PAGE}\nQuery: who was wet\n", "Query: who was wet\n"),
        (f"Question: one?\n{PAGE}\nQuestion: two, or three?", "Question: two, or three?"),
        (f"<context>\n{PAGE}\n</context>\n\nWho was wet at last?", "Who was wet at last?"),
        (f"Who was wet? <documents><document id='1'>{PAGE}</document></documents>", "Who was wet?"),
        (f"{PAGE}</passage>\nWho was wet at last?", "Who was wet at last?"),
        (f"Tell <search_results>{PAGE}</search_results> who was wet.", "Tell \n who was wet."),
    ],
)
def test_marked_material_is_left_out(text: str, left: str) -> None:
    assert _left(text) == left


@pytest.mark.parametrize(
    "text",
    [
        f"{PAGE}\n\nWho was wet at last?",
        f"{PAGE}\nQuestion: Why?",
        f"<document>{PAGE}</document>",
        f"<document>{PAGE}</document>\nSort it.",
        f"<code>{PAGE}</code>\nWhat is wrong with this?",
        f"<context>{PAGE}\nWho was wet at last?",
        f"Context: rain\nQuestion: Who was wet?\n{PAGE}",
        "Context: rain\nQuestion: Who was wet?",
    ],
)
def test_what_is_not_marked_as_material_or_has_no_question_beside_it_stays(text: str) -> None:
    assert _left(text) == text


def test_less_than_a_page_belongs_to_the_question() -> None:
    asked = "\nQuestion: Who was wet?"
    before = PAGE[: FEWEST_CHARS - len("\n") - 1]
    assert _left(before + asked) == before + asked
    assert _left(before + "." + asked) == asked.strip()


@pytest.mark.parametrize("name", ["Passage:", "Document 3:", "**Context**:"])
def test_less_of_material_is_needed_where_it_is_named(name: str) -> None:
    whole = f"{name}\n{PAGE}"[: FEWEST_NAMED_CHARS - len("\n") - 1] + "{}\nQuestion: Who was wet?"
    assert _left(whole.format("")) == whole.format("")
    assert _left(whole.format(".")) == "Question: Who was wet?"
    shared = whole.format(PAGE[:50]).removeprefix(name)
    assert without_material(shared, name + shared) == "Question: Who was wet?"
    assert without_material(shared, shared) == shared


def test_less_of_material_is_needed_where_it_has_tags() -> None:
    tagged = f"<context>{PAGE[: FEWEST_NAMED_CHARS - 1]}</context>\nWho was wet?"
    assert _left(tagged) == tagged
    assert _left(tagged.replace("</", ".</")) == "Who was wet?"


def test_a_question_far_from_the_end_is_not_looked_for() -> None:
    asked = PAGE + "\nQuestion: " + "why " * 2_000
    assert _left(asked) == asked
    near = PAGE + "\nQuestion: " + "w" * (END_CHARS - 10)
    assert len(_left(near)) == END_CHARS


def test_material_holds_no_cue_and_counts_by_its_length() -> None:
    asked = "Question: Who was wet at last?"
    alone, behind = look_at(asked, Shape()), look_at(f"{PAGE}\n{asked}", Shape())
    differ = {name for name, one, other in zip(NAMES, alone.cues, behind.cues, strict=True) if one != other}
    assert differ == {"length"}
    assert list(alone.grams) == list(behind.grams)
    assert behind.tokens > 10 * alone.tokens


def test_a_question_that_all_requests_ask_leaves_the_material_to_be_judged() -> None:
    gauge = Gauge()
    pages = [
        f"Page {word}. {PAGE}\nQuestion: Is this a complaint?\nAnswer:" for word in ("one", "two", "three", "four")
    ]
    gauge.share("mail", pages)
    assert list(gauge.read("mail", pages[0], Shape()).look.grams) == list(look_at(f"Page one. {PAGE}", Shape()).grams)


def test_marks_of_turns_are_no_words() -> None:
    marked = look_at("<|im_start|>Which gas is lightest?<|im_end|>", Shape())
    assert marked.grams == look_at("Which gas is lightest?", Shape()).grams
    assert marked.cues[NAMES.index("plain")] == 0


def _left(text: str) -> str:
    return without_material(text, text)
