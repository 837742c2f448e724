"""Second answers for learning: a share of a task's requests is asked of another model too, and both are graded.

It happens behind the answer, under a budget of the day of its own, in a row of its own (`ID.l.s`, rule `learning`).
What can't be graded teaches nothing. Texts are in memory only as long as it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio
from msgspec import structs

from router.budgets.contract import Held, Hold
from router.errors import FarthingError, StoreUnavailable
from router.ledger.contract import SHADOW_SUFFIX
from router.lifecycle.behind import Behind
from router.lifecycle.shadow import compared, mirrored, mirrored_plan, reason_of, whole
from router.pipeline import Answered, Parts
from router.pipeline.judging import grade_of, judging
from router.pipeline.run import SETTLE_WITHIN_S, Run
from router.policy.beside import GRADES
from router.policy.closed_answer import By, call_the_same, closed_answer, say_the_same
from router.policy.compared import by_price, counterpart
from router.policy.decide import Route, consider
from router.policy.experiment import point_of
from router.policy.learn import LEARNING, LearnShadow
from router.policy.policy import Policy, Rule
from router.policy.said import Said, Unreadable, said_in
from router.policy.verify import Judge, Verify, failing
from router.providers.contract import Answer
from router.values import NUSD_PER_USD, Ending, Scope

SECOND_SUFFIX = ".l" + SHADOW_SUFFIX
"""What the id of a second answer ends in; the rest is its request's."""

NOT_LOOKING: Mapping[str, Any] = {"logprob_gte": None, "own": None, "agree": None, "judge": None}
"""Fields of `Verify` that ask for more than the answer's text."""
BESIDE_CHECKS: Mapping[str, Any] = {"not_truncated": False, "escalate_to": None, "buffer": None}
"""Those that no answer which is whole can fail."""

log = logging.getLogger("farthing.learning")


