"""One request from arrival to settlement: the only place that orders the steps.

Whatever happens on the way (an answer, a refusal, a failure, a caller who hangs up), a request becomes exactly one
outcome, which ledger, metrics and log all read.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import anyio
from msgspec import structs

from router.errors import FarthingError, StoreUnavailable
from router.pipeline.cascade import Cascade
from router.pipeline.held_back import CheckedStream, read_all
from router.pipeline.holds import amount_held_nusd
from router.pipeline.parts import Answered, Parts
from router.pipeline.plan import Arrival, Plan, Purpose, plan_for
from router.pipeline.rates import foreseen_rates
from router.pipeline.relay import StreamedAnswer
from router.pipeline.run import SETTLE_WITHIN_S, Run
from router.policy.decide import Candidate, Route
from router.policy.said import said_in
from router.policy.verify import Verify
from router.providers.contract import Answer, Call, Provider
from router.values import Ending, Outcome

__all__ = ["Answered", "Arrival", "CheckedStream", "Parts", "Pipeline", "Plan", "StreamedAnswer", "WholeAnswer"]


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """A whole answer and what became of its request."""

    body: bytes
    outcome: Outcome


class Pipeline:
    """Carries requests; holds no state beside its parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def plan(self, arrival: Arrival) -> Plan:
        """Say what a call would come to now, by a look at budgets and rates; nothing is held, called or written.

        Raises:
            RequestError: the task or the model is unknown, or not allowed.
            StoreUnavailable: the ledger or the budgets could not take the call on now.
        """
        parts = self._parts
        plan = await self._plan(arrival, "explain")
        if why := parts.ledger.not_ready:
            raise StoreUnavailable(why)
        if not isinstance(plan.decision, Route):
            with suppress(StoreUnavailable):  # The call is refused without a look at its budgets.
                plan = plan.seeing(await parts.budgets.peek(plan.scopes))
            return plan
        levels = await parts.budgets.peek(plan.scopes)
        plan = plan.seeing(levels)

        def amount_nusd(candidate: Candidate) -> int:
            return amount_held_nusd(parts, plan.policy, candidate, plan.facts)

        plan = plan.foreseen(levels, amount_nusd, parts.clock(), parts.breakers.well_first)
        if not isinstance(plan.decision, Route):
            return plan
        decision = await foreseen_rates(plan.decision, parts.budgets, arrival.account, plan.facts)
        return structs.replace(plan, decision=decision)

    async def _plan(self, arrival: Arrival, purpose: Purpose) -> Plan:
        parts = self._parts
        policies = arrival.policies or parts.policies()
        return await plan_for(
            arrival,
            policies,
            parts.counter,
            parts.budgets,
            parts.gauge,
            parts.warm_at,
            parts.pacing,
            purpose=purpose,
        )

    async def whole(self, arrival: Arrival) -> WholeAnswer:
        """Answer a request whole; its held row is committed by then.

        Raises:
            FarthingError: it was refused, or every candidate failed; the outcome is recorded by then.
        """
        run = Run(self._parts, arrival, await self._planned(arrival))
        try:
            route = await run.hold_first()
            if (verify := route.rule.verify) is not None:
                answer, leg = await Cascade(self._parts, run, route, verify, _whole).answer()
            else:
                answer, leg = await run.first_answer(route, _whole)
                run.first_token(leg, answer.first_byte_s)
                await run.ended(leg, "answered", answer.usage, answer.texts, reported_model=answer.reported_model)
            outcome = await run.close(Ending.ANSWERED, leg=leg, said=partial(said_in, answer.body))
            await run.committed()
        except BaseException as error:
            await _close(run, error)
            raise
        return WholeAnswer(answer.body, outcome)

    async def stream(self, arrival: Arrival) -> StreamedAnswer | CheckedStream:
        """Begin to answer a request as a stream; its first events are there when this returns.

        Where its rule holds streams back until they are checked, all of its events are.

        Whoever gets the answer calls its `aclose` in the end, whatever happens.

        Raises:
            FarthingError: as `whole`.
        """
        run = Run(self._parts, arrival, await self._planned(arrival))
        try:
            route = await run.hold_first()
            if (verify := route.rule.verify) is not None:
                if verify.buffer:
                    return await self._held_back(run, route, verify)
                run.record.verified = "unchecked"
            stream, leg = await run.first_answer(route, lambda lane, call: lane.stream(call))
        except BaseException as error:
            await _close(run, error)
            raise
        return StreamedAnswer(run, leg, stream, self._parts.counter)

    async def _planned(self, arrival: Arrival) -> Plan:
        """Plan a request that is to be served, and count it among its task's traffic."""
        plan = await self._plan(arrival, "serve")
        gauge, pacing, task, facts = self._parts.gauge, self._parts.pacing, plan.policy.task, plan.facts
        if gauge and facts.reading:
            gauge.seen(task, facts.reading)
            if plan.decision.rule.premium_share is not None:
                gauge.seen_in(task, plan.decision.rule.name, facts.reading, plan.policy.unsure)
        if pacing and plan.policy.paces:
            pacing.seen(task, facts.pace, arrival.at_s)
        return plan

    async def _held_back(self, run: Run, route: Route, verify: Verify) -> CheckedStream:
        call = partial(read_all, run, self._parts.counter)
        answer, leg = await Cascade(self._parts, run, route, verify, call).answer()
        outcome = await run.close(Ending.CUT if answer.cut else Ending.ANSWERED, leg=leg, said=answer.said)
        await run.committed()
        return CheckedStream(run, leg, answer, outcome)


async def _close(run: Run, error: BaseException) -> None:
    """Settle what a request that `error` ends has held and used, whoever's fault it is."""
    if isinstance(error, asyncio.CancelledError):
        with anyio.move_on_after(SETTLE_WITHIN_S, shield=True):
            await run.close(Ending.CANCELLED)
    elif isinstance(error, FarthingError):
        await run.close(Ending.FAILED if run.record.attempts else Ending.REFUSED, error=error)
    else:
        await run.close(Ending.FAILED)


async def _whole(lane: Provider, call: Call) -> Answer:
    return await lane.whole(call)
