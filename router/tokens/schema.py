"""Function definitions as OpenAI's models read them: TypeScript in a namespace, which is what is billed.

The form is known from what OpenAI's API reported for published requests; where it is not known, what we write
is longer. Schemas come from strangers: nothing here recurses deeper than `DEEPEST`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

Dialect = Literal["2023", "2024"]
"""How OpenAI writes them for cl100k_base models, and for o200k_base models."""

Json = Mapping[str, object]

DEEPEST = 24

_encode = msgspec.json.Encoder().encode

_SHOWN = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "description",
        "$ref",
    }
    | {"anyOf", "oneOf", "allOf", "strict"}
)
"""The keywords that are written as TypeScript, or not at all. Every other becomes a comment."""


def size_and_depth(value: object) -> tuple[int, int]:
    """Return a bound on a JSON value's length in UTF-8, and how deep it is, without recursion."""
    size = deepest = 0
    stack: list[tuple[object, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        deepest = max(deepest, depth)
        if isinstance(item, str):
            size += 6 * len(item) + 2
        elif isinstance(item, Mapping):
            size += 2 + sum(6 * len(str(key)) + 4 for key in item)
            stack.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            size += 2 + len(item)
            stack.extend((child, depth + 1) for child in item)
        else:
            size += len(repr(item))
    return size, deepest


def compact(value: object) -> str:
    """Write a JSON value of bounded depth as its shortest JSON text."""
    return _encode(value).decode()


def namespace(functions: Iterable[Json], dialect: Dialect) -> str:
    """Write definitions (name, description, parameters) as the namespace that the model is shown."""
    lines = ["namespace functions {", ""]
    for function in functions:
        if description := function.get("description"):
            lines.append(f"// {description}")
        lines += [
            f"type {function.get('name')} = ({_parameters(function.get('parameters'), dialect)}) => any;",
            "",
        ]
    return "\n".join([*lines, "} // namespace functions"])


def response_format(name: str, description: object, schema: object, *, strict: bool) -> str:
    """Write a response schema as the section that the model is shown.

    In strict mode the keywords that it implies are left out (found from requests to gpt-4o of 2026-01-30).
    """
    shown = _without_strictness(schema) if strict else schema
    note = f"// {description}\n" if description else ""
    return f"# Response Formats\n\n## {name}\n\n{note}{compact(shown)}"


def _without_strictness(schema: object) -> object:
    if isinstance(schema, list):
        return [_without_strictness(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    implied = {"required"} if isinstance(schema.get("required"), list) else set()
    if schema.get("additionalProperties") is False:
        implied.add("additionalProperties")
    return {key: _without_strictness(value) for key, value in schema.items() if key not in implied}


def _parameters(schema: object, dialect: Dialect) -> str:
    properties = _properties(schema)
    if not isinstance(schema, Mapping) or not properties:
        return ""
    if dialect == "2024" and not any(_notes(value, dialect) for value in properties.values()):
        return "_: {" + ", ".join(_members(schema, dialect, indent=0)) + "}"
    return "_: " + _object(schema, dialect, indent=0)


def _object(schema: Json, dialect: Dialect, indent: int) -> str:
    properties = _properties(schema)
    required = schema.get("required")
    lines: list[str] = []
    for name, value in properties.items():
        if dialect == "2024" or indent == 0:
            lines += [f"// {note}" for note in _notes(value, dialect)]
        lines.append(f"{_member(name, value, required, dialect, indent)},")
    pad = " " * indent
    return "\n".join(["{", *(pad + line for line in lines), "}"])


def _members(schema: Json, dialect: Dialect, indent: int) -> list[str]:
    required = schema.get("required")
    return [_member(name, value, required, dialect, indent) for name, value in _properties(schema).items()]


def _member(name: str, value: object, required: object, dialect: Dialect, indent: int) -> str:
    needed = isinstance(required, list) and name in required
    return f"{name}{'' if needed else '?'}: {_type(value, dialect, indent)}"


def _properties(schema: object) -> Json:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _notes(schema: object, dialect: Dialect) -> list[str]:
    """List the comments that stand above a property."""
    if not isinstance(schema, Mapping):
        return []
    notes = [str(schema["description"])] if schema.get("description") else []
    if dialect == "2024":
        notes += [f"{key}: {compact(value)}" for key, value in schema.items() if key not in _SHOWN]
    return notes


def _type(schema: object, dialect: Dialect, indent: int) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    for key, joint in (("anyOf", " | "), ("oneOf", " | "), ("allOf", " & ")):
        if isinstance(choices := schema.get(key), list) and choices:
            return joint.join(_type(choice, dialect, indent) for choice in choices)
    if isinstance(values := schema.get("enum"), list) and values:
        return " | ".join(compact(value) for value in values)
    if "const" in schema and dialect == "2024":
        return compact(schema["const"])
    if "$ref" in schema:
        return compact(schema["$ref"])
    return _named_type(schema.get("type"), schema, dialect, indent)


def _named_type(name: object, schema: Json, dialect: Dialect, indent: int) -> str:
    match name:
        case "string" | "boolean" | "null":
            return str(name)
        case "number" | "integer":
            return "number"
        case "array":
            return f"{_type(schema['items'], dialect, indent)}[]" if "items" in schema else "any[]"
        case "object":
            return _object(schema, dialect, indent + 2)
        case list():
            return " | ".join(_named_type(each, schema, dialect, indent) for each in name)
    return _object(schema, dialect, indent + 2) if _properties(schema) else "any"
