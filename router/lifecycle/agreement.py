"""How much two answers to the same request say the same, as a number from 0 to 1; the texts themselves go nowhere."""

from __future__ import annotations

import re
from collections import Counter

import msgspec

MOST_CHARS = 20_000
"""Of each answer that are compared, which takes some milliseconds."""
_WORDS = re.compile(r"\w+")


def agreement_of(one: str, other: str) -> float:
    """Return 1 where both are the same JSON or the same words, else the share of words that they have in common.

    That share is F1 over the words with their counts, without regard to case, order and punctuation: the measure of
    SQuAD (Rajpurkar and others, 2016, section 6.1).
    """
    one, other = one[:MOST_CHARS], other[:MOST_CHARS]
    if one == other or _same_json(one, other):
        return 1.0
    ours, theirs = Counter(_WORDS.findall(one.casefold())), Counter(_WORDS.findall(other.casefold()))
    if not ours or not theirs:
        return float(ours == theirs and one.split() == other.split())
    return round(2 * (ours & theirs).total() / (ours.total() + theirs.total()), 4)


def _same_json(one: str, other: str) -> bool:
    try:
        return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
