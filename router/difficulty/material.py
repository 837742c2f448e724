"""What a question is asked of (retrieved passages, search results) is told from it by labels or tags, and left out.

Such text differs from request to request, so that `shared` does not know it, and holds every cue by chance.
"""

from __future__ import annotations

import re

from router.difficulty.shared import is_enough

FEWEST_CHARS = 1_000
"""Less than this is no material: a story that a sum is told in belongs to the question."""
FEWEST_NAMED_CHARS = 200
"""The same where it is named ("Passage:", `<context>`)."""
LONGEST_ASKED_CHARS = 300
ENDS_OF_ASKED = ("?", ":", "\uff1f", "\uff1a")
"""A first line that is no longer and ends so may say what to do with the material behind it; others are part of it."""
BEGIN_CHARS, END_CHARS = 6_000, 6_000
"""Material begins in the first so many characters, and ends in the last, as a question behind it begins there."""
_QUESTION = re.compile(r"^[ \t>*#-]{0,8}(?:user(?:'s)? )?(?:question|query)[ \t*]{0,3}:", re.MULTILINE | re.IGNORECASE)
_PIECE = "(?:article|context|document|excerpt|paragraph|passage)s?"
_NAMED = re.compile(rf"^[ \t>*#-]{{0,8}}{_PIECE}[ \t]?\d{{0,3}}[ \t*]{{0,3}}:", re.MULTILINE | re.IGNORECASE)
_NAMES = f"((?:retrieved_|search_)?(?:{_PIECE}|background|knowledge|results|sources?))"
_OPENED = re.compile(rf"<{_NAMES}(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)
_CLOSED = re.compile(rf"</{_NAMES}>", re.IGNORECASE)


def without_material(text: str, whole: str) -> str:
    """Return what is asked in a text, without a piece of material that is marked; else the text as it is.

    `whole` is the text with what requests share, where the name of the material may stand.

    Marked are what stands before the last line that begins with "Question:" or "Query:", and what stands from the first
    to the last of tags such as `<context>` and `<document>`; where the first was left out with all that requests share,
    from the beginning. What is asked before it stays, for the label may be that of a line of a log.
    """
    if len(text) < FEWEST_NAMED_CHARS:
        return text
    return _behind_label(_without_tagged(text), whole)


def _without_tagged(text: str) -> str:
    opened = _OPENED.search(text, 0, BEGIN_CHARS)
    begins, ends = opened.span() if opened else (0, 0)
    named = opened[1] if opened else None
    closed = None
    for tag in _CLOSED.finditer(text, max(ends, len(text) - END_CHARS)):
        if named is None or tag[1] == named:
            closed = tag
    if closed is None or closed.start() - ends < FEWEST_NAMED_CHARS:
        return text
    left = f"{text[:begins]}\n{text[closed.end() :]}".strip()
    return left if is_enough(left) else text


def _behind_label(text: str, whole: str) -> str:
    behind = max(FEWEST_NAMED_CHARS, len(text) - END_CHARS)
    last = max((label.start() for label in _QUESTION.finditer(text, behind)), default=0)
    if not (last and is_enough(text[last:])):
        return text
    if last < FEWEST_CHARS and not _NAMED.search(whole[:BEGIN_CHARS]):
        return text
    return f"{_asked_before(text[:last])}{text[last:]}"


def _asked_before(text: str) -> str:
    """Return what is asked before material: what stands before its name, or else a first line that asks, or nothing."""
    if named := _NAMED.search(text, 0, BEGIN_CHARS):
        return text[: named.start()]
    first = text.lstrip()[: LONGEST_ASKED_CHARS + 1].partition("\n")[0]
    asks = len(first) <= LONGEST_ASKED_CHARS and first.rstrip().endswith(ENDS_OF_ASKED) and is_enough(first)
    return f"{first}\n" if asks else ""
