"""Compile a rule's `when` from its YAML node: each fact, operator, type and range is checked at load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from router.policy.condition import (
    AllOf,
    AnyOf,
    Condition,
    Named,
    Not,
    Operand,
    compare_fact,
    compare_has,
    compare_header,
    compare_metadata,
    compare_text,
    comparisons_in,
)
from router.policy.expression import BadExpression, compile_expression
from router.policy.fault import Place, Report, did_you_mean, listed, shown
from router.policy.pattern import BadPattern, Pattern
from router.policy.reading.document import Entry, Items, Leaf, Node, Table, is_empty
from router.policy.reading.symbols import compares_a_number, said_in_words
from router.policy.reading.within import place_within
from router.policy.vocabulary import COMBINATIONS, FACTS, OPERATORS, TAKES, FactWord, Operator

MOST_COMPARISONS = 1_000
"""Behind the names of one `condition`, so that names of names can't grow without end."""
Value = str | bool | int | float


class NamedConditions(Protocol):
    """The conditions that a file can name."""

    def knows(self, name: str) -> bool:
        """Say whether there is a condition of this name, with a fault or without."""
        ...

    def compiled(self, name: str, place: Place, report: Report) -> Condition | None:
        """Return the condition of this name; None where it has a fault, which is reported: at `place`, or its own."""
        ...


class _NoConditions:
    def knows(self, name: str) -> bool:
        return False

    def compiled(self, name: str, place: Place, report: Report) -> Condition | None:
        report.error(place, f"unknown condition {shown(name)}; the file has no `conditions`")
        return None


NO_CONDITIONS = _NoConditions()


