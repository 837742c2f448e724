"""Trying a model on a part of the traffic: what a rule tries, on whom, and when to stop or promote."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from msgspec import Struct

Measure = Literal["error_rate", "cost_usd", "latency_p95_ms", "verify_pass_rate"]
Sign = Literal["gt", "gte", "lt", "lte"]
CONVERSATION = "conversation"
ACCOUNT = "account"
HEADER = "header:"
MOST_SAMPLES = 1000
"""A canary is judged by its latest requests; older ones are forgotten."""
POINTS = 1_000_000
"""A request's place among all is known to this part: fine enough for any share, too coarse to tell a text by it."""


class Side(StrEnum):
    """Who serves a request of an experiment."""

    CONTROL = "control"
    """What the rule uses."""
    CANARY = "canary"
    """The model on trial, whose answer the caller gets."""
    SHADOW = "shadow"
    """The model on trial, whose answer nobody gets."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A model that serves a share of a rule's requests."""

    model: str
    share: float
    """0 to 1."""
    sticky_by: str = CONVERSATION
    """`conversation`, `account`, or `header:` and a header's name in lower case."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A model that a share of a rule's requests is mirrored to, after their answers are out."""

    model: str
    share: float
    per_day_nusd: int


@dataclass(frozen=True, slots=True)
class Guard:
    """A bound on what a canary's latest requests came to."""

    measure: Measure
    sign: Sign
    bound: Decimal

    def holds(self, value: float) -> bool:
        """Say whether `value` is past the bound, on the side that the sign names."""
        exact = Decimal(value)
        match self.sign:
            case "gt":
                return exact > self.bound
            case "gte":
                return exact >= self.bound
            case "lt":
                return exact < self.bound
            case "lte":
                return exact <= self.bound

    def __str__(self) -> str:
        return f"{self.measure} {_WORDS[self.sign]} {self.bound:f}"


_WORDS: dict[Sign, str] = {"gt": "above", "gte": "at or above", "lt": "below", "lte": "at or below"}


@dataclass(frozen=True, slots=True)
class Guards:
    """Bounds that are looked at once a canary has served so many requests. Never empty."""

    bounds: tuple[Guard, ...]
    after_requests: int


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a rule tries. Has a canary, a shadow or both."""

    name: str
    """task/rule."""
    version: str
    """Names what the file says of it, so that an edit starts it afresh."""
    canary: Canary | None = None
    shadow: Shadow | None = None
    abort_when: Guards | None = None
    """Any of these bounds ends the canary."""
    promote_when: Guards | None = None
    """All of these bounds together give the canary every request."""
    is_checked: bool = False
    """Whether the rule verifies answers."""

    @property
    def task(self) -> str:
        return self.name.partition("/")[0]

    @property
    def rule(self) -> str:
        return self.name.partition("/")[2]

    @property
    def model(self) -> str:
        """The model on trial that callers may meet; the shadow's where there is no canary."""
        trial = self.canary or self.shadow
        assert trial is not None, "an experiment has a canary or a shadow"
        return trial.model

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(trial.model for trial in (self.canary, self.shadow) if trial)

    @property
    def is_guarded(self) -> bool:
        return bool(self.canary and (self.abort_when or self.promote_when))


class Trial(Struct, frozen=True):
    """One request's part in an experiment."""

    experiment: Experiment
    side: Side
    point: float | None = None
    """Its place among all requests, 0 to below 1; the canary's are those below its share."""

    def recorded(self) -> dict[str, object]:
        """Return it as it may be written down. `version` and `side` stand together: the ledger is searched for them."""
        experiment = self.experiment
        model = experiment.shadow.model if self.side is Side.SHADOW and experiment.shadow else experiment.model
        return {
            "name": experiment.name,
            "version": experiment.version,
            "side": self.side.value,
            "model": model,
            "checked": experiment.is_checked,
            "point": self.point,
        }


class Drawn(Struct, frozen=True):
    """A request's part in an experiment as the ledger tells it: `Trial.recorded`, as far as deciding again needs it."""

    name: str
    version: str
    side: Side
    model: str
    point: float | None = None


def is_mirrored(experiment: Experiment, request_id: str) -> bool:
    """Say whether a request is one of the shadow's share."""
    shadow = experiment.shadow
    return shadow is not None and point_of(f"{experiment.name}:{shadow.model}:shadow", request_id) < shadow.share


def point_of(experiment: str, value: str) -> float:
    """Return a number from 0 to below 1, the same for the same words, evenly spread over different ones."""
    digest = hashlib.blake2b(f"{experiment}\0{value}".encode(errors="surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) * POINTS >> 64) / POINTS
