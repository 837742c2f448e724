"""The compiled form of a rule's `when`: a tree of small frozen values that answer and explain themselves.

A fact that is not known (no limit was asked for, no difficulty was worked out) holds no comparison but `ne`
and `not_in`. Nothing here raises on any facts, and no explanation quotes text, headers or metadata of a
request.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from router.policy.facts import Facts
from router.policy.pattern import Pattern
from router.policy.vocabulary import Operator


class Condition(Protocol):
    """Holds or does not, of facts alone; never raises on any facts."""

    def holds(self, facts: Facts) -> bool: ...

    def needs(self) -> frozenset[str]:
        """Return the names of the facts it looks at."""
        ...

    def explain(self, facts: Facts) -> str:
        """Say in one line what was compared and how it came out."""
        ...


@dataclass(frozen=True, slots=True)
class Always:
    """The condition of a rule without a `when`."""

    def holds(self, facts: Facts) -> bool:
        return True

    def needs(self) -> frozenset[str]:
        return frozenset()

    def explain(self, facts: Facts) -> str:
        return "always"


ALWAYS = Always()


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds where every part does."""

    parts: tuple[Condition, ...]

    def holds(self, facts: Facts) -> bool:
        for part in self.parts:  # noqa: SIM110 - a generator would double what a rule costs
            if not part.holds(facts):
                return False
        return True

    def needs(self) -> frozenset[str]:
        return frozenset[str]().union(*(part.needs() for part in self.parts))

    def explain(self, facts: Facts) -> str:
        return " and ".join(_grouped(part, facts) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds where at least one part does."""

    parts: tuple[Condition, ...]

    def holds(self, facts: Facts) -> bool:
        for part in self.parts:  # noqa: SIM110 - a generator would double what a rule costs
            if part.holds(facts):
                return True
        return False

    def needs(self) -> frozenset[str]:
        return frozenset[str]().union(*(part.needs() for part in self.parts))

    def explain(self, facts: Facts) -> str:
        return " or ".join(_grouped(part, facts) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """Holds where its part does not."""

    part: Condition

    def holds(self, facts: Facts) -> bool:
        return not self.part.holds(facts)

    def needs(self) -> frozenset[str]:
        return self.part.needs()

    def explain(self, facts: Facts) -> str:
        return f"not ({self.part.explain(facts)})"


@dataclass(frozen=True, slots=True)
class Named:
    """A condition of a file's `conditions:`, by its name; equal to what it stands for under the same name."""

    name: str
    part: Condition

    def holds(self, facts: Facts) -> bool:
        return self.part.holds(facts)

    def needs(self) -> frozenset[str]:
        return self.part.needs()

    def explain(self, facts: Facts) -> str:
        outcome = "yes" if self.part.holds(facts) else "no"
        return f"condition {self.name}: {outcome} ({self.part.explain(facts)})"


def comparisons_in(condition: Condition) -> int:
    """Count what is compared at most when `condition` is asked."""
    match condition:
        case AllOf() | AnyOf():
            return sum(map(comparisons_in, condition.parts))
        case Not() | Named():
            return comparisons_in(condition.part)
    return 1


def _grouped(part: Condition, facts: Facts) -> str:
    return f"({part.explain(facts)})" if isinstance(part, AllOf | AnyOf) else part.explain(facts)


Read = Callable[[Facts], object]
Operand = str | bool | int | float | frozenset[str] | tuple[str | bool | int | float, ...] | Pattern


@dataclass(frozen=True, slots=True)
class Comparison:
    """One fact beside one operand from the file; `fact` is its name, `subject` what of it is looked at.

    `read` gives None where the fact is not known, and else a value that `test` can take with this operand.
    """

    fact: str
    subject: str
    operator: Operator
    operand: Operand
    read: Read = field(repr=False, compare=False)
    test: Callable[..., bool] = field(repr=False, compare=False)
    private: bool = False
    """Whether the value belongs to the caller, so that no explanation may quote it."""
    of_flags: bool = False
    """Whether the operand is true or false, which Python would take for equal to 1 and 0."""

    @property
    def asks(self) -> tuple[str, bool]:
        """What is compared: two comparisons that ask the same may follow from one another, or exclude each other."""
        return self.subject, self.of_flags

    def holds(self, facts: Facts) -> bool:
        value = self.read(facts)
        if value is None:
            return self.operator in ("ne", "not_in")
        return self.test(value, self.operand)

    def needs(self) -> frozenset[str]:
        return frozenset((self.fact,))

    def explain(self, facts: Facts) -> str:
        value = self.read(facts)
        outcome = "yes" if self.holds(facts) else "no"
        if value is None:
            return f"{self.asked()}: {outcome} (not known)"
        return f"{self.asked()}: {outcome}" if self.private else f"{self.asked()}: {outcome} (is {_written(value)})"

    def asked(self) -> str:
        """Say what is compared with what."""
        return f"{self.subject} {_SIGNS.get(self.operator, self.operator)} {_written(self.operand)}"


_SIGNS = {"eq": "=", "ne": "≠", "gt": ">", "gte": "≥", "lt": "<", "lte": "≤", "not_in": "not in"}


def _written(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Pattern():
            return f"/{value.text}/"
        case frozenset():
            return "[" + ", ".join(sorted(value)) + "]"
        case tuple():
            return "[" + ", ".join(_written(item) for item in value) + "]"
        case float():
            return f"{value:g}"
    return str(value)


def compare_fact(fact: str, name: Operator, operand: Operand) -> Comparison:
    """Compare a number, flag or word of the facts."""
    return Comparison(fact, fact, name, operand, operator.attrgetter(fact), _TESTS[name])


def compare_has(name: Operator, words: frozenset[str]) -> Comparison:
    """Compare what the request has: `eq` and `contains` ask for all of `words`, `in` for any of them."""
    return Comparison("has", "has", name, words, operator.attrgetter("has"), _SET_TESTS[name])


def compare_text(name: Operator, operand: str | Pattern) -> Comparison:
    return Comparison("text", "text", name, operand, operator.attrgetter("text"), _TESTS[name], private=True)


def compare_header(header: str, name: Operator, operand: Operand) -> Comparison:
    """Compare one header, whose name is in lower case."""

    def read(facts: Facts) -> object:
        return facts.headers.get(header)

    return Comparison("headers", f"header {header}", name, operand, read, _TESTS[name], private=True)


def compare_metadata(path: str, name: Operator, operand: Operand) -> Comparison:
    """Compare one member of the body's metadata, taken as the operand's type; another is not known.

    A list `contains` its items.
    """
    sample = operand[0] if isinstance(operand, tuple) else operand
    convert: Callable[[object], object]
    if name == "contains":
        convert = _as_text_or_list
    elif isinstance(sample, bool):
        convert = _as_flag
    elif isinstance(sample, int | float):
        convert = _as_number
    else:
        convert = _as_text

    def read(facts: Facts) -> object:
        return convert(_member(facts.metadata, path))

    subject, of_flags = f"metadata {path}", isinstance(sample, bool)
    return Comparison("metadata", subject, name, operand, read, _TESTS[name], private=True, of_flags=of_flags)


def _member(metadata: Mapping[str, object], path: str) -> object:
    if path in metadata:
        return metadata[path]
    found: object = metadata
    for step in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found


_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(?:\.[0-9]{1,15})?")


def _as_number(value: object) -> object:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _as_flag(value: object) -> object:
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else _only(bool, value)


def _as_text(value: object) -> object:
    return _only(str, value)


def _as_text_or_list(value: object) -> object:
    return value if isinstance(value, list) else _as_text(value)


def _only(kind: type, value: object) -> object:
    return value if isinstance(value, kind) else None


def _is_in(value: object, operand: object) -> bool:
    return isinstance(operand, tuple) and value in operand


def _is_not_in(value: object, operand: object) -> bool:
    return not _is_in(value, operand)


def _contains(value: object, operand: object) -> bool:
    return isinstance(value, str | list) and isinstance(operand, str) and operand in value


def _matches(value: object, operand: object) -> bool:
    return isinstance(value, str) and isinstance(operand, Pattern) and operand.found_in(value)


def _has_all(value: object, operand: object) -> bool:
    return isinstance(value, frozenset) and isinstance(operand, frozenset) and operand <= value


def _has_any(value: object, operand: object) -> bool:
    return isinstance(value, frozenset) and isinstance(operand, frozenset) and not operand.isdisjoint(value)


def _has_not_all(value: object, operand: object) -> bool:
    return not _has_all(value, operand)


def _has_none(value: object, operand: object) -> bool:
    return not _has_any(value, operand)


_TESTS: Mapping[Operator, Callable[..., bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "in": _is_in,
    "not_in": _is_not_in,
    "contains": _contains,
    "matches": _matches,
}
_SET_TESTS: Mapping[Operator, Callable[..., bool]] = {
    "eq": _has_all,
    "contains": _has_all,
    "in": _has_any,
    "ne": _has_not_all,
    "not_in": _has_none,
}
