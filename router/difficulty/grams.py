"""Words and pairs of words as places in a table. The same text gives the same places on every machine, for ever."""

from __future__ import annotations

import re
from itertools import pairwise
from zlib import crc32

BITS = 15
SIZE = 1 << BITS
MOST_WORDS = 1_500
_WORD = re.compile(r"[^\W\d_]+|\d|[^\w\s]")
_MASK = SIZE - 1


def words_of(lowered: str) -> list[str]:
    """Return a lower-case text's words, digits and signs, each digit for itself; at most MOST_WORDS of them."""
    return _WORD.findall(lowered)[:MOST_WORDS]


def grams_of(words: list[str]) -> tuple[int, ...]:
    """Return the places of the distinct words and pairs, in ascending order; may be empty."""
    known = {word: crc32(word.encode("utf-8", "replace")) for word in set(words)}
    hashes = [known[word] for word in words]
    places = {number & _MASK for number in known.values()}
    places.update([(a * 31 + (b >> 3)) & _MASK for a, b in pairwise(hashes)])
    return tuple(sorted(places))
