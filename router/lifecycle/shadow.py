"""Shadows: requests mirrored to a model on trial once their answers are out, whose answers nobody gets.

A shadow is a request of its own with its own holds, row (`ID.s`) and settlement: it draws on the shadow's budget of the
day and on the task's, never on its account's. Nothing of it is on a caller's path: the queue is bounded, and what does
not fit is dropped and counted. Texts are in memory only as long as it lasts.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable

import anyio
from msgspec import structs

from router.chat import ChatBody
from router.errors import BudgetError, FarthingError, RateLimited, StoreUnavailable
from router.ledger.contract import SHADOW_SUFFIX
from router.lifecycle.agreement import agreement_of
from router.lifecycle.behind import Behind
from router.pipeline import Answered, Arrival, Parts, Plan
from router.pipeline.run import SETTLE_WITHIN_S, Run
from router.policy.decide import Refusal, Route, consider
from router.policy.experiment import Experiment, Shadow, Side, Trial, is_mirrored
from router.policy.policy import Rule
from router.providers.contract import Answer, Call, Provider
from router.values import Ending, Level, Scope

INLINE_CHARS = 2_000
"""Longer answers are compared in a thread, for that takes more than a millisecond."""

log = logging.getLogger("farthing.experiments")


class _Mirrored(Plan, frozen=True):
    """The plan of a shadow: where there is no money for it, it goes nowhere else."""

    def within(self, level: Level, now_s: float) -> Plan:
        decision = self.decision
        refusal = Refusal(
            decision.task,
            decision.rule,
            decision.revision,
            "budget_exceeded",
            f"{level.scope} has ${level.left_nusd / 1e9} left.",
            decision.considered,
            decision.purse,
        )
        return structs.replace(self, decision=refusal)


class Mirror:
    """Takes answered requests by `offer`, and asks the models on trial in `work`."""

    def __init__(self, parts: Parts, dropped: Callable[[str, str], None]) -> None:
        """`dropped` is told of every request that was to be mirrored and was not: the experiment's name, and why."""
        self._parts = parts
        self._dropped = dropped
        self._behind = Behind(self._serve)
        self.work = self._behind.work

    def offer(self, answered: Answered) -> None:
        """Take a request whose answer is complete; never waits, and keeps only those to be mirrored."""
        experiment = answered.plan.decision.rule.experiment
        if experiment is None or experiment.shadow is None or not is_mirrored(experiment, answered.arrival.id):
            return
        if answered.outcome.routed_model == experiment.shadow.model:
            return
        if not self._behind.take(answered):
            self._dropped(experiment.name, "queue_full")

    async def _serve(self, answered: Answered) -> None:
        experiment = answered.plan.decision.rule.experiment
        assert experiment is not None, "it was offered for its experiment"
        try:
            await self._mirror(answered, experiment)
        except Exception:
            self._dropped(experiment.name, "bug")
            log.exception("The shadow of request %s failed inside Farthing; this is a bug.", answered.arrival.id)

    async def _mirror(self, answered: Answered, experiment: Experiment) -> None:
        """Ask the model on trial what was asked, and record what came of it."""
        shadow = experiment.shadow
        assert shadow is not None, "it was offered for its shadow"
        if answered.committed is not None:
            await answered.committed.wait()
        plan = _plan(answered.plan, experiment, shadow)
        if plan is None:
            self._dropped(experiment.name, "unfit")
            return
        run = Run(self._parts, mirrored(answered.arrival, self._parts.clock()), plan)
        try:
            answer, leg = await run.first_answer(await run.hold_first(), whole)
            await run.ended(leg, "answered", answer.usage, answer.texts, reported_model=answer.reported_model)
            run.record.notes["agreement"] = await compared(answered.text, answer.text)
            await run.close(Ending.SHADOW)
        except FarthingError as error:
            if run.record.attempts:
                await run.close(Ending.SHADOW, error=error)
            else:
                self._dropped(experiment.name, reason_of(error))
        except BaseException:
            with anyio.move_on_after(SETTLE_WITHIN_S, shield=True):
                await run.close(Ending.SHADOW)
            raise


def mirrored(arrival: Arrival, now_s: float, suffix: str = SHADOW_SUFFIX) -> Arrival:
    """Return a request as it is asked again behind its answer: whole, now, and on nobody's account."""
    body = arrival.body
    if body.chat.stream:
        body = ChatBody(body.rewritten({"stream": None, "stream_options": None}))
    return structs.replace(
        arrival,
        id=arrival.id + suffix,
        at_s=now_s,
        started=time.perf_counter(),
        body=body,
        account=None,
    )


def shadow_scope(experiment: Experiment, shadow: Shadow) -> Scope:
    """Return the budget that bounds a shadow's day."""
    return Scope("shadow", experiment.name, "day", shadow.per_day_nusd, on_exceeded="reject")


def _plan(plan: Plan, experiment: Experiment, shadow: Shadow) -> Plan | None:
    """Return where a shadow goes; None where its model can't take the request, or not within a request's budget."""
    trial = Trial(experiment, Side.SHADOW)
    return mirrored_plan(plan, shadow.model, shadow_scope(experiment, shadow), plan.decision.rule, trial)


def mirrored_plan(plan: Plan, model: str, scope: Scope, rule: Rule, trial: Trial | None = None) -> Plan | None:
    """Return a plan that asks `model` what was asked, on the money of `scope`; None where it can't take that."""
    candidate = consider(plan.policies.models[model], plan.policy, plan.facts, plan.purse)
    if not candidate.fits:
        return None
    route = Route(
        task=plan.decision.task,
        rule=rule,
        revision=plan.decision.revision,
        candidates=(candidate,),
        considered=(candidate,),
        purse=plan.purse,
        trial=trial,
    )
    fields = {name: getattr(plan, name) for name in plan.__struct_fields__}
    return _Mirrored(**(fields | {"scopes": _scopes(plan.scopes, scope), "decision": route}))


@functools.lru_cache(maxsize=1024)
def _scopes(scopes: tuple[Scope, ...], own: Scope) -> tuple[Scope, ...]:
    """Return the budgets that a shadow draws on: its own, and its request's but for the account's."""
    return (own, *(scope for scope in scopes if scope.kind != "account"))


async def compared(given: str, shadows: str) -> float:
    if len(given) + len(shadows) <= INLINE_CHARS:
        return agreement_of(given, shadows)
    return await asyncio.to_thread(agreement_of, given, shadows)


async def whole(lane: Provider, call: Call) -> Answer:
    return await lane.whole(call)


def reason_of(error: FarthingError) -> str:
    """Return why a shadow was not called, in one of few words."""
    match error:
        case BudgetError():
            return "over_budget"
        case RateLimited():
            return "rate_limited"
        case StoreUnavailable():
            return "store_unavailable"
        case _:
            return "refused"
