"""Policies over recorded facts: conditions that a row may answer, or leave open where it lacks what they ask. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from router.policy.condition import AllOf, AnyOf, Comparison, Condition, Named, Not
from router.policy.facts import Facts
from router.policy.policy import Policy
from router.policy.record import AT_NEED, PRIVATE, RecordedFacts, name_of


@dataclass(frozen=True, slots=True)
class Told:
    """A condition on private facts: holds where the row says that it held."""

    name: str

    def holds(self, facts: Facts) -> bool:
        return isinstance(facts, RecordedFacts) and facts.conditions.get(self.name, False)

    def needs(self) -> frozenset[str]:
        return frozenset()

    def explain(self, facts: Facts) -> str:
        return "as recorded"


@dataclass(frozen=True, slots=True)
class Lazily:
    """A condition on facts that may not have been worked out."""

    condition: Condition
    facts: frozenset[str]

    def holds(self, facts: Facts) -> bool:
        return self.condition.holds(facts)

    def needs(self) -> frozenset[str]:
        return self.condition.needs()

    def explain(self, facts: Facts) -> str:
        return self.condition.explain(facts)


@dataclass(frozen=True, slots=True)
class Sure:
    """Holds where a condition surely does, whatever the facts that are not known were."""

    condition: Condition

    def holds(self, facts: Facts) -> bool:
        return isinstance(facts, RecordedFacts) and truth(self.condition, facts) is True

    def needs(self) -> frozenset[str]:
        return self.condition.needs()

    def explain(self, facts: Facts) -> str:
        return self.condition.explain(facts)


def truth(when: Condition, facts: RecordedFacts) -> bool | None:
    """Say whether a condition held; None where that hangs on what is not known."""
    match when:
        case AllOf(parts) | AnyOf(parts):
            decisive = isinstance(when, AnyOf)
            found = [truth(part, facts) for part in parts]
            return decisive if decisive in found else None if None in found else not decisive
        case Not(part):
            inner = truth(part, facts)
            return None if inner is None else not inner
        case Told(name):
            return facts.conditions.get(name)
        case Lazily(condition, needed):
            missing = needed - facts.looked_at
            # Old rows do not say what was worked out; a difficulty that is there was.
            known = not missing or (missing == {"difficulty"} and facts.difficulty is not None)
            return condition.holds(facts) if known else None
    return when.holds(facts)


@dataclass(frozen=True, slots=True)
class Playable:
    """A policy over recorded facts, and what its rules ask of a row."""

    policy: Policy
    sure: Policy
    """The same, where a rule that can't be told does not hold."""
    told: frozenset[str]
    lazy: frozenset[str]

    @property
    def asks(self) -> bool:
        return bool(self.told or self.lazy)

    def unknown(self, facts: RecordedFacts) -> bool:
        """Say whether a row lacks anything that the rules ask."""
        return not (self.told <= facts.conditions.keys() and self.lazy <= facts.looked_at)

    def doubted(self, facts: RecordedFacts, decided: str) -> tuple[str, ...]:
        """Return the rules, up to the one that decided, of which it can't be told whether they held."""
        found = []
        for rule in self.policy.rules:
            if truth(rule.when, facts) is None or (rule.by_money and facts.difficulty is None):
                found.append(rule.name)
            if rule.name == decided:
                break
        return tuple(found)


def playable_of(policy: Policy) -> Playable:
    told: set[str] = set()
    # A rank or a gain that was never worked out is not known; a task-wide difficulty tells it well enough.
    lazy: set[str] = {"difficulty"} if any(rule.by_money for rule in policy.rules) else set()
    rules = tuple(replace(rule, when=_over_records(rule.when, told, lazy)) for rule in policy.rules)
    sure = tuple(replace(rule, when=Sure(rule.when)) for rule in rules)
    return Playable(replace(policy, rules=rules), replace(policy, rules=sure), frozenset(told), frozenset(lazy))


def _over_records(when: Condition, told: set[str], lazy: set[str]) -> Condition:
    """Return a condition over recorded facts; adds to `told` and `lazy` what it asks of a row."""
    match when:
        case AllOf(parts):
            return AllOf(tuple(_over_records(part, told, lazy) for part in parts))
        case AnyOf(parts):
            return AnyOf(tuple(_over_records(part, told, lazy) for part in parts))
        case Not(part):
            return Not(_over_records(part, told, lazy))
        case Named(part=part):
            return _over_records(part, told, lazy)
    needs = when.needs()
    if not needs.isdisjoint(PRIVATE):
        told.add(name := name_of(when))
        return Told(name)
    facts = frozenset(fact for fact in AT_NEED if fact in needs and not _sees_no_code(when, fact))
    if not facts:
        return when
    lazy |= facts
    return Lazily(when, facts)


def _sees_no_code(when: Condition, fact: str) -> bool:
    """Say whether a condition on `has` looks at other words than `code`, which are always worked out."""
    return (
        fact == "has"
        and isinstance(when, Comparison)
        and isinstance(when.operand, frozenset)
        and "code" not in when.operand
    )
