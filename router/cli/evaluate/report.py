"""What an evaluation comes to: the contract's numbers, each beside what chance and hindsight would have had."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from operator import mul
from typing import Any

from router.cli.evaluate.run import Choice, Evaluated
from router.cli.progress import Work
from router.difficulty.measure import ROUNDS, Curve, Ends, Interval, Prompt, interval, resamples
from router.policy.backtest.intervals import quality_of

LEVELS = (95, 98, 100)
LEAST_USD = 1e-12


def report(evaluated: Evaluated, task: str, work: Work) -> dict[str, Any]:
    """Return what CONTRACT.md states, and more beside it. `cost_usd` is a total, `quality` a mean."""
    prompts, choices = evaluated.prompts, evaluated.choices
    count = len(prompts)
    ways = _Ways(evaluated)
    rounds = [ways.measured(counts) for counts in work.over("Measuring", resamples(count), ROUNDS)]
    return {
        "n": count,
        "learned": evaluated.learned,
        "learned_to_line": evaluated.learned_to_line,
        "near_duplicates": evaluated.near_duplicates,
        "left_out": asdict(evaluated.lacking) if evaluated.lacking else None,
        "on_too_few_lines": {name: asdict(few) for name, few in evaluated.too_few.items()},
        "task": task,
        "cheap": evaluated.pair.cheap,
        "premium": evaluated.pair.premium,
        "refused": sum(choice.refused for choice in choices),
        "beyond_budget": sum(choice.beyond_budget for choice in choices),
        "checks": _checks(choices),
        **ways.measured([1] * count),
        "interval_95": _intervals(evaluated, rounds),
    }


def _checks(choices: Sequence[Choice]) -> dict[str, Any] | None:
    """Return how the rules' checks went: shares of the prompts that had any; None where none had."""
    checked = [choice for choice in choices if choice.passed is not None]
    if not checked:
        return None
    grades_usd = [choice.grade_usd for choice in checked if choice.grade_usd is not None]
    right = [choice.quality for choice in checked if choice.passed]
    return {
        "n": len(checked),
        "passed": len(right) / len(checked),
        "escalated": sum(choice.escalated for choice in checked) / len(checked),
        "quality_if_passed": sum(right) / len(right) if right else None,
        "judge_calls": len(grades_usd),
        "judge_usd": sum(grades_usd),
        "not_judged": sorted({name for choice in checked for name in choice.unknown}),
        "lines_not_judged": sum(1 for choice in checked if choice.unknown),
    }


class _Ways:
    """The policy and the simple ways beside it, each measured on whatever sample is drawn of the prompts."""

    def __init__(self, evaluated: Evaluated) -> None:
        prompts, choices = evaluated.prompts, evaluated.choices
        self._score = Curve(prompts)
        self._longest = _longest(evaluated)
        self._by_task_usd = _task_prior(evaluated, by_usd=True)
        self._by_task_calls = _task_prior(evaluated, by_usd=False)
        self._policy = _Columns(
            [choice.quality for choice in choices],
            [choice.cost_usd for choice in choices],
            [choice.premium for choice in choices],
        )
        self._oracle = _oracle(prompts)

    def measured(self, counts: Sequence[int]) -> dict[str, Any]:
        """Return every row and figure, each prompt counting as often as `counts` says."""
        score = self._score.drawn(counts)
        ends, count = score.ends, score.ends.count
        longest, by_task = self._longest.drawn(counts, ends), self._by_task_usd.drawn(counts, ends)
        policy = self._policy.row(counts)
        spend_usd = policy["cost_usd"]
        return {
            "policy": policy,
            "always_cheap": _row(ends.cheap / count, ends.cheap_usd, 0.0),
            "always_premium": _row(ends.premium / count, ends.premium_usd, 1.0),
            "random_same_spend": _random(ends, spend_usd),
            "score_same_spend": _row(*score.within(spend_usd)),
            "longest_same_spend": _row(*longest.within(spend_usd)),
            "task_prior_same_spend": _row(*by_task.within(spend_usd)),
            "oracle": self._oracle.row(counts),
            "apgr_calls": score.apgr(by_usd=False),
            "apgr_usd": score.apgr(by_usd=True),
            "usd_at_quality": dict(zip(map(str, LEVELS), score.usd_at_quality(*LEVELS), strict=True)),
            "random_usd_at_quality": {str(level): _random_usd(ends, level) for level in LEVELS},
            "longest": {"apgr_calls": longest.apgr(by_usd=False), "apgr_usd": longest.apgr(by_usd=True)},
            "task_prior": {
                "apgr_calls": self._by_task_calls.drawn(counts, ends).apgr(by_usd=False),
                "apgr_usd": by_task.apgr(by_usd=True),
            },
        }


