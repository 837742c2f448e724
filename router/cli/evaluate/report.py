"""What an evaluation comes to: the contract's numbers, each beside what chance and hindsight would have had."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import mul
from typing import Any

from router.cli.evaluate.run import Choice, Evaluated
from router.difficulty.measure import Curve, Prompt, interval, resamples
from router.policy.forecast import quality_of

LEVELS = (95, 98, 100)
LEAST_USD = 1e-12


def report(evaluated: Evaluated, task: str) -> dict[str, Any]:
    """Return what CONTRACT.md states, and more beside it. `cost_usd` is a total, `quality` a mean."""
    prompts, choices = evaluated.prompts, evaluated.choices
    count = len(prompts)
    curve = Curve(prompts)
    plain = curve.plain()
    policy = _row(
        sum(choice.quality for choice in choices) / count,
        sum(choice.cost_usd for choice in choices),
        sum(choice.premium for choice in choices) / count,
    )
    spend_usd = policy["cost_usd"]
    return {
        "n": count,
        "learned": evaluated.learned,
        "near_duplicates": evaluated.near_duplicates,
        "task": task,
        "cheap": evaluated.pair.cheap,
        "premium": evaluated.pair.premium,
        "refused": sum(choice.refused for choice in choices),
        "policy": policy,
        "checks": _checks(choices),
        "always_cheap": _row(
            sum(prompt.cheap for prompt in prompts) / count, sum(prompt.cheap_usd for prompt in prompts), 0.0
        ),
        "always_premium": _row(
            sum(prompt.premium for prompt in prompts) / count, sum(prompt.premium_usd for prompt in prompts), 1.0
        ),
        "random_same_spend": _random(prompts, spend_usd),
        "score_same_spend": _row(*plain.within(spend_usd)),
        "longest_same_spend": _row(*_longest(evaluated).plain().within(spend_usd)),
        "task_prior_same_spend": _row(*_task_prior(evaluated, by_usd=True).plain().within(spend_usd)),
        "oracle": _oracle(prompts),
        "apgr_calls": plain.apgr(by_usd=False),
        "apgr_usd": plain.apgr(by_usd=True),
        "usd_at_quality": dict(zip(map(str, LEVELS), plain.usd_at_quality(*LEVELS), strict=True)),
        "random_usd_at_quality": {str(level): _random_usd(prompts, level) for level in LEVELS},
        "longest": {
            "apgr_calls": _longest(evaluated).apgr(by_usd=False),
            "apgr_usd": _longest(evaluated).apgr(by_usd=True),
        },
        "task_prior": {
            "apgr_calls": _task_prior(evaluated, by_usd=False).apgr(by_usd=False),
            "apgr_usd": _task_prior(evaluated, by_usd=True).apgr(by_usd=True),
        },
        "interval_95": _intervals(prompts, choices, curve),
    }


def _checks(choices: Sequence[Choice]) -> dict[str, Any] | None:
    """Return how the rules' checks went: shares of the prompts that had any; None where none had."""
    checked = [choice for choice in choices if choice.passed is not None]
    if not checked:
        return None
    right = [choice.quality for choice in checked if choice.passed]
    return {
        "n": len(checked),
        "passed": len(right) / len(checked),
        "escalated": sum(choice.escalated for choice in checked) / len(checked),
        "quality_if_passed": sum(right) / len(right) if right else None,
        "not_judged": sorted({name for choice in checked for name in choice.unknown}),
        "lines_not_judged": sum(1 for choice in checked if choice.unknown),
    }


def _row(quality: float, cost_usd: float, premium_share: float) -> dict[str, float]:
    return {"quality": quality, "cost_usd": cost_usd, "premium_share": premium_share}


def _random(prompts: Sequence[Prompt], spend_usd: float) -> dict[str, float]:
    """Return what a random mix is expected to keep at this spend: a straight line from always cheap to premium."""
    cheap_usd = sum(prompt.cheap_usd for prompt in prompts)
    extra_usd = sum(prompt.extra_usd for prompt in prompts)
    share = min(1.0, max(0.0, (spend_usd - cheap_usd) / extra_usd)) if extra_usd > LEAST_USD else 0.0
    quality = sum(prompt.cheap + share * prompt.gain for prompt in prompts) / len(prompts)
    return _row(quality, cheap_usd + share * extra_usd, share)


def _random_usd(prompts: Sequence[Prompt], percent: int) -> float | None:
    cheap, premium = (sum(getattr(prompt, name) for prompt in prompts) for name in ("cheap", "premium"))
    aim = premium * percent / 100
    share = 0.0 if aim <= cheap else (aim - cheap) / (premium - cheap)
    return sum(prompt.cheap_usd + share * prompt.extra_usd for prompt in prompts)


def _oracle(prompts: Sequence[Prompt]) -> dict[str, float]:
    """Return what hindsight does: premium where it was better, or as good for less, and nowhere else."""
    better = [prompt.gain > 0 or (prompt.gain == 0 and prompt.extra_usd < 0) for prompt in prompts]
    count = len(prompts)
    return _row(
        sum(max(prompt.cheap, prompt.premium) for prompt in prompts) / count,
        sum(p.premium_usd if up else p.cheap_usd for p, up in zip(prompts, better, strict=True)),
        sum(better) / count,
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


def _intervals(prompts: Sequence[Prompt], choices: Sequence[Choice], curve: Curve) -> dict[str, Any]:
    """Return 95 % intervals: where the mean over all such prompts is.

    That of quality is no bootstrap, which would have no width where every answer was right.
    """
    found: dict[str, list[float | None]] = defaultdict(list)
    at_quality: dict[str, list[float | None]] = defaultdict(list)
    costs_usd = [choice.cost_usd for choice in choices]
    calls = [choice.premium for choice in choices]
    for counts in resamples(len(prompts)):
        drawn = curve.drawn(counts)
        found["apgr_calls"].append(drawn.apgr(by_usd=False))
        found["apgr_usd"].append(drawn.apgr(by_usd=True))
        for level, usd in zip(LEVELS, drawn.usd_at_quality(*LEVELS), strict=True):
            at_quality[str(level)].append(usd)
        found["cost_usd"].append(sum(map(mul, counts, costs_usd)))
        found["premium_share"].append(sum(map(mul, counts, calls)) / len(prompts))
    quality = quality_of([choice.quality for choice in choices])
    within = (max(0.0, quality.low), min(1.0, quality.high))
    return _between(found) | {"quality": within, "usd_at_quality": _between(at_quality)}


def _between(found: Mapping[str, list[float | None]]) -> dict[str, Any]:
    return {name: interval(values) for name, values in found.items()}
