"""Worked examples that stand before a question in its own message are told from it, and left out.

They are told by their labels ("Input:", "Output:", and so on until the last, which is still to be answered), so that it
does not matter where they are chosen anew for each request; `shared` knows those that requests have in common.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

MOST_CHARS = 24_000
"""A longer text is left as it is: the time is bounded, and most of it is material rather than examples."""
MOST_LABELS = 500
LAST_CHARS = 40
"""In so many characters the label of the last answer stands."""
FEWEST_UNASKED = 2
"""So many examples there are at the least where the last answer or the questions have no label; one may be a remark,
or show the form of the answer."""
_LABEL = re.compile(r"^[ \t>*#-]{0,8}([A-Za-z][A-Za-z ]{0,23}?)[ \t]?\d{0,3}[ \t*]{0,3}:[ \t*]{0,3}", re.MULTILINE)
_LAST_LABEL = re.compile(r"\b[A-Za-z]{1,24}[ \t*]{0,3}:(?=[\s*'\"\])]{0,8}\Z)")


class _Label(NamedTuple):
    name: str
    start: int
    value: str
    """What stands behind it, up to the next label; empty where that is still to be written."""


def without_worked_examples(text: str) -> str:
    """Return a text without its answered examples: what stands before them, and the question that is left.

    Where the questions have no label of their own, what stands before the first can't be told from it, and goes too. A
    text without examples is returned as it is.
    """
    if len(text) > MOST_CHARS or text.count(":") < FEWEST_UNASKED:
        return text
    return _from_last_question(text) or _behind_last_answer(text) or text


def _from_last_question(text: str) -> str | None:
    """Cut where each question begins a line with the same label, and so does each answer; None where not."""
    labels = _labels_in(text)
    names = [label.name for label in labels]
    question = next((name for name in names if names.count(name) > 1), None)
    if question is None:
        return None
    begins = [at for at, name in enumerate(names) if name == question]
    *worked, asked = (labels[start:end] for start, end in zip(begins, [*begins[1:], len(labels)], strict=True))
    if not _are_answered(worked, asked):
        return None
    return text[: worked[0][0].start] + _behind_examples(text, worked, asked[0].start) + text[asked[0].start :]


def _behind_examples(text: str, worked: list[list[_Label]], until: int) -> str:
    """Return the paragraphs behind the last example's answer, which may say what to do with the question behind them.

    Where there is no other example, or one whose answer has paragraphs too, they are the answer's own: empty then.
    """
    *others, last = (example[-1] for example in worked)
    if not others or any("\n\n" in answer.value for answer in others):
        return ""
    ends = text.find("\n\n", last.start, until)
    left = text[ends:until].strip() if ends >= 0 else ""
    return f"{left}\n\n" if left else ""


def _labels_in(text: str) -> list[_Label]:
    """Return the labels that lines begin with, in order; none where they are too many to be those of examples."""
    found = list(islice(_LABEL.finditer(text), MOST_LABELS + 1))
    if not found or len(found) > MOST_LABELS:
        return []
    ends = [*(label.start() for label in found[1:]), len(text)]
    return [
        _Label(label[1].lower(), label.start(), text[label.end() : end].strip())
        for label, end in zip(found, ends, strict=True)
    ]


def _are_answered(worked: list[list[_Label]], asked: list[_Label]) -> bool:
    """Say whether all examples have an answer under one label, and what is asked has none under it."""
    answers = set.intersection(*({label.name for label in example[1:] if label.value} for example in worked))
    if asked[-1].value:
        return len(worked) >= FEWEST_UNASKED and not answers <= {label.name for label in asked}
    return asked[-1].name in answers and all(label.name != asked[-1].name for label in asked[:-1])


def _behind_last_answer(text: str) -> str | None:
    """Cut where a text ends with a label that stands before each answer; None where it does not.

    An answer ends at the first blank line, or else with its line.
    """
    last = _LAST_LABEL.search(text, max(0, len(text) - LAST_CHARS))
    if last is None:
        return None
    if text.count(last[0], 0, last.start()) < FEWEST_UNASKED:
        return None
    begin = text.rfind(last[0], 0, last.start())
    begin += len(last[0])
    begin += len(text[begin:]) - len(text[begin:].lstrip())
    ends = text.find("\n\n", begin)
    if ends < 0:
        ends = text.find("\n", begin)
    is_asked = ends >= 0 and bool(text[ends : last.start()].strip())
    return text[ends:].lstrip() if is_asked else None