@dataclass(frozen=True, slots=True)
class _Columns:
    """What one way did with each prompt: quality, dollars, and whether premium answered."""

    qualities: Sequence[float]
    costs_usd: Sequence[float]
    premium: Sequence[bool]

    def row(self, counts: Sequence[int]) -> dict[str, float]:
        quality, cost_usd, calls = (
            sum(map(mul, counts, column)) for column in (self.qualities, self.costs_usd, self.premium)
        )
        return _row(quality / len(counts), cost_usd, calls / len(counts))


def _row(quality: float, cost_usd: float, premium_share: float) -> dict[str, float]:
    return {"quality": quality, "cost_usd": cost_usd, "premium_share": premium_share}


def _random(ends: Ends, spend_usd: float) -> dict[str, float]:
    """Return what a random mix is expected to keep at this spend: a straight line from always cheap to premium."""
    extra_usd = ends.extra_usd
    share = min(1.0, max(0.0, (spend_usd - ends.cheap_usd) / extra_usd)) if extra_usd > LEAST_USD else 0.0
    quality = (ends.cheap + share * (ends.premium - ends.cheap)) / ends.count
    return _row(quality, ends.cheap_usd + share * extra_usd, share)


def _random_usd(ends: Ends, percent: int) -> float:
    gap = ends.premium - ends.cheap
    # Of two that are equally good, what is aimed at may be above both by a rounding error.
    share = max(0.0, (ends.premium * percent / 100 - ends.cheap) / gap) if gap > 0 else 0.0
    return ends.cheap_usd + share * ends.extra_usd


def _oracle(prompts: Sequence[Prompt]) -> _Columns:
    """Return what hindsight does: premium where it was better, or as good for less, and nowhere else."""
    better = [prompt.gain > 0 or (prompt.gain == 0 and prompt.extra_usd < 0) for prompt in prompts]
    return _Columns(
        [max(prompt.cheap, prompt.premium) for prompt in prompts],
        [prompt.premium_usd if up else prompt.cheap_usd for prompt, up in zip(prompts, better, strict=True)],
        better,
    )


def _longest(evaluated: Evaluated) -> Curve:
    return Curve(
        [replace(prompt, score=look.tokens) for prompt, look in zip(evaluated.prompts, evaluated.looks, strict=True)]
    )


def _task_prior(evaluated: Evaluated, *, by_usd: bool) -> Curve:
    """Order by the mean gain of each line's `task`, in hindsight: what knowing the task alone is worth.

    The gain is that of a dollar or that of a call: each measure has the order that is best by it.
    """
    gains: dict[str | None, float] = defaultdict(float)
    extras: dict[str | None, float] = defaultdict(float)
    for row, prompt in zip(evaluated.tested, evaluated.prompts, strict=True):
        gains[row.task] += prompt.gain
        extras[row.task] += prompt.extra_usd if by_usd else 1.0
    return Curve(
        [
            replace(prompt, score=gains[row.task] / max(extras[row.task], LEAST_USD))
            for row, prompt in zip(evaluated.tested, evaluated.prompts, strict=True)
        ]
    )


def _intervals(evaluated: Evaluated, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return 95 % intervals, where the mean over all such prompts is, under the names of what they belong to.

    That of a plain mean of qualities is no bootstrap, which would have no width where every answer was right. The
    policy's own stand beside the rows as well, where they were before the others had any.
    """
    found = _spread(rounds)
    prompts = evaluated.prompts
    for name, qualities in (
        ("policy", [choice.quality for choice in evaluated.choices]),
        ("always_cheap", [prompt.cheap for prompt in prompts]),
        ("always_premium", [prompt.premium for prompt in prompts]),
        ("oracle", [max(prompt.cheap, prompt.premium) for prompt in prompts]),
    ):
        quality = quality_of(qualities)
        found[name]["quality"] = (max(0.0, quality.low), min(1.0, quality.high))
    found["usd_at_quality"]["100"] = _up_to_premium(found, rounds)
    found.update(found["policy"])
    return found


def _up_to_premium(found: dict[str, Any], rounds: Sequence[dict[str, Any]]) -> Interval | None:
    """Return the interval of the dollars at 100 %, up to always premium's unless premium is surely no better.

    No sample can rule out that the prompts that seem easiest gain as well, and a bootstrap sees only those it has: it
    holds in 64 to 85 of 100 sets where this holds in 98 and more.
    """
    within: Interval | None = found["usd_at_quality"]["100"]
    gap = interval([each["always_premium"]["quality"] - each["always_cheap"]["quality"] for each in rounds])
    if within is None or gap is None or gap[1] <= 0:
        return within
    return within[0], max(within[1], found["always_premium"]["cost_usd"][1])


def _spread(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return for each figure of the rounds the interval that it keeps to, in the shape that each round has."""
    return {
        name: _spread([found[name] for found in rounds])
        if isinstance(first, dict)
        else interval([found[name] for found in rounds])
        for name, first in rounds[0].items()
    }
