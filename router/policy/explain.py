"""A decision in words and numbers, as `explain`, the dry run and the console show it."""

from __future__ import annotations

from typing import Any

from router.policy.decide import Candidate, Decision, Route
from router.policy.experiment import Trial
from router.policy.facts import Facts
from router.policy.policy import Policy
from router.policy.record import recorded_facts
from router.policy.warm import Stay
from router.values import usd_number


def explained(decision: Decision, facts: Facts, policy: Policy) -> dict[str, Any]:
    """Return the contract's object: where the request would go, what it may cost, and why not elsewhere.

    Dollars are floats here, for JSON; `model` is None and `refusal` is set where the request would be refused.
    """
    chosen = decision.candidates[0] if isinstance(decision, Route) else None
    return {
        "task": decision.task,
        "rule": decision.rule.name,
        "model": chosen.model.name if chosen else None,
        "estimate_usd": usd_number(decision.estimate_nusd) if isinstance(decision, Route) else None,
        "checks_usd": usd_number(decision.checks_nusd) if isinstance(decision, Route) else None,
        "ceiling_usd": usd_number(chosen.ceiling_nusd) if chosen else None,
        "budget_usd": usd_number(decision.purse.nusd) if decision.purse else None,
        "budget": decision.purse.whose if decision.purse else None,
        "downgraded": isinstance(decision, Route) and decision.downgraded,
        "refusal": None if isinstance(decision, Route) else {"code": decision.code, "message": decision.message},
        "policy_revision": decision.revision,
        "facts": recorded_facts(facts),
        "difficulty": dict(facts.reading.described()) if facts.reading else None,
        "rules": [
            {"name": rule.name, "held": rule.when.holds(facts), "why": rule.when.explain(facts)}
            for rule in policy.rules
        ],
        "candidates": [_candidate(candidate) for candidate in _as_tried(decision)],
        **told(decision),
    }


def told(decision: Decision) -> dict[str, Any]:
    """Return how money chose, a request's part in an experiment, why it stays or moves; empty where nothing did."""
    said: dict[str, Any] = {}
    if isinstance(decision, Route) and decision.trial:
        said["experiment"] = _trial(decision.trial)
    if isinstance(decision, Route) and decision.stay:
        said["stick"] = _stay(decision.stay)
    if isinstance(decision, Route) and decision.by_money:
        said["by_money"] = decision.by_money.told() | {"reason": str(decision.by_money)}
    return said


def _trial(trial: Trial) -> dict[str, Any]:
    experiment = trial.experiment
    canary, shadow = experiment.canary, experiment.shadow
    return trial.recorded() | {
        "canary_share": canary.share if canary else None,
        "shadow_share": shadow.share if shadow else None,
    }


def _stay(stay: Stay) -> dict[str, Any]:
    return {
        "model": stay.warm.model,
        "cached_tokens": stay.warm.tokens,
        "stay_usd": usd_number(stay.stay_nusd),
        "switch_usd": usd_number(stay.switch_nusd),
        "elsewhere": stay.elsewhere,
        "stays": stay.stays,
        "reason": str(stay),
    }


def _as_tried(decision: Decision) -> list[Candidate]:
    """Return what was looked at, with those that would be tried in that order, for a rule may order them anew."""
    if not isinstance(decision, Route):
        return list(decision.considered)
    looked_at = {candidate.model.name: candidate for candidate in decision.considered}
    tried = [candidate.model.name for candidate in decision.candidates]
    in_order = iter(tried)
    return [looked_at[next(in_order) if name in tried else name] for name in looked_at]


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "model": candidate.model.name,
        "fits": candidate.fits,
        "ceiling_usd": usd_number(candidate.ceiling_nusd),
        "estimate_usd": usd_number(candidate.estimate_nusd) if candidate.fits else None,
        "input_tokens": candidate.input_tokens,
        "max_output_tokens": candidate.max_output_tokens,
        "clamped": candidate.clamped,
        "reason": candidate.reason,
    }
