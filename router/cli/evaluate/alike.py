"""Which prompts of a set nearly repeat an earlier one: from such a set less is learned than its size says.

Compared by words and pairs of words, figures left out. Exact where two prompts are compared; which are compared is
found by min-wise hashes, the same on every machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from router.difficulty.cues import looked_at
from router.difficulty.grams import grams_of, words_of

ALIKE = 0.45
"""Shared words and pairs, of all that two prompts hold, from which they are nearly the same: a template with another
name in a sentence of eight words has 0.6, two questions of one kind 0.3."""
BANDS, ROWS = 10, 2
COMPARED = 4
"""Earlier prompts that one is compared with for each band."""
_PRIME = 2_147_483_647


def near_duplicates(texts: Iterable[str]) -> list[bool]:
    """Say of each text whether it is nearly the same as one before it; leave out first what all of them share."""
    hashes: dict[int, tuple[int, ...]] = {}
    earlier: dict[tuple[int, ...], list[frozenset[int]]] = defaultdict(list)
    found: list[bool] = []
    for text in texts:
        words = [word for word in words_of(looked_at(text).lower()) if not word.isdigit()]
        own = frozenset(grams_of(words or [""]))
        for place in own:
            if place not in hashes:
                hashes[place] = _hashes(place)
        least = tuple(map(min, zip(*(hashes[place] for place in own), strict=True)))
        bands = [(band, *least[band * ROWS : (band + 1) * ROWS]) for band in range(BANDS)]
        found.append(any(_is_alike(own, other) for band in bands for other in earlier[band]))
        if found[-1]:
            continue
        for band in bands:
            if len(earlier[band]) < COMPARED:
                earlier[band].append(own)
    return found


def _hashes(place: int) -> tuple[int, ...]:
    return tuple((place + 1) * (2 * number + 1) * 40_503_001 % (_PRIME - 2 * number) for number in range(BANDS * ROWS))


def _is_alike(one: frozenset[int], other: frozenset[int]) -> bool:
    shared = len(one & other)
    return shared >= ALIKE * (len(one) + len(other) - shared)
