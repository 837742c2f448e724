"""How good an order of prompts is: what the first of them buy, in calls and in dollars, beside chance and hindsight.

APGR is the area under the share of the cheap-to-premium gap in quality that is recovered, over the share of the
premium calls (or of the extra dollars) that is spent, the prompts taken in the order of their score. Random is 0.5.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, groupby
from operator import mul

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


@dataclass(frozen=True, slots=True)
class Ends:
    """What always cheap and always premium come to on one sample; all are sums."""

    count: int
    cheap: float
    premium: float
    cheap_usd: float
    premium_usd: float

    @property
    def extra_usd(self) -> float:
        return self.premium_usd - self.cheap_usd


@dataclass(frozen=True, slots=True)
class Sides:
    """The qualities and dollars of prompts by column, in no order but their own."""

    cheap: Sequence[float]
    premium: Sequence[float]
    cheap_usd: Sequence[float]
    premium_usd: Sequence[float]

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> Sides:
        """Return the columns of these prompts."""
        return cls(
            [prompt.cheap for prompt in prompts],
            [prompt.premium for prompt in prompts],
            [prompt.cheap_usd for prompt in prompts],
            [prompt.premium_usd for prompt in prompts],
        )

    def ends(self, counts: Sequence[int]) -> Ends:
        """Return the sums where each prompt counts as often as `counts` says."""
        columns = (self.cheap, self.premium, self.cheap_usd, self.premium_usd)
        return Ends(sum(counts), *(sum(map(mul, counts, column)) for column in columns))


class Curve:
    """Prompts in the falling order of their scores; those of one score count as if in every order at once.

    Its columns lie in that order, so that all of a bootstrap's rounds are sums over lists.
    """

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._sides = Sides.of(prompts)
        self._order = sorted(range(len(prompts)), key=lambda at: -prompts[at].score)
        ordered = [prompts[at] for at in self._order]
        self._gain = [prompt.gain for prompt in ordered]
        self._extra_usd = [prompt.extra_usd for prompt in ordered]
        self._ties: list[slice] = []
        begin = 0
        for _, group in groupby(ordered, key=lambda prompt: prompt.score):
            end = begin + len(list(group))
            if end - begin > 1:
                self._ties.append(slice(begin, end))
            begin = end

    def drawn(self, counts: Sequence[int], ends: Ends | None = None) -> Drawn:
        """Return the curve in which each prompt counts as often as `counts` says.

        `ends`, where they are known from another curve of the same prompts, are not worked out again.
        """
        times = [counts[at] for at in self._order]
        return Drawn(
            ends=ends or self._sides.ends(counts),
            times=times,
            gains=self._shared(times, self._gain),
            extras_usd=self._shared(times, self._extra_usd),
        )

    def plain(self) -> Drawn:
        """Return the curve in which each prompt counts once."""
        return self.drawn([1] * len(self._order))

    def apgr(self, *, by_usd: bool) -> float | None:
        """Return the area where each prompt counts once, as `Drawn.apgr` does."""
        return self.plain().apgr(by_usd=by_usd)

    def _shared(self, times: Sequence[int], values: Sequence[float]) -> list[float]:
        """Return each prompt's value times how often it counts.

        Prompts of one score take the mean of their group, which is what every order of them at once comes to.
        """
        found = list(map(mul, times, values))
        for tie in self._ties:
            mean = sum(found[tie]) / max(1, sum(times[tie]))
            found[tie] = [often * mean for often in times[tie]]
        return found


@dataclass(frozen=True, slots=True)
class Drawn:
    """A curve as one sample has it: where it begins and ends, and what each prompt in the order adds."""

    ends: Ends
    times: Sequence[int]
    """How often each prompt counts."""
    gains: Sequence[float]
    extras_usd: Sequence[float]

    def apgr(self, *, by_usd: bool) -> float | None:
        """Return the area; None where the premium model is no better, or costs no more."""
        weights = self.extras_usd if by_usd else self.times
        before = list(accumulate(self.gains, initial=0.0))
        gained, spent = before[-1], self.ends.extra_usd if by_usd else self.ends.count
        area = sum(map(mul, weights, before)) + sum(map(mul, weights, self.gains)) / 2
        return area / (gained * spent) if gained > 0 and spent > 0 else None

    def usd_at_quality(self, *percents: float) -> list[float | None]:
        """Return the fewest dollars along the order that keep so many percent of the premium model's quality."""
        qualities = list(accumulate(self.gains, initial=self.ends.cheap))
        usd = list(accumulate(self.extras_usd, initial=self.ends.cheap_usd))
        aims = [self.ends.premium * percent / 100 - NEARLY for percent in percents]
        return [min(compress(usd, map(aim.__le__, qualities)), default=None) for aim in aims]

    def within(self, usd: float) -> tuple[float, float, float]:
        """Return quality, dollars and premium share (means, a total, a share) where the first prompts get so much."""
        quality, spent, calls = self.ends.cheap, self.ends.cheap_usd, 0
        most_usd = usd + NEARLY
        for often, gain, extra_usd in zip(self.times, self.gains, self.extras_usd, strict=True):
            if spent + extra_usd <= most_usd:
                quality += gain
                spent += extra_usd
                calls += often
            elif often > 1 and extra_usd > 0 and (bought := int((most_usd - spent) * often / extra_usd)) > 0:
                quality += gain * bought / often
                spent += extra_usd * bought / often
                calls += bought
        return quality / self.ends.count, spent, calls / self.ends.count

    def points(self, most: int = 200) -> list[tuple[float, float]]:
        """Return dollars and mean quality along the order, at most so many points, both ends included."""
        usd = accumulate(self.extras_usd, initial=self.ends.cheap_usd)
        qualities = accumulate(self.gains, initial=self.ends.cheap)
        found = [(cost, kept / self.ends.count) for cost, kept in zip(usd, qualities, strict=True)]
        step = max(1, len(found) // most)
        return [*found[:-1:step], found[-1]]


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
