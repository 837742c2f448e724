"""The JSON Schema that editors use: current, valid, and of one mind with the loader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from policy.broken_folder import BROKEN, WHOLE
from router.policy.fault import Report
from router.policy.reading.document import read_document
from router.policy.reading.load import load_files
from router.policy.schema.editor import json_schema
from router.policy.vocabulary import FACTS, TAKES
from router.pricing import Catalogue

WHENS = (
    "{any: [{hour: {gte: 22}}, {hour: {lt: 6}}]}",
    "{not: {not: {all: [{stream: true}, {hour: {in: [22, 23, 0]}}]}}}",
    "{weekday: {in: [sat, sun]}, language: {not_in: [de, und]}}",
    "{weekday: {contains: s}, language: {matches: '^(de|fr)$'}}",
    "{has: {in: tools}, stream: {ne: true}}",
    "{has: {not_in: [tools, images]}}",
    "{has: {contains: [tools, code]}}",
    "{has: {eq: tools, ne: [images]}}",
    "{headers: {X-Tier: gold, x-beta: {ne: '1'}, user-agent: {matches: '(?i)curl'}}}",
    "{metadata: {user.visits: {gte: 10}, vip: true, 'a b': {in: [x, y]}, n: -0.5}}",
    "{difficulty: {gt: 0, lte: 1}, budget_used_pct: {gte: 100}}",
    "{budget_remaining_usd: {lte: 0}, max_output_tokens: {ne: 5}}",
    "{text: {contains: 日本, matches: '(?i)b'}}",
    "{cel: 'max_output_tokens == null', condition: [night]}",
    "{account: {matches: '^search-'}}",
)
SHIPPED = Path(__file__).parents[2] / "policies"
VALIDATOR = Draft202012Validator(json_schema())
BY_SHAPE = (
    "unknown-key", "unknown-key-deep", "unknown-key-in-rule", "missing-task", "missing-version",
    "missing-route", "missing-use", "wrong-version", "version-as-text", "route-not-a-list",
    "route-empty", "rule-not-a-mapping", "use-empty", "use-number", "model-twice",
    "boolean-as-text", "count-as-decimal", "count-too-small", "budget-zero", "budget-negative",
    "budget-as-text", "budget-too-large", "on-exceeded", "prefer", "task-name", "unknown-fact",
    "unknown-operator", "operator-not-for-fact", "operator-without-fact", "number-as-text",
    "number-not-whole", "number-out-of-range", "flag-as-text", "has-unknown", "weekday",
    "header-number", "headers-not-by-name", "metadata-nested", "in-without-list", "list-without-in",
    "text-bare", "text-empty", "conditions-not-a-mapping", "include-number",
    "any-empty", "all-not-a-list", "condition-not-a-mapping", "cel",
    "empty-when-mapping", "test-refusal-code", "models.target-form", "models.price-negative",
    "models.price-half", "models.price-word", "models.lacks", "models.timeouts", "models.optional",
    "models.none", "accounts.digest", "accounts.digest-short", "accounts.no-keys",
    "accounts.limits", "accounts.budget", "language", "models.literal-secret", "models.secret-in-list",
    "models.reserved-name", "misspelt-is-not-missing", "models.misspelt-is-not-missing",
    "help-by-what-is-meant",
)  # fmt: skip
"""The broken files whose fault an editor can see."""


def _plain(path: Path) -> object:
    root = read_document(path.read_bytes(), Report(path.name))
    assert root is not None
    return json.loads(json.dumps(root.plain(), default=float))


def test_the_committed_schema_is_current() -> None:
    committed = json.loads((SHIPPED / "schema.json").read_text("utf-8"))
    assert committed == json_schema(), "run `farthing schema > policies/schema.json`"


def test_the_schema_is_a_valid_one() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml*")), ids=lambda path: path.name)
def test_a_shipped_file_names_the_schema_and_follows_it(path: Path) -> None:
    assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    assert list(VALIDATOR.iter_errors(_plain(path))) == []


@pytest.mark.parametrize("name", BY_SHAPE)
def test_a_fault_of_shape_is_seen_by_an_editor_too(name: str) -> None:
    assert not VALIDATOR.is_valid(_plain(BROKEN / f"{name}.yaml"))


@pytest.mark.parametrize("when", WHENS)
def test_a_condition_that_loads_is_valid_to_an_editor(when: str) -> None:
    written = f"version: 1\ntask: t\nconditions: {{night: {{hour: 3}}}}\nroute:\n  - {{when: {when}, use: cheap}}\n"
    written += "  - use: [cheap, standard]\n"
    loaded = load_files({**WHOLE, "t.yaml": written.encode()}, Catalogue(), {}, Path())
    assert [fault for fault in loaded.faults if fault.level == "error"] == []
    root = read_document(written.encode(), Report("t.yaml"))
    assert root is not None
    assert [*VALIDATOR.iter_errors(json.loads(json.dumps(root.plain(), default=float)))] == []


def test_every_fact_has_help_and_just_its_operators() -> None:
    condition = json_schema()["$defs"]["Condition"]["properties"]  # type: ignore[index]
    for name, fact in FACTS.items():
        assert condition[name]["description"] == fact.about
        if fact.kind not in ("headers", "metadata"):
            assert set(condition[name]["anyOf"][-1]["properties"]) == set(TAKES[fact.kind])


def _keys(schema: object) -> Iterator[tuple[str, object]]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties.items()
        for below in schema.values():
            yield from _keys(below)
    elif isinstance(schema, list):
        for item in schema:
            yield from _keys(item)


def test_every_key_has_help() -> None:
    bare = [name for name, key in _keys(json_schema()) if not (isinstance(key, dict) and key.get("description"))]
    assert bare == []
