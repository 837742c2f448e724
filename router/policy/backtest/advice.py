"""What recorded traffic says of cascades and of fine-tuning: does it pay, from how many requests on, how sure is that?

Pure. Each figure rests on the same requests under both courses, and comes with its 95 % interval; with too few of them
nothing is said. What another model would have cost is its price for the tokens that were used, so an answer is taken to
be as long there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from router.policy.backtest.intervals import Mean, mean_of, quality_of, wilson
from router.policy.backtest.recorded import RecordedAttempt, Request
from router.policy.learn import LEARNING
from router.policy.policy import PolicySet
from router.policy.target import Model
from router.values import NUSD_PER_USD, Usage

LEAST_REQUESTS = 30
"""Below this nothing is advised: an interval from so few is not to be trusted."""
NOT_ENOUGH = "not enough traffic"
SECONDS_A_DAY = 86_400
_ANSWERS = ("answered", "cut")


class _Grades(Struct):
    """What a second answer's row says of both answers, each from 0 to 1."""

    cheap: float
    premium: float
    given: str = ""
    """Which of them the caller got; empty where a version of before wrote it."""
    by: str = ""


class _Facts(Struct):
    grades: _Grades | None = None


_facts_of = msgspec.json.Decoder(_Facts).decode


@dataclass(slots=True)
class _Cascade:
    """What the requests of one rule that checks its answers came to, in dollars each."""

    model: str
    escalate_to: str | None
    unchecked: int = 0
    passed: list[float] = field(default_factory=list)
    escalated: int = 0
    given: int = 0
    """Answers that failed and were given all the same; they bought nothing, so that what they cost is not compared."""
    cost_usd: list[float] = field(default_factory=list)
    always_usd: list[float] = field(default_factory=list)
    overhead_usd: dict[str, float] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    graded: list[float] = field(default_factory=list)
    """The grades of answers that passed, where learning asked another model as well."""
    lacks: list[float] = field(default_factory=list)
    """How much better `escalate_to` was graded on the same requests."""


@dataclass(frozen=True, slots=True)
class _Graded:
    """A request's answer, and another model's, as learning graded them."""

    given: float
    other: float
    other_model: str | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """A fine-tuned model in question: its price by `model`, and what it takes to make it."""

    model: Model
    training_usd: float
    saved_prompt_tokens: int = 0
    """Tokens of each prompt that it needs no more: examples and instructions that it has learned."""


def cascades(requests: Iterable[Request], policies: PolicySet) -> list[dict[str, Any]]:
    """Return an object for each task and rule whose answers were checked, in the order of their names."""
    found: dict[tuple[str, str], _Cascade] = {}
    requests = tuple(requests)
    graded = dict(_grades(requests))
    for request in requests:
        checked = next((attempt for attempt in request.attempts if attempt.check), None)
        if checked is not None:
            key = request.record.task, request.record.rule
            if key not in found:
                found[key] = _Cascade(checked.model, _escalates_to(policies, *key))
            _add(found[key], request, checked, policies)
            if checked.check == "passed" and (grades := graded.get(request.record.id)):
                _add_grades(found[key], grades)
    return [{"task": task, "rule": rule, **_told(found[task, rule])} for task, rule in sorted(found)]


def tuning(requests: Iterable[Request], tuned: Tuning) -> list[dict[str, Any]]:
    """Return an object for each task: what its answers cost and would cost, and when the training is paid."""
    now: dict[str, list[float]] = {}
    then: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    for request in requests:
        answer = request.answer()
        usage = answer.usage if answer is not None and answer.reason in _ANSWERS else None
        if usage is None or request.record.outcome not in _ANSWERS:
            continue
        task = request.record.task
        now.setdefault(task, []).append(request.record.charged_nusd / NUSD_PER_USD)
        kept_tokens = max(1, usage.input_tokens - tuned.saved_prompt_tokens)
        then.setdefault(task, []).append(_price_usd(tuned.model, Usage(kept_tokens, usage.output_tokens)))
        times.setdefault(task, []).append(datetime.fromisoformat(request.record.at).timestamp())
    return [{"task": task, **_paid_back(now[task], then[task], times[task], tuned)} for task in sorted(now)]


