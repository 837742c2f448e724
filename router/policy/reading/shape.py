"""Check a document against its shape and put every fault in its place, in our words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from types import UnionType
from typing import Annotated, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from router.policy.fault import Report, did_you_mean, nearest, shown
from router.policy.reading.document import (
    Items,
    Leaf,
    Node,
    Path,
    Step,
    Table,
    entries_at,
    is_empty,
    key_place,
    place_of,
)
from router.policy.schema.kinds import DIGEST, HEADER, MODEL_NAME, NAME, OWN_CHECK, STICKY, TARGET, Shape

ShapeT = TypeVar("ShapeT", bound=Shape)

SECRET_KEYS = frozenset(("api_key", "keys", "base_url"))
"""What stands under these may be a secret, put there by mistake; no message quotes it."""

_KEY_MARK = "[key]"
"""What pydantic adds to the path of a mapping's key that is at fault."""


def read_shape(root: Table, shape: type[ShapeT], report: Report) -> ShapeT | None:
    """Return the file as its shape, or None with every fault in `report`."""
    plain = _without_empty(root, (), report)
    try:
        return shape.model_validate(plain)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _report_detail(root, shape, detail, report)
        return None


def free_form(path: Path) -> bool:
    """Say whether anything may stand at `path`: a test's request, metadata, or a JSON Schema."""
    if path[:1] == ("route",) and path[2:4] == ("verify", "json_schema"):
        return True
    return path[:1] == ("tests",) and (path[2:3] == ("request",) or path[2:4] == ("facts", "metadata"))


def strange_keys(node: Node | None, shape: type[Shape]) -> Mapping[str, str | None]:
    """Return the keys of a mapping that its shape lacks, and the key that each was likely meant to be.

    For checks that would otherwise tell a second fault: that what is only misspelt is missing.
    """
    return _meant(entries_at(node), _keys_at(shape, ()))


def _meant(written: Iterable[str], known: Collection[str]) -> Mapping[str, str | None]:
    return {key: nearest(key, known) for key in written if key not in known}


def _without_empty(node: Node, path: Path, report: Report) -> object:
    """Return the plain value without the keys and items that have none, each of which is reported."""
    if isinstance(node, Leaf) or free_form(path):
        return node.plain()
    if isinstance(node, Items):
        for item in node.items:
            if is_empty(item):
                report.error(item.place, "an empty item; give a value, or leave it out")
        return [_without_empty(item, (*path, index), report) for index, item in enumerate(node.items)]
    plain: dict[str, object] = {}
    for key, entry in node.entries.items():
        below = (*path, key)
        if is_empty(entry.value) and not free_form(below):
            report.error(entry.place, f'"{key[:60]}" has no value; give one, or leave the key out')
        else:
            plain[key] = _without_empty(entry.value, below, report)
    return plain


def _report_detail(root: Table, shape: type[Shape], detail: ErrorDetails, report: Report) -> None:
    path: Path = tuple(detail["loc"])
    if detail["type"] == "missing":
        written = entries_at(root, *path[:-1])
        meant = _meant(written, _keys_at(shape, path[:-1])).values()
        if path[-1] not in written and path[-1] not in meant:
            report.error(place_of(root, path), _missing(path))
        return
    if detail["type"] == "extra_forbidden":
        report.error(key_place(root, path), _unknown_key(shape, path))
        return
    if path[-1:] == (_KEY_MARK,):
        report.error(key_place(root, path[:-1]), f'"{str(path[-2])[:60]}" {_named_wrongly(detail)}')
        return
    place = place_of(root, path)
    if report.knows(place):
        return
    where = f"`{path[-1]}` " if path and isinstance(path[-1], str) else ""
    report.error(place, where + _what(detail, secret=not SECRET_KEYS.isdisjoint(path)))


def _missing(path: Path) -> str:
    extra = ", so write `version: 1`" if path == ("version",) else ""
    return f'"{path[-1]}" is missing here{extra}'


def _unknown_key(shape: type[Shape], path: Path) -> str:
    known = sorted(_keys_at(shape, path[:-1]))
    return f'unknown key "{str(path[-1])[:60]}"{did_you_mean(str(path[-1]), known)}'


def _keys_at(annotation: object, path: Path) -> set[str]:
    """Return the keys that a mapping at `path` may have."""
    found: list[object] = [annotation]
    for step in path:
        found = [below for above in found for below in _below(above, step)]
    return {
        field.alias or name for kind in found for model in _models(kind) for name, field in model.model_fields.items()
    }


def _below(annotation: object, step: Step) -> Iterator[object]:
    for kind in _alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                if step == (field.alias or name):
                    yield field.annotation
        elif get_origin(kind) in (list, dict):
            yield get_args(kind)[-1]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    for kind in _alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind


def _alternatives(annotation: object) -> Iterator[object]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for alternative in get_args(annotation):
            yield from _alternatives(alternative)
    else:
        yield annotation


_NAME_RULE = "must be letters, digits, dots, dashes and underscores, and begin with a letter or digit"
_PATTERNS = {
    NAME: f"{_NAME_RULE} (at most 64)",
    MODEL_NAME: f"{_NAME_RULE}; / and @ may follow",
    TARGET: "must be provider/model, like openai/gpt-4o-mini",
    DIGEST: 'must be "sha256:" and 64 hex digits, as `farthing keys new` prints it; never a key itself',
    HEADER: "is no header's name",
    STICKY: "must be conversation, account or header:NAME",
    OWN_CHECK: "must be module:function, like checks:is_an_address",
}


def _named_wrongly(detail: ErrorDetails) -> str:
    return _PATTERNS.get(str(detail.get("ctx", {}).get("pattern", "")), "can't be a name here")


def _what(detail: ErrorDetails, *, secret: bool) -> str:
    """Say in our words what is wrong with a value; a secret is never quoted."""
    kind, limits = detail["type"], detail.get("ctx", {})
    if kind == "farthing":
        return detail["msg"]
    must = _MUST.get(kind)
    if must is None:
        must = f"is wrong: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
    for name, limit in limits.items():
        must = must.replace(f"<{name}>", _limit(limit))
    if kind == "string_pattern_mismatch":
        must = _PATTERNS.get(str(limits.get("pattern", "")), "has the wrong form")
    if kind in _SAY_ENOUGH or secret:
        return must
    hint = ""
    if kind == "literal_error":
        words = str(limits.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        hint = did_you_mean(str(detail["input"]), words).split(" (")[0]
    return f"{must}, not {shown(detail['input'])}{hint}"


_MUST = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "literal_error": "must be <expected>",
    "greater_than": "must be more than <gt>",
    "greater_than_equal": "must be at least <ge>",
    "less_than": "must be less than <lt>",
    "less_than_equal": "must be at most <le>",
    "string_pattern_mismatch": "has the wrong form",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_too_long": "must have at most <max_length> characters",
}
"""Pydantic's kinds of error in our words."""
_SAY_ENOUGH = frozenset(("string_too_short", "too_short", "string_too_long"))


def _limit(limit: object) -> str:
    return f"{limit:f}" if isinstance(limit, Decimal) else str(limit).replace("'", "")
