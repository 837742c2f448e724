"""What one request has set aside: a hold for each leg, in every budget and rate at once, all within one allowance."""

from __future__ import annotations

from dataclasses import replace

from router.budgets.contract import Answer, Held, Hold, Limited, Short
from router.pipeline.parts import Parts
from router.pipeline.rates import draws_of
from router.pipeline.record import Record
from router.policy.decide import Candidate, Purse, ask_of
from router.policy.facts import Facts
from router.policy.policy import Policy
from router.values import Attempt


class Holds:
    """The holds of one request; each is settled once, with its attempt or, where nothing was asked, with nothing."""

    def __init__(self, parts: Parts, record: Record) -> None:
        self._parts = parts
        self._record = record
        self._tried = 0
        self._taken = False
        self._ceilings_nusd: dict[str, int] = {}
        """By hold: what it may come to, of every hold that is not settled, and of those that are being had."""

    @property
    def open_nusd(self) -> int:
        """The most that what is held, or being held, may come to."""
        return sum(self._ceilings_nusd.values())

    async def take(self, candidate: Candidate, facts: Facts) -> str | Limited | Short:
        """Hold for a leg, in every budget and rate at once; return the hold's id, or what has no room."""
        hold_id = f"{self._record.arrival.id}/{self._tried}"
        self._tried += 1
        amount_nusd = amount_held_nusd(self._parts, self._record.plan.policy, candidate, facts)
        draws = draws_of(self._record.arrival.account, candidate, facts)
        if self._taken and draws:
            # A request counts once with its account, however many legs it takes.
            draws = tuple(each for each in draws if (each.rate.kind, each.rate.unit) != ("account", "requests"))
        hold = Hold(hold_id, self._record.plan.scopes, amount_nusd, candidate.ceiling_nusd, draws)
        # Counted before it is had, for a leg beside it may look what is left of the allowance meanwhile.
        self._ceilings_nusd[hold_id] = candidate.ceiling_nusd
        answer: Answer | None = None
        try:
            answer = await self._parts.budgets.hold(hold)
        finally:
            if not isinstance(answer, Held):
                self._ceilings_nusd.pop(hold_id, None)
        if not isinstance(answer, Held):
            return answer
        self._record.held_nusd += amount_nusd
        self._record.warnings = answer.over or self._record.warnings
        self._taken = True
        return hold_id

    def purse_left(self) -> Purse | None:
        """Return what is left of the request's allowance; None where it has none."""
        purse = self._record.plan.purse
        if purse is None:
            return None
        return replace(purse, nusd=purse.nusd - self._record.spent_nusd - self.open_nusd)

    async def settle(self, hold_id: str, attempt: Attempt) -> None:
        """Charge an attempt, and give back what it did not use."""
        del self._ceilings_nusd[hold_id]
        usage = attempt.usage
        used_tokens = usage.input_tokens + usage.output_tokens if usage else 0
        await self._parts.budgets.settle(hold_id, attempt.charge_nusd, used_tokens)

    async def release(self) -> None:
        """Give back whatever is still held: nothing was asked under it."""
        for hold_id in tuple(self._ceilings_nusd):
            del self._ceilings_nusd[hold_id]
            await self._parts.budgets.settle(hold_id, 0, 0)


def amount_held_nusd(parts: Parts, policy: Policy, candidate: Candidate, facts: Facts) -> int:
    """Return what is set aside: the ceiling, or what this task's answers usually cost there."""
    if policy.budget.hold == "ceiling":
        return candidate.ceiling_nusd
    usual_tokens = parts.usual_output_tokens(policy.task, candidate.model.name)
    if usual_tokens is None or usual_tokens >= candidate.max_output_tokens:
        return candidate.ceiling_nusd
    ask = ask_of(facts, candidate.input_tokens)
    return max(target.price.ceiling_nusd(ask, usual_tokens) for target in candidate.model.targets)
