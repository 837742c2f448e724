"""GET /admin/requests: the last requests, each with the reason for where it went, and no text of any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from router.ledger.contract import SHADOW_SUFFIX
from router.ledger.recent import Recent, Tried
from router.policy.decide import PINNED
from router.policy.facts import Facts
from router.policy.policy import Rule
from router.policy.record import PRIVATE
from router.values import Ending, usd_number

Rules = Callable[[str, str], tuple[Rule, ...] | None]
"""Gives the rules that a task has in the revision in force, or had in an earlier one; None where that is not known."""


def requests_report(found: Sequence[Recent], rules: Rules, revision: str) -> dict[str, Any]:
    """Return the requests as JSON, in the order given; `revision` is the one in force."""
    return {"requests": [_told(request, rules, revision) for request in found]}


def _told(request: Recent, rules: Rules, revision: str) -> dict[str, Any]:
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
        "reason": reason_of(request, rules, revision),
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


def reason_of(request: Recent, rules: Rules, revision: str) -> str:
    """Say in one line why a request went where it did: who chose, what the rule saw, what failed on the way."""
    if request.outcome == Ending.SHADOW:
        return f"a copy of request {request.id.removesuffix(SHADOW_SUFFIX)} for a model on trial; nobody got its answer"
    said = [_choice(request, rules, revision)]
    if request.outcome == Ending.REFUSED:
        said.append(f"refused: {request.refusal or 'no reason was recorded'}")
    elif request.outcome == Ending.CUT:
        said.append("ended by Farthing at its budget")
    elif len(request.attempts) > 1 or request.outcome == Ending.FAILED:
        said.append(", then ".join(f"{attempt.model} {attempt.reason}" for attempt in request.attempts))
    return "; ".join(part for part in said if part)


def _choice(request: Recent, rules: Rules, revision: str) -> str:
    if request.rule == PINNED:
        return f"asked for {request.requested_model} by name"
    then = rules(request.policy_revision, request.task)
    if then is None:
        return f"rule {request.rule} of policies {request.policy_revision}, since replaced"
    number = next((n for n, rule in enumerate(then) if rule.name == request.rule), None)
    if number is None:
        return f"rule {request.rule}"
    rule = then[number]
    replaced = "" if _stands(rule, rules(revision, request.task)) else f" of policies {request.policy_revision}"
    return f"rule {rule.name}{replaced}: {_why(rule, request)}{_instead(then[:number], rule, request)}"


def _stands(rule: Rule, now: Sequence[Rule] | None) -> bool:
    """Say whether a rule is among those in force, so that its file says what it said then."""
    return any((other.name, other.when, other.use) == (rule.name, rule.when, rule.use) for other in now or ())


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
