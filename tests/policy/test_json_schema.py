"""Answers held against schemas of several kinds: told apart at a glance, and as the library itself tells."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from router.policy.json_schema import Schema

KINDS = ("text", "image", "table", "quote", "code", "link")
REST: dict[str, Any] = {
    "title": {"type": "string", "minLength": 1},
    "width": {"type": "integer", "minimum": 0},
    "tags": {"type": "array", "items": {"type": "string"}},
    "source": {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]},
}
ITEM = {"title": "A title", "width": 3, "tags": ["a", "b"], "source": {"url": "here"}}
ITEMS = [{**ITEM, "kind": KINDS[number % 6]} for number in range(500)]


def of_kind(kind: str) -> dict[str, Any]:
    """Return a schema as data classes are written: the member that names the kind is the last of all."""
    properties = {**REST, "kind": {"const": kind}}
    return {"properties": properties, "required": ["kind", "title"], "additionalProperties": False, "type": "object"}


def list_of(word: str, *, named: bool) -> Schema:
    kinds = {kind: of_kind(kind) for kind in KINDS}
    below = [{"$ref": f"#/$defs/{kind}"} for kind in KINDS] if named else list(kinds.values())
    return Schema({"type": "array", "items": {word: below}, "$defs": kinds if named else {}})


@pytest.mark.parametrize("word", ["oneOf", "anyOf"])
@pytest.mark.parametrize("named", [False, True])
def test_five_hundred_items_of_six_kinds_are_held_to_their_schema(word: str, named: bool) -> None:
    schema = list_of(word, named=named)
    started = time.thread_time()
    assert schema.fits(ITEMS)
    assert not schema.fits([*ITEMS, {**ITEM, "kind": "video"}])
    assert not schema.fits([*ITEMS, {**ITEM, "kind": "code", "width": -1}])
    assert time.thread_time() - started < 1


values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from([0.0, 1.0, "a", "b", ""]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=4,
)
types = st.sampled_from(["string", "integer", "number", "null", "boolean", "array", "object"])
leaves = (
    st.booleans()
    | st.just({"$ref": "#/$defs/one"})
    | st.fixed_dictionaries(
        {},
        optional={
            "type": types | st.lists(types, min_size=1, max_size=2, unique=True),
            "const": values,
            "enum": st.lists(values, min_size=1, max_size=3),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
        },
    )
)
schemas = st.recursive(
    leaves,
    lambda below: st.fixed_dictionaries(
        {},
        optional={
            "oneOf": st.lists(below, min_size=1, max_size=3),
            "anyOf": st.lists(below, min_size=1, max_size=3),
            "properties": st.dictionaries(st.sampled_from("abc"), below, max_size=3),
            "items": below,
            "not": below,
        },
    ),
    max_leaves=8,
)


@given(st.lists(schemas, min_size=1, max_size=3), st.sampled_from(["oneOf", "anyOf"]), leaves, values)
def test_whether_a_value_fits_is_as_the_library_says(
    several: list[Any], word: str, one: dict[str, Any] | bool, value: object
) -> None:
    plain = {word: several, "$defs": {"one": True if one == {"$ref": "#/$defs/one"} else one}}
    assert Schema(plain).fits(value) is Draft202012Validator(plain).is_valid(value)


DRAFT = "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("draft", [DRAFT, "http://json-schema.org/draft-07/schema#"])
def test_a_schema_below_that_names_its_draft_is_not_held_by_other_means(draft: str) -> None:
    schema = Schema({"properties": {"a": {"$schema": draft, "pattern": "^(a+)+$"}}})
    started = time.thread_time()
    assert schema.fits({"a": "a" * 26})
    assert not schema.fits({"a": "a" * 26 + "!"}), "Python's own search takes 2 s, and twice that for each more"
    assert time.thread_time() - started < 0.5


def test_a_definition_of_the_draft_is_not_taken_for_one_of_the_same_name_here() -> None:
    schema = Schema({"properties": {"a": {"$ref": DRAFT}}, "$defs": {"simpleTypes": {"type": "integer"}}})
    assert schema.fits({"a": {"type": "string"}})
    assert not schema.fits({"a": {"type": "strings"}})


@pytest.mark.parametrize("outer", ["https://here/", "http://[here"])
@pytest.mark.parametrize("inner", ["http://[x", "x"])
def test_an_identity_that_is_no_address_is_told(outer: str, inner: str) -> None:
    told = Schema({"$id": outer, "properties": {"a": {"$id": inner}}}).dead_end()
    assert bool(told) == ("[" in outer + inner)


def test_a_definition_that_another_identity_hides_is_not_guessed_at() -> None:
    inner = {"$id": "https://here/inner", "$defs": {"a": {"type": "string"}}, "oneOf": [{"$ref": "#/$defs/a"}]}
    schema = Schema({"$defs": {"a": {"type": "integer"}}, "properties": {"of": inner}})
    assert schema.fits({"of": "text"})
    assert not schema.fits({"of": 1})
