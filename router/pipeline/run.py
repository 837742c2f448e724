"""One request under way: its holds, its attempts, and the single outcome it ends in.

Each attempt draws on the same allowance, under a hold of its own. `close` settles whatever is still open, once,
however the request ends.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from msgspec import structs

from router.budgets.contract import Limited, Short
from router.chat import ChatBody
from router.errors import (
    BudgetExceeded,
    FarthingError,
    ProviderError,
    StoreUnavailable,
)
from router.pipeline.failure import every_failed, refused
from router.pipeline.holds import Holds
from router.pipeline.leg import Leg, body_for, used_by
from router.pipeline.parts import Answered, Commit, Parts
from router.pipeline.plan import Arrival, Plan
from router.pipeline.rates import too_fast
from router.pipeline.record import Record
from router.policy.decide import Candidate, Misfit, Refusal, Route, ask_of, consider
from router.policy.facts import Facts
from router.policy.said import Said
from router.policy.target import Deadlines, Model, Target
from router.providers.contract import Answer, AnswerEmpty, Call, Provider
from router.values import EXACT_NUSD, Attempt, Certainty, Ending, Outcome, Usage

LONGEST_WAIT_S = 10.0
"""The longest `retry-after` that is waited for; a longer one sends the request to the next candidate."""
FIRST_BACKOFF_S = 0.1
LEAST_S = 0.001
"""A deadline is never less, for 0 may be read as none."""
SETTLE_WITHIN_S = 10.0
"""How long a settlement may take once the caller is gone; the hold's expiry is the net below."""
MOST_DECISIONS = 5
"""How often it is decided anew because others took the money meanwhile."""

T = TypeVar("T")
NotAsked = Literal["time", "money", "rate", "unfit", "store"]
"""Why a model was not asked beside the answer: too little time or money was left, a limit a minute was full, it can't
take the request, or the store of budgets was away."""


