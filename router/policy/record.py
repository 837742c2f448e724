"""What of a request is written down so that it can be decided again: numbers, names and truth values, never its text.

A condition that looks at text, headers or metadata is written down as whether it held, under a short name for what it
asks. It can be answered again wherever policies ask the same; where they ask something new, the answer is not known.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from msgspec import UNSET, UnsetType, field

from router.difficulty.look import written
from router.policy.condition import AllOf, AnyOf, Comparison, Condition, Named, Not
from router.policy.decide import Decision, Route
from router.policy.expression import Expression
from router.policy.facts import Facts
from router.policy.policy import Policy, PolicySet

PRIVATE = frozenset({"text", "headers", "metadata"})
"""Facts that belong to the caller and are never written down."""
BUDGET_FACTS = frozenset({"budget_used_pct", "budget_remaining_usd"})
AT_NEED = ("difficulty", "language", "has", *sorted(BUDGET_FACTS))
"""Facts that are worked out only where a rule of the policy looks at them; of `has`, only the word `code` is."""
LEFT_OF_A_BUDGET = "budget_exceeded"
"""The code of a purse that is what others left of a budget."""

UNKNOWN = "unknown"
"""Stands for a service tier or a search size that nobody knows; theirs is text, and these price as any other."""

_TIERS = frozenset({"auto", "default", "flex", "priority", "fast", "batch"})
_CONTEXTS = frozenset({"low", "medium", "high"})


class RecordedFacts(Facts, frozen=True):
    """The facts of a request as the ledger has them, with what they were decided by. Old rows have fewer."""

    first_model: str | UnsetType | None = UNSET
    """The model that was to be tried first; None where the decision was a refusal; unset in old rows."""
    named_task: bool = True
    """Whether the caller named the task, so that no `match` was looked at."""
    looked_at: frozenset[str] = frozenset()
    """Those of `AT_NEED` that were worked out."""
    conditions: Mapping[str, bool] = field(default_factory=dict)
    """How the conditions on private facts came out, by `name_of`."""
    absent: frozenset[str] = frozenset()
    """Models of the policy that could not be used."""
    asked_nusd: int | None = None
    """The caller's own limit."""
    left_nusd: int | None = None
    """What others had left of a budget when this was decided with no more than that."""
    left_downgrades: bool = True
    """Whether that budget lets a request go to a cheaper model."""


def recorded_facts(facts: Facts) -> dict[str, Any]:
    """Return the facts as they may be written down and shown: numbers and names, never text, headers or metadata."""
    return {
        "input_tokens": facts.input_tokens,
        "expected_output_tokens": facts.expected_output_tokens,
        "max_output_tokens": facts.max_output_tokens,
        "difficulty": facts.difficulty,
        "has": sorted(facts.has),
        "language": facts.language,
        "messages": facts.messages,
        "n": facts.n,
        "stream": facts.stream,
        "hour": facts.hour,
        "weekday": facts.weekday,
        "account": facts.account,
        "budget_used_pct": facts.budget_used_pct,
        "budget_remaining_usd": facts.budget_remaining_usd,
        "input_tokens_by_model": dict(facts.input_tokens_by_model),
    }


def recorded_circumstances(policies: PolicySet, policy: Policy, facts: Facts, *, budgets: bool) -> dict[str, Any]:
    """Return what rules could see beside the recorded facts, as `RecordedFacts` has it, without what is usual.

    `budgets` says whether any budget of a window limits the request: where none does, how full they are is known.
    """
    members: dict[str, Any] = {}
    if looked_at := _looked_at(policy, budgets=budgets):
        members["looked_at"] = looked_at
    if asked := _private(policy):
        members["conditions"] = {name: leaf.holds(facts) for name, leaf in asked}
    if absent := _absent(policies, policy):
        members["absent"] = absent
    if policy.paces:
        members |= {"gain": facts.gain, "pace": facts.pace}
    if facts.ranks:
        members["ranks"] = dict(facts.ranks)
    if facts.service_tier is not None:
        members["service_tier"] = facts.service_tier if facts.service_tier in _TIERS else UNKNOWN
    if facts.search_context is not None:
        members["search_context"] = facts.search_context if facts.search_context in _CONTEXTS else UNKNOWN
    if facts.predicted_tokens:
        members["predicted_tokens"] = facts.predicted_tokens
    if facts.explored_from is not None:
        members["explored_from"] = facts.explored_from
    if policy.learn and facts.reading:
        members["look"] = written(facts.reading.look)
    return members


def recorded_decision(decision: Decision, asked_nusd: int | None, *, named_task: bool) -> dict[str, Any]:
    """Return what was decided and with what limits, as `RecordedFacts` has it, without what is usual."""
    first = decision.candidates[0].model.name if isinstance(decision, Route) else None
    members: dict[str, Any] = {"first_model": first}
    if not named_task:
        members["named_task"] = False
    if asked_nusd is not None:
        members["asked_nusd"] = asked_nusd
    purse = decision.purse
    if purse is not None and purse.code == LEFT_OF_A_BUDGET:
        members |= {"left_nusd": purse.nusd, "left_downgrades": purse.may_downgrade}
    return members


@functools.lru_cache(maxsize=8192)
def _looked_at(policy: Policy, *, budgets: bool) -> tuple[str, ...]:
    return tuple(name for name in AT_NEED if name in policy.needs or (name in BUDGET_FACTS and not budgets))


@functools.lru_cache(maxsize=8192)
def _private(policy: Policy) -> tuple[tuple[str, Condition], ...]:
    """Return every condition on private facts in a policy's rules, by its name."""
    if policy.needs.isdisjoint(PRIVATE):
        return ()
    leaves = (leaf for rule in policy.rules for leaf in leaves_of(rule.when) if not leaf.needs().isdisjoint(PRIVATE))
    return tuple({name_of(leaf): leaf for leaf in leaves}.items())


@functools.lru_cache(maxsize=8192)
def _absent(policies: PolicySet, policy: Policy) -> tuple[str, ...]:
    return tuple(name for name in policy.models if policies.models[name].absent)


def leaves_of(when: Condition) -> Iterator[Condition]:
    """Yield the conditions that a combination is made of; what is no combination is its own."""
    match when:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from leaves_of(part)
        case Not(part) | Named(part=part):
            yield from leaves_of(part)
        case _:
            yield when


def name_of(leaf: Condition) -> str:
    """Return a short name for what a condition asks, the same for the same question in any policy."""
    match leaf:
        case Comparison():
            text = f"{leaf.subject} {leaf.operator} {leaf.operand!r}"
        case Expression():
            text = f"cel {leaf.text}"
        case _:
            text = repr(leaf)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
