"""What a task learns from its own traffic, as its file says, and how likely a request was to be given to its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum
from typing import Literal

from router.policy.closed_answer import By
from router.policy.experiment import point_of

LEARNING = "learning"
"""The rule that the ledger says of second answers; no rule may bear it."""
_ENDS = tuple(((step + 0.5) / 100, 0.01) for step in range(5))
DRAWS = (*_ENDS, *(((step + 0.5) / 20, 0.05) for step in range(1, 19)), *((1 - at, share) for at, share in _ENDS))
"""Difficulties that are tried to tell how likely a model was to be chosen, and the share of all that each stands for.

They are closer at the ends: a rule for the hardest 2 % would else seem never to be drawn.
"""
LEAST = 0.0001
"""The least likelihood that is told: what happened was not impossible."""

Grade = Literal["judge", "verify", "agree"]


@dataclass(frozen=True, slots=True)
class LearnShadow:
    """A second answer to a share of the requests, by `model`, and how both answers are graded."""

    model: str
    share: float
    per_day_nusd: int
    grade: Grade
    judge: str | None = None
    """Who grades, and what it is asked; for `grade: judge`."""
    question: str = ""
    by: By | None = None
    """What must be the same, for `grade: agree`; None: the share of words in common counts."""


@dataclass(frozen=True, slots=True)
class Learn:
    """What a task's labels come from."""

    shadow: LearnShadow | None = None
    feedback: Literal["checked", "trusted", "off"] = "checked"
    explore: float = 0.01
    """The share of requests whose difficulty is drawn at random."""


def is_explored(learn: Learn, task: str, request_id: str) -> bool:
    """Say whether a request is one of those whose difficulty is drawn at random."""
    return learn.explore > 0 and point_of(f"{task}:explore", request_id) < learn.explore


def propensity(
    chosen: Callable[[float, float | None], str | None],
    difficulty: float,
    explored_from: float | None,
    explore: float,
) -> float:
    """Return how likely a request was to be given to the model that it was given to.

    `chosen` says which model is tried first at any difficulty, drawn in place of another or not; the request had
    `difficulty`, drawn in place of `explored_from` where that is given.
    """
    model = chosen(difficulty, explored_from)
    told = difficulty if explored_from is None else explored_from
    own = float(chosen(told, None) == model)
    drawn = fsum(share for at, share in DRAWS if chosen(at, told) == model) if explore else 0.0
    return max(LEAST, (1 - explore) * own + explore * drawn)
