"""How long answers usually are, for each task and model: what `hold: expected` sets aside."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterable

USUAL_SHARE = 0.95
FEWEST = 20
"""Below so many answers nothing is said of them."""
MOST_REMEMBERED = 400
"""Of one task and model; older ones are forgotten, so that what is said follows a change of prompt or model."""
MOST_KINDS = 20_000


class _Recent:
    """The last answers' lengths, in the order of arrival and in the order of length."""

    def __init__(self) -> None:
        self.arrived: deque[int] = deque()
        self.sorted: list[int] = []

    def add(self, tokens: int) -> None:
        if len(self.arrived) == MOST_REMEMBERED:
            del self.sorted[bisect.bisect_left(self.sorted, self.arrived.popleft())]
        self.arrived.append(tokens)
        bisect.insort(self.sorted, tokens)


class Lengths:
    """The output tokens of recent answers. Bounded: 400 of each task and model."""

    def __init__(self) -> None:
        self._recent: dict[tuple[str, str], _Recent] = {}

    def add(self, task: str, model: str, output_tokens: int) -> None:
        """Take the length of one more answer. About 1 us."""
        recent = self._recent.get((task, model))
        if recent is None:
            if len(self._recent) >= MOST_KINDS:
                self._recent.clear()
            recent = self._recent[task, model] = _Recent()
        recent.add(output_tokens)

    def restore(self, newest_first: Iterable[tuple[str, str, int]]) -> None:
        """Take (task, model, output tokens) of answers that were given before this process began."""
        for task, model, output_tokens in reversed(list(newest_first)):
            self.add(task, model, output_tokens)

    def usual(self, task: str, model: str) -> int | None:
        """Return the tokens that nineteen in twenty answers stay within; None while fewer than 20 are known."""
        recent = self._recent.get((task, model))
        if recent is None or len(recent.sorted) < FEWEST:
            return None
        return recent.sorted[math.ceil(USUAL_SHARE * len(recent.sorted)) - 1]
