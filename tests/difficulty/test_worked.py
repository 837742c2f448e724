"""Worked examples that stand before a question in its own message."""

from __future__ import annotations

import time

import pytest

from router.chat import Chat, Message
from router.difficulty.look import question_of, shape_of
from router.difficulty.worked import MOST_CHARS, without_worked_examples

TWO = "Question: What is two and two?\nAnswer: 4\n\nQuestion: Which colour has the sky?\nAnswer: Blue.\n\n"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        pytest.param(TWO + "Question: Why is it blue?\nAnswer:", "Question: Why is it blue?\nAnswer:", id="labels"),
        pytest.param(TWO + "Question: Why is it blue?", "Question: Why is it blue?", id="no label of the answer"),
        pytest.param(
            "Answer briefly.\n\n" + TWO + "Question: Why is it blue?\nAnswer:",
            "Answer briefly.\n\nQuestion: Why is it blue?\nAnswer:",
            id="instructions stay",
        ),
        pytest.param("Q1: One?\nA1: 1\nQ2: Two?\nA2:\n", "Q2: Two?\nA2:\n", id="numbers, one example"),
        pytest.param(
            "### Input:\nfine\n### Output:\nFINE\n\n### Input:\nwell\n\n### Output:\n",
            "### Input:\nwell\n\n### Output:\n",
            id="headings",
        ),
        pytest.param("**Q:** One?\n**A:** 1\n\n**Q:** Two?\n**A:**", "**Q:** Two?\n**A:**", id="bold"),
        pytest.param(
            "Q: One?\nA: Well.\n\nFirst: count.\n\nSo 1.\nQ: Two?\nA:", "Q: Two?\nA:", id="an answer in paragraphs"
        ),
        pytest.param(
            "Which is odd?\nA. 1\nB. 2\nAnswer: A\n\nIs it?\nAnswer: B\n\nWhich is even?\nA. 3\nB. 4\nAnswer:",
            "Which is even?\nA. 3\nB. 4\nAnswer:",
            id="no label of the question",
        ),
        pytest.param(
            "Is 1 odd? Answer: yes\n\nIs 3? Answer: yes\n\nIs 2 odd? Say yes or no. Answer:",
            "Is 2 odd? Say yes or no. Answer:",
            id="labels within lines",
        ),
        pytest.param("['0?\nAnswer: 0\n\n1?\nAnswer: 1\n\n2?\nAnswer:']", "2?\nAnswer:']", id="quoted"),
        pytest.param("fast\nLabel: adverb\nblue\nLabel: adjective\nred\nLabel:", "red\nLabel:", id="no blank lines"),
        pytest.param(
            "In: 3\nOut: 9\n\nIn: 4\nOut: 16\n\nProve what this is.\n\nAnd why.\nIn: 5\nOut:",
            "Prove what this is.\n\nAnd why.\n\nIn: 5\nOut:",
            id="what to do stands behind the examples",
        ),
        pytest.param(
            "In: 3\nOut: 9\n\nSo 9.\n\nIn: 4\nOut: 16\n\nSo 16.\n\nIn: 5\nOut:",
            "In: 5\nOut:",
            id="answers in paragraphs",
        ),
        pytest.param(
            "Passage: Rain.\nQuestion: Wet?\nAnswer: yes\nPassage: Sun.\nQuestion: Wet?\nAnswer:",
            "Passage: Sun.\nQuestion: Wet?\nAnswer:",
            id="three labels",
        ),
        pytest.param("[INST] 1? [/INST] 1 </s><s>[INST] 2? [/INST]", "[INST] 2? [/INST]", id="turns in one line"),
        pytest.param(
            "<|u|>user\n1?<|e|>\n<|u|>bot\n1<|e|>\n<|u|>user\n2?<|e|>\n<|u|>bot\n",
            "<|u|>user\n2?<|e|>\n<|u|>bot\n",
            id="marks of turns",
        ),
        pytest.param("## Task\n1?\n## Reply\n1\n\n## Task\n2?\n## Reply\n", "## Task\n2?\n## Reply\n", id="titles"),
        pytest.param("[Ask]\n1?\n[Say]\n1\n\n[Ask]\n2?\n[Say]\n", "[Ask]\n2?\n[Say]\n", id="brackets"),
        pytest.param("<ask>1?</ask>\n<say>1</say>\n<ask>2?</ask>\n<say>", "<ask>2?</ask>\n<say>", id="tags"),
        pytest.param("Q1. One?\nA1. 1\n\nQ2. Two?\nA2.", "Q2. Two?\nA2.", id="numbers with a stop"),
        pytest.param("问题：一？\n答案：1\n\n问题：二？\n答案：", "问题：二？\n答案：", id="another script"),  # noqa: RUF001  that script has its own
        pytest.param("nil\n=> 0\n\none\n=> 1\n\ntwo\n=>", "two\n=>", id="arrows"),
        pytest.param("T: one\n```py\n1\n```\n\nT: two\n```py\n", "T: two\n```py\n", id="code that is begun"),
        pytest.param(
            "Q: One?\nThink it over.\nIt is 1.\n\nQ: Two?\nThink it over.", "Q: Two?\nThink it over.", id="a last line"
        ),
        pytest.param("Q: One?\nA: It is 1.\nQ: Two?\nA: It is", "Q: Two?\nA: It is", id="an answer that is begun"),
        pytest.param("<examples>\n<example>1? 1</example>\n</examples>\nIs it 2?", "Is it 2?", id="tags around"),
        pytest.param(
            "0?\nA: nil\nB: two\nSay: A\n\n1?\nA: one\nB: two\nSay: A\n\n2?\nA: three\nB: four\nSay:",
            "2?\nA: three\nB: four\nSay:",
            id="options",
        ),
    ],
)
def test_answered_examples_are_left_out(text: str, left: str) -> None:
    assert without_worked_examples(text).strip() == left.strip()


