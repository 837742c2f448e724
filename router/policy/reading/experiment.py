"""A rule's `experiment:` → its value. What the names and the guards mean is checked here, at load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import get_args

from router.policy.experiment import HEADER, Canary, Experiment, Guard, Guards, Measure, Shadow, Sign
from router.policy.fault import Report, shown
from router.policy.reading.document import Node, Table, at, entries_at, key_place, text_at, texts_at
from router.policy.reading.names import Names, check_name
from router.policy.reading.shape import strange_keys
from router.policy.schema.rollout import CanaryShape, ExperimentShape, GuardsShape, ShadowShape
from router.policy.schema.task import RuleShape
from router.values import nusd_limit

ABORT_AFTER = 20
PROMOTE_AFTER = 200
"""How many requests a canary has served before its guards are looked at, where the file does not say."""
MEASURES: tuple[Measure, ...] = get_args(Measure)
SHARES: tuple[Measure, ...] = ("error_rate", "verify_pass_rate")
SIGNS: tuple[Sign, ...] = get_args(Sign)
ABOVE: tuple[Sign, ...] = ("gt", "gte")
TURNED: Mapping[Sign, Sign] = {"gt": "lt", "gte": "lte", "lt": "gt", "lte": "gte"}


def check_experiment(rule: Node, names: Names, report: Report) -> None:
    """Report what is wrong with a rule's experiment beyond its shape; nothing where it has none."""
    if not isinstance(at(rule, "experiment"), Table):
        return
    path = ("experiment",)
    used = [model for model, _ in texts_at(rule, "use")]
    for part in ("canary", "shadow"):
        for model, place in texts_at(rule, *path, part, "model"):
            check_name(model, names.models, "model", place, report)
            if used[:1] == [model] and not report.knows(place):
                report.error(place, f'"{model[:60]}" is what this rule uses first already; try another model')
    parts = entries_at(rule, *path)
    meant = strange_keys(at(rule, *path), ExperimentShape).values()
    if {"canary", "shadow"}.isdisjoint([*parts, *meant]):
        report.error(key_place(rule, path), "`experiment` tries nothing; give it a `canary` or a `shadow`")
    for name in ("abort_when", "promote_when"):
        if name in parts and "canary" not in parts:
            report.error(key_place(rule, (*path, name)), f"`{name}` guards a canary, and there is none")
        _check_guards(rule, name, report)
    _check_stickiness(rule, report)


def experiment_of(rule: RuleShape, task: str, name: str) -> Experiment | None:
    """Return a rule's experiment, named after the task and the rule."""
    shape = rule.experiment
    if shape is None:
        return None
    canary, shadow = _canary(shape.canary), _shadow(shape.shadow)
    abort, promote = _guards(shape.abort_when, ABORT_AFTER), _guards(shape.promote_when, PROMOTE_AFTER)
    said = f"{task}/{name} {canary} {shadow} {abort} {promote}"
    return Experiment(
        name=f"{task}/{name}",
        version=hashlib.blake2b(said.encode(), digest_size=6).hexdigest(),
        canary=canary,
        shadow=shadow,
        abort_when=abort,
        promote_when=promote,
        is_checked=rule.verify is not None,
    )


def _check_guards(rule: Node, name: str, report: Report) -> None:
    path = ("experiment", name)
    guards = entries_at(rule, *path)
    if isinstance(at(rule, *path), Table) and not any(measure in guards for measure in MEASURES):
        report.error(key_place(rule, path), f"`{name}` guards nothing; give it one of {', '.join(MEASURES)}")
    for measure in MEASURES:
        place = key_place(rule, (*path, measure))
        if isinstance(at(rule, *path, measure), Table) and not entries_at(rule, *path, measure):
            report.error(place, f"`{measure}` has no bound; give it gt, gte, lt or lte")
        for sign in SIGNS if measure in SHARES else ():
            bound = at(rule, *path, measure, sign)
            value = bound.plain() if bound else None
            if bound and isinstance(value, int | Decimal) and not 0 <= value <= 1:
                report.error(bound.place, f"`{measure}` is from 0 to 1, so {shown(value)} says nothing")
        for sign in SIGNS:
            bound = at(rule, *path, measure, sign)
            is_bad = (sign in ABOVE) != (measure == "verify_pass_rate")
            if bound and is_bad != (name == "abort_when"):
                does = "ends a canary that does well" if name == "abort_when" else "promotes a canary that does badly"
                report.warning(key_place(rule, (*path, measure, sign)), f"this {does}; did you mean `{TURNED[sign]}`?")
    if "verify_pass_rate" in guards and at(rule, "verify") is None:
        place = key_place(rule, (*path, "verify_pass_rate"))
        report.error(place, "this rule has no `verify`, so there is no such rate")


def _check_stickiness(rule: Node, report: Report) -> None:
    sticky_by = text_at(rule, "experiment", "canary", "sticky_by")
    place = key_place(rule, ("experiment", "canary", "sticky_by"))
    if sticky_by == HEADER and not report.knows(place):
        report.error(place, "name the header: `sticky_by: header:x-user-id`")


def _canary(shape: CanaryShape | None) -> Canary | None:
    if shape is None:
        return None
    sticky_by = shape.sticky_by.lower() if shape.sticky_by.startswith(HEADER) else shape.sticky_by
    return Canary(shape.model, float(shape.share), sticky_by)


def _shadow(shape: ShadowShape | None) -> Shadow | None:
    return None if shape is None else Shadow(shape.model, float(shape.share), nusd_limit(shape.budget_per_day_usd))


def _guards(shape: GuardsShape | None, after_requests: int) -> Guards | None:
    if shape is None:
        return None
    bounds = tuple(
        Guard(measure, sign, bound.normalize())
        for measure in MEASURES
        if (threshold := getattr(shape, measure)) is not None
        for sign in SIGNS
        if (bound := getattr(threshold, sign)) is not None
    )
    return Guards(bounds, shape.after_requests or after_requests)
