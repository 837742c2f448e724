"""What a process knows of the difficulty of each task's traffic: shared text, recent scores, and what was learned.

`read` changes nothing, so that a dry run leaves no trace; `seen` counts a request that is served. State is bounded:
so many tasks, and for each a window. It lives on the event loop; only `read` may run in a thread.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from router.difficulty.cues import Shape
from router.difficulty.look import Look, look_at
from router.difficulty.ranks import Ranks
from router.difficulty.scorer import Label, Scorer, Unsure
from router.difficulty.shared import SharedText, shared_in
from router.difficulty.weights import MOST_READ, Weights, shipped_weights

MOST_TASKS = 500
MOST_RULES = 50
"""Of one task, that have ranks of their own."""
UnsureAs = Literal["premium", "cheap"]
_BEYOND: Mapping[UnsureAs, float] = {"premium": math.inf, "cheap": -math.inf}


@dataclass(frozen=True, slots=True)
class Reading:
    """How hard one request is: `difficulty` 0 to 1 beside its task's traffic, `score` as it was before the ranking."""

    difficulty: float
    score: float
    gain: float
    """The quality that the premium model is expected to add, 0 to 1."""
    pushed_by: tuple[tuple[str, float], ...]
    unsure: Unsure
    look: Look
    text: str
    """The question; empty where it goes on from one that was counted before. Never leaves the process."""

    def described(self) -> Mapping[str, object]:
        """Return what may be told and written down: numbers and names."""
        return {"score": round(self.score, 4), "unsure": self.unsure or None, "pushed_by": dict(self.pushed_by)}

    def __repr__(self) -> str:
        """Say nothing of the text, for a repr may end in a log."""
        return f"Reading(difficulty={self.difficulty}, score={self.score:.4f})"


class _Served(NamedTuple):
    """What was learned of a task, wherever its traffic went."""

    scorer: Scorer
    shared: Set[int]


class _Task:
    __slots__ = ("by_rule", "ranks", "scorer", "shared")

    def __init__(self, weights: Weights, served: _Served | None) -> None:
        self.scorer = served.scorer if served else Scorer(weights)
        self.ranks = Ranks(weights.reference)
        self.by_rule: OrderedDict[str, Ranks] = OrderedDict()
        self.shared = SharedText(served.shared if served else frozenset())


class Gauge:
    """Reads requests; one for a process, owned by whoever builds its parts. New, it reads by the reference alone."""

    def __init__(self, weights: Weights | None = None) -> None:
        self._begin(weights or shipped_weights())

    def use(self, weights: Weights | None) -> None:
        """Score with these weights from now on, None for the shipped ones; with others, all begins anew."""
        if (weights or shipped_weights()) is not self._weights:
            self._begin(weights or shipped_weights())

    def _begin(self, weights: Weights) -> None:
        self._weights = weights
        self._cold = _Task(weights, None)
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._served: dict[str, _Served] = {}

    def read(self, task: str, text: str, shape: Shape, *, key: str | None = None) -> Reading:
        """Read one request of a task: its question, and what is around it.

        `key` names what kind of work it is within the task: its instructions, tools and answer format.
        """
        known = self._tasks.get(task, self._cold)
        own = known.shared.stripped(text)
        look = look_at(own.text, shape, whole=text, key=key, left_out=own.left_out)
        score = known.scorer.score(look)
        return Reading(
            difficulty=known.ranks.rank(score.value),
            score=score.value,
            gain=min(1.0, score.gain),
            pushed_by=known.scorer.pushes(look),
            unsure=score.unsure,
            look=look,
            text="" if shape.goes_on else text,
        )

    def own_text(self, task: str, text: str) -> str:
        """Return a question without what the task's prompts share, as far as `seen` and `share` told."""
        return self._tasks.get(task, self._cold).shared.stripped(text).text

    def rank_in(self, task: str, rule: str, reading: Reading, unsure_as: UnsureAs | None) -> float:
        """Return the share of what recently reached a rule of the task that is easier. Changes nothing.

        `unsure_as` says which model is for what can't be told; None takes it for what it looks like.
        """
        ranks = self._tasks.get(task, self._cold).by_rule.get(rule, self._cold.ranks)
        return ranks.rank(_placed(reading.score, reading.unsure, unsure_as))

    def seen_in(self, task: str, rule: str, reading: Reading, unsure_as: UnsureAs | None) -> None:
        """Count a request that is served among those that reached a rule; `unsure_as` as in `rank_in`."""
        known = self._known(task)
        ranks = known.by_rule.get(rule)
        if ranks is None:
            if len(known.by_rule) == MOST_RULES:
                known.by_rule.popitem(last=False)
            ranks = known.by_rule[rule] = Ranks(self._weights.reference)
        known.by_rule.move_to_end(rule)
        scorer = known.scorer

        def placed(look: Look) -> float:
            score = scorer.score(look)
            return _placed(score.value, score.unsure, unsure_as)

        ranks.seen(reading.look, _placed(reading.score, reading.unsure, unsure_as), scorer.version, placed)

    def seen(self, task: str, reading: Reading) -> None:
        """Count a request that is served among its task's traffic."""
        known = self._known(task)
        known.shared.add(reading.text)
        scorer = known.scorer
        known.ranks.seen(reading.look, reading.score, scorer.version, lambda look: scorer.score(look).value)

    def learn(self, task: str, labels: list[Label]) -> None:
        """Learn what labels say of a task; its recent scores are worked out again bit by bit."""
        self._known(task).scorer.learn_all(labels)

    def serve(self, task: str, scorer: Scorer, shared: Set[int] = frozenset()) -> None:
        """Score a task's requests with `scorer` from now on; its recent scores are worked out again bit by bit.

        `shared` are hashes of what its requests share and is not looked at, beside what this process finds.
        """
        self._served[task] = _Served(scorer, shared)
        known = self._known(task)
        known.scorer, known.shared.told = scorer, shared

    def forget(self, task: str) -> None:
        """Read a task's requests as a process does that has just started: without what was learned, seen or shared."""
        self._served.pop(task, None)
        self._tasks.pop(task, None)

    def version(self, task: str) -> int:
        """Return the version of what a task's requests are scored with; 0 is what Farthing came with."""
        served = self._served.get(task)
        return served.scorer.version if served else 0

    def share(self, task: str, texts: Iterable[str]) -> None:
        """Note what the prompts of a task have in common, before any of them is read; their order does not matter."""
        shared = self._known(task).shared
        shared.told = shared.told | shared_in(texts)

    def _known(self, task: str) -> _Task:
        known = self._tasks.get(task)
        if known is None:
            if len(self._tasks) == MOST_TASKS:
                self._tasks.popitem(last=False)
            known = self._tasks[task] = _Task(self._weights, self._served.get(task))
        self._tasks.move_to_end(task)
        return known


def _placed(score: float, unsure: Unsure, unsure_as: UnsureAs | None) -> float:
    """Return the score by which a request is ranked in a rule: what can't be told is beyond all others."""
    return _BEYOND[unsure_as] if unsure and unsure_as else score


@lru_cache(maxsize=MOST_READ)
def reference_gauge(weights: Weights | None = None) -> Gauge:
    """Return a gauge that has seen nothing and never does: its readings are the same on every machine."""
    return Gauge(weights)