def _grades(requests: Iterable[Request]) -> Iterator[tuple[str, _Graded]]:
    """Yield the id of each request whose answer was graded, and how.

    Where the rule's own checks graded, an answer that passed them is right by what it is measured with; not those.
    """
    for request in requests:
        record = request.record
        if record.rule != LEARNING or (grades := _facts_of(record.facts).grades) is None:
            continue
        if grades.by not in ("", "verify") and grades.given in ("cheap", "premium"):
            given, other = grades.cheap, grades.premium
            if grades.given == "premium":
                given, other = other, given
            yield record.id.partition(".")[0], _Graded(given, other, record.routed_model)


def _add_grades(cascade: _Cascade, grades: _Graded) -> None:
    cascade.graded.append(grades.given)
    if grades.other_model == cascade.escalate_to:
        cascade.lacks.append(grades.other - grades.given)


def _add(cascade: _Cascade, request: Request, checked: RecordedAttempt, policies: PolicySet) -> None:
    if checked.check == "unchecked":
        cascade.unchecked += 1
        return
    answer = next((attempt for attempt in request.attempts if attempt.reason in _ANSWERS), None)
    usage = answer.usage if answer else None
    if answer is None or usage is None:
        return
    cascade.passed.append(float(checked.check == "passed"))
    escalated = answer is not checked
    cascade.escalated += escalated
    if checked.check is not None and checked.check != "passed":
        cascade.failed[checked.check] = cascade.failed.get(checked.check, 0) + 1
    for attempt in request.attempts:
        if attempt is not answer:
            reason = "escalation" if attempt is checked else attempt.reason
            spent_usd = attempt.charged_nusd / NUSD_PER_USD
            cascade.overhead_usd[reason] = cascade.overhead_usd.get(reason, 0.0) + spent_usd
    if cascade.escalate_to is not None and checked.check != "passed" and not escalated:
        cascade.given += 1
        return
    cascade.cost_usd.append(request.record.charged_nusd / NUSD_PER_USD)
    dear = policies.models.get(cascade.escalate_to or "")
    if dear is not None:
        always_usd = answer.charged_nusd / NUSD_PER_USD if escalated else _price_usd(dear, usage)
        cascade.always_usd.append(always_usd)


def _told(cascade: _Cascade) -> dict[str, Any]:
    n = len(cascade.passed)
    enough = len(cascade.cost_usd) >= LEAST_REQUESTS and len(cascade.always_usd) == len(cascade.cost_usd)
    saved = [always - paid for always, paid in zip(cascade.always_usd, cascade.cost_usd, strict=False)]
    always_usd = mean_of(cascade.always_usd) if enough else None
    return {
        "model": cascade.model,
        "escalate_to": cascade.escalate_to,
        "requests": n,
        "unchecked": cascade.unchecked,
        "pass_rate": _interval(wilson(math.fsum(cascade.passed), n)) if n else None,
        "escalation_rate": _interval(wilson(cascade.escalated, n)) if n else None,
        "failed": dict(sorted(cascade.failed.items())),
        "given_all_the_same": cascade.given,
        "graded": len(cascade.graded),
        "quality_if_passed": _interval(quality_of(cascade.graded)) if len(cascade.graded) > 1 else None,
        "lacks_if_passed": _interval(mean_of(cascade.lacks)) if len(cascade.lacks) > 1 else None,
        "cost_usd": _interval(mean_of(cascade.cost_usd)) if enough else None,
        "always_usd": _interval(always_usd) if always_usd else None,
        "overhead_usd": dict(sorted(cascade.overhead_usd.items())),
        "break_even_pass_rate": _break_even(cascade, always_usd.mean) if always_usd and always_usd.mean else None,
        "saved_usd": _interval(mean_of(saved)) if enough else None,
        "advice": _advice(cascade, n, mean_of(saved) if enough else None),
    }


