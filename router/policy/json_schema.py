"""A JSON Schema that answers are held against, given by an operator or by a caller.

A schema from a stranger is hostile until shown otherwise: nothing is ever fetched for a `$ref`, patterns run in
linear time, and a check that takes too many steps is given up and counts as failed. That is why it is the library
jsonschema, in Python: its keywords can be counted and replaced, and too deep a nesting is an exception, not the end
of the process.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from router.policy.canonical import canonical
from router.policy.pattern import BadPattern, Pattern

MOST_STEPS = 20_000
"""Of one check: at the worst some 0.4 s of an answer and 3 s of a schema, off the event loop; a common one takes some
hundreds."""
STEP_S = 0.00004
WIDTH_A_STEP = 64
"""Members of a keyword's value and of what it is applied to, such as a long `properties`, that count as a step more."""
BYTES_A_STEP = 1_000
"""Of what is written to compare values, or into an error, that count as a step more."""
GLANCES_A_STEP = 2
"""Of looks at whether one of several schemas can be meant."""
VALUES_A_STEP = 16
"""Of those that are compared, however small."""
_OF_ANOTHER = re.compile(rb'"\$id"|"\$ref":"[^#]')
"""In a schema of which a part, or one that it refers to, has definitions of its own."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
"""A name that is written in a reference as it is."""
PAIRS_A_STEP = 5_000
"""Of items that `unevaluatedItems` looks for among others."""


class BadSchema(ValueError):
    """It is no JSON Schema; the message says why in one line."""


class _TooManyStepsError(Exception):
    pass


class _Work:
    """What one check has done so far. A step is a keyword that is applied; what takes longer counts as several."""

    def __init__(self, definitions: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.definitions = definitions
        self._left: float = MOST_STEPS
        self._enums: dict[int, frozenset[bytes]] = {}
        self._marks: dict[int, list[tuple[str, frozenset[bytes]]]] = {}

    def spend(self, steps: float) -> None:
        self._left -= steps
        if self._left < 0:
            raise _TooManyStepsError

    def canonical(self, value: object) -> bytes:
        written = canonical(value)
        self.spend(1 / VALUES_A_STEP + len(written) / BYTES_A_STEP)
        return written

    def allowed(self, enum: list[object]) -> frozenset[bytes]:
        """Return the values of an `enum`, which is applied to each item of an array and written once."""
        if id(enum) not in self._enums:
            self._enums[id(enum)] = frozenset(map(self.canonical, enum))
        return self._enums[id(enum)]

    def marks(self, properties: Mapping[str, Any]) -> Sequence[tuple[str, frozenset[bytes]]]:
        """Return the members of a `properties` that have few values, with those; looked for once."""
        if id(properties) not in self._marks:
            self.spend(len(properties) / WIDTH_A_STEP)
            few = [(name, _few(below)) for name, below in properties.items()]
            self._marks[id(properties)] = [(name, frozenset(map(self.canonical, each))) for name, each in few if each]
        found = self._marks[id(properties)]
        self.spend(len(found) / WIDTH_A_STEP)
        return found


def _few(schema: object) -> list[object]:
    match schema:
        case {"const": value}:
            return [value]
        case {"enum": list(values)}:
            return values
    return []


_work: ContextVar[_Work] = ContextVar("work")
"""Of the check that runs in this context; set anew by each."""


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """A compiled schema (draft 2020-12).

    Raises on construction:
        BadSchema: it is not one.
    """

    plain: Mapping[str, Any] | bool
    _validator: Any = field(init=False, repr=False)
    _definitions: Mapping[str, Any] = field(init=False, repr=False)
    """What a `$ref` of this schema names, as far as that is told by its text."""

    def __post_init__(self) -> None:
        if _searches_by_re(self.plain):
            said = "unevaluatedProperties beside patternProperties is not supported"
            raise BadSchema(said)
        kind, registry = _parts()
        try:
            _work.set(_Work())
            plain = _with_floats(self.plain)
            kind.check_schema(plain)
            validator = kind(plain, registry=registry)
        except Exception as error:  # a stranger's schema fails in ways that the library does not list
            said = str(getattr(error, "message", "") or error or type(error).__name__)
            raise BadSchema(said.splitlines()[0][:200] if said else "it can't be read") from None
        object.__setattr__(self, "_validator", validator)
        object.__setattr__(self, "_definitions", _definitions(plain))

    def fits(self, value: object) -> bool:
        """Say whether a decoded JSON value fits; where that can't be told (a `$ref` to nowhere) it does not."""
        _work.set(_Work(self._definitions))
        try:
            return bool(self._validator.is_valid(value))
        except Exception:  # as above; an answer that can't be held against its schema did not pass
            return False

    def dead_end(self) -> str | None:
        """Say what in it no answer that comes there can fit, though it is a schema; None where there is nothing.

        A schema of an operator's that has one fails answers for ever, and each is paid for twice.
        """
        from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

        resource = DRAFT202012.create_resource(_with_floats(self.plain))
        _, registry = _parts()
        try:
            return _dead_end(resource, registry.resolver_with_root(resource))
        except ValueError as error:
            return f"an $id in it can't be used: {error}"


