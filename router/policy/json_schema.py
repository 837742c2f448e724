"""A JSON Schema that answers are held against, given by an operator or by a caller.

A schema from a stranger is hostile until shown otherwise: nothing is ever fetched for a `$ref`, patterns run in
linear time, and a check that takes too many steps is given up and counts as failed. That is why it is the library
jsonschema, in Python: its keywords can be counted and replaced, and too deep a nesting is an exception, not the end
of the process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from router.policy.pattern import Pattern

MOST_STEPS = 20_000
"""Keywords applied in one check: about 0.8 s at the worst, off the event loop; a common answer takes a few hundred."""


class BadSchema(ValueError):
    """It is no JSON Schema; the message says why in one line."""


class _TooManyStepsError(Exception):
    pass


_steps: ContextVar[list[int]] = ContextVar("steps")
"""How many steps the check that runs in this context has left; set anew by each."""


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """A compiled schema (draft 2020-12).

    Raises on construction:
        BadSchema: it is not one.
    """

    plain: Mapping[str, Any] | bool
    _validator: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if _searches_by_re(self.plain):
            said = "unevaluatedProperties beside patternProperties is not supported"
            raise BadSchema(said)
        kind, registry = _parts()
        try:
            _steps.set([MOST_STEPS])
            plain = _with_floats(self.plain)
            kind.check_schema(plain)
            validator = kind(plain, registry=registry)
        except Exception as error:  # a stranger's schema fails in ways that the library does not list
            said = str(getattr(error, "message", "") or error or type(error).__name__)
            raise BadSchema(said.splitlines()[0][:200] if said else "it can't be read") from None
        object.__setattr__(self, "_validator", validator)

    def fits(self, value: object) -> bool:
        """Say whether a decoded JSON value fits; where that can't be told (a `$ref` to nowhere) it does not."""
        _steps.set([MOST_STEPS])
        try:
            return bool(self._validator.is_valid(value))
        except Exception:  # as above; an answer that can't be held against its schema did not pass
            return False


@functools.cache
def _parts() -> tuple[Any, Any]:
    """Return the validator's class and a registry that knows nothing but the drafts, made once."""
    # A command that meets no schema starts a tenth of a second sooner.
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.validators import extend  # noqa: PLC0415
    from jsonschema_specifications import REGISTRY  # noqa: PLC0415

    linear: dict[str, Keyword] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
    keywords = {**Draft202012Validator.VALIDATORS, **linear}
    return extend(Draft202012Validator, {name: _counted(check) for name, check in keywords.items()}), REGISTRY


Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


def _counted(keyword: Keyword) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any] | None:
        left = _steps.get()
        left[0] -= 1
        if left[0] < 0:
            raise _TooManyStepsError
        return keyword(validator, value, instance, schema)

    return check


def _pattern(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    if isinstance(instance, str) and not _compiled(value).found_in(instance):
        yield ValidationError("does not match its pattern")


def _pattern_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
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


def _searches_by_re(schema: object) -> bool:
    """Say whether the library would search names by Python's `re`, which a pattern can hold up for minutes."""
    text = msgspec.json.encode(schema)
    return b'"unevaluatedProperties"' in text and b'"patternProperties"' in text


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Pattern:
    """Compile a pattern of the linear dialect.

    Raises:
        BadPattern: it looks around or back; the check counts as failed.
    """
    return Pattern(pattern)