@dataclass(frozen=True, slots=True)
class WhenCompiler:
    """Compiles conditions of one file; what is wrong goes into `report`. Empty values are left to the shape to tell."""

    report: Report
    accounts: frozenset[str] | None
    """The accounts there are; None where accounts.yaml can't be read, so that no name is judged."""
    named: NamedConditions = NO_CONDITIONS
    """What `condition` can name."""

    def compile(self, node: Node, place: Place) -> Condition | None:
        """Return the condition, or None where any of it has a fault; `place` is that of the key before it."""
        if is_empty(node):
            return None
        if not isinstance(node, Table):
            return self._fault(node.place, f"a condition must be a mapping of facts, not {shown(node.plain())}")
        if not node.entries:
            return self._fault(place, "an empty condition would always hold; leave it out")
        parts = [self._entry(key, entry) for key, entry in node.entries.items()]
        return _joined(parts)

    def _entry(self, key: str, entry: Entry) -> Condition | None:
        if is_empty(entry.value):
            return None
        if key in ("all", "any"):
            return self._several(key, entry)
        if key == "not":
            part = self.compile(entry.value, entry.place)
            return None if part is None else Not(part)
        if key == "condition":
            return self._conditions(entry)
        if key == "cel":
            return self._expression(entry.value)
        fact = FACTS.get(key)
        if fact is None:
            meant = f"; write `condition: {key}`" if self.named.knows(key) else ""
            return self._fault(entry.place, f"unknown fact {shown(key)}{meant}" if meant else _unknown_fact(key))
        if fact.kind in ("headers", "metadata"):
            return self._by_name(key, fact, entry)
        return self._comparisons(key, fact, entry, "")

    def _several(self, key: str, entry: Entry) -> Condition | None:
        node = entry.value
        if not isinstance(node, Items):
            return self._fault(node.place, f"`{key}` takes a list of conditions, not {shown(node.plain())}")
        if not node.items:
            return self._fault(entry.place, f"`{key}` needs at least one condition")
        parts = [self.compile(item, item.place) for item in node.items]
        if key == "all":
            return _joined(parts)
        whole = tuple(part for part in parts if part is not None)
        return AnyOf(whole) if len(whole) == len(parts) else None

    def _conditions(self, entry: Entry) -> Condition | None:
        node = entry.value
        if isinstance(node, Items) and not node.items:
            return self._fault(entry.place, "`condition` needs at least one name")
        parts: list[Condition | None] = []
        for item in node.items if isinstance(node, Items) else (node,):
            name = item.plain()
            if name is None:
                parts.append(None)
            elif isinstance(name, str):
                part = self.named.compiled(name, item.place, self.report)
                parts.append(None if part is None else Named(name, part))
            else:
                parts.append(self._fault(item.place, f"`condition` takes the name of a condition, not {shown(name)}"))
        if sum(comparisons_in(part) for part in parts if part is not None) > MOST_COMPARISONS:
            return self._fault(entry.place, f"more than {MOST_COMPARISONS:,} comparisons, names put in")
        return _joined(parts)

    def _expression(self, node: Node) -> Condition | None:
        text = node.plain()
        if not isinstance(node, Leaf) or not isinstance(text, str):
            return self._fault(node.place, f"`cel` takes an expression as text, not {shown(text)}")
        try:
            return compile_expression(text)
        except BadExpression as error:
            for slip in error.slips:
                self.report.error(place_within(node, slip.offset), slip.message)
            return None

    def _by_name(self, key: str, fact: FactWord, entry: Entry) -> Condition | None:
        node = entry.value
        if not isinstance(node, Table):
            example = "{x-team: search}" if key == "headers" else "{tier: gold}"
            return self._fault(
                node.place, f"`{key}` takes a mapping by name, like {example}, not {shown(node.plain())}"
            )
        if not node.entries:
            return self._fault(entry.place, f"`{key}` names nothing to compare")
        return _joined([self._comparisons(key, fact, inner, name) for name, inner in node.entries.items()])

    def _comparisons(self, key: str, fact: FactWord, entry: Entry, name: str) -> Condition | None:
        if not isinstance(entry.value, Table):
            if fact.kind == "text":
                return self._fault(entry.value.place, "`text` takes an operator: contains or matches")
            return self._comparison(key, fact, "eq", entry.value, name)
        if not entry.value.entries:
            return self._fault(entry.place, f"`{name or key}` is compared with nothing")
        return _joined([self._operator(key, fact, word, inner, name) for word, inner in entry.value.entries.items()])

    def _operator(self, key: str, fact: FactWord, word: str, entry: Entry, name: str) -> Condition | None:
        takes = TAKES[fact.kind]
        if word not in OPERATORS:
            nested = "; write user.tier to reach into a nested member" if fact.kind == "metadata" else ""
            hint = did_you_mean(word, takes)
            return self._fault(entry.place, f"unknown operator {shown(word)} of `{key}`{hint}{nested}")
        if word not in takes:
            return self._fault(entry.place, f"`{key}` does not take `{word}`; it takes {listed(takes)}")
        return self._comparison(key, fact, word, entry.value, name)

    def _comparison(self, key: str, fact: FactWord, operator: Operator, node: Node, name: str) -> Condition | None:
        values = list(self._values(key, fact, operator, node))
        if None in values or not values:
            return None
        known = tuple(value for value in values if value is not None)
        if fact.kind == "set":
            return compare_has(operator, frozenset(str(value) for value in known))
        operand: Operand = known if operator in ("in", "not_in") else known[0]
        if operator == "matches":
            pattern = self._pattern(str(operand), node.place)
            if pattern is None:
                return None
            operand = pattern
        match fact.kind:
            case "headers":
                return compare_header(name.lower(), operator, operand)
            case "metadata":
                return compare_metadata(name, operator, operand)
            case "text" if isinstance(operand, str | Pattern):
                return compare_text(operator, operand)
        return compare_fact(key, operator, operand)

    def _values(self, key: str, fact: FactWord, operator: Operator, node: Node) -> Iterator[Value | None]:
        """Yield each value of the operand, None for one with a fault."""
        takes_list = operator in ("in", "not_in") or fact.kind == "set"
        if isinstance(node, Items):
            if not takes_list:
                yield self._no(node.place, f"`{operator}` takes one value, not a list; `in` takes a list")
                return
            if not node.items:
                yield self._no(node.place, f"`{operator}` needs at least one value")
                return
        elif operator in ("in", "not_in") and fact.kind != "set":
            yield self._no(node.place, f"`{operator}` takes a list, not {shown(node.plain())}")
            return
        kinds = set()
        for item in node.items if isinstance(node, Items) else (node,):
            value = self._value(key, fact, operator, item)
            kinds.add(_kind(value))
            yield value
        if len(kinds - {"nothing"}) > 1:
            yield self._no(node.place, "the values must all be text, all numbers, or all true or false")

    def _value(self, key: str, fact: FactWord, operator: Operator, node: Node) -> Value | None:
        value = node.plain()
        if value is None:
            return None
        if fact.kind == "metadata" and operator not in ("contains", "matches"):
            return self._metadata_value(operator, node, value)
        if fact.kind == "number":
            return self._number(key, fact, node, value)
        if fact.kind == "flag":
            if isinstance(value, bool):
                return value
            return self._no(node.place, f"`{key}` is true or false, not {shown(value)}{_in_words(fact, value)}")
        if not isinstance(value, str):
            quote = f'; write "{value}" with quotes' if isinstance(value, int | Decimal) else ""
            return self._no(node.place, f"`{key}` is compared with text, not {shown(value)}{quote}")
        if not value and operator in ("contains", "matches"):
            return self._no(node.place, f"`{operator}` with no text always holds")
        if operator in ("contains", "matches") and fact.kind != "set":
            return value
        return self._word(key, fact, node, value)

    def _word(self, key: str, fact: FactWord, node: Node, value: str) -> Value | None:
        meant = _in_words(fact, value)
        if fact.words and value not in fact.words:
            return self._no(node.place, f"unknown {shown(value)} in `{key}`{meant or did_you_mean(value, fact.words)}")
        if fact.pattern and not re.fullmatch(fact.pattern, value):
            return self._no(
                node.place, f'`{key}` is two or three small letters, like "en", or "und"; not {shown(value)}{meant}'
            )
        if key == "account" and self.accounts is not None and value not in self.accounts:
            hint = did_you_mean(value, sorted(self.accounts)) if self.accounts else "; accounts.yaml names none"
            return self._no(node.place, f"unknown account {shown(value)}{meant or hint}")
        return value

    def _number(self, key: str, fact: FactWord, node: Node, value: object) -> Value | None:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            return self._no(node.place, f"`{key}` is a number, not {shown(value)}{_in_words(fact, value)}")
        if fact.whole and not isinstance(value, int):
            return self._no(node.place, f"`{key}` is a whole number, not {value}")
        too_small = fact.least is not None and value < fact.least
        if too_small or (fact.most is not None and value > fact.most):
            between = f"from {fact.least} to {fact.most}" if fact.most is not None else f"{fact.least} or more"
            return self._no(node.place, f"`{key}` is {between}, so {value} says nothing")
        if key == "budget_used_pct" and 0 < value < 1:
            meant = f"{value * 100:f}".rstrip("0").rstrip(".")
            said = f"`{key}` is in percent, and {value:f} is less than one; did you mean {meant}?"
            self.report.warning(node.place, said)
        return _binary(value)

    def _metadata_value(self, operator: Operator, node: Node, value: object) -> Value | None:
        if operator in ("gt", "gte", "lt", "lte") and (isinstance(value, bool) or not isinstance(value, int | Decimal)):
            return self._no(node.place, f"`{operator}` takes a number, not {shown(value)}")
        if isinstance(value, str) and compares_a_number(value):
            meant = said_in_words(value, TAKES["metadata"])
            self.report.warning(node.place, f"this is compared as text; to compare with a number write {meant}")
        if isinstance(value, str | bool):
            return value
        if isinstance(value, int | Decimal):
            return _binary(value)
        return self._no(node.place, f"metadata is compared with text, a number, true or false, not {shown(value)}")

    def _pattern(self, text: str, place: Place) -> Pattern | None:
        try:
            return Pattern(text)
        except BadPattern as error:
            self.report.error(place, str(error))
            return None

    def _fault(self, place: Place, message: str) -> Condition | None:
        self.report.error(place, message)
        return None

    def _no(self, place: Place, message: str) -> Value | None:
        self.report.error(place, message)
        return None


def _joined(parts: list[Condition | None]) -> Condition | None:
    if None in parts:
        return None
    whole = [each for part in parts if part for each in (part.parts if isinstance(part, AllOf) else (part,))]
    return whole[0] if len(whole) == 1 else AllOf(tuple(whole))


def _kind(value: Value | None) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "flag"
        case int() | float():
            return "number"
    return "text"


def _binary(number: int | Decimal) -> int | float:
    """Return the number as facts have it: `Decimal("0.7") <= 0.7` would be false."""
    return number if isinstance(number, int) else float(number)


def _in_words(fact: FactWord, value: object) -> str:
    """Name the form that works for what is written with symbols, as ">= 0.7"; empty where it is something else."""
    if not isinstance(value, str) or (fact.kind == "number" and not compares_a_number(value)):
        return ""
    meant = said_in_words(value, TAKES[fact.kind])
    return f"; write {meant}" if meant else ""


def _unknown_fact(key: str) -> str:
    if key in OPERATORS:
        return f"`{key}` is an operator: name the fact before it, like {{input_tokens: {{{key}: …}}}}"
    known = (*FACTS, *COMBINATIONS)
    return f"unknown fact {shown(key)}{did_you_mean(key, known)}"