def _dead_end(resource: Any, resolver: Any) -> str | None:
    contents = resource.contents
    if isinstance(contents, dict):
        for keyword in ("$ref", "$dynamicRef"):
            if (ref := contents.get(keyword)) is None:
                continue
            try:
                resolver.lookup(ref)
            except Exception:  # a pointer into a text raises what it likes
                return f"nothing is fetched or found for its {keyword} '{ref[:200]}'; write what it means into $defs"
        for pattern in (contents.get("pattern", ""), *contents.get("patternProperties", ())):
            try:
                Pattern(pattern)
            except BadPattern as error:
                return f"'{pattern[:200]}': {error}"
    below = (_dead_end(each, resolver.in_subresource(each)) for each in resource.subresources())
    return next(filter(None, below), None)


@functools.cache
def _parts() -> tuple[Any, Any]:
    """Return the validator's class and a registry that knows nothing but the drafts, made once."""
    # A command that meets no schema starts a tenth of a second sooner.
    import attrs  # noqa: PLC0415
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.validators import extend  # noqa: PLC0415
    from jsonschema_specifications import REGISTRY  # noqa: PLC0415

    linear: dict[str, Keyword] = {
        "anyOf": _any_of,
        "oneOf": _one_of,
        "const": _const,
        "enum": _enum,
        "uniqueItems": _unique_items,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
    keywords = {**Draft202012Validator.VALIDATORS, **linear}
    kind = extend(Draft202012Validator, {name: _counted(name, check) for name, check in keywords.items()})
    # The library's own goes over to its uncounted keywords, and to `re`, where a schema below names a draft.
    kind.evolve = attrs.evolve
    return kind, REGISTRY


Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


def _counted(name: str, keyword: Keyword) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        work = _work.get()
        # An `enum` is paid for where it is written, once.
        work.spend(1 + (_width(value if name != "enum" else None) + _width(instance)) // WIDTH_A_STEP)
        if name == "unevaluatedItems":
            work.spend(_width(instance) ** 2 // PAIRS_A_STEP)
        for error in keyword(validator, value, instance, schema) or ():
            # The library writes all that it was applied to into most errors.
            work.spend(len(error.message) / BYTES_A_STEP)
            yield error

    return check


def _width(value: object) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _any_of(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    if not any(_fits(validator, below, instance) for below in value):
        yield ValidationError("fits none of the schemas that it may be of")


def _one_of(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    fitting = (below for below in value if _fits(validator, below, instance))
    if next(fitting, fitting) is fitting or next(fitting, fitting) is not fitting:
        yield ValidationError("does not fit just one of the schemas that it may be of")


def _fits(validator: Any, schema: Any, instance: Any) -> bool:
    """Say whether a value fits one of several schemas; most that it does not are told at a glance."""
    if _is_of_another(validator, schema, instance):
        return False
    return next(validator.descend(instance, schema), None) is None


def _is_of_another(validator: Any, schema: Any, instance: Any) -> bool:
    """Say whether a value surely does not fit, by its type, a member that it lacks, or one that names its kind."""
    work = _work.get()
    work.spend(1 / GLANCES_A_STEP)
    if isinstance(schema, dict) and isinstance(ref := schema.get("$ref"), str):
        schema = work.definitions.get(ref)
    if not isinstance(schema, dict):
        return False
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(validator.is_type(instance, kind) for kind in kinds):
        return True
    if not isinstance(instance, dict):
        return False
    required, properties = schema.get("required", ()), schema.get("properties")
    work.spend(len(required) / WIDTH_A_STEP)
    if not all(name in instance for name in required):
        return True
    return properties is not None and any(
        work.canonical(member) not in values
        for name, values in work.marks(properties)
        if not isinstance(member := instance.get(name, instance), dict | list)
    )


def _const(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    work = _work.get()
    if work.canonical(instance) != work.canonical(value):
        yield ValidationError("is not the value that it must be")


def _enum(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    work = _work.get()
    if work.canonical(instance) not in work.allowed(value):
        yield ValidationError("is none of the values that there may be")


def _unique_items(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    if value and isinstance(instance, list) and len(set(map(_work.get().canonical, instance))) < len(instance):
        yield ValidationError("has an item twice")


def _pattern(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    if isinstance(instance, str) and not _compiled(value).found_in(instance):
        yield ValidationError("does not match its pattern")


def _pattern_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    _work.get().spend(len(value) * len(instance) // WIDTH_A_STEP)
    for pattern, below in value.items():
        compiled = _compiled(pattern)
        for name, member in instance.items():
            if compiled.found_in(name):
                yield from validator.descend(member, below, path=name, schema_path=pattern)


def _additional_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    if not isinstance(instance, dict):
        return
    patterns = [_compiled(pattern) for pattern in schema.get("patternProperties", ())]
    _work.get().spend(len(patterns) * len(instance) // WIDTH_A_STEP)
    for name, member in instance.items():
        if name in schema.get("properties", ()) or any(pattern.found_in(name) for pattern in patterns):
            continue
        if value is False:
            yield ValidationError("has a member that its schema does not know")
        yield from validator.descend(member, value, path=name)


def _with_floats(value: object) -> object:
    """Write exact decimals, as policy files have them, as the floats that JSON's numbers are."""
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {key: _with_floats(below) for key, below in value.items()}
        case list():
            return [_with_floats(below) for below in value]
    return value


def _definitions(schema: object) -> Mapping[str, Any]:
    """Return what `#/$defs/NAME` stands for, where nothing in the schema gives such a text another meaning."""
    if not isinstance(schema, dict) or _OF_ANOTHER.search(msgspec.json.encode(schema)):
        return MappingProxyType({})
    named = schema.get("$defs", {})
    return MappingProxyType({f"#/$defs/{name}": below for name, below in named.items() if _PLAIN_NAME.match(name)})


def _searches_by_re(schema: object) -> bool:
    """Say whether the library would search names by Python's `re`, which a pattern can hold up for minutes."""
    text = msgspec.json.encode(schema)
    return b'"unevaluatedProperties"' in text and b'"patternProperties"' in text


@functools.lru_cache(maxsize=64)
def _compiled(pattern: str) -> Pattern:
    """Compile a pattern of the linear dialect, which may take 0.1 s and 11 MB where it counts repeats of repeats.

    Raises:
        BadPattern: it looks around or back; the check counts as failed.
    """
    started = time.perf_counter()
    compiled = Pattern(pattern)
    _work.get().spend((time.perf_counter() - started) / STEP_S)
    return compiled
