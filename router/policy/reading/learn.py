"""A task's `learn:` → its value. What the names and the grades mean is checked here, at load."""

from __future__ import annotations

from router.policy.fault import Report
from router.policy.learn import Learn, LearnShadow
from router.policy.reading.document import Node, Table, at, entries_at, items_at, key_place, place_of, text_at, texts_at
from router.policy.reading.names import Names, check_name
from router.policy.schema.rollout import LearnShadowShape, LearnShape
from router.policy.verify import NAMES
from router.values import nusd_limit

NOT_GRADING = ("python", "agree", "judge", "logprob", "not_truncated")
"""Checks that look at more than the texts of two answers, which is all that is kept of them."""
SHADOW = ("learn", "shadow")


def check_learn(root: Table, names: Names, report: Report) -> None:
    """Report what is wrong with a task's `learn` beyond its shape; nothing where it has none."""
    if not isinstance(at(root, *SHADOW), Table):
        return
    for path in ((*SHADOW, "model"), (*SHADOW, "judge", "model")):
        for model, place in texts_at(root, *path):
            check_name(model, names.models, "model", place, report)
    grade, place = text_at(root, *SHADOW, "grade"), place_of(root, (*SHADOW, "grade"))
    given = entries_at(root, *SHADOW)
    if grade == "judge" and "judge" not in given:
        report.error(place, "nobody grades; give it a `judge: {model: …, question: …}`")
    if grade == "verify" and not any(_checks(rule) for rule in items_at(root, "route")):
        report.error(place, "no rule has a `verify` that looks at the answer alone, so there is nothing to grade by")
    for part in ("judge", "agree"):
        if part in given and grade is not None and grade != part:
            report.error(
                key_place(root, (*SHADOW, part)), f"`{part}` is for `grade: {part}`, and this grades by {grade}"
            )
    if len(_models(root)) < 2:
        own_place = place_of(root, (*SHADOW, "model"))
        report.error(own_place, "this is the only model here, so there is nothing to compare it with")


def learn_of(shape: LearnShape | None) -> Learn | None:
    """Return what a task learns from."""
    if shape is None:
        return None
    return Learn(_shadow(shape.shadow), shape.feedback, float(shape.explore))


def _shadow(shape: LearnShadowShape | None) -> LearnShadow | None:
    if shape is None:
        return None
    return LearnShadow(
        model=shape.model,
        share=float(shape.share),
        per_day_nusd=nusd_limit(shape.budget_per_day_usd),
        grade=shape.grade,
        judge=shape.judge.model if shape.judge else None,
        question=shape.judge.question if shape.judge else "",
        by=shape.agree.by if shape.agree else None,
    )


def _checks(rule: Node) -> bool:
    checks = entries_at(rule, "verify")
    return any(name in checks for name in NAMES if name not in NOT_GRADING)


def _models(root: Table) -> set[str]:
    """Return every model that the task names."""
    paths = [("use",), ("verify", "escalate_to")]
    named = {model for rule in items_at(root, "route") for path in paths for model, _ in texts_at(rule, *path)}
    named |= {model for path in (("baseline",), (*SHADOW, "model")) for model, _ in texts_at(root, *path)}
    return named
