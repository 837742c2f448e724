"""The one JSON Schema that serves editors for every kind of policy file; what a key is for is its help there."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.json_schema import models_json_schema

from router.policy.schema.accounts import AccountsFile
from router.policy.schema.kinds import REFERENCE
from router.policy.schema.money import PriceShape
from router.policy.schema.targets import ModelsFile
from router.policy.schema.task import FragmentFile, TaskFile
from router.policy.schema.tests import BoundsShape
from router.policy.vocabulary import COMBINATIONS, FACTS, LONGEST_EXPRESSION, OPERATORS, TAKES, FactWord, Kind, Operator

FILES = ("TaskFile", "FragmentFile", "ModelsFile", "AccountsFile")


def json_schema() -> dict[str, object]:
    """Return one JSON Schema (draft 2020-12) for all kinds of files, as `farthing schema` prints it."""
    shapes = (TaskFile, FragmentFile, ModelsFile, AccountsFile, PriceShape, BoundsShape)
    _, schema = models_json_schema([(shape, "validation") for shape in shapes])
    definitions = {**schema["$defs"], **_condition_definitions()}
    for name in FILES:
        definitions[name]["properties"]["version"]["const"] = 1
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Farthing policy files",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in FILES],
        "$defs": {name: _tidied(definition) for name, definition in sorted(definitions.items())},
    }


def _condition_definitions() -> dict[str, dict[str, object]]:
    condition = {"$ref": "#/$defs/Condition"}
    parts: dict[str, object] = {
        "all": {"type": "array", "minItems": 1, "items": condition, "description": COMBINATIONS["all"]},
        "any": {"type": "array", "minItems": 1, "items": condition, "description": COMBINATIONS["any"]},
        "not": {"allOf": [condition], "description": COMBINATIONS["not"]},
        "condition": {
            "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}],
            "description": COMBINATIONS["condition"],
        },
        "cel": {"type": "string", "minLength": 1, "maxLength": LONGEST_EXPRESSION, "description": COMBINATIONS["cel"]},
    }
    facts: dict[str, object] = {name: _fact_schema(fact) for name, fact in FACTS.items()}
    return {
        "Condition": {
            "type": "object",
            "description": "Holds where every key of it does.",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {**parts, **facts},
        }
    }


def _fact_schema(fact: FactWord) -> dict[str, object]:
    if fact.kind in ("headers", "metadata"):
        return {
            "type": "object",
            "minProperties": 1,
            "description": fact.about,
            "additionalProperties": _comparison_schema(fact),
        }
    return {**_comparison_schema(fact), "description": fact.about}


def _comparison_schema(fact: FactWord) -> dict[str, object]:
    value = _value_schema(fact)
    many = {"type": "array", "items": value, "minItems": 1}
    one_or_many = {"anyOf": [value, many]}
    choice = one_or_many if fact.kind == "set" else many
    operands: Mapping[Operator, object] = {
        "in": choice,
        "not_in": choice,
        "contains": one_or_many if fact.kind == "set" else {"type": "string", "minLength": 1},
        "matches": {"type": "string", "minLength": 1},
    }
    bare = {"set": [value, many], "text": []}.get(fact.kind, [value])
    mapping = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            name: {
                **_mapping(operands.get(name, one_or_many if fact.kind == "set" else value)),
                "description": OPERATORS[name],
            }
            for name in TAKES[fact.kind]
        },
    }
    return {"anyOf": [*bare, mapping]}


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}


def _value_schema(fact: FactWord) -> dict[str, object]:
    types: Mapping[Kind, dict[str, object]] = {
        "flag": {"type": "boolean"},
        "metadata": {"type": ["string", "number", "boolean"]},
    }
    if fact.kind != "number":
        words: dict[str, object] = {"enum": list(fact.words)} if fact.words else {}
        if fact.pattern:
            words["pattern"] = f"^({fact.pattern})$"
        return types.get(fact.kind, {"type": "string", **words})
    limits = {"minimum": fact.least, "maximum": fact.most}
    bounds = {name: limit for name, limit in limits.items() if limit is not None}
    return {"type": "integer" if fact.whole else "number", **bounds}


def _tidied(schema: object) -> object:
    """Leave out what only the machine that made it wants: titles, nulls, defaults of nothing."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        "$ref" if key == REFERENCE else key: f"#/$defs/{value}" if key == REFERENCE else _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    choices = kept.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        choices = [choice for choice in choices if choice != {"type": "null"}]
        rest = {key: value for key, value in kept.items() if key != "anyOf"}
        return {**choices[0], **rest} if len(choices) == 1 else {"anyOf": choices, **rest}
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(str(kept["description"]).split())
    return kept
