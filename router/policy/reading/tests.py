"""The `tests:` of a task's file → frozen values that `farthing test` runs."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from types import MappingProxyType

from router.chat import ChatBody
from router.errors import InvalidRequest
from router.policy.claim import AUTO
from router.policy.expectation import Bounds, Expected, Given, PolicyTest
from router.policy.facts import Facts
from router.policy.fault import Report, did_you_mean
from router.policy.reading.document import (
    Node,
    Path,
    Table,
    at,
    entries_at,
    items_at,
    key_place,
    place_of,
    text_at,
    texts_at,
)
from router.policy.reading.names import Names, check_name
from router.policy.reading.shape import strange_keys
from router.policy.schema.task import TaskFile
from router.policy.schema.tests import BoundsShape, ExpectShape, FactsShape, GivenShape, TestShape

_STEP = re.compile(r"\[([0-9]{1,9})\]|([^.\[\]]+)")


def check_tests(root: Table, rules: frozenset[str], names: Names, report: Report) -> None:
    """Report what no shape can say of the tests: names that are not there, requests that are none.

    Where the rules, or what one of them uses, can't be read, that alone is the fault, and not what tests say of them.
    """
    routed = items_at(root, "route")
    rules_known = bool(routed)
    uses_known = rules_known and all(isinstance(rule, Table) and at(rule, "use") is not None for rule in routed)
    named: dict[str, int] = {}
    for test in items_at(root, "tests"):
        if not isinstance(test, Table):
            continue
        name = text_at(test, "name")
        if name is not None and name in named:
            report.error(place_of(test, ("name",)), f"another test has this name, on line {named[name]}")
        if name is not None:
            named.setdefault(name, place_of(test, ("name",)).line)
        request = at(test, "request")
        meant = {"request", "facts"} & {*strange_keys(test, TestShape).values()}
        if (request is None) == (at(test, "facts") is None) and not meant:
            report.error(test.place, "a test has either a `request` or `facts`; give one of them")
        if isinstance(request, Table):
            _check_request(request, report)
        _check_expectation(test, rules if rules_known else None, names, report)
        if uses_known:
            _check_used(test, root, names, report)
        for model, place in texts_at(test, "given", "absent"):
            check_name(model, names.models, "model", place, report)
        for account, place in texts_at(test, "given", "account"):
            check_name(account, names.accounts, "account", place, report)


def _check_expectation(test: Table, rules: frozenset[str] | None, names: Names, report: Report) -> None:
    expect = at(test, "expect")
    if not isinstance(expect, Table):
        return
    if not expect.entries:
        report.error(key_place(test, ("expect",)), "`expect` says nothing; give a rule, use, cost_usd or refused")
    for rule, place in texts_at(expect, "rule"):
        if rules is not None and rule not in rules:
            report.error(place, f'unknown rule "{rule[:60]}"{did_you_mean(rule, sorted(rules))}')
    for model, place in texts_at(expect, "use"):
        check_name(model, names.models, "model", place, report)
    for key in ("cost_usd", "max_output_tokens"):
        bounds = at(expect, key)
        if isinstance(bounds, Table) and not bounds.entries:
            report.error(key_place(expect, (key,)), f"`{key}` has no bound; give a number, or lte, gte and the like")
    if at(expect, "refused") is not None:
        for key in ("use", "cost_usd", "max_output_tokens"):
            if entry := entries_at(expect).get(key):
                report.error(entry.place, f"a refused request has no `{key}`; expect one or the other")


def _check_used(test: Table, root: Table, names: Names, report: Report) -> None:
    """Report a model that this task never uses, unless the test's request names it, as callers may."""
    rules = items_at(root, "route")
    paths = (("use",), ("verify", "escalate_to"), ("experiment", "canary", "model"))
    used = {model for rule in rules for path in paths for model, _ in texts_at(rule, *path)}
    models = names.models or frozenset()
    if not used <= models or text_at(test, "request", "model") in models:
        return
    for model, place in texts_at(test, "expect", "use"):
        if model in models and model not in used:
            report.error(place, f'no rule uses the model "{model[:60]}"{did_you_mean(model, sorted(used))}')


def _check_request(request: Table, report: Report) -> None:
    try:
        ChatBody(_body(request))
    except InvalidRequest as error:
        report.error(place_of(request, _path(error.param or "")), f"not a request: {error.message}")


def _path(param: str) -> Path:
    """Return the steps of a place like `messages[0].content`."""
    steps = (step.groups() for step in _STEP.finditer(param))
    return tuple(int(index) if index else name for index, name in steps)


def _body(request: Node) -> bytes:
    plain = request.plain()
    members = plain if isinstance(plain, dict) else {}
    return json.dumps({"model": AUTO, **members}, default=_as_float, ensure_ascii=False).encode()


def _as_float(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    said = f"{type(value).__name__} is not of YAML"
    raise TypeError(said)


def read_tests(root: Table, shape: TaskFile, file: str) -> tuple[PolicyTest, ...]:
    """Return the tests of a file that has no fault."""
    return tuple(
        PolicyTest(
            name=test.name,
            task=shape.task,
            file=file,
            place=node.place,
            expect=_expected(test.expect),
            request=_body(request) if isinstance(request := at(node, "request"), Table) else None,
            request_file=test.request if isinstance(test.request, str) else None,
            facts=_facts(test.facts, shape.expected_output_tokens) if test.facts else None,
            given=_given(test.given),
        )
        for test, node in zip(shape.tests, items_at(root, "tests"), strict=True)
    )


def _expected(shape: ExpectShape) -> Expected:
    return Expected(
        rule=shape.rule,
        use=None if shape.use is None else tuple(shape.use),
        cost_usd=_bounds(shape.cost_usd),
        max_output_tokens=_bounds(shape.max_output_tokens),
        refused=shape.refused,
    )


def _bounds(shape: BoundsShape | None) -> Bounds | None:
    return None if shape is None else Bounds(shape.eq, shape.gt, shape.gte, shape.lt, shape.lte)


def _facts(shape: FactsShape, expected_output_tokens: int) -> Facts:
    return Facts(
        input_tokens=shape.input_tokens,
        messages=shape.messages,
        n=shape.n,
        max_output_tokens=shape.max_output_tokens,
        expected_output_tokens=shape.expected_output_tokens or expected_output_tokens,
        has=frozenset(shape.has),
        stream=shape.stream,
        language=shape.language,
        difficulty=_float(shape.difficulty),
        metadata=MappingProxyType({name: _plain(value) for name, value in shape.metadata.items()}),
        text=shape.text,
    )


def _given(shape: GivenShape) -> Given:
    return Given(
        budget_used_pct=float(shape.budget_used_pct),
        budget_remaining_usd=_float(shape.budget_remaining_usd),
        hour=shape.hour,
        weekday=shape.weekday,
        account=shape.account,
        language=shape.language,
        difficulty=_float(shape.difficulty),
        headers=MappingProxyType({name.lower(): value for name, value in shape.headers.items()}),
        absent=frozenset(shape.absent or ()),
    )


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return float(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
    return value
