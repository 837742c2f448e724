"""Worked examples that stand before a question in its own message are told from it, and left out.

They are told by their labels ("Input:", "## Output", "[INST]", and so on until the last, which is still to be answered)
or by tags around them, so that it does not matter where they are chosen anew for each request; `shared` knows those
that requests have in common.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import NamedTuple

from router.difficulty.shared import is_enough

MOST_CHARS = 24_000
"""Of a longer text only so much of its end is looked at: the time is bounded."""
MOST_LABELS = 500
LAST_CHARS = 40
"""In so many characters the label of the last answer stands."""
MOST_LINE_CHARS = 80
"""A last line that is longer is no label, though lines before it begin with the same words."""
FEWEST_UNASKED = 2
"""So many examples there are at the least where the last answer or the questions have no label; one may be a remark,
or show the form of the answer."""
_WORDS = r"[^\W\d_](?:[^\W\d_]| ){0,23}?"
_LABEL = re.compile(
    rf"^[ \t>*#-]{{0,8}}(?P<said>{_WORDS})[ \t]?\d{{0,3}}[ \t*]{{0,3}}[:\uff1a][ \t*]{{0,3}}"
    rf"|^#{{1,6}}[ \t]+(?P<heading>{_WORDS})[ \t]?\d{{0,3}}[ \t]*$"
    r"|^(?P<numbered>[A-Za-z]{1,8})\d{1,3}[.)](?=\s|\Z)"
    r"|(?:^|(?<=>))(?P<opened>\[[A-Za-z ]{2,24}\]|<[A-Za-z_]{1,24}>)"
    r"|(?P<turn>\[/[A-Za-z ]{2,24}\]|</[A-Za-z_]{1,24}>|<\|\w{1,32}\|>\w{0,16})",
    re.MULTILINE,
)
"""A label begins a line, but for the end of a tag and the mark of a turn, which prose has none of."""
_SIGNS = (":", "\uff1a", "]", ">", "#", ".", ")")
"""One of these is in all labels, twice in examples, and is looked for in a tenth of the time."""
_LAST_LABEL = re.compile(
    r"(?:(?<![^\W\d_])[^\W\d_]{1,24}[ \t*]{0,3}[:\uff1a]|[=-]>|\[/[A-Za-z ]{2,24}\]|<\|\w{1,32}\|>\w{0,16}"
    r"|^(?:\[[A-Za-z ]{2,24}\]|<[A-Za-z_]{2,24}>))(?=[\s*'\"\])]{0,8}\Z)",
    re.MULTILINE,
)
_OPTIONS = frozenset("abcdefghij")
"""Of these one that comes first is no question's: options are labelled so."""
_TAGGED = re.compile(r"<(examples?|demonstrations?)>", re.IGNORECASE)


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
    text = _without_tagged(text)
    end = text[-MOST_CHARS:]
    if sum(map(end.count, _SIGNS)) < FEWEST_UNASKED:
        return text
    left = _from_last_question(text) or _behind_last_answer(end)
    return text if left is None else left


def _without_tagged(text: str) -> str:
    opened = _TAGGED.search(text, 0, MOST_CHARS)
    if opened is None:
        return text
    closing = f"</{opened[1]}>"
    closed = text.rfind(closing, opened.end())
    left = f"{text[: opened.start()]}\n{text[closed + len(closing) :]}".strip()
    return left if closed >= 0 and is_enough(left) else text


def _from_last_question(text: str) -> str | None:
    """Cut where each question begins a line with the same label, and so does each answer; None where not.

    Of a text that is too long to look at only the question is left.
    """
    whole = len(text) <= MOST_CHARS
    if not whole:
        text = text[-MOST_CHARS:].partition("\n\n")[2]
    labels = _labels_in(text)
    names = [label.name for label in labels]
    question = next((name for name, count in Counter(names).items() if count > 1), None)
    if question is None or question in _OPTIONS:
        return None
    begins = [at for at, name in enumerate(names) if name == question]
    *worked, asked = (labels[start:end] for start, end in zip(begins, [*begins[1:], len(labels)], strict=True))
    if not _are_answered(worked, asked):
        return None
    before = text[: worked[0][0].start] if whole else ""
    return before + _behind_examples(text, worked, asked[0].start) + text[asked[0].start :]


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
    """Return the labels in order; none where they are too many to be those of examples.

    The last line is a label, too, where lines before begin with it ("Let's think step by step.", "A: The answer is").
    """
    matches = islice(_LABEL.finditer(text), MOST_LABELS + 1)
    found = [(match.start(), match.end(), match[match.lastgroup or 0].lower()) for match in matches]
    if lasts := _last_lines_in(text):
        inside = {at for start, end, _ in lasts for at in range(start, end)}
        found = sorted([*lasts, *(label for label in found if label[0] not in inside)])
    if not found or len(found) > MOST_LABELS:
        return []
    begins = [*(start for start, _, _ in found[1:]), len(text)]
    return [
        _Label(name, start, text[end:begin].strip()) for (start, end, name), begin in zip(found, begins, strict=True)
    ]


def _last_lines_in(text: str) -> list[tuple[int, int, str]]:
    """Return where lines begin with all of the last line, that one included; nothing where no other does."""
    last = text.rstrip().rpartition("\n")[2]
    if len(last) > MOST_LINE_CHARS or not any(map(str.isalpha, last)):
        return []
    found: list[tuple[int, int, str]] = []
    at = text.find(f"\n{last}")
    while at >= 0 and len(found) <= MOST_LABELS:
        found.append((at + 1, at + 1 + len(last), f"{last.lower()}\n"))
        at = text.find(f"\n{last}", at + 1)
    return found if len(found) > 1 else []


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