@dataclass(frozen=True, slots=True)
class Graded:
    """A request whose answers by two models were graded, each from 0 to 1."""

    answered: Answered
    cheap: str
    premium: str
    cheap_grade: float
    premium_grade: float
    extra_usd: float
    """How much more the premium model's answer cost."""
    share: float
    """How likely it was that this request was asked twice."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """One of the two, as it is graded."""

    model: str
    said: Said
    nusd: int


class Grader:
    """Takes answered requests by `offer`, and asks and grades in `work`."""

    def __init__(self, parts: Parts, graded: Callable[[Graded], None], dropped: Callable[[str, str], None]) -> None:
        """`graded` is told what came of each; `dropped` of each that was to be graded and was not, and why."""
        self._parts = parts
        self._graded = graded
        self._dropped = dropped
        self._behind = Behind(self._serve)
        self.work = self._behind.work

    def offer(self, answered: Answered) -> None:
        """Take a request whose answer is complete; never waits, and keeps only the share that is graded."""
        plan, routed = answered.plan, answered.outcome.routed_model
        learn = plan.policy.learn
        if learn is None or learn.shadow is None or plan.facts.reading is None or routed is None:
            return
        shadow = learn.shadow
        if point_of(f"{plan.policy.task}:{shadow.model}:learn", answered.arrival.id) >= shadow.share:
            return
        if shadow.grade == "verify" and not _grades_by(plan.decision.rule.verify):
            return
        unheard = answered.said is None if answered.arrival.body.chat.offers_tools else not answered.text
        if unheard or plan.facts.n > 1:
            # One text stands for all choices.
            self._dropped(_name(plan.policy), "ungraded")
            return
        if not self._behind.take(answered):
            self._dropped(_name(plan.policy), "queue_full")

    async def _serve(self, answered: Answered) -> None:
        policy = answered.plan.policy
        assert policy.learn is not None, "it was offered for its learning"
        assert policy.learn.shadow is not None, "it was offered for its shadow"
        try:
            await self._ask(answered, policy.learn.shadow)
        except Exception:
            self._dropped(_name(policy), "bug")
            log.exception("The second answer of %s failed inside Farthing; this is a bug.", answered.arrival.id)

    async def _ask(self, answered: Answered, shadow: LearnShadow) -> None:
        """Ask the other model what was asked, grade both answers, and write down what that cost."""
        if answered.committed is not None:
            await answered.committed.wait()
        policy, policies = answered.plan.policy, answered.plan.policies
        routed = answered.outcome.routed_model
        assert routed is not None, "it was offered with an answer"
        other = shadow.model if routed != shadow.model else counterpart(policies, policy, shadow.model)
        scope = learning_scope(policy, shadow)
        plan = (
            mirrored_plan(answered.plan, other, scope, Rule(name=LEARNING, use=(other,))) if other != routed else None
        )
        if plan is None:
            self._dropped(_name(policy), "unfit")
            return
        heard = await _heard(answered)
        if heard is None:
            self._dropped(_name(policy), "ungraded")
            return
        run = Run(self._parts, mirrored(answered.arrival, self._parts.clock(), SECOND_SUFFIX), plan)
        try:
            if why := await self._why_ungradable(run, answered, shadow, heard):
                self._dropped(_name(policy), why)
                return
            await self._ask_and_grade(run, answered, shadow, heard, other)
        finally:
            with anyio.move_on_after(SETTLE_WITHIN_S, shield=True):
                for number in range(GRADES):
                    await self._give_back(run, number)

    async def _ask_and_grade(self, run: Run, answered: Answered, shadow: LearnShadow, heard: Said, other: str) -> None:
        policy, policies = answered.plan.policy, answered.plan.policies
        routed = answered.outcome.routed_model
        assert routed is not None, "it was offered with an answer"
        try:
            answer, leg = await run.first_answer(await run.hold_first(), whole)
            attempt = await run.ended(leg, "answered", answer.usage, answer.texts, reported_model=answer.reported_model)
            second = _Answer(other, _told(partial(said_in, answer.body)) or Said(), attempt.charge_nusd)
            first_nusd = answered.outcome.charged_nusd - answered.outcome.overhead_nusd
            first = _Answer(routed, heard, first_nusd)
            order = by_price(policies, policy, routed, other)
            cheap, premium = sorted((first, second), key=lambda each: order.index(each.model))
            grades = await self._grades(run, answered, shadow, cheap, premium)
            if grades is not None:
                run.record.notes["grades"] = {
                    "cheap": grades[0],
                    "premium": grades[1],
                    "given": "cheap" if cheap is first else "premium",
                    "by": shadow.grade,
                }
            await run.close(Ending.SHADOW)
        except FarthingError as error:
            if run.record.attempts:
                await run.close(Ending.SHADOW, error=error)
            self._dropped(_name(policy), reason_of(error))
        except BaseException:
            with anyio.move_on_after(SETTLE_WITHIN_S, shield=True):
                await run.close(Ending.SHADOW)
            raise
        else:
            if grades is None:
                self._dropped(_name(policy), "ungraded")
                return
            extra_usd = (premium.nusd - cheap.nusd) / NUSD_PER_USD
            self._graded(Graded(answered, cheap.model, premium.model, *grades, extra_usd, shadow.share))

    async def _why_ungradable(self, run: Run, answered: Answered, shadow: LearnShadow, heard: Said) -> str | None:
        """Say, in one of few words, why no judge could grade both answers, were the second as long as is expected.

        Where one can, its money is held from now on, before any is spent on the second answer: several at once would
        else each spend what another needs to be graded.
        """
        plan = run.plan
        if shadow.judge is None or not isinstance(plan.decision, Route):
            return None
        model = plan.policies.models[shadow.judge]
        _, facts = await judging(_judge(shadow), answered.arrival.body.chat, (heard,), model, self._parts.counter)
        longer = structs.replace(facts, input_tokens=facts.input_tokens + plan.facts.expected_output_tokens)
        grades = [consider(model, plan.policy, each, None) for each in (facts, longer)]
        if not all(grade.fits for grade in grades):
            return "unfit"
        needs_nusd = plan.decision.candidates[0].estimate_nusd + sum(grade.ceiling_nusd for grade in grades)
        if plan.purse and plan.purse.nusd < needs_nusd:
            return "over_budget"
        for number, grade in enumerate(grades):
            hold = Hold(_grades_hold(run, number), plan.scopes, grade.ceiling_nusd)
            try:
                held = await self._parts.budgets.hold(hold)
            except StoreUnavailable as error:
                return reason_of(error)
            if not isinstance(held, Held):
                return "over_budget"
        return None

    async def _give_back(self, run: Run, number: int) -> None:
        """Free what was held for a grade; does nothing where nothing is."""
        await self._parts.budgets.settle(_grades_hold(run, number), 0)

    async def _grades(
        self, run: Run, answered: Answered, shadow: LearnShadow, cheap: _Answer, premium: _Answer
    ) -> tuple[float, float] | None:
        """Return both grades; None where one of them can't be told."""
        if not (_says_anything(cheap.said) and _says_anything(premium.said)):
            return None
        if shadow.grade == "agree":
            agreement = await _agreement(cheap.said, premium.said, shadow.by)
            return None if agreement is None else (agreement, 1.0)
        answers = enumerate((cheap, premium))
        grades = [await self._grade(run, answered, shadow, number, answer) for number, answer in answers]
        return (grades[0], grades[1]) if grades[0] is not None and grades[1] is not None else None

    async def _grade(
        self, run: Run, answered: Answered, shadow: LearnShadow, number: int, answer: _Answer
    ) -> float | None:
        chat = answered.arrival.body.chat
        if shadow.grade == "verify":
            verify = answered.plan.decision.rule.verify
            assert verify is not None, "it was offered with checks"
            verdict = await asyncio.to_thread(failing, _looking(verify), (answer.said,), chat)
            return 0.0 if isinstance(verdict, str) else 1.0 if verdict is None else None
        judge = _judge(shadow)
        model = run.plan.policies.models[judge.model]
        body, facts = await judging(judge, chat, (answer.said,), model, self._parts.counter)
        # Its call holds what it needs itself, and nobody in this process comes between: a long text is counted by now.
        await self._give_back(run, number)
        said = await run.aside(model, facts, body, "judge")
        return grade_of(said.body) if isinstance(said, Answer) else None


