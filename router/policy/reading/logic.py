"""What conditions say of each other and of a request, without one: which exclude, which follow, what they ask for.

It errs on one side: what it says is so is so, and what it can't tell it leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from router.policy.condition import AllOf, Always, AnyOf, Comparison, Condition, Named, Not
from router.policy.expression import Expression
from router.policy.facts import Facts
from router.policy.vocabulary import FACTS

MOST_CASES = 128
"""Of alternatives that are followed; a condition with more is taken for one that may hold."""
_ORDERED = frozenset(("gt", "gte", "lt", "lte"))

Case = tuple[Condition, ...]
"""Conditions that hold together."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What every request of one case has: these parts, and no fewer input tokens."""

    has: frozenset[str] = frozenset()
    input_tokens: int = 0


def parts_of(condition: Condition) -> Case:
    """Return the conditions that must all hold for this one to hold, names replaced by what they stand for."""
    match condition:
        case Named():
            return parts_of(condition.part)
        case AllOf():
            return tuple(inner for part in condition.parts for inner in parts_of(part))
        case Always():
            return ()
    return (condition,)


def contradiction(condition: Condition) -> str | None:
    """Say why no request can meet `condition`, or None where one may."""
    cases = _cases(condition)
    reasons = [_conflict(case) for case in cases]
    return reasons[0] if reasons and all(reasons) else None


def is_certain(condition: Condition) -> bool:
    """Say whether every request meets `condition`, because no fact can be outside of it."""
    return all(_is_certain(part) for part in parts_of(condition))


def _is_certain(part: Condition) -> bool:
    match part:
        case AnyOf():
            return any(map(is_certain, part.parts)) or _leaves_nothing(part.parts)
        case Not():
            return contradiction(part.part) is not None
        case Comparison():
            return _holds_always(part)
    return False


def _leaves_nothing(ways: Case) -> bool:
    """Say whether two of `ways` are opposites: a condition and its `not`, or a flag's two values."""
    negated = [way.part for way in ways if isinstance(way, Not)]
    flags: dict[str, set[object]] = {}
    for way in ways:
        if isinstance(way, Comparison) and FACTS[way.fact].kind == "flag" and way.operator == "eq":
            flags.setdefault(way.subject, set()).add(way.operand)
    return any(way in negated for way in ways) or any(len(values) > 1 for values in flags.values())


def _holds_always(part: Comparison) -> bool:
    fact = FACTS[part.fact]
    if fact.words and fact.kind == "word" and part.operator == "in":
        return set(fact.words) <= set(_operands(part))
    if fact.may_lack or fact.kind != "number":
        return False
    lowest = fact.least is not None and part.operator in ("gt", "gte") and part.test(fact.least, part.operand)
    highest = fact.most is not None and part.operator in ("lt", "lte") and part.test(fact.most, part.operand)
    return lowest or highest


def follows(later: Condition, earlier: Condition) -> bool:
    """Say whether `earlier` holds wherever `later` does."""
    known = parts_of(later)
    return all(_follows(known, part) for part in parts_of(earlier))


def demands(condition: Condition) -> tuple[Demand, ...]:
    """Return what each case of `condition` demands; a request meets one of them where it holds. Never empty."""
    return tuple(_demand(case) for case in _cases(condition)) or (Demand(),)


def streamed(condition: Condition) -> bool | None:
    """Say whether `condition` takes streams alone (True), whole answers alone (False) or, as far as is told, both."""
    cases = _cases(condition)
    for kept in (True, False):
        if cases and all(any(_excludes_streams(part, not kept) for part in case) for case in cases):
            return kept
    return None


def _excludes_streams(part: Condition, stream: bool) -> bool:
    """Say whether a condition never holds of a request with this `stream`, whatever else it is."""
    if isinstance(part, Expression):
        return part.sure({"stream": stream}) is False
    return part.needs() == {"stream"} and not part.holds(Facts(input_tokens=0, stream=stream))