def _advice(cascade: _Cascade, n: int, saved: Mean | None) -> str:
    if cascade.escalate_to is None:
        return "it escalates to nobody, so that failing answers are given all the same"
    said = [_compared(cascade.escalate_to, len(cascade.cost_usd), saved)]
    if len(cascade.lacks) >= LEAST_REQUESTS and (lacks := mean_of(cascade.lacks)).low > 0:
        said.append(f"answers that pass are graded {lacks.mean:.2f} below those of {cascade.escalate_to}")
    if cascade.unchecked:
        why = "say, no money was left for a check, the judge gave no grade, or it was a stream"
        said.append(f"{cascade.unchecked} more went out unchecked: {why}")
    if cascade.given:
        why = f"no money was left for {cascade.escalate_to}, or it failed"
        said.append(f"{cascade.given} of {n} answers failed and were given all the same: {why}")
    return "; ".join(said)


def _compared(escalate_to: str, n: int, saved: Mean | None) -> str:
    if saved is None:
        return f"{NOT_ENOUGH}: {n} of {LEAST_REQUESTS} requests" if n < LEAST_REQUESTS else NOT_ENOUGH
    if saved.low > 0:
        return "it pays"
    if saved.high < 0:
        return f"it costs more than always asking {escalate_to}; take the cascade out"
    return "no difference can be seen yet"


def _break_even(cascade: _Cascade, always_usd: float) -> float:
    """Return the pass rate at which it costs as much as always asking the dear model."""
    before_usd = math.fsum(cascade.cost_usd) / len(cascade.cost_usd)
    before_usd -= cascade.escalated / len(cascade.cost_usd) * always_usd
    return min(1.0, max(0.0, before_usd / always_usd))


def _paid_back(now: list[float], then: list[float], times: list[float], tuned: Tuning) -> dict[str, Any]:
    n, days = len(now), (max(times) - min(times)) / SECONDS_A_DAY
    enough = n >= LEAST_REQUESTS
    saved = mean_of([before - after for before, after in zip(now, then, strict=True)]) if enough else None
    per_day = n / days if enough and days >= 1 else None
    requests = _requests_to_pay(tuned.training_usd, saved) if saved else None
    return {
        "requests": n,
        "tuned": tuned.model.name,
        "training_usd": tuned.training_usd,
        "cost_usd": _interval(mean_of(now)) if enough else None,
        "tuned_usd": _interval(mean_of(then)) if enough else None,
        "saved_usd": _interval(saved) if saved else None,
        "break_even_requests": requests,
        "requests_per_day": per_day,
        "break_even_days": requests["mean"] / per_day if requests and requests["mean"] and per_day else None,
        "advice": _tuning_advice(n, saved),
    }


def _requests_to_pay(training_usd: float, saved: Mean) -> dict[str, float | None]:
    """Return after how many requests the training is paid; None is never."""

    def after(usd: float) -> float | None:
        return math.ceil(training_usd / usd) if usd > 0 else None

    return {"mean": after(saved.mean), "low": after(saved.high), "high": after(saved.low)}


def _tuning_advice(n: int, saved: Mean | None) -> str:
    if saved is None:
        return f"{NOT_ENOUGH}: {n} of {LEAST_REQUESTS} requests"
    if saved.low > 0:
        return "fine-tuning pays after that many requests, if its answers are as good"
    if saved.high <= 0:
        return "prompt: the tuned model costs no less"
    return "no difference can be seen yet"


def _escalates_to(policies: PolicySet, task: str, rule_name: str) -> str | None:
    policy = policies.policies.get(task)
    rules = policy.rules if policy else ()
    return next((rule.verify.escalate_to for rule in rules if rule.name == rule_name and rule.verify), None)


def _price_usd(model: Model, usage: Usage) -> float:
    """Price these tokens at a model's dearest target."""
    return max(price.charge_nusd(usage) for price in model.prices) / NUSD_PER_USD


def _interval(mean: Mean) -> dict[str, float]:
    return {"mean": mean.mean, "low": mean.low, "high": mean.high}
