"""The score of a look: how much the premium model is expected to add to this request, set against what it costs more.

It is a logarithm and orders the requests of one task; it says nothing across tasks. Cold it is the cue rule, the
trained words and the length; a learner adds what a task's own labels say. The same look gets the same score until
the learner's version changes.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from typing import Literal

from router.difficulty.cues import NAMES, WORDS
from router.difficulty.grams import SIZE
from router.difficulty.learner import Learner, Row
from router.difficulty.look import ENOUGH_WORDS, Look
from router.difficulty.weights import Weights

CUE_WEIGHT = 0.33
"""What one log-odds of a cue adds to the logarithm of the gain. This and the next were chosen leaving a source out."""
FORMULA_WEIGHT = 0.1
"""Less than a word's, for where formulas stand the premium model often fails, too."""
FIGURES_WEIGHT = 0.5
PLAIN_WEIGHT = -3.0
SHAPE_WEIGHT = {"tools": 0.2, "images": 0.2, "turns": 0.1}
WORDS_WEIGHT = 0.04
"""For one standard deviation of what the trained words say: little of that carries to work that they never saw."""
MEAN_GAIN = 0.25
"""Expected of the premium model where nothing else is known, in quality from 0 to 1."""
COST_WEIGHT = 0.6
"""What one logarithm of the cost takes off the score. Less than 1, for a gain is told less surely than a cost, and at 1
the long prompts came last even where they gain the most. This and the next were chosen leaving a source out."""
FIXED_TOKENS = 20.0
"""What a call is taken to cost beside its prompt, in input tokens' worth, until labels tell it."""
BRIEF_TOKENS = 10.0
"""The same at the most where a letter, a number or a word is asked for."""
LEAST_GAIN = 0.1
"""Under this a gain is no longer told apart from none so sharply, for the score is its logarithm."""
FOREIGN = 0.5
"""Bytes past one a character, from which a text is in a script that the weights never saw."""
LANGUAGE = NAMES.index("language")

_COLD = tuple(
    CUE_WEIGHT if name in WORDS
    else FORMULA_WEIGHT if name == "formula"
    else FIGURES_WEIGHT if name == "figures"
    else PLAIN_WEIGHT if name == "plain"
    else SHAPE_WEIGHT.get(name, 0.0)
    for name in NAMES
)  # fmt: skip

Unsure = Literal["too short to tell", "in a script that was not trained on", ""]


@dataclass(frozen=True, slots=True)
class Score:
    """A score before it is ranked."""

    value: float
    gain: float
    """The quality that the premium model is expected to add: never below 0."""
    unsure: Unsure
    """Why it is not to be relied on; empty where it is."""


@dataclass(frozen=True, slots=True)
class Label:
    """What was learned of one request: how much better the premium model's answer was (-1 to 1)."""

    look: Look
    gain: float
    cost_usd: float | None = None
    """How much more the premium model cost for it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A label that is to judge many scorers."""

    label: Label
    cold: float
    """The gain as it is told without labels."""
    places: tuple[int, ...]
    values: tuple[float, ...]


BIAS, OFFSET, FIRST_CUE = SIZE, SIZE + 1, SIZE + 2
FIRST_KEY = SIZE + 64
MOVES = {"bias": 0.15, "offset": 0.7, "cue": 0.12, "length": 0.08, "key": 0.2, "gram": 0.15}
"""How far each kind of feature may carry the gain away from what it was cold: its prior standard deviation.

That of words is a compromise: mixtures of sources are learned faster with more (0.4), one benchmark with less (0.08).
"""
FEW_LABELS = 500
NOISE = 0.25
"""The variance of a label around the gain that it is a sample of."""


