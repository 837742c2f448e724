"""A rule's `verify` → its checks. One's own functions are found, and schemas compiled, at load."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, cast

from router.policy.condition import Condition
from router.policy.fault import Report
from router.policy.json_schema import BadSchema, Schema
from router.policy.pattern import BadPattern, Pattern
from router.policy.reading.document import Leaf, Node, Table, at, entries_at, key_place, place_of, text_at, texts_at
from router.policy.reading.logic import streamed
from router.policy.reading.names import Names, check_name
from router.policy.schema.checks import VerifyShape
from router.policy.verify import Agree, Judge, OwnCheck, Verify

_NOT_CHECKS = ("escalate_to", "buffer")


class NoSuchFunction(ValueError):
    """`python:` names what can't be imported or called, or can't tell answers apart; the message says which and why."""


def check_verify(rule: Node, names: Names, report: Report) -> None:
    """Report what a rule's `verify` names and can't mean."""
    verify = at(rule, "verify")
    if not isinstance(verify, Table):
        return
    for path in (("escalate_to",), ("agree", "with"), ("judge", "model")):
        for model, place in texts_at(verify, *path):
            check_name(model, names.models, "model", place, report)
    if used := {model for model, _ in texts_at(rule, "use")}:
        for model, place in texts_at(verify, "escalate_to"):
            if used == {model}:
                report.warning(place, f"'{model}' is what this rule asks anyway, so it is never escalated to")
    if not _checks_anything(verify):
        report.error(key_place(rule, ("verify",)), "`verify` checks nothing; say `json: true`, or leave it out")
    _check_parts(verify, report)


def check_streams(rule: Node, condition: Condition, report: Report) -> None:
    """Report streams that a rule's `verify` would let out unchecked; `condition` is the rule's."""
    verify = at(rule, "verify")
    if not isinstance(verify, Table) or not _checks_anything(verify):
        return
    own_place = key_place(rule, ("verify",))
    takes = streamed(condition)
    if _buffers(verify) is not True and takes is True:
        report.error(
            own_place, "this rule is for streams, and they pass unchecked; say `buffer: true` to hold them back"
        )
    elif _buffers(verify) is None and takes is None:
        report.warning(
            own_place,
            "streams pass this unchecked; say `buffer: true` to hold them back until they have passed, or "
            "`buffer: false` to let them pass",
        )


def verify_of(shape: VerifyShape | None) -> Verify | None:
    """Compile the checks, whose faults have been reported by `check_verify`."""
    if shape is None:
        return None
    given = shape.json_schema
    return Verify(
        json=shape.json_,
        json_schema=given if isinstance(given, bool) else Schema(given),
        regex=Pattern(shape.regex) if shape.regex else None,
        min_chars=shape.min_chars or 0,
        not_refusal=shape.not_refusal,
        not_truncated=shape.not_truncated,
        tool_calls_valid=shape.tool_calls_valid,
        logprob_gte=float(shape.logprob.gte) if shape.logprob else None,
        own=own_check(shape.python) if shape.python else None,
        agree=Agree(shape.agree.with_, shape.agree.by) if shape.agree else None,
        judge=Judge(shape.judge.model, shape.judge.question, float(shape.judge.gte)) if shape.judge else None,
        escalate_to=shape.escalate_to,
        buffer=shape.buffer,
    )


def own_check(name: str) -> OwnCheck:
    """Find `module:function`; importing a module runs it.

    Raises:
        NoSuchFunction: there is none, or none that takes a request and an answer and says yes or no.
    """
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for step in path.split("."):
            found = getattr(found, step)
    except (Exception, SystemExit) as error:  # a module that is being imported may raise anything, and end the program
        said = f"can't be imported: {type(error).__name__}: {str(error)[:100]}; put its folder on PYTHONPATH"
        raise NoSuchFunction(f"{name} {said}") from None
    if why := _why_not(found):
        raise NoSuchFunction(f"{name} {why}")
    return cast("OwnCheck", found)


def _why_not(found: object) -> str | None:
    """Say why something can't be a check, as far as that is seen without a call; None where it can."""
    if not callable(found):
        return "is no function"
    if isinstance(found, type):
        if not any(hasattr(found, name) for name in ("__bool__", "__len__", "__await__")):
            said = "is a class without `__bool__`: each of it counts as true, so that every answer would pass"
            return f"{said}; name a function"
    elif any(map(_yields, (found, type(found).__call__))):
        said = "is a generator: what it returns counts as true, so that every answer would pass"
        return f"{said}; `return` True or False"
    try:
        inspect.signature(found, follow_wrapped=False).bind({}, {})  # a decorator may bring what its function takes
    except TypeError:
        return "can't be called with a request and an answer: it must take two arguments"
    except ValueError:  # written in another language, it may not tell what it takes
        pass
    return None


def _yields(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _check_parts(verify: Table, report: Report) -> None:
    if regex := text_at(verify, "regex"):
        try:
            Pattern(regex)
        except BadPattern as error:
            report.error(place_of(verify, ("regex",)), str(error))
    if isinstance(schema := at(verify, "json_schema"), Table):
        try:
            said = Schema(schema.plain()).dead_end()
        except BadSchema as error:
            report.error(place_of(verify, ("json_schema",)), f"this is no JSON Schema: {error}")
        else:
            if said:
                report.error(place_of(verify, ("json_schema",)), f"no answer can be held against this schema: {said}")
    least = at(verify, "judge", "gte")
    if isinstance(least, Leaf) and least.value == 0 and not isinstance(least.value, bool):
        report.warning(least.place, "every grade is 0 or more, so the judge is paid and every answer passes")
    name, place = text_at(verify, "python"), place_of(verify, ("python",))
    if name and ":" in name and not report.knows(place):
        try:
            own_check(name)
        except NoSuchFunction as error:
            report.error(place, str(error))


def _checks_anything(verify: Table) -> bool:
    return any(key not in _NOT_CHECKS and not _is_off(entry.value) for key, entry in entries_at(verify).items())


def _is_off(node: Node) -> bool:
    return isinstance(node, Leaf) and (node.value is False or node.value is None)


def _buffers(verify: Table) -> bool | None:
    given = at(verify, "buffer")
    return given.value if isinstance(given, Leaf) and isinstance(given.value, bool) else None
