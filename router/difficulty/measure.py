"""How good an order of prompts is: what the first of them buy, in calls and in dollars, beside chance and hindsight.

APGR is the area under the share of the cheap-to-premium gap in quality that is recovered, over the share of the
premium calls (or of the extra dollars) that is spent, the prompts taken in the order of their score. Random is 0.5.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

ROUNDS = 200
SEED = 20_261_122
NEARLY = 1e-9

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One labelled prompt as the measures see it: its score, and each model's quality and dollars."""

    score: float
    cheap: float
    premium: float
    cheap_usd: float
    premium_usd: float

    @property
    def gain(self) -> float:
        return self.premium - self.cheap

    @property
    def extra_usd(self) -> float:
        return self.premium_usd - self.cheap_usd


class Curve:
    """Prompts in the falling order of their scores; those of one score count as if in every order at once."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = prompts
        order = sorted(range(len(prompts)), key=lambda at: -prompts[at].score)
        self._groups = [list(group) for _, group in groupby(order, key=lambda at: prompts[at].score)]

    def apgr(self, *, by_usd: bool, counts: Sequence[int] | None = None) -> float | None:
        """Return the area; None where the premium model is no better, or costs no more.

        `counts` says how often each prompt counts, once by default.
        """
        area = gained = spent = 0.0
        for group in self._groups:
            gain = weight = 0.0
            for at in group:
                times = 1 if counts is None else counts[at]
                if times:
                    prompt = self._prompts[at]
                    gain += times * prompt.gain
                    weight += times * (prompt.extra_usd if by_usd else 1.0)
            area += weight * (gained + gain / 2)
            gained += gain
            spent += weight
        return area / (gained * spent) if gained > 0 and spent > 0 else None

    def usd_at_quality(self, percent: float, counts: Sequence[int] | None = None) -> float | None:
        """Return the fewest dollars along the order that keep so many percent of the premium model's quality.

        `counts` is as for `apgr`.
        """
        times = [1] * len(self._prompts) if counts is None else counts
        counted = [(prompt, often) for prompt, often in zip(self._prompts, times, strict=True) if often]
        quality = sum(often * prompt.cheap for prompt, often in counted)
        usd = sum(often * prompt.cheap_usd for prompt, often in counted)
        aim = sum(often * prompt.premium for prompt, often in counted) * percent / 100 - NEARLY
        found = [usd] if quality >= aim else []
        for often, gain, extra_usd in self._steps(times):
            quality += often * gain
            usd += often * extra_usd
            if quality >= aim:
                found.append(usd)
        return min(found, default=None)

    def within(self, usd: float) -> tuple[float, float, float]:
        """Return quality, dollars and premium share (means, a total, a share) where the first prompts get so much."""
        quality = sum(prompt.cheap for prompt in self._prompts)
        spent = sum(prompt.cheap_usd for prompt in self._prompts)
        calls = 0
        for _, gain, extra_usd in self._steps([1] * len(self._prompts)):
            if spent + extra_usd <= usd + NEARLY:
                quality += gain
                spent += extra_usd
                calls += 1
        return quality / len(self._prompts), spent, calls / len(self._prompts)

    def points(self, most: int = 200) -> list[tuple[float, float]]:
        """Return dollars and mean quality along the order, at most so many points, both ends included."""
        quality = sum(prompt.cheap for prompt in self._prompts)
        usd = sum(prompt.cheap_usd for prompt in self._prompts)
        found = [(usd, quality / len(self._prompts))]
        for _, gain, extra_usd in self._steps([1] * len(self._prompts)):
            quality += gain
            usd += extra_usd
            found.append((usd, quality / len(self._prompts)))
        step = max(1, len(found) // most)
        return [*found[:-1:step], found[-1]]

    def _steps(self, times: Sequence[int]) -> Iterator[tuple[int, float, float]]:
        """Yield for each prompt in the order how often it counts, and the gain and extra dollars of one.

        Prompts of one score take the mean of their group, which is what every order of them at once comes to.
        """
        for group in self._groups:
            if len(group) == 1:
                prompt = self._prompts[group[0]]
                yield times[group[0]], prompt.gain, prompt.extra_usd
                continue
            whole = sum(times[at] for at in group)
            gain = sum(times[at] * self._prompts[at].gain for at in group) / max(1, whole)
            extra_usd = sum(times[at] * self._prompts[at].extra_usd for at in group) / max(1, whole)
            yield from ((times[at], gain, extra_usd) for at in group)


def resamples(count: int) -> Iterable[list[int]]:
    """Yield how often each of `count` places is drawn in each bootstrap round; the same each time."""
    dice = random.Random(SEED)
    for _ in range(ROUNDS):
        counts = [0] * count
        for at in dice.choices(range(count), k=count):
            counts[at] += 1
        yield counts


def interval(values: Iterable[float | None]) -> Interval | None:
    """Return the middle 95 % of bootstrapped values; None where one in ten of them could not be told."""
    ordered = sorted(value for value in values if value is not None)
    if len(ordered) < 0.9 * ROUNDS:
        return None
    return ordered[int(0.025 * len(ordered))], ordered[min(len(ordered) - 1, int(0.975 * len(ordered)))]