def _cases(condition: Condition) -> list[Case]:
    """Return the alternatives of `condition`, each a list of conditions that hold together."""
    cases: list[Case] = [()]
    for part in parts_of(condition):
        ways = [way for inner in part.parts for way in _cases(inner)] if isinstance(part, AnyOf) else [(part,)]
        if len(cases) * len(ways) > MOST_CASES:
            return [()]
        cases = [(*case, *way) for case, way in product(cases, ways)]
    return cases


def _conflict(case: Case) -> str | None:
    negated = [parts_of(part.part) for part in case if isinstance(part, Not)]
    for single in (parts[0] for parts in negated if len(parts) == 1):
        if single in case:
            return f"{_said(single)} and its opposite exclude each other"
    subjects: dict[tuple[str, bool], list[Comparison]] = {}
    for part in case:
        if isinstance(part, Comparison):
            subjects.setdefault(part.asks, []).append(part)
    for comparisons in subjects.values():
        if _excludes(comparisons, negated):
            said = " and ".join(dict.fromkeys(map(_said, comparisons)))
            if len(comparisons) > 1:
                return f"{said} exclude each other{_midnight_hint(comparisons)}"
            return (
                f"{said} is what `not` rules out" if comparisons[0].fact == "has" else f"{said} is true of no request"
            )
    return None


def _midnight_hint(comparisons: list[Comparison]) -> str:
    ends = {each.operator[:2] for each in comparisons if each.operator in _ORDERED}
    over_midnight = comparisons[0].fact == "hour" and ends == {"gt", "lt"}
    return "; across midnight, write `any: [{hour: …}, {hour: …}]`" if over_midnight else ""


def _excludes(comparisons: list[Comparison], negated: Iterable[Case]) -> bool:
    if comparisons[0].fact == "has":
        return _has_excludes(comparisons, negated)
    if any(comparison.operator in _ORDERED for comparison in comparisons) and _is_empty(_span(comparisons)):
        return True
    if len({_kind(value) for each in comparisons for value in _operands(each)}) > 1:
        return False
    chosen = [set(_operands(each)) for each in comparisons if each.operator in ("eq", "in")]
    if not chosen:
        return False
    left = set.intersection(*chosen)
    for each in comparisons:
        if each.operator in ("ne", "not_in"):
            left -= set(_operands(each))
        elif each.operator in _ORDERED:
            left = {value for value in left if each.test(value, each.operand)}
    return not left


def _has_excludes(comparisons: list[Comparison], negated: Iterable[Case]) -> bool:
    """Say whether a request would have to have what it must not have."""
    needed = {word for each in comparisons if each.operator in ("eq", "contains") for word in _operands(each)}
    barred = {
        word
        for each in comparisons
        if each.operator == "not_in" or (each.operator == "ne" and len(_operands(each)) == 1)
        for word in _operands(each)
    }
    for case in negated:
        if len(case) == 1 and isinstance(case[0], Comparison) and case[0].fact == "has":
            words = _operands(case[0])
            if case[0].operator == "in" or (case[0].operator in ("eq", "contains") and len(words) == 1):
                barred |= set(words)
    return bool(needed & barred) or any(set(_operands(each)) <= barred for each in comparisons if each.operator == "in")


@dataclass(frozen=True, slots=True)
class _Span:
    """The numbers from `low` to `high`; an open end is not among them."""

    low: float
    low_open: bool
    high: float
    high_open: bool
    whole: bool


def _span(comparisons: list[Comparison]) -> _Span:
    """Return the numbers for which all of `comparisons` hold, or some more."""
    fact = FACTS[comparisons[0].fact]
    low: tuple[float, bool] = (float("-inf") if fact.least is None else fact.least, False)
    high: tuple[float, bool] = (float("inf") if fact.most is None else fact.most, False)
    for each in comparisons:
        numbers = [value for value in _operands(each) if isinstance(value, int | float)]
        if not numbers or each.operator not in (*_ORDERED, "eq", "in"):
            continue
        if each.operator in ("gt", "gte", "eq", "in"):
            low = max(low, (min(numbers), each.operator == "gt"))
        if each.operator in ("lt", "lte", "eq", "in"):
            bound = (max(numbers), each.operator == "lt")
            high = min(high, bound, key=lambda end: (end[0], not end[1]))
    return _Span(*low, *high, whole=fact.whole)


