"""What a task's labels have taught, and which of it is in service: only what the held-back labels say is no worse.

The same labels under the same numbers give the same version on every replica, and after every restart. To that end
learning goes in courses: one begins from nothing with each `EPOCH` labels and serves from when it has seen as many
until it has seen twice as many, so that who reads the labels of two epochs knows as much as who has read them all.

Every fifth request is held back: its labels are never learned, and judge. Labels that the proxy graded itself are
trusted. Ratings from outside are learned beside them, in a candidate of its own, and where a task does not trust
them they never judge: a stream of false ones can't take itself into service.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence, Set
from copy import deepcopy
from dataclasses import dataclass, field
from math import fsum
from zlib import crc32

from router.difficulty.measure import Curve, Prompt
from router.difficulty.scorer import Label, Prepared, Scorer
from router.difficulty.weights import Weights

EPOCH = 2_000
"""Labels after which a new course begins."""
JUDGED_EVERY = 10
"""Labels between one judgement and the next, or as many as are a `JUDGED_PART` of those that were taken."""
JUDGED_PART = 20
HELD_BACK_OF = 5
FEWEST_HELD_BACK = 5
"""Trusted labels that must be held back before anything is taken into service."""
MOST_HELD_BACK = 200
"""The newest of them judge: what was true long ago must not speak against what is true now."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One label of a task under its number. A second one of the same request and source takes the first one's place."""

    seq: int
    request_id: str
    source: str
    label: Label | None
    """None: what was learned so far is to be forgotten."""
    is_trusted: bool = True
    place: int = 0
    """Which label of the task it is, where one that is given again takes the place of the first; 0: its number."""

    @property
    def is_held_back(self) -> bool:
        return crc32(self.request_id.encode()) % HELD_BACK_OF == 0


class Candidate:
    """A scorer that learns lesson by lesson."""

    def __init__(self, weights: Weights) -> None:
        self.scorer = Scorer(weights, most_labels=2 * EPOCH)
        self._places: dict[tuple[str, str], int] = {}

    def take(self, lesson: Lesson, label: Label) -> None:
        known = self._places.setdefault((lesson.request_id, lesson.source), len(self._places))
        if known == len(self.scorer.learner):
            self.scorer.learn(label)
        else:
            self.scorer.amend(known, label)


@dataclass(slots=True)
class Quality:
    """How well a scorer tells the gains of held-back labels."""

    labels: int
    error: float
    """The variance of what it gets wrong; its level aside, for only the order counts."""
    recovered: float | None
    """The share of the gain that is recovered, averaged over how many premium calls are made; random has 0.5."""


