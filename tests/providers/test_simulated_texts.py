"""What simulated answers are made of: lengths, pieces of tokens, and values that a schema asks for."""

from __future__ import annotations

import json
import statistics
import time
from random import Random
from typing import Any

import jsonschema
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from router.providers.simulated.shape import fill
from router.providers.simulated.text import draw_length, pieces, prose, text_of, tokens_of


@pytest.mark.parametrize("mean", [40, 300])
def test_lengths_are_drawn_around_the_mean(mean: int) -> None:
    random = Random(mean)
    lengths = [draw_length(mean, random) for _ in range(4_000)]
    assert statistics.mean(lengths) == pytest.approx(mean, rel=0.1)
    assert statistics.median(lengths) < statistics.mean(lengths)


@given(st.text(max_size=200), st.integers(1, 9), st.integers(0, 60))
def test_pieces_lose_no_token_and_no_character(text: str, at_least: int, kept: int) -> None:
    tokens = tokens_of(text)[:kept]
    cut = list(pieces(tokens, at_least))
    assert tuple(token for piece in cut for token in piece.tokens) == tokens
    assert "".join(piece.text for piece in cut) == text_of(tokens)
    assert text.startswith(text_of(tokens))


def test_the_vocabulary_holds_characters_of_several_tokens() -> None:
    """So that streams which are cut between bytes are put to the test."""
    encoding = tiktoken.get_encoding("o200k_base")
    text = prose(5_000, Random(0))
    assert any(len(piece.tokens) > 1 for piece in pieces(tokens_of(text)))
    assert len(tokens_of(text)) == len(encoding.encode_ordinary(text))


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 3, "maxLength": 12},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["name", "children", "left"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS: list[dict[str, Any]] = [
    TREE,
    {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number", "minimum": 5, "maximum": 6}},
    {"type": ["null", "integer"], "exclusiveMinimum": 3, "maximum": 4},
    {
        "allOf": [
            {"properties": {"a": {"const": 1}}, "required": ["a"]},
            {"required": ["b"], "type": "object"},
        ]
    },
    {"type": "object", "properties": {"on": {"type": "boolean"}, "at": {"type": "string", "format": "date"}}},
    {"$ref": "#"},
    {},
]
HOSTILE: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "object", "properties": {f"p{number}": {"$ref": "#"} for number in range(30)}},
    {"type": "array", "minItems": 10**12, "items": {"type": "string", "minLength": 10**12}},
    {"type": "integer", "minimum": 1e300, "maximum": -1e300},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 2},
    {"type": 3, "properties": 4, "required": 5, "enum": 6, "items": 7, "anyOf": {}, "$ref": 8},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_filled_schema_is_satisfied(schema: dict[str, Any]) -> None:
    for seed in range(30):
        value = fill(schema, Random(seed))
        assert len(json.dumps(value)) < 2_000_000
        if schema != {"$ref": "#"}:
            jsonschema.validate(value, schema)


@pytest.mark.parametrize("schema", HOSTILE)
def test_a_hostile_schema_is_filled_in_bounded_time(schema: dict[str, Any]) -> None:
    started = time.perf_counter()
    assert len(json.dumps(fill(schema, Random(0)))) < 5_000_000
    assert time.perf_counter() - started < 2
