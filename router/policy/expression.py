"""`cel:` in a `when`: Common Expression Language over the same facts, its types checked when it is compiled.

The checker and the evaluator are Google's cel-cpp (cel-expr-python; 4 µs an evaluation). It bounds its own
recursion and iterations, and its regular expressions are RE2's: no expression and no request can hold it. A
fact that is not known is `null`. An expression that fails at run time does not hold, says why, and is logged
once.
"""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from cel_expr_python import cel

from router.policy.facts import Facts
from router.policy.fault import did_you_mean
from router.policy.pattern import LOOKED_AT_CHARS
from router.policy.vocabulary import FACTS, LONGEST_EXPRESSION, FactWord

PRIVATE = frozenset(("headers", "metadata", "text"))
"""Facts that belong to the caller, so that no explanation may quote them."""

log = logging.getLogger("farthing.policies")


class _Program(Protocol):
    """A compiled expression of cel-expr-python, which has no types of its own."""

    def eval(self, *, data: Mapping[str, object]) -> Any: ...

    def return_type(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Slip:
    """One thing wrong with an expression; `offset` counts its characters from 0."""

    offset: int
    message: str


class BadExpression(ValueError):
    """The expression can't be compiled; `slips` says why, and is never empty."""

    def __init__(self, slips: tuple[Slip, ...]) -> None:
        super().__init__("; ".join(slip.message for slip in slips))
        self.slips = slips


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; equal to another of the same text."""

    text: str
    facts: frozenset[str]
    """The facts that it reads."""
    _program: _Program = field(repr=False, compare=False)
    _told: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """What the log was told of it: its first failure, if there was one."""

    def holds(self, facts: Facts) -> bool:
        held, why = self._evaluate(facts)
        if why is not None and not self._told and not self._unknown(facts):
            self._told.append(why)
            log.warning("The expression `cel: %s` fails, so that its rule does not hold: %s.", self.text, why)
        return held

    def needs(self) -> frozenset[str]:
        return self.facts

    def explain(self, facts: Facts) -> str:
        held, why = self._evaluate(facts)
        unknown = self._unknown(facts)
        if why is not None:
            return (
                f"cel {self.text}: no ({', '.join(unknown)} not known)" if unknown else f"cel {self.text}: no ({why})"
            )
        told = [f"{name} is {_shown(_READS[name](facts))}" for name in sorted(self.facts - PRIVATE)]
        return f"cel {self.text}: {'yes' if held else 'no'}" + (f" ({', '.join(told)})" if told else "")

    def sure(self, known: Mapping[str, object]) -> bool | None:
        """Say how it comes out by these facts alone, whatever the others are; None where that hangs on them."""
        value = self._program.eval(data={name: value for name, value in known.items() if name in self.facts}).value()
        return value if isinstance(value, bool) else None

    def _evaluate(self, facts: Facts) -> tuple[bool, str | None]:
        """Return whether it holds, and why it failed if it did."""
        try:
            value = self._program.eval(data={name: _READS[name](facts) for name in self.facts}).value()
        except (RuntimeError, ValueError, TypeError, OverflowError, UnicodeError):
            return False, "a value can't be given to it"
        if isinstance(value, bool):
            return value, None
        return False, _failure(value)

    def _unknown(self, facts: Facts) -> list[str]:
        return [name for name in sorted(self.facts) if FACTS[name].may_lack and _READS[name](facts) is None]


def compile_expression(text: str) -> Expression:
    """Compile and check an expression.

    Raises:
        BadExpression: it is not CEL, names what is not there, mixes types, or gives no true or false.
    """
    if len(text) > LONGEST_EXPRESSION:
        raise BadExpression((Slip(0, f"the expression is longer than {LONGEST_EXPRESSION:,} characters"),))
    try:
        checked = _checker(None).compile(text)
        program = _runner().compile(text)
    except (RuntimeError, ValueError, TypeError, UnicodeError) as error:
        raise BadExpression(tuple(_slips(str(error), text))) from None
    given = checked.return_type().name()
    if given not in ("BOOL", "DYN"):
        raise BadExpression((Slip(0, f"the expression gives {_type_said(given.lower())}, not true or false"),))
    if slips := tuple(_bad_patterns(text)):
        raise BadExpression(slips)
    facts = frozenset(_facts_read(text))
    if problem := _sure_failure(program, facts):
        raise BadExpression((Slip(0, problem),))
    return Expression(text, facts, program)


def _facts_read(text: str) -> Iterator[str]:
    """Yield the facts without which the expression does not compile: a word in a text or a macro is none."""
    for name in FACTS.keys() & set(re.findall(r"\w+", text)):
        try:
            _checker(name).compile(text)
        except RuntimeError:
            yield name


_TEXT = r"""[rR]?(?:'{3}(?s:.*?)'{3}|"{3}(?s:.*?)"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
_TEXT_OR_PATTERN = re.compile(rf"//[^\n]*|\.\s*matches\s*\(\s*(?P<pattern>{_TEXT})|{_TEXT}")


def _bad_patterns(text: str) -> Iterator[Slip]:
    """Yield each regular expression, written out in `matches('…')`, that can't be compiled.

    It is tried alone: within the whole, `&&` and `||` may never come to it on the facts it is tried on.
    """
    for found in _TEXT_OR_PATTERN.finditer(text):
        if (pattern := found["pattern"]) is None:
            continue
        try:
            value = _runner().compile(f"''.matches({pattern})").eval(data={}).value()
        except RuntimeError:
            continue  # A raw text that ends in a backslash is not what it seems here.
        if isinstance(value, str) and (said := re.search(r"invalid regular expression: (.*)", value)):
            yield Slip(found.start("pattern"), f"the regular expression can't be used: {said[1]}")


def _sure_failure(program: _Program, facts: frozenset[str]) -> str | None:
    """Say how an expression that reads no fact comes out, for that is how it always does."""
    if facts:
        return None
    value = program.eval(data={}).value()
    said = f"fails: {_failure(value)}" if not isinstance(value, bool) else "holds" if value else "is false"
    return f"the expression reads no fact, so it always {said}"


_READS: Mapping[str, Callable[[Facts], object]] = {
    **{name: operator.attrgetter(name) for name in FACTS},
    "has": lambda facts: sorted(facts.has),
    "headers": lambda facts: dict(facts.headers),
    "metadata": lambda facts: dict(facts.metadata),
    "text": lambda facts: facts.text[:LOOKED_AT_CHARS],
}

_ORDERED = ("_<_", "_<=_", "_>_", "_>=_")
_EQUAL = ("_==_", "_!=_")
_NUMBERS = ("int", "uint", "double")
_SIGNS = {"and": "&&", "AND": "&&", "or": "||", "OR": "||", "not": "!", "NOT": "!", "=": "=="}
"""What other languages write, and CEL does not."""
_OTHERS = ("string", "bool", "bytes", "timestamp", "duration")


@cache
def _checker(without: str | None) -> Any:
    """Return the environment that checks types, without one of the facts.

    The standard one refuses `budget_used_pct < 90`, a decimal beside a whole number, which every other
    implementation and its own evaluator take; so the comparisons are declared anew.
    """
    variables = {name: _cel_type(fact) for name, fact in FACTS.items() if name != without}
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml(_comparisons()), variables=variables)


@cache
def _runner() -> Any:
    """Return the environment that evaluates: any fact may be null there, so that it can tell fewer types apart.

    What it knows the types of, it checks anew; so numbers of any kind compare there as well.
    """
    comparisons = cel.NewEnvConfigFromYaml(_comparisons())
    return cel.NewEnv(config=comparisons, variables=dict.fromkeys(FACTS, cel.Type.DYN))


def _comparisons() -> str:
    """Return cel-cpp's own format for an environment in which numbers of any kind compare."""
    pairs = [(left, right) for left in _NUMBERS for right in _NUMBERS]
    lines = ["stdlib:", "  exclude_functions:", *(f"  - name: '{name}'" for name in (*_ORDERED, *_EQUAL)), "functions:"]
    for name in (*_ORDERED, *_EQUAL):
        same = [("A", "A")] if name in _EQUAL else [(kind, kind) for kind in _OTHERS]
        mixed = [pair for pair in pairs if pair[0] != pair[1]] if name in _EQUAL else pairs
        lines += [f"- name: '{name}'", "  overloads:"]
        for number, (left, right) in enumerate((*same, *mixed)):
            args = ", ".join(
                "{type_name: A, is_type_param: true}" if kind == "A" else f"{{type_name: {kind}}}"
                for kind in (left, right)
            )
            lines += [f"  - id: '{name}{number}'", f"    args: [{args}]", "    return: {type_name: bool}"]
    return "\n".join(lines)


def _cel_type(fact: FactWord) -> Any:
    kinds = cel.Type
    match fact.kind:
        case "number":
            plain, wrapped = (kinds.INT, "Int64Value") if fact.whole else (kinds.DOUBLE, "DoubleValue")
        case "flag":
            plain, wrapped = kinds.BOOL, "BoolValue"
        case "set":
            return kinds.List(kinds.STRING)
        case "headers":
            return kinds.Map(kinds.STRING, kinds.STRING)
        case "metadata":
            return kinds.Map(kinds.STRING, kinds.DYN)
        case "word" | "text":
            plain, wrapped = kinds.STRING, "StringValue"
    return kinds(f"google.protobuf.{wrapped}") if fact.may_lack else plain


_FUNCTIONS = (
    "size", "contains", "startsWith", "endsWith", "matches", "has", "all", "exists", "exists_one", "filter", "map",
    "int", "double", "string", "bool", "timestamp", "duration", "type", "dyn",
)  # fmt: skip
_SAID = re.compile(
    r"^(?:INVALID_ARGUMENT: )?ERROR: <input>:(\d+):(\d+): (.*?)(?: \[INVALID_ARGUMENT\])?$", re.MULTILINE
)


def _slips(said: str, text: str) -> Iterator[Slip]:
    """Yield what cel-cpp said in our words. After a fault of syntax all others are its echoes."""
    found = [(_offset(text, int(line), int(column)), message) for line, column, message in _SAID.findall(said)]
    syntax = [(offset, message) for offset, message in found if message.startswith("Syntax error: ")]
    if syntax:
        yield Slip(syntax[0][0], _syntax_said(syntax[0][1].removeprefix("Syntax error: ")))
        return
    told = False
    for offset, message in found:
        if "*error*" in message and told:
            continue
        told = True
        yield Slip(_begun(message, text, offset), _checked_said(message, text, offset))
    if not told:
        deep = "recursion limit" in said
        yield Slip(0, "the expression is nested too deeply" if deep else "the expression can't be used")


def _offset(text: str, line: int, column: int) -> int:
    before = text.split("\n")[: line - 1]
    return min(sum(len(each) + 1 for each in before) + column - 1, len(text))


def _begun(message: str, text: str, offset: int) -> int:
    """Return where a function's name begins; cel-cpp gives the place of its bracket."""
    name = re.match(r"(?:undeclared reference to|found no matching overload for) '(\w+)'", message)
    if name and text[offset : offset + 1] == "(" and text[:offset].endswith(name[1]):
        return offset - len(name[1])
    return offset


def _syntax_said(message: str) -> str:
    token = re.search(r"(?:input|at:?) '(.*?)'(?: expecting.*)?$", message, re.DOTALL)
    if token is None:
        return "not valid CEL"
    if "<EOF>" in token[1]:
        return "not valid CEL: the expression ends too early"
    word = token[1].strip()[-40:]
    hint = f"; write {_SIGNS[word]}" if word in _SIGNS else ""
    return f"not valid CEL: {word} can't stand here{hint}"


def _checked_said(message: str, text: str, offset: int) -> str:
    if unknown := re.match(r"undeclared reference to '(.*?)'", message):
        name = unknown[1]
        if text[offset : offset + 1] == "(":
            near = did_you_mean(name, _FUNCTIONS).split(" (")[0]
            return f'unknown function "{name[:60]}"{near}'
        return f'unknown fact "{name[:60]}"{did_you_mean(name, FACTS)}'
    if mixed := re.match(r"found no matching overload for '(.*?)' applied to '(.*)'$", message):
        return _overload_said(mixed[1], mixed[2])
    return message.split(" (in container", maxsplit=1)[0]


def _overload_said(function: str, applied: str) -> str:
    """Name an operator and what it was given, say `> can't take a whole number and text`."""
    given = [_type_said(kind) for kind in _split(applied)]
    name = function.strip("_@").replace("_", " ")
    decimal = {"a decimal number", "a whole number"} == set(given)
    hint = "; write a whole number here with .0" if decimal else ""
    return f"`{name}` can't take {' and '.join(given)}{hint}"


def _split(applied: str) -> list[str]:
    """Return the types in `a.(b, c(d, e))` at the top level."""
    target, _, inner = applied.partition("(") if not applied.startswith("(") else ("", "", applied[1:])
    parts, depth, last = [target.rstrip(".")] if target else [], 0, ""
    for character in inner.removesuffix(")"):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(last.strip())
            last = ""
        else:
            last += character
    return [*parts, last.strip()] if last.strip() else parts


_TYPES = {
    "int": "a whole number", "uint": "a whole number", "double": "a decimal number", "string": "text",
    "bool": "true or false", "null_type": "null", "null": "null", "bytes": "bytes",
    "google.protobuf.duration": "a duration", "google.protobuf.timestamp": "a time",
    "duration": "a duration", "timestamp": "a time", "dyn": "a value of any type",
}  # fmt: skip


def _type_said(kind: str) -> str:
    wrapped = re.fullmatch(r"wrapper\((\w+)\)|(\w+)_wrapper", kind)
    plain = (wrapped[1] or wrapped[2] if wrapped else kind).lower()
    return _TYPES.get(plain, f"a {re.split('[(<]', plain)[0]}")


def _failure(value: object) -> str:
    """Say why an evaluation failed, in words that quote nothing of the request."""
    said = value if isinstance(value, str) else ""
    for mark, words in _FAILURES.items():
        if mark in said:
            return words
    return "it failed" if said else "it gives neither true nor false"


_FAILURES = {
    "No matching overloads": "its types do not go together",
    "Key not found": "a key is missing",
    "divide by zero": "it divides by zero",
    "modulus by zero": "it divides by zero",
    "overflow": "a number is too large",
    "out of range": "a number is too large",
    "Iteration budget": "it takes too many steps",
    "conversion": "a value can't be converted",
    "invalid regular expression": "its regular expression can't be used",
}


def _shown(value: object) -> str:
    match value:
        case None:
            return "not known"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case list():
            return "[" + ", ".join(map(str, value)) + "]"
    return str(value)
