"""A JSON value of the shape that a JSON schema asks for.

It has every required member and is finite for any schema, recursive ones included; a keyword not known
here is not obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import cast

from router.providers.simulated.text import phrase

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

DEEPEST = 6
"""Below this depth only what is required is written, and lists stay as short as they may."""

MOST_VALUES = 1_000
"""From here on the same holds at any depth."""

LAST_VALUE = 10_000
BOTTOM = 40
"""A schema that requires more values, or more depth, than this gets null there: few such have an end."""

LONGEST = 1_000
"""No list and no string is longer, whatever the schema asks for."""

LARGEST = 1e15

FORMATS: Mapping[str, str] = {
    "date": "2025-06-30",
    "date-time": "2025-06-30T09:15:00Z",
    "time": "09:15:00Z",
    "email": "zoe@example.com",
    "uri": "https://example.com/a",
    "url": "https://example.com/a",
    "uuid": "3f2b8c1e-5a77-4d0c-9a53-1d2e6f7a8b90",
    "ipv4": "192.0.2.1",
}


def fill(schema: object, random: Random) -> Json:
    """Return a value that satisfies `schema` (draft 2020-12, or Gemini's with upper-case types)."""
    return _Filling(_object(schema), random).value(schema, 0)


class _Filling:
    def __init__(self, root: Mapping[str, object], random: Random) -> None:
        self._root = root
        self._random = random
        self._values = 0

    def value(self, schema: object, depth: int) -> Json:
        self._values += 1
        if depth > BOTTOM or self._values > LAST_VALUE:
            return None
        node = self._resolved(_object(schema))
        if "const" in node:
            return cast(Json, node["const"])
        if options := _list(node.get("enum")):
            return cast(Json, self._random.choice(options))
        if options := _list(node.get("anyOf")) or _list(node.get("oneOf")):
            return self.value(self._shallowest(options, depth), depth)
        if parts := _list(node.get("allOf")):
            return self.value(_merged([self._resolved(_object(part)) for part in parts], node), depth)
        match _kind(node):
            case "object":
                return self._members(node, depth)
            case "array":
                return self._items(node, depth)
            case kind:
                return self._scalar(kind, node)

    def _scalar(self, kind: str, node: Mapping[str, object]) -> Json:
        match kind:
            case "integer":
                low, high = _bounds(node, 1, 100)
                return self._random.randint(int(low), int(high))
            case "number":
                low, high = _bounds(node, 0, 100)
                return round(self._random.uniform(low, high), 2)
            case "boolean":
                return self._random.random() < 0.5
            case "null":
                return None
            case _:
                return self._string(node)

    def _members(self, node: Mapping[str, object], depth: int) -> Json:
        members = _object(node.get("properties"))
        required = set(map(str, _list(node.get("required"))))
        wanted = [name for name in members if name in required or not self._enough(depth)]
        filled: dict[str, Json] = {name: self.value(members[name], depth + 1) for name in wanted}
        return filled | {name: phrase(2, self._random) for name in sorted(required - set(members))}

    def _items(self, node: Mapping[str, object], depth: int) -> Json:
        least = _length(node.get("minItems"), 0)
        most = max(least, min(_length(node.get("maxItems"), least + 3), least + 3))
        length = least if self._enough(depth) else self._random.randint(max(least, min(1, most)), most)
        return [self.value(node.get("items", {"type": "string"}), depth + 1) for _ in range(length)]

    def _string(self, node: Mapping[str, object]) -> str:
        if (known := FORMATS.get(str(node.get("format")))) is not None:
            return known
        least, most = _length(node.get("minLength"), 0), _length(node.get("maxLength"), LONGEST)
        text = phrase(self._random.randint(1, 6), self._random)
        while len(text) < least:
            text += " " + phrase(6, self._random)
        return text[:most]

    def _enough(self, depth: int) -> bool:
        return depth >= DEEPEST or self._values > MOST_VALUES

    def _shallowest(self, options: list[object], depth: int) -> object:
        """Choose among alternatives: any of them near the top, one that ends soon further down."""
        if not self._enough(depth):
            return self._random.choice(options)
        return min(options, key=lambda option: _kind(self._resolved(_object(option))) in ("object", "array"))

    def _resolved(self, node: Mapping[str, object]) -> Mapping[str, object]:
        """Follow `$ref`s within the document; a chain of them that never ends gives an empty schema."""
        for _ in range(32):
            if (path := node.get("$ref")) is None:
                return node
            found: object = self._root
            for step in str(path).removeprefix("#").strip("/").split("/"):
                found = _object(found).get(step.replace("~1", "/").replace("~0", "~")) if step else found
            node = _object(found)
        return {}


def _kind(node: Mapping[str, object]) -> str:
    kinds = node.get("type")
    if isinstance(kinds, list):
        kinds = next((kind for kind in kinds if kind != "null"), "null")
    if isinstance(kinds, str):
        return kinds.lower()
    return "object" if "properties" in node else "array" if "items" in node else "string"


def _merged(parts: list[Mapping[str, object]], node: Mapping[str, object]) -> dict[str, object]:
    rest = {name: value for name, value in node.items() if name != "allOf"}
    merged: dict[str, object] = {}
    for part in [*parts, rest]:
        joined = {
            "properties": {**_object(merged.get("properties")), **_object(part.get("properties"))},
            "required": [*_list(merged.get("required")), *_list(part.get("required"))],
        }
        merged = {**merged, **part, **{name: value for name, value in joined.items() if value}}
    return merged


def _bounds(node: Mapping[str, object], low: float, high: float) -> tuple[float, float]:
    least = _number(node.get("minimum"), _number(node.get("exclusiveMinimum"), low - 1) + 1)
    most = _number(node.get("maximum"), _number(node.get("exclusiveMaximum"), max(high, least) + 1) - 1)
    return least, max(least, most)


def _number(value: object, otherwise: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return otherwise
    return max(-LARGEST, min(value, LARGEST))


def _length(value: object, otherwise: int) -> int:
    return max(0, min(int(_number(value, otherwise)), LONGEST))


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