@pytest.mark.parametrize(
    "text",
    [
        "Question: Why is the sky blue?\nAnswer:",
        "Question: One?\nAnswer: 1\n\nQuestion: Two?",
        "Question: One?\nAnswer:\nQuestion: Two?\nAnswer:",
        "Document 1: rain\nDocument 2: sun\nQuestion: wet?\nAnswer:",
        "From: ann\nSubject: rain\n\nFrom: bob\nSubject: sun\n\nSummarise: these two.",
        "Which is it?\nA: one\nB: two\nA: three\nB: four",
        "Name: Ann\nAge: 3\nName: Bob\nAge: 4\nName: Cy\nAge: 5",
        "Note: be brief.\nNote: be kind.\nWhy?",
        "Steps:\nSteps:",
        "Answer:\n\nAnswer:",
        "Answer: 1\n\nAnswer:",
        "Is 1 odd? Answer: yes. Is 2? Answer:",
        "At 9:40 or 9:50?",
        "Prove it by induction, in this form:\nStep: …\nReason: …\n\nDiscuss the base case.\n\nStep:",
        "Write a form.\nA. [files] main ( ) [functions]\nB. [names] main ( ) [files]\nC. [words] main ( ) [functions]",
        "Mend this page: <ul><li>one</li>\n\n<li>two</li></ul>\n\n<ul><li>three</li></ul>",
        "Why is this wrong?\nint f() {\n  return 1;\n}\n\nint g() {\n  return 2;\n}",
        "Step 1. Look.\nStep 2. Leap.\nStep 3. Fall.",
        "",
    ],
)
def test_a_text_without_answered_examples_is_left_as_it_is(text: str) -> None:
    assert without_worked_examples(text) == text


def test_of_a_text_too_long_to_look_at_the_question_is_left() -> None:
    question = "Question: Why is it blue?\nAnswer:"
    example = f"Question: {'Why? ' * 40}\nAnswer: 4\n\n"
    most = (MOST_CHARS - len(question)) // len(example)
    assert without_worked_examples(example * most + question) == question
    assert without_worked_examples("Be brief.\n\n" + example * (most - 1) + question) == "Be brief.\n\n" + question
    assert without_worked_examples("Be brief.\n\n" + example * (most + 1) + question) == question
    assert without_worked_examples("why " * MOST_CHARS) == "why " * MOST_CHARS


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (r"Q: 1?\nA: 1\n\nQ: 2?\nA:", "Q: 2?\nA:"),
        ("Q: 1?\r\nA: 1\r\rQ: 2?\r\nA:", "Q: 2?\nA:"),
        (r"Pick one.\n\na word", "Pick one.\na word"),
        (r"Find \nu and \nabla.", r"Find \nu and \nabla."),
        ("Print \\n\nPrint \\N", "Print \\n\nPrint \\N"),
    ],
)
def test_lines_that_were_encoded_twice_or_end_otherwise_are_lines(text: str, question: str) -> None:
    assert question_of(Chat(model="auto", messages=[Message(role="user", content=text)])) == question


def test_a_long_text_that_was_encoded_twice_holds_nothing_up() -> None:
    chat = Chat(model="auto", messages=[Message(role="user", content=r"a\n" * 1_500_000)])
    started = time.thread_time()
    assert question_of(chat) == chat.last_user_text()
    assert time.thread_time() - started < 0.03


def test_examples_are_paid_for_and_still_say_how_much_is_asked_for() -> None:
    text = "Reply with a letter.\n\nOdd?\nA. 1\nB. 2\nAnswer: A\n\nOdd?\nAnswer: B\n\nEven?\nA. 3\nB. 4\nAnswer:"
    chat = Chat(model="auto", messages=[Message(role="user", content=text)])
    question = question_of(chat)
    shape = shape_of(chat, question)
    assert question == "Even?\nA. 3\nB. 4\nAnswer:"
    assert len(question) + shape.other_chars == len(text)
    assert shape.brief
    assert not shape.goes_on