def _judge(shadow: LearnShadow) -> Judge:
    assert shadow.judge is not None, "a judge grades"
    return Judge(shadow.judge, shadow.question, 0.0)


def _grades_hold(run: Run, number: int) -> str:
    return f"{run.arrival.id}/grade{number}"


def learning_scope(policy: Policy, shadow: LearnShadow) -> Scope:
    """Return the budget that bounds a day's second answers of a task, judges included."""
    return Scope("shadow", _name(policy), "day", shadow.per_day_nusd, on_exceeded="reject")


def _grades_by(verify: Verify | None) -> bool:
    """Say whether a rule has checks that two texts can be held against; without one every answer would pass."""
    return verify is not None and replace(verify, **NOT_LOOKING, **BESIDE_CHECKS) != Verify()


def _looking(verify: Verify) -> Verify:
    """Return the checks that look at the answer alone; how sure its tokens were is not known of both."""
    return replace(verify, **NOT_LOOKING)


async def _heard(answered: Answered) -> Said | None:
    """Return what a caller was given; None where it can't be graded."""
    if not answered.arrival.body.chat.offers_tools:
        return Said(text=answered.text, finish_reason="stop")
    assert answered.said is not None, "it was offered to be read"
    said = await asyncio.to_thread(_told, answered.said)
    return said if said and _says_anything(said) else None


def _told(read: Callable[[], tuple[Said, ...]]) -> Said | None:
    try:
        # A caller's answer may be a text whose end was not kept, and no other must be held to more.
        return next((structs.replace(said, finish_reason="stop") for said in read()), None)
    except Unreadable:
        return None


def _says_anything(said: Said) -> bool:
    """Say whether there is a text, or calls that are all of named functions."""
    return bool(said.text or said.calls) and all(call.name for call in said.calls)


async def _agreement(cheap: Said, premium: Said, by: By | None) -> float | None:
    """Return how far the cheap answer says what the premium one does; None where that one says nothing of the kind.

    Then no answer could be right.
    """
    if by is None:
        if cheap.calls or premium.calls:
            return float(await asyncio.to_thread(call_the_same, cheap, premium))
        return await compared(cheap.text or "", premium.text or "")
    if not premium.calls and closed_answer(premium.text or "", by) is None:
        return None
    return float(await asyncio.to_thread(say_the_same, cheap, premium, by))


def _name(policy: Policy) -> str:
    return f"{policy.task}/{LEARNING}"
