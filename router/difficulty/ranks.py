"""How hard a request is beside its task's recent ones, held so that a threshold takes the share it names.

`rank` changes nothing; `seen` counts a request that was served. A window of recent scores gives the rank, and a
correction for each of `AIMS` sees to it that, whatever the traffic does, the share above it stays what it says: when
the source changes, the ranks of the new one are all high or all low until the window has moved on. Scores that are
equal take the places that they have together by turns, or no threshold could part them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from zlib import crc32

from router.difficulty.look import Look

WINDOW = 300
AIMS = (0.01, 0.02, *(index / 20 for index in range(1, 20)), 0.98, 0.99)
"""The thresholds whose shares are held; between two of them a rank is told by its place. They are closer at the ends,
where a point of the traffic too many is twice what was asked for."""
RATE = 0.04
"""How much one request moves a correction. One that has to move by 1 for good leaves the share above its threshold
1 / RATE requests from right."""
CAUGHT_UP = RATE / 100
"""How much each of those requests moves it again with every one that comes, until they are caught up with: where
traffic comes sorted, corrections stay far from where they began, and shares would stay some 20 requests from right."""
MOST_OWED = 5
"""So many requests come and go by chance, and are not caught up with: that would only stir the ranks."""
SPREAD_BEYOND = 0.5
"""How far a rank is moved from one turn to another where a request is harder than all of the last 300, or easier. In a
file sorted by length all are, and had they one rank, or ranks so close that the corrections' own steps cross them, the
corrections would meet there and leave no share right."""
SPREAD_WITHIN = 0.04
"""The same, in all, for any other: each move takes a request for what it is not, so it is no larger than needs be."""
REFRESHED = 6
"""Old scores that are worked out again for each request after the model changed."""
FEWEST = 30
"""Under this many requests the shipped reference counts as well, the less the more there are."""


class Ranks:
    """The recent scores of one task."""

    __slots__ = ("_entries", "_lines", "_owed", "_reference", "_sorted", "_stale", "_turn")

    def __init__(self, reference: Sequence[float]) -> None:
        self._reference = reference
        self._entries: deque[tuple[float, Look, int]] = deque()
        self._sorted: list[float] = []
        self._lines = [*AIMS]
        self._owed = [0.0] * len(AIMS)
        """By how many requests too many were above each threshold so far."""
        self._stale = 0
        self._turn = 0

    def rank(self, score: float) -> float:
        """Return the share of the task's recent requests that are easier, 0 to 1."""
        plain = self._plain(score)
        if not self._entries:
            return round(plain, 4)
        lines, aims = [0.0, *self._lines, 1.0], (0.0, *AIMS, 1.0)
        above = bisect_right(lines, plain, 1, len(lines) - 1)
        low, high = min(lines[above - 1], plain), max(lines[above], plain)
        within = (plain - low) / (high - low) if high > low else 0.0
        return round(aims[above - 1] + within * (aims[above] - aims[above - 1]), 4)

    def seen(self, look: Look, score: float, version: int, rescore: Callable[[Look], float]) -> None:
        """Count a request that was served; `rescore` gives a look's score by the model as it is now."""
        plain = self._plain(score)
        for at, aim in enumerate(AIMS):
            above = (plain >= self._lines[at]) - (1 - aim)
            owed = self._owed[at] = self._owed[at] + above
            self._lines[at] += RATE * above + (CAUGHT_UP * owed if abs(owed) > MOST_OWED else 0)
        # Each threshold's share is told by the line that `rank` has for it, though two of them crossed.
        self._lines.sort()
        if len(self._entries) == WINDOW:
            self._drop()
        self._turn += 1
        self._entries.append((score, look, version))
        insort(self._sorted, score)
        self._refresh(version, rescore)

    def _plain(self, score: float) -> float:
        """Return the rank in the window, among ties by turns, with the reference while it is short."""
        if not self._entries:
            return _share_below(self._reference, score, 0.5)
        turn = crc32(self._turn.to_bytes(8, "big")) / 2**32
        own = _share_below(self._sorted, score, turn)
        if (missing := FEWEST - len(self._sorted)) > 0:
            told = _share_below(self._reference, score, turn)
            own = (own * len(self._sorted) + told * missing) / FEWEST
        if own in (0, 1):
            return own + SPREAD_BEYOND * (turn - 1 + own)
        return own + SPREAD_WITHIN * (turn - 0.5)

    def _drop(self) -> None:
        score, _, _ = self._entries.popleft()
        del self._sorted[bisect_left(self._sorted, score)]

    def _refresh(self, version: int, rescore: Callable[[Look], float]) -> None:
        """Work out a few old scores again where the model has changed since."""
        for _ in range(min(REFRESHED, len(self._entries))):
            self._stale = (self._stale + 1) % len(self._entries)
            score, look, known = self._entries[self._stale]
            if known == version:
                continue
            fresh = rescore(look)
            self._entries[self._stale] = (fresh, look, version)
            del self._sorted[bisect_left(self._sorted, score)]
            insort(self._sorted, fresh)


def _share_below(ascending: Sequence[float], score: float, turn: float) -> float:
    """Return the share that is below a score, and of what is equal to it the share `turn`."""
    if not ascending:
        return turn
    below, up_to = bisect_left(ascending, score), bisect_right(ascending, score)
    return (below + (up_to - below) * turn) / len(ascending)
