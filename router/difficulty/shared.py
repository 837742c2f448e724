"""What the prompts of a task share (instructions, worked examples) is told from what is asked, and left out.

Holds hashes of recent beginnings, never text. A beginning counts as shared once `ENOUGH` recent prompts had it that are
not all the same, for a question that is often asked is no instruction; or where it is told: what other replicas found,
and what was found before a restart.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Set
from typing import NamedTuple
from zlib import adler32, crc32

ENOUGH = 3
MOST_MARKS = 256
MOST_CHARS = 12_000
"""A beginning may end after each sentence and line in so many characters, MOST_MARKS of them at the most."""
COARSE_CHARS, COARSE_STEP = 48_000, 300
"""Past those, in so many characters, at ends of lines so far apart: worked examples may be as long as a chapter, and a
piece of the last one does no harm."""
MOST_KEPT = 4_096
SHORTEST_CHARS = 24
FEWEST_WORDS, FEWEST_BYTES = 3, 24
"""So many words of a prompt are left, or bytes where words have no spaces between: prompts that differ in a last word
would otherwise be scored by that word alone."""
PLACES = 1 << 24
_TAIL_CHARS, _TAIL_LINES = 2_000, 16
_END = re.compile(r"\n+|(?<=[.:?!])\s+")


class Own(NamedTuple):
    """What is left of a prompt without what it shares."""

    text: str
    left_out: tuple[int, ...]
    """Hashes of the beginning and of the end that were left out; empty where nothing was."""


class SharedText:
    """The beginnings and ends that recent prompts of one task had in common."""

    __slots__ = ("_counts", "told")

    def __init__(self, told: Set[int] = frozenset()) -> None:
        self._counts: OrderedDict[int, int] = OrderedDict()
        self.told = told
        """Hashes of what is shared, however often it was seen here."""

    def add(self, text: str) -> None:
        """Count the beginnings and ends of a prompt, once if it comes again; the longest unseen are forgotten."""
        counts = self._counts
        whole = _whole(text)
        if whole in counts:
            counts.move_to_end(whole)
            return
        counts[whole] = 1
        for mark in _marks(text):
            counts[mark] = counts.pop(mark, 0) + 1
        while len(counts) > MOST_KEPT:
            counts.popitem(last=False)

    def stripped(self, text: str) -> Own:
        """Return the text without the longest beginning and end that are shared; never empty unless it was."""
        starts = [found for found in _beginnings(text) if self._is_shared(found[1])]
        first = next((found for found in reversed(starts) if is_enough(text[found[0] :])), None)
        rest = text[first[0] :] if first else text
        ends = [found for found in _ends(rest) if self._is_shared(found[1])]
        last = next((found for found in reversed(ends) if is_enough(rest[: found[0]])), None)
        own = (rest[: last[0]] if last else rest).strip()
        return Own(own or text, tuple(mark for _, mark in filter(None, (first, last))))

    def _is_shared(self, mark: int) -> bool:
        return self._counts.get(mark, 0) >= ENOUGH or mark in self.told


def shared_in(texts: Iterable[str]) -> frozenset[int]:
    """Return hashes of all beginnings and ends that so many prompts share, however many they are, in whatever order.

    Counted first by places that several hashes may have in common, so that a large set needs no count of its own for
    each of its beginnings.
    """
    different = {_whole(text): text for text in texts}.values()
    places = bytearray(PLACES)
    for mark in (mark for text in different for mark in _marks(text)):
        if places[mark % PLACES] < ENOUGH:
            places[mark % PLACES] += 1
    counts = Counter(mark for text in different for mark in _marks(text) if places[mark % PLACES] == ENOUGH)
    return frozenset(mark for mark, count in counts.items() if count >= ENOUGH)


def _marks(text: str) -> Iterator[int]:
    for _, mark in (*_beginnings(text), *_ends(text)):
        yield mark


def _whole(text: str) -> int:
    """Return a hash of a text by its beginning, its end and its length, larger than those of beginnings and ends."""
    written = (text[:MOST_CHARS] + text[-_TAIL_CHARS:]).encode("utf-8", "replace")
    return (len(text) + 1) << 64 | adler32(written) << 32 | crc32(written)


def is_enough(text: str) -> bool:
    """Say whether a text is long enough to be scored by itself."""
    begins = text[:MOST_CHARS]
    return (
        len(begins.split(maxsplit=FEWEST_WORDS)) >= FEWEST_WORDS
        or len(begins.strip().encode("utf-8", "replace")) >= FEWEST_BYTES
    )


def _beginnings(text: str) -> list[tuple[int, int]]:
    """Return where each beginning ends, with a hash of it."""
    found: list[tuple[int, int]] = []
    rolling = before = 0
    for match in _END.finditer(text[:MOST_CHARS]):
        at = match.end()
        rolling = crc32(text[before:at].encode("utf-8", "replace"), rolling)
        before = at
        if at >= SHORTEST_CHARS:
            found.append((at, rolling))
            if len(found) == MOST_MARKS:
                break
    while at := text.find("\n", before + COARSE_STEP, COARSE_CHARS) + 1:
        rolling = crc32(text[before:at].encode("utf-8", "replace"), rolling)
        before = at
        found.append((at, rolling))
    return found


def _ends(text: str) -> list[tuple[int, int]]:
    """Return where each end begins, with a hash of it; ends are looked for in the last lines only."""
    found: list[tuple[int, int]] = []
    tail = text[-_TAIL_CHARS:]
    at = len(tail)
    for _ in range(_TAIL_LINES):
        at = tail.rfind("\n", 0, at)
        if at <= 0:
            break
        found.append((len(text) - len(tail) + at, ~crc32(tail[at:].encode("utf-8", "replace"))))
    return found
