"""What a request's outcome says of its difficulty, as a label for the ledger: grades, checks and ratings.

A label says how much better the dearer of two models answers: -1 to 1. Nothing here does I/O.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, structs

from router.difficulty.lessons import Lesson
from router.difficulty.look import WrittenLook, written
from router.difficulty.scorer import Label
from router.ledger.labels import LabelRow
from router.lifecycle.grading import Graded
from router.pipeline import Answered, Plan
from router.policy.backtest.recorded import Record, read
from router.policy.backtest.replay import Player
from router.policy.compared import Compared, compared, targets_of
from router.policy.decide import Route, decide
from router.policy.learn import Learn, propensity
from router.policy.policy import PolicySet
from router.policy.target import Model
from router.values import NUSD_PER_USD

CHECKED = ("passed", "escalated", "failed")

_look_of = msgspec.json.Decoder(WrittenLook).decode


class _Facts(Struct):
    """What is read of a row's facts beside what `replay` reads."""

    look: WrittenLook | None = None
    difficulty: float | None = None


_facts_of = msgspec.json.Decoder(_Facts).decode


def of_grades(graded: Graded, at: str) -> LabelRow:
    """Return the label of two graded answers."""
    plan = graded.answered.plan
    return LabelRow(
        task=plan.policy.task,
        at=at,
        request_id=graded.answered.arrival.id,
        source="shadow",
        cheap=graded.cheap,
        premium=graded.premium,
        gain=graded.premium_grade - graded.cheap_grade,
        cost_usd=graded.extra_usd,
        propensity=graded.share,
        look=_look(plan),
        cheap_targets=targets_of(plan.policies.models[graded.cheap]),
        premium_targets=targets_of(plan.policies.models[graded.premium]),
    )


def of_check(answered: Answered, at: str) -> LabelRow | None:
    """Return the label of an answer that its rule checked; None where nothing was checked, or learns from it.

    One that failed says that its model was not enough, and one that passed that it was.
    """
    plan, outcome = answered.plan, answered.outcome
    learn, verify = plan.policy.learn, plan.decision.rule.verify
    if learn is None or plan.facts.reading is None or verify is None or verify.escalate_to is None:
        return None
    checked = next((attempt for attempt in outcome.attempts if attempt.check is not None), None)
    if checked is None or outcome.verified not in CHECKED or checked.model == verify.escalate_to:
        return None
    passed = outcome.verified == "passed"
    answer_nusd = outcome.charged_nusd - outcome.overhead_nusd
    extra_usd = (answer_nusd - checked.charge_nusd) / NUSD_PER_USD if outcome.verified == "escalated" else None
    return LabelRow(
        task=plan.policy.task,
        at=at,
        request_id=answered.arrival.id,
        source="check",
        cheap=checked.model,
        premium=verify.escalate_to,
        gain=0.0 if passed else 1.0,
        cost_usd=extra_usd,
        propensity=_propensity_now(plan, learn),
        look=_look(plan),
        cheap_targets=targets_of(plan.policies.models[checked.model]),
        premium_targets=targets_of(plan.policies.models[verify.escalate_to]),
    )


class NoLabel(ValueError):
    """A rating that teaches nothing; says why."""


def of_rating(record: Record, score: float, policies: PolicySet, at: str) -> LabelRow:
    """Return the label of a rated answer; blocks for some milliseconds.

    What a cheaper model's answer lacks is what a better one may add. The dearest model's own answer says nothing of
    what a cheaper one would have been worth.

    Raises:
        NoLabel: it teaches nothing.
    """
    policy = policies.policies.get(record.task)
    learn = policy.learn if policy else None
    if policy is None or learn is None or learn.feedback == "off":
        raise NoLabel(f"The task '{record.task}' does not learn from ratings.")
    facts = _facts_in(record)
    if facts is None or facts.look is None or facts.difficulty is None:
        raise NoLabel("The request was answered before its task learned, or by another version of Farthing.")
    names = [name for name, _ in compared(policies, policy).models]
    premium = names[-1]
    answering = policies.models.get(record.routed_model or "")
    if answering is None or not _was(answering, record):
        raise NoLabel("The model that answered is not there any more, or its name stands for another one now.")
    if answering.name not in names:
        raise NoLabel("The model that answered is none of the task's own.")
    if answering.name == premium:
        raise NoLabel("An answer of the dearest model does not tell what a cheaper one would have been worth.")
    return LabelRow(
        task=record.task,
        at=at,
        request_id=record.id,
        source="feedback",
        cheap=answering.name,
        premium=premium,
        gain=1 - score,
        cost_usd=None,
        propensity=_propensity_then(record, facts.difficulty, learn, policies),
        look=msgspec.json.encode(facts.look).decode(),
        cheap_targets=targets_of(answering),
        premium_targets=targets_of(policies.models[premium]),
    )


def lesson_of(row: LabelRow, compared: Compared) -> Lesson | None:
    """Return what a task learns from a label of the ledger; None where that is nothing."""
    if row.source == "reset":
        return Lesson(row.seq, row.request_id, row.source, None, place=row.place)
    if not compared.counts(row.source, (row.cheap, row.cheap_targets), (row.premium, row.premium_targets)):
        return None
    try:
        told = _look_of(row.look)
        look = told.look()
    except (msgspec.DecodeError, OverflowError):
        return None
    if not told.is_ours:
        return None
    label = Label(look, min(1.0, max(-1.0, row.gain)), row.cost_usd)
    is_trusted = row.source != "feedback" or compared.feedback == "trusted"
    return Lesson(row.seq, row.request_id, row.source, label, is_trusted=is_trusted, place=row.place)


def _facts_in(record: Record) -> _Facts | None:
    """Return what a row tells of what was seen of its request; None where another version wrote that otherwise."""
    try:
        return _facts_of(record.facts)
    except msgspec.DecodeError:
        return None


def _was(model: Model, record: Record) -> bool:
    """Say whether a model stands for what it did when it answered."""
    request = read(record)
    if request is None:
        return False
    asked = {attempt.target for attempt in request.attempts if attempt.model == model.name}
    return asked <= {target.name for target in model.targets}


def _look(plan: Plan) -> str:
    assert plan.facts.reading is not None, "only what was read is learned from"
    return msgspec.json.encode(written(plan.facts.reading.look)).decode()


def _propensity_now(plan: Plan, learn: Learn) -> float:
    facts = plan.facts
    if plan.pinned is not None or facts.difficulty is None:
        return 1.0

    def chosen(difficulty: float, drawn_for: float | None) -> str | None:
        fields = structs.replace(facts, difficulty=difficulty, explored_from=drawn_for)
        decision = decide(plan.policies, plan.policy, fields, purse=plan.purse)
        return decision.candidates[0].model.name if isinstance(decision, Route) else None

    return propensity(chosen, facts.difficulty, facts.explored_from, learn.explore)


def _propensity_then(record: Record, difficulty: float, learn: Learn, policies: PolicySet) -> float:
    request = read(record)
    if request is None:
        return 1.0
    player = Player(policies)

    def chosen(difficulty: float, drawn_for: float | None) -> str | None:
        facts = structs.replace(request.facts, difficulty=difficulty, explored_from=drawn_for)
        return player.play_alone(structs.replace(request, facts=facts)).first_model

    return propensity(chosen, difficulty, request.facts.explored_from, learn.explore)
