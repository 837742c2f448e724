"""What is written with symbols, as ">= 0.7", said in the words that a `when` has for it: {gte: 0.7}."""

from __future__ import annotations

import re
from collections.abc import Collection

_WORD_OF = {
    ">=": "gte",
    "=>": "gte",
    "≥": "gte",
    "<=": "lte",
    "=<": "lte",
    "≤": "lte",
    "==": "eq",
    "=": "eq",
    "!=": "ne",
    "<>": "ne",
    "≠": "ne",
    ">": "gt",
    "<": "lt",
}
_SYMBOL = "|".join(map(re.escape, _WORD_OF))
# What was taken is never given back (`+` behind a repeat): blanks could else be shared out in ever more ways.
_PART = rf"(?:({_SYMBOL})\s*+|\b(eq|ne|gte?|lte?)[\s:]\s*+)([\w.-]++)"
_WHOLE = re.compile(rf"{_PART}(?:\s*+(?:,|&&?|\band\b)?+\s*+{_PART})*+")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
LONGEST = 100
"""Of a text that may be one, in characters."""


def said_in_words(text: str, takes: Collection[str]) -> str | None:
    """Return the mapping that a comparison in symbols means, as "{gt: 10, lte: 4000}"; None where it is none.

    `takes` are the operators that the fact has.
    """
    if len(text) > LONGEST or not _WHOLE.fullmatch(text.strip()):
        return None
    parts = [(_WORD_OF.get(symbol, word), value) for symbol, word, value in re.findall(_PART, text)]
    if any(word not in takes for word, _ in parts):
        return None
    return "{" + ", ".join(f"{word}: {value}" for word, value in parts) + "}"


def compares_a_number(text: str) -> bool:
    """Say whether it is such a comparison with numbers, which a text is unlikely to be by chance."""
    found = _WHOLE.fullmatch(text.strip()) if len(text) <= LONGEST else None
    return found is not None and all(_NUMBER.fullmatch(value) for _, _, value in re.findall(_PART, text))
