"""A linear model that learns from labels one by one and can forget each again.

Ridge regression in its dual form: the weights are always the sum of each kept label's features times its pull, so
that memory is bounded, forgetting a label takes its part out, and the same labels in the same order give the same
weights on every replica, whatever its version of Python (which is why sums are exact). There is no learning rate: how
far a feature may move is the size of its value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from math import fsum
from operator import add, mul

MOST_LABELS = 2_000
REVISITED = 4
"""Earlier labels that are looked at again for each new one, so that the weights stay near the exact answer."""
REVISITED_WHILE_FEW = 12


@dataclass(frozen=True, slots=True)
class Row:
    """Features of one label, as places and values, and the number to be told from them. Holds no text."""

    places: tuple[int, ...]
    values: tuple[float, ...]
    target: float


class Learner:
    """Predicts a number from sparse features; with no labels it predicts 0."""

    __slots__ = ("_few", "_most", "_next", "_noise", "_pulls", "_rows", "_sizes", "_weights", "version")

    def __init__(self, noise: float, most_labels: int = MOST_LABELS, few: int = 0) -> None:
        """`few` labels or fewer are looked at again more often: each counts for much, and it takes no time."""
        self._noise = noise
        self._most = most_labels
        self._few = few
        self._rows: deque[Row] = deque()
        self._pulls: deque[float] = deque()
        self._sizes: deque[float] = deque()
        self._weights: dict[int, float] = {}
        self._next = 0
        self.version = 0
        """Counts every change of the weights; 0 while nothing is learned."""

    def __len__(self) -> int:
        return len(self._rows)

    def learn(self, row: Row) -> None:
        """Take one label in; past the most that are kept, the oldest is forgotten."""
        if len(self._rows) == self._most:
            self._forget_oldest()
        self._rows.append(row)
        self._pulls.append(0.0)
        self._sizes.append(self._noise + fsum(value * value for value in row.values))
        self._step(len(self._rows) - 1)
        revisited = REVISITED_WHILE_FEW if len(self._rows) <= self._few else REVISITED
        for _ in range(min(revisited, len(self._rows) - 1)):
            self._next = (self._next + 1) % len(self._rows)
            self._step(self._next)
        self.version += 1

    def amend(self, index: int, row: Row) -> None:
        """Put another label in the place of the one that was taken in as number `index`, of those that are kept."""
        self._pull(index, self._rows[index], 0.0)
        self._rows[index] = row
        self._sizes[index] = self._noise + fsum(value * value for value in row.values)
        self._step(index)
        self.version += 1

    def frozen(self, version: int) -> Learner:
        """Return what is known now, under the name of a version, to predict with and not to learn on."""
        known = Learner(self._noise, self._most)
        known._weights = dict(self._weights)
        known.version = version
        return known

    def learn_all(self, rows: Iterable[Row], passes: int = 8) -> None:
        """Take many labels in and settle the weights; the result is near the exact ridge regression.

        All of them are kept, however many: who names labels to learn from means each.
        """
        given = list(rows)
        self._most = max(self._most, len(self._rows) + len(given))
        for row in given:
            self.learn(row)
        for _ in range(passes):
            for index in range(len(self._rows)):
                self._step(index)
        self.version += 1

    def predict(self, places: Iterable[int], values: Iterable[float]) -> float:
        return fsum(map(mul, map(self._weights.get, places, repeat(0.0)), values))

    def weight(self, place: int) -> float:
        return self._weights.get(place, 0.0)

    def _step(self, index: int) -> None:
        """Set one label's pull to what is best while all others stay."""
        row = self._rows[index]
        pull = self._pulls[index]
        wrong = row.target - self.predict(row.places, row.values) - self._noise * pull
        self._pull(index, row, pull + wrong / self._sizes[index])

    def _pull(self, index: int, row: Row, pull: float) -> None:
        change = pull - self._pulls[index]
        self._pulls[index] = pull
        # Read, added and written place by place, as all of these are lazy; a loop takes twice as long.
        known = map(self._weights.get, row.places, repeat(0.0))
        self._weights.update(zip(row.places, map(add, known, map(mul, repeat(change), row.values)), strict=False))

    def _forget_oldest(self) -> None:
        row = self._rows[0]
        self._pull(0, row, 0.0)
        for kept in (self._rows, self._pulls, self._sizes):
            kept.popleft()