class Course:
    """Learns from nothing, and keeps in service the best that it has seen."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._own = Candidate(weights)
        self._all: Candidate | None = None
        self._held_back: OrderedDict[tuple[str, str], Prepared] = OrderedDict()
        self._taken: set[tuple[str, str]] = set()
        self._judged_next = JUDGED_EVERY
        self.cold = Scorer(weights)
        self.served = self.cold

    def take(self, lesson: Lesson, label: Label) -> None:
        """Learn a label, or hold it back; judge at fixed intervals."""
        if lesson.is_held_back:
            if lesson.is_trusted:
                self._held_back[lesson.request_id, lesson.source] = self.cold.prepared(label)
                if len(self._held_back) > MOST_HELD_BACK:
                    self._held_back.popitem(last=False)
        elif lesson.is_trusted:
            self._own.take(lesson, label)
            if self._all is not None:
                self._all.take(lesson, label)
        else:
            if self._all is None:
                self._all = deepcopy(self._own)
            self._all.take(lesson, label)
        self._taken.add((lesson.request_id, lesson.source))
        if len(self._taken) == self._judged_next:
            self._judged_next += max(JUDGED_EVERY, len(self._taken) // JUDGED_PART)
            self._judge(lesson.seq)

    def judging(self) -> list[Label]:
        """Return the held-back labels that are trusted, oldest first."""
        return [known.label for known in self._held_back.values()]

    def _judge(self, seq: int) -> None:
        """Take into service what tells the held-back labels better than what serves now: a candidate, or no label."""
        held_back = [*self._held_back.values()]
        if len(held_back) < FEWEST_HELD_BACK:
            return
        learned = [candidate.scorer for candidate in (self._own, self._all) if candidate is not None]
        best, least = self.served, error_of(self.served, held_back)
        # What is hard may have changed: then the candidates still know what was, and no label is the better guess.
        for scorer in (*learned, self.cold):
            if (error := error_of(scorer, held_back)) < least:
                best, least = scorer, error
        if best is not self.served:
            self.served = self.cold if best is self.cold else best.frozen(seq)


@dataclass(slots=True)
class Lessons:
    """One task's labels so far, as far as they matter. `begin` is a place that `first_of` gave.

    What counts is told by places: a rating that is given again makes no label go.
    """

    weights: Weights
    begin: int = 0
    seq: int = 0
    """The number of the last label that was taken."""
    newest: int = 0
    """The newest place that was seen."""
    reset_at: int = 0
    """The number of the last reset among them; 0 where there was none."""
    _sources: dict[int, str] = field(default_factory=dict)
    """By place."""
    _now: Course = field(init=False)
    _next: Course = field(init=False)
    _left_out: dict[int, int] = field(default_factory=dict)
    """Hashes of what requests share, and the newest place of a label that says so."""

    def __post_init__(self) -> None:
        self.seq, self.newest = max(self.seq, self.begin), max(self.newest, self.begin)
        self._now, self._next = Course(self.weights), Course(self.weights)

    @property
    def served(self) -> Scorer:
        """What serves now; its version is the number of the label that it was taken into service with, or 0."""
        return self._now.served

    @property
    def cold(self) -> Scorer:
        return self._now.cold

    @property
    def places(self) -> Set[int]:
        """Return the places of the labels that matter."""
        return self._sources.keys()

    @property
    def sources(self) -> Counter[str]:
        """Count the labels that matter, by source."""
        return Counter(self._sources.values())

    @property
    def shared(self) -> frozenset[int]:
        """Return hashes of what the task's requests share, as far as labels that count say so."""
        return frozenset(self._left_out)

    def judging(self) -> list[Label]:
        """Return the held-back labels that judge now, oldest first."""
        return self._now.judging()

    def take(self, lessons: Iterable[Lesson]) -> None:
        """Take labels in the order of their numbers; those that were taken before change nothing."""
        for lesson in lessons:
            if lesson.seq <= self.seq:
                continue
            place = lesson.place or lesson.seq
            self.reach(lesson.seq, place)
            if lesson.label is None:
                self._now, self._next = Course(self.weights), Course(self.weights)
                self.reset_at = lesson.seq
                self._sources.clear()
                self._left_out.clear()
                continue
            if place <= self.begin:
                # It is given again, and the first one counts no more.
                continue
            self._sources[place] = lesson.source
            for mark in lesson.label.look.left_out:
                self._left_out[mark] = max(place, self._left_out.get(mark, 0))
            self._now.take(lesson, lesson.label)
            if place > self.begin + EPOCH:
                self._next.take(lesson, lesson.label)

    def reach(self, seq: int, newest: int) -> None:
        """Note that all labels up to a number were read, to the newest place, whether or not they taught anything."""
        self.seq, self.newest = max(self.seq, seq), max(self.newest, newest)
        while self.newest > self.begin + 2 * EPOCH:
            self.begin += EPOCH
            self._now, self._next = self._next, Course(self.weights)
            self._left_out = {mark: place for mark, place in self._left_out.items() if place > self.begin}
            self._sources = {place: source for place, source in self._sources.items() if place > self.begin}


def first_of(newest: int) -> int:
    """Return the place after which labels must be read to know all that matters of the first `newest`.

    No number of a label behind it is lower, for a place is never above its number.
    """
    return max(0, (newest - 1) // EPOCH - 1) * EPOCH


def error_of(scorer: Scorer, labels: Sequence[Prepared]) -> float:
    """Return the variance of what a scorer gets wrong about the gains of labels."""
    wrong = [scorer.wrong_about(label) for label in labels]
    mean = fsum(wrong) / len(wrong)
    return fsum((each - mean) ** 2 for each in wrong) / len(wrong)


def quality_of(scorer: Scorer, labels: Sequence[Label]) -> Quality | None:
    """Say how well a scorer tells labels that it did not learn from; None where there is none."""
    if not labels:
        return None
    prompts = [Prompt(scorer.score(label.look).value, 0.0, label.gain, 0.0, 1.0) for label in labels]
    error = error_of(scorer, [scorer.prepared(label) for label in labels])
    return Quality(len(labels), error, Curve(prompts).apgr(by_usd=False))
