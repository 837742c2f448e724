"""GET /admin/requests: the last requests, each with the reason for where it went, and no text of any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from router.ledger.contract import SHADOW_SUFFIX
from router.ledger.recent import Recent, Tried
from router.policy.decide import PINNED
from router.policy.facts import Facts
from router.policy.policy import PolicySet, Rule
from router.policy.record import PRIVATE
from router.values import Ending, usd_number


def requests_report(found: Sequence[Recent], policies: PolicySet) -> dict[str, Any]:
    """Return the requests as JSON, in the order given."""
    return {"requests": [_told(request, policies) for request in found]}


def _told(request: Recent, policies: PolicySet) -> dict[str, Any]:
    return {
        "id": request.id,
        "at": request.at,
        "account": request.account,
        "task": request.task,
        "rule": request.rule,
        "policy_revision": request.policy_revision,
        "requested_model": request.requested_model,
        "model": request.routed_model,
        "provider": request.provider,
        "kind": request.kind,
        "outcome": request.outcome,
        "error": request.refusal,
        "certainty": request.certainty,
        "input_tokens": request.input_tokens,
        "output_tokens": request.output_tokens,
        "cost_usd": usd_number(request.charged_nusd),
        "baseline_usd": usd_number(request.baseline_nusd),
        "overhead_usd": usd_number(request.overhead_nusd),
        "latency_ms": round(request.latency_ms, 3),
        "attempts": [_attempt(attempt) for attempt in request.attempts],
        "reason": reason_of(request, policies),
    }


def _attempt(attempt: Tried) -> dict[str, Any]:
    return {
        "model": attempt.model,
        "target": attempt.target,
        "reason": attempt.reason,
        "status": attempt.status,
        "cost_usd": usd_number(attempt.charged_nusd),
        "ms": attempt.ms,
    }


def reason_of(request: Recent, policies: PolicySet) -> str:
    """Say in one line why a request went where it did: who chose, what the rule saw, what failed on the way."""
    if request.outcome == Ending.SHADOW:
        return f"a copy of request {request.id.removesuffix(SHADOW_SUFFIX)} for a model on trial; nobody got its answer"
    said = [_choice(request, policies)]
    if request.outcome == Ending.REFUSED:
        said.append(f"refused: {request.refusal or 'no reason was recorded'}")
    elif request.outcome == Ending.CUT:
        said.append("ended by Farthing at its budget")
    elif len(request.attempts) > 1 or request.outcome == Ending.FAILED:
        said.append(", then ".join(f"{attempt.model} {attempt.reason}" for attempt in request.attempts))
    return "; ".join(part for part in said if part)


def _choice(request: Recent, policies: PolicySet) -> str:
    if request.rule == PINNED:
        return f"asked for {request.requested_model} by name"
    if request.policy_revision != policies.revision:
        return f"rule {request.rule} of policies {request.policy_revision}, since replaced"
    policy = policies.policies.get(request.task)
    number = next((n for n, rule in enumerate(policy.rules) if rule.name == request.rule), None) if policy else None
    if policy is None or number is None:
        return f"rule {request.rule}"
    rule = policy.rules[number]
    return f"rule {rule.name}: {_why(rule, request)}{_instead(policy.rules[:number], rule, request)}"


def _why(rule: Rule, request: Recent) -> str:
    unknown = sorted(rule.when.needs() & PRIVATE)
    facts = _facts(request)
    if facts is None or unknown:
        return f"its condition on {' and '.join(unknown)} held" if unknown else "its condition held"
    return rule.when.explain(facts)


def _instead(earlier: Sequence[Rule], rule: Rule, request: Recent) -> str:
    """Say whose place this choice took, where money or a model's limits ruled out what came first."""
    facts = _facts(request)
    if facts and facts.experiment:
        return f"; {facts.experiment.side.value} of experiment {facts.experiment.name}"
    if request.routed_model is not None and not request.attempts[1:] and request.routed_model not in rule.use:
        return f"; no model that it uses could be paid for or take it, so {request.routed_model}"
    for before in earlier if facts else ():
        if facts and not before.when.needs() & PRIVATE and before.when.holds(facts):
            return f"; rule {before.name} held before it, but no model that it uses could be paid for or take it"
    return ""


def _facts(request: Recent) -> Facts | None:
    """Return the facts as far as they were recorded; None where another version wrote them in another shape."""
    try:
        return msgspec.convert(request.facts, Facts)
    except msgspec.ValidationError:
        return None