class Run:
    """The state of one request, from its plan to its outcome."""

    def __init__(self, parts: Parts, arrival: Arrival, plan: Plan) -> None:
        self.arrival = arrival
        self.record = Record(arrival, plan)
        self.outcome: Outcome | None = None
        self.body = arrival.body
        """What the candidates are sent; checks may ask for more than the caller did."""
        self.heard: Callable[[], tuple[str, ...]] = tuple
        """Returns what has arrived of each choice of the present leg's answer, where it is held back here."""
        self._parts = parts
        self._open: dict[str, Leg] = {}
        """By hold: the one that is to give the answer, and what is asked beside it."""
        self._holds = Holds(parts, self.record)
        self._legs = 0
        self._unopened: str | None = None
        """The hold of a leg that is to be opened next."""
        self._candidate: Candidate | None = None
        """The one that was held for last, to give the answer."""
        self._committed: Commit | None = None
        self._texts: dict[str, Sequence[str]] = {}

    @property
    def plan(self) -> Plan:
        return self.record.plan

    @property
    def calls_are_graded(self) -> bool:
        """Whether what the answer says beside its text may be looked at behind it."""
        learn = self.plan.policy.learn
        return learn is not None and learn.shadow is not None and self.arrival.body.chat.offers_tools

    # -- before the first byte -------------------------------------------------------------------------------------

    async def first_answer(self, route: Route, call: Callable[[Provider, Call], Awaitable[T]]) -> tuple[T, Leg]:
        """Try a held route's candidates in order until one answers; return what it gave and its leg, still open.

        A target is tried again only where that can help and the deadline allows.

        Raises:
            UpstreamError: every candidate failed.
        """
        last: ProviderError | None = None
        for candidate in route.candidates:
            tried = await self._try(candidate.model, call)
            if isinstance(tried, tuple):
                return tried
            last = tried or last
            if last and not last.elsewhere:
                break
        assert last is not None, "a route's first candidate was held, so it was tried"
        raise every_failed(last, self.record.attempts)

    async def escalate(self, model: Model, call: Callable[[Provider, Call], Awaitable[T]]) -> tuple[T, Leg] | None:
        """Ask `model` as well, within what is left of the allowance; None where that does not suffice or it fails."""
        tried = await self._try(model, call)
        return tried if isinstance(tried, tuple) else None

    async def aside(
        self, model: Model, facts: Facts, body: ChatBody, reason: str, *, prompt: str | None = None
    ) -> Answer | ProviderError | NotAsked:
        """Ask `model` something beside the answer, once, or say why that can't be.

        It is charged to the same allowance under a hold of its own, and is overhead by the name of `reason`.
        """
        if self._left_s(model) <= 0:
            return "time"
        breakers = self._parts.breakers
        candidate = consider(model, self.plan.policy, facts, self._holds.purse_left())
        if not candidate.fits:
            return "money" if candidate.misfit is Misfit.MONEY else "unfit"
        try:
            hold_id = await self._holds.take(candidate, facts)
        except StoreUnavailable:
            return "store"
        if not isinstance(hold_id, str):
            return "rate" if isinstance(hold_id, Limited) else "money"
        self._record_held()
        target = breakers.in_order(model, _by_weight(model.targets))[0]
        leg = self._opened(hold_id, candidate, target, facts)
        deadlines = replace(model.deadlines, total_s=max(LEAST_S, self._left_s(model)))
        try:
            sent = body_for(leg, body, prompt)
            breakers.tries(model, leg.target)
            answer = await self._parts.lane(leg.target).whole(self._call(leg, sent, deadlines))
        except ProviderError as error:
            breakers.failed(model, leg.target, error)
            await self.failed(leg, error)
            return error
        breakers.answered(model, leg.target)
        await self.ended(leg, reason, answer.usage, answer.texts, reported_model=answer.reported_model)
        return answer

    async def _try(
        self, model: Model, call: Callable[[Provider, Call], Awaitable[T]]
    ) -> tuple[T, Leg] | ProviderError | None:
        """Return an answer and its open leg, or the last failure, or None where the money does not suffice."""
        last: ProviderError | None = None
        breakers = self._parts.breakers
        targets = breakers.in_order(model, _by_weight(model.targets))
        tries = max(model.retries + 1, len(targets))
        for number in range(tries):
            left_s = self._left_s(model)
            if (self._legs and left_s <= 0) or (leg := await self._hold(model, targets[number % len(targets)])) is None:
                return last
            deadlines = model.deadlines if not self.record.attempts else replace(model.deadlines, total_s=left_s)
            try:
                lane = self._parts.lane(leg.target)
                body = body_for(leg, self.body, self.plan.policy.prompts.get(model.name))
                breakers.tries(model, leg.target)
                answer = await call(lane, self._call(leg, body, deadlines))
            except ProviderError as error:
                breakers.failed(model, leg.target, error)
                await self.failed(leg, error, texts=self.heard())
                last = error
            else:
                breakers.answered(model, leg.target)
                return answer, leg
            elsewhere = number + 1 < len(targets) and last.elsewhere
            if number + 1 == tries or not (elsewhere or (last.retryable and await self._wait(last, number, model))):
                break
        return last

    async def hold_first(self) -> Route:
        """Hold for the first candidate, deciding anew where others took the money; write the held row.

        Raises:
            BudgetError, RequestError: no candidate fits, or the account calls too fast.
            StoreUnavailable: the ledger or the budgets can't take it on now.
        """
        if why := self._parts.ledger.not_ready:
            raise StoreUnavailable(why)
        for _ in range(MOST_DECISIONS):
            if isinstance(self.plan.decision, Refusal):
                raise refused(self.plan.decision)
            answer = await self._hold_any(self.plan.decision)
            if isinstance(answer, Route):
                return answer
            self.record.decided_anew(self.plan.within(answer.level, self._parts.clock()))
        raise BudgetExceeded("Others took what was left of the budget while this request was being decided.")

    async def _hold_any(self, route: Route) -> Route | Short:
        """Hold for the first candidate that is well and not called too fast, and return the route from there on.

        Raises:
            RateLimited: the account's own rate has no room, or no candidate's has.
        """
        limited: list[Limited] = []
        route = self._parts.breakers.well_first(route)
        for number, candidate in enumerate(route.candidates):
            answer = await self._holds.take(candidate, self.plan.facts)
            if isinstance(answer, str):
                self._hold_for(candidate, answer)
                return structs.replace(route, candidates=route.candidates[number:]) if number else route
            if isinstance(answer, Short):
                return answer
            limited.append(answer)
            if answer.rate.kind == "account":
                break
        raise too_fast(limited)

    def _hold_for(self, candidate: Candidate, hold_id: str) -> None:
        """Note that the next leg is to be of `candidate`, under this hold."""
        self._unopened, self._candidate = hold_id, candidate
        self._record_held()

    def _record_held(self) -> None:
        """Write down the most that the request may come to now, which is what a crash from here on must leave."""
        assert self._candidate is not None, "the leg that gives the answer is held first"
        held = self.record.held(self._candidate, self._holds.open_nusd)
        self._committed = self._parts.ledger.record(held)

    async def _hold(self, model: Model, target: Target) -> Leg | None:
        """Open a leg, the first under the hold that there is; None where the money left does not suffice any more."""
        if self._legs:
            candidate = consider(model, self.plan.policy, self.plan.facts, self._holds.purse_left())
            if not candidate.fits:
                return None
            try:
                hold_id = await self._holds.take(candidate, self.plan.facts)
            except StoreUnavailable:
                return None
            if not isinstance(hold_id, str):
                return None
            self._hold_for(candidate, hold_id)
        assert self._unopened is not None, "a leg is opened once, after its hold"
        assert self._candidate is not None, "and that names its candidate"
        leg = self.record.last = self._opened(self._unopened, self._candidate, target, self.plan.facts)
        self._unopened, self.heard = None, tuple
        self._legs += 1
        return leg

    def _opened(self, hold_id: str, candidate: Candidate, target: Target, facts: Facts) -> Leg:
        leg = self._open[hold_id] = Leg(
            hold_id,
            candidate,
            target,
            ask_of(facts, candidate.input_tokens),
            is_bounded=self.plan.is_bounded,
            started=time.perf_counter(),
            span_id=random.randbytes(8).hex() if self._parts.traced else None,
        )
        return leg

    def _call(self, leg: Leg, body: bytes, deadlines: Deadlines) -> Call:
        trace = self.arrival.trace
        told = trace.under(leg.span_id) if trace and leg.span_id else None
        return Call(self.arrival.id, leg.target, body, deadlines, told)

    def _left_s(self, model: Model) -> float:
        return self.arrival.started + model.deadlines.total_s - time.perf_counter()

    async def _wait(self, error: ProviderError, number: int, model: Model) -> bool:
        """Wait before another try; False where that would take too long."""
        wait_s = error.retry_after_s
        if wait_s is None:
            wait_s = FIRST_BACKOFF_S * 2**number * random.uniform(0.5, 1.0)
        if wait_s > min(LONGEST_WAIT_S, self._left_s(model)):
            return False
        self.record.waited_s += wait_s
        await asyncio.sleep(wait_s)
        return True

    # -- how a leg ends ----------------------------------------------------------------------------------------------

    async def ended(
        self,
        leg: Leg,
        reason: str,
        usage: Usage | None,
        texts: Sequence[str] = (),
        *,
        reported_model: str | None = None,
        status: int | None = 200,
    ) -> Attempt:
        """Close a leg that used something: charge it, settle its hold. `texts` is what each choice says."""
        self._texts[leg.hold_id] = texts
        used, certainty = used_by(leg, usage, texts, self._parts.counter)
        charge_nusd = min(leg.target.price.charge_nusd(used), EXACT_NUSD)
        return await self._settle(
            leg,
            Attempt(
                model=leg.model.name,
                target=leg.target.name,
                reason=reason,
                status=status,
                usage=used,
                charge_nusd=charge_nusd,
                certainty=certainty,
                duration_s=time.perf_counter() - leg.started,
                reported_model=reported_model,
                started_s=leg.started - self.arrival.started,
                span_id=leg.span_id,
            ),
        )

    async def failed(
        self, leg: Leg, error: ProviderError, usage: Usage | None = None, texts: Sequence[str] = ()
    ) -> None:
        """Close a leg that failed: charged where the provider may bill it, for what it told or we can count."""
        if isinstance(error, AnswerEmpty):
            usage = error.answer.usage
        if error.billable:
            await self.ended(leg, error.reason, usage, texts, status=error.status)
            return
        await self._settle(
            leg,
            Attempt(
                model=leg.model.name,
                target=leg.target.name,
                reason=error.reason,
                status=error.status,
                usage=None,
                charge_nusd=0,
                certainty=Certainty.REPORTED,
                duration_s=time.perf_counter() - leg.started,
                started_s=leg.started - self.arrival.started,
                span_id=leg.span_id,
            ),
        )

    async def _settle(self, leg: Leg, attempt: Attempt) -> Attempt:
        self.record.add(leg, attempt)
        del self._open[leg.hold_id]
        await self._holds.settle(leg.hold_id, attempt)
        return attempt

    @property
    def leg(self) -> Leg:
        """The leg that is to give the answer, once it is open."""
        assert self.record.last is not None, "no leg is open yet"
        return self.record.last

    def under_way(self, leg: Leg) -> bool:
        """Say whether a leg has not been closed yet."""
        return leg.hold_id in self._open

    def first_token(self, leg: Leg, first_byte_s: float) -> None:
        self.record.first_token_s = leg.started - self.arrival.started + first_byte_s

    # -- how the request ends ----------------------------------------------------------------------------------------

    async def close(
        self,
        ending: Ending,
        *,
        leg: Leg | None = None,
        said: Callable[[], tuple[Said, ...]] | None = None,
        error: FarthingError | None = None,
    ) -> Outcome:
        """End the request: settle what is open, write the outcome down, tell the observers. A second call does nothing.

        `leg` is the one that gave the answer, which `said` reads; what the others cost bought none.
        """
        if self.outcome is not None:
            return self.outcome
        for open_leg in tuple(self._open.values()):
            texts = self.heard() if open_leg is self.record.last else ()
            await self.ended(open_leg, "cancelled", None, texts, status=200 if any(texts) else None)
        await self._holds.release()
        outcome = self.outcome = self.record.ended(ending, leg, error)
        if self._committed is not None or not isinstance(error, StoreUnavailable):
            self._parts.ledger.record(outcome)
        self._parts.observe(outcome)
        if ending is Ending.ANSWERED and leg is not None:
            text = "".join(self._texts.get(leg.hold_id, ()))
            self._parts.answered(Answered(self.arrival, self.plan, outcome, text, said, self._committed))
        if error is not None:
            error.recorded = True
        return outcome

    async def committed(self) -> None:
        """Wait until the held row is committed, so that no answer gets out that a crash could make us forget.

        The ledger says after how long an answer is let out all the same.
        """
        if self._committed is not None:
            await self._committed.wait()


def _by_weight(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Order targets at random by their weights, the first as if drawn alone."""
    if len(targets) == 1:
        return targets
    return tuple(sorted(targets, key=lambda target: random.expovariate(1) / target.weight))