def _is_empty(span: _Span) -> bool:
    if span.low > span.high or (span.low == span.high and (span.low_open or span.high_open)):
        return True
    return span.whole and span.low_open and span.high_open and span.high - span.low <= 1


def _follows(known: Case, wanted: Condition) -> bool:
    if wanted in known:
        return True
    if isinstance(wanted, AnyOf):
        return any(all(_follows(known, part) for part in parts_of(way)) for way in wanted.parts)
    if not isinstance(wanted, Comparison):
        return False
    same = [part for part in known if isinstance(part, Comparison) and part.asks == wanted.asks]
    return any(_comparison_follows(each, wanted) for each in same)


def _comparison_follows(known: Comparison, wanted: Comparison) -> bool:
    ours, theirs = _operands(known), _operands(wanted)
    if wanted.fact == "has":
        return _has_follows(known, wanted)
    if known.operator in ("eq", "in"):
        if wanted.operator in ("eq", "in"):
            return set(ours) <= set(theirs)
        if wanted.operator in _ORDERED:
            return _comparable(ours, theirs) and all(wanted.test(value, wanted.operand) for value in ours)
    upward, downward = ("gt", "gte"), ("lt", "lte")
    for way in (upward, downward):
        if known.operator in way and wanted.operator in way and _comparable(ours, theirs):
            strict = wanted.operator == way[0] and known.operator == way[1]
            return wanted.test(ours[0], wanted.operand) if strict else _reaches(known, wanted, way is upward)
    return False


def _reaches(known: Comparison, wanted: Comparison, upward: bool) -> bool:
    ours, theirs = _operands(known)[0], _operands(wanted)[0]
    assert isinstance(ours, int | float)
    assert isinstance(theirs, int | float)
    return ours >= theirs if upward else ours <= theirs


def _comparable(ours: tuple[object, ...], theirs: tuple[object, ...]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in (*ours, *theirs))


def _has_follows(known: Comparison, wanted: Comparison) -> bool:
    ours, theirs = set(_operands(known)), set(_operands(wanted))
    if wanted.operator in ("eq", "contains"):
        return known.operator in ("eq", "contains") and theirs <= ours
    if wanted.operator == "in":
        return (known.operator in ("eq", "contains") and bool(ours & theirs)) or (
            known.operator == "in" and ours <= theirs
        )
    return wanted.operator == known.operator == "not_in" and theirs <= ours


def _demand(case: Case) -> Demand:
    has: set[str] = set()
    tokens = [part for part in case if isinstance(part, Comparison) and part.fact == "input_tokens"]
    for part in case:
        if isinstance(part, Comparison) and part.fact == "has":
            words = _operands(part)
            if part.operator in ("eq", "contains") or (part.operator == "in" and len(words) == 1):
                has.update(map(str, words))
    low = _span(tokens) if tokens else None
    return Demand(frozenset(has), int(low.low) + low.low_open if low else 0)


def _operands(comparison: Comparison) -> tuple[object, ...]:
    operand = comparison.operand
    match operand:
        case tuple():
            return operand
        case frozenset():
            return tuple(sorted(operand))
    return (operand,)


def _kind(value: object) -> str:
    """Return what a value compares with; metadata may be text that is a number."""
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _said(part: Condition) -> str:
    return part.asked() if isinstance(part, Comparison) else "a condition"


def each_word(condition: Condition) -> Iterator[frozenset[str]]:
    """Yield the words of every `has: {in: […]}` that `condition` rests on: one of them is there."""
    for part in parts_of(condition):
        if isinstance(part, Comparison) and part.fact == "has" and part.operator == "in":
            yield frozenset(map(str, _operands(part)))