class Scorer:
    """Scores looks. One for the process cold; one for each task that learns, around the same weights."""

    __slots__ = ("_by_place", "_reach", "costs", "learner")

    def __init__(self, weights: Weights, *, most_labels: int = 2_000) -> None:
        self._by_place = weights.by_place()
        self._reach = WORDS_WEIGHT / max(1e-9, weights.spread)
        self.learner = Learner(NOISE, most_labels, few=FEW_LABELS)
        self.costs = Costs()

    @property
    def version(self) -> int:
        return self.learner.version

    def score(self, look: Look) -> Score:
        """Return the score of one look."""
        cold = MEAN_GAIN * math.exp(self._cold(look))
        gain = cold
        if self.learner.version:
            gain += self.learner.predict(*_features(look, cold))
        gain = _above_nothing(gain)
        return Score(math.log(gain) - COST_WEIGHT * math.log(self.costs.of(look)), gain, self._unsure(look))

    def prepared(self, label: Label) -> Prepared:
        """Return a label's features, which are the same for every scorer around the same weights."""
        cold = MEAN_GAIN * math.exp(self._cold(label.look))
        return Prepared(label, cold, *_features(label.look, cold))

    def wrong_about(self, known: Prepared) -> float:
        """Return what is wrong with the gain that a score of the label's look tells."""
        gain = known.cold
        if self.learner.version:
            gain += self.learner.predict(known.places, known.values)
        return known.label.gain - _above_nothing(gain)

    def pushes(self, look: Look) -> tuple[tuple[str, float], ...]:
        """Return what pushed the score where it is, strongest first, in the score's own (logarithmic) units.

        They add up to what the score is above that of a request of TYPICAL_TOKENS in which nothing was found.
        """
        pushes = [(name, weight * cue) for name, weight, cue in zip(NAMES, _COLD, look.cues, strict=True)]
        pushes.append(("words", self._words(look)))
        cold = MEAN_GAIN * math.exp(self._cold(look))
        pushes.append(("floor", math.log(_above_nothing(cold) / cold * MEAN_GAIN / _above_nothing(MEAN_GAIN))))
        if self.learner.version:
            learned = cold + self.learner.predict(*_features(look, cold))
            pushes.append(("labels", math.log(_above_nothing(learned) / _above_nothing(cold))))
        pushes.append(("cost", -COST_WEIGHT * math.log(self.costs.of(look) / self.costs.of_tokens(TYPICAL_TOKENS))))
        told = [(name, round(push, 3)) for name, push in pushes if abs(push) >= 0.005]
        return tuple(sorted(told, key=lambda push: -abs(push[1])))

    def frozen(self, version: int) -> Scorer:
        """Return a scorer that stays as this one is now, under the name of a version."""
        known = copy(self)
        known.costs = copy(self.costs)
        known.learner = self.learner.frozen(version)
        return known

    def amend(self, index: int, label: Label) -> None:
        """Put another label of the same request in the place of the one that was learned as number `index`."""
        self.learner.amend(index, self._row(label))

    def learn(self, label: Label) -> None:
        """Take one label in."""
        self.costs.learn(label)
        self.learner.learn(self._row(label))

    def learn_all(self, labels: list[Label]) -> None:
        """Take many labels in and settle what they say together."""
        for label in labels:
            self.costs.learn(label)
        self.learner.learn_all([self._row(label) for label in labels])

    def _row(self, label: Label) -> Row:
        cold = MEAN_GAIN * math.exp(self._cold(label.look))
        places, values = _features(label.look, cold)
        return Row(places, values, label.gain - cold)

    def _cold(self, look: Look) -> float:
        return sum([weight * cue for weight, cue in zip(_COLD, look.cues, strict=True)]) + self._words(look)

    def _words(self, look: Look) -> float:
        if not look.grams:
            return 0.0
        by_place = self._by_place
        return self._reach * sum([by_place[place] for place in look.grams]) / math.sqrt(len(look.grams))

    @staticmethod
    def _unsure(look: Look) -> Unsure:
        if look.words < ENOUGH_WORDS:
            return "too short to tell"
        return "in a script that was not trained on" if look.cues[LANGUAGE] > FOREIGN else ""


TYPICAL_TOKENS = 100.0


class Costs:
    """What the premium model costs more than the cheap one, as a straight line over the prompt's length.

    In units of one input token, for only the order counts. The line starts where prices and usual answers put it,
    and labels that say what they cost move it.
    """

    __slots__ = ("_count", "_fixed", "_sum_t", "_sum_tt", "_sum_tu", "_sum_u")
    WEIGHT_OF_START = 20.0
    LEAST_TOKENS, MOST_TOKENS = 5.0, 4_000.0

    def __init__(self) -> None:
        self._count = self._sum_t = self._sum_tt = self._sum_u = self._sum_tu = 0.0
        self._fixed = FIXED_TOKENS

    def of(self, look: Look) -> float:
        return look.tokens + (min(BRIEF_TOKENS, self._fixed) if look.brief else self._fixed)

    def of_tokens(self, tokens: float) -> float:
        return tokens + self._fixed

    def learn(self, label: Label) -> None:
        usd, tokens = label.cost_usd, label.look.tokens
        if usd is None or usd <= 0:
            return
        self._count += 1
        self._sum_t += tokens
        self._sum_tt += tokens * tokens
        self._sum_u += usd
        self._sum_tu += tokens * usd
        self._fixed = self._fitted()

    def _fitted(self) -> float:
        """Return where the line crosses zero tokens, in tokens; between what it started from and least squares."""
        n = self._count
        spread = self._sum_tt - self._sum_t**2 / n
        together = self._sum_tu - self._sum_t * self._sum_u / n
        slope = together / spread if spread > 0 else 0.0
        found = self._sum_u / n / slope - self._sum_t / n if slope > 0 else self.MOST_TOKENS
        found = min(max(found, self.LEAST_TOKENS), self.MOST_TOKENS)
        share = n / (n + self.WEIGHT_OF_START)
        return math.exp(share * math.log(found) + (1 - share) * math.log(FIXED_TOKENS))


def _features(look: Look, cold: float) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return what a label can teach: places and values, each value as large as the feature may move the gain."""
    places = [BIAS, OFFSET]
    values = [MOVES["bias"], MOVES["offset"] * (cold - MEAN_GAIN)]
    for index, (name, cue) in enumerate(zip(NAMES, look.cues, strict=True)):
        if cue:
            places.append(FIRST_CUE + index)
            values.append(cue * (MOVES["length"] if name == "length" else MOVES["cue"]))
    if look.key is not None:
        places.append(FIRST_KEY + look.key)
        values.append(MOVES["key"])
    if look.grams:
        each = MOVES["gram"] / math.sqrt(len(look.grams))
        places.extend(look.grams)
        values.extend([each] * len(look.grams))
    return tuple(places), tuple(values)


def _above_nothing(gain: float) -> float:
    """Return the gain bent so that it is never below 0: a request that gains nothing still has its order."""
    if gain > 10 * LEAST_GAIN:
        return gain
    return LEAST_GAIN * math.log1p(math.exp(max(-30.0, gain / LEAST_GAIN)))
