"""What one request has done so far, and the outcomes that it is written down as: when it is held, and when it ends."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from router.errors import FarthingError
from router.pipeline.leg import Leg
from router.pipeline.plan import Arrival, Plan
from router.policy.decide import Candidate, Route
from router.values import Attempt, Certainty, Ending, Level, Outcome, Usage, Verified


class Record:
    """Grows with the request; `plan` may be decided anew until the first hold."""

    __slots__ = (
        "_ended",
        "_facts",
        "_over_holds_nusd",
        "arrival",
        "attempts",
        "first_token_s",
        "held_nusd",
        "last",
        "notes",
        "overlap_s",
        "plan",
        "verified",
        "waited_s",
        "warnings",
    )

    def __init__(self, arrival: Arrival, plan: Plan) -> None:
        self.arrival = arrival
        self.plan = plan
        self.attempts: list[Attempt] = []
        self.held_nusd = 0
        self.last: Leg | None = None
        """The leg that was opened last."""
        self.warnings: tuple[Level, ...] = ()
        """The soft budgets that this request found used up."""
        self.waited_s = 0.0
        """Between tries, for a provider to recover."""
        self.overlap_s = 0.0
        """How long two attempts were under way at once."""
        self.verified: Verified | None = None
        self.first_token_s: float | None = None
        self.notes: dict[str, object] = {}
        """Numbers and names beside the facts."""
        self._ended: dict[str, Attempt] = {}
        self._over_holds_nusd = 0
        """What the attempts that have ended cost above what each might, as it was held."""
        self._facts = plan.recorded(arrival.budget_nusd)

    @property
    def spent_nusd(self) -> int:
        """What the attempts that have ended cost."""
        return sum(attempt.charge_nusd for attempt in self.attempts)

    def decided_anew(self, plan: Plan) -> None:
        """Note another decision, made with what others had left of a budget."""
        self.plan, self._facts = plan, plan.recorded(self.arrival.budget_nusd)

    def add(self, leg: Leg, attempt: Attempt) -> None:
        """Note how a leg ended."""
        self._ended[leg.hold_id] = attempt
        self.attempts.append(attempt)
        self._over_holds_nusd += max(0, attempt.charge_nusd - leg.ceiling_nusd)

    def amend(self, before: Attempt, attempt: Attempt) -> None:
        """Put another attempt in the place of one that turned out to be something else."""
        self.attempts[self.attempts.index(before)] = attempt
        self._ended = {hold_id: attempt if found is before else found for hold_id, found in self._ended.items()}

    def held(self, candidate: Candidate, ceilings_nusd: int) -> Outcome:
        """Say what is known before a call: charged at all open ceilings, should nothing more ever be known."""
        arrival, plan = self.arrival, self.plan
        return Outcome(
            id=arrival.id,
            at=datetime.fromtimestamp(arrival.at_s, UTC),
            account=arrival.account.name if arrival.account else None,
            task=plan.policy.task,
            rule=plan.decision.rule.name,
            policy_revision=plan.policies.revision,
            requested_model=arrival.body.chat.model,
            ending=Ending.HELD,
            certainty=Certainty.CEILING,
            routed_model=candidate.model.name,
            provider=candidate.model.targets[0].provider,
            kind=candidate.model.kind,
            estimated_nusd=plan.estimate_nusd(candidate),
            held_nusd=self.held_nusd,
            charged_nusd=self.spent_nusd + ceilings_nusd,
            difficulty=plan.facts.difficulty,
            facts=self._noted(),
        )

    def ended(self, ending: Ending, leg: Leg | None, error: FarthingError | None) -> Outcome:
        """Say what became of it; `leg` is the one that gave the answer, and what the others cost bought none."""
        arrival, plan, attempts = self.arrival, self.plan, self.attempts
        charged_nusd = self.spent_nusd
        answer = self._ended.get(leg.hold_id) if leg else None
        last = leg or self.last
        told = answer or (self._ended.get(last.hold_id) if last else None)
        latency_s = time.perf_counter() - arrival.started
        upstream_s = sum(attempt.duration_s for attempt in attempts) + self.waited_s - self.overlap_s
        return Outcome(
            id=arrival.id,
            at=datetime.fromtimestamp(arrival.at_s, UTC),
            account=arrival.account.name if arrival.account else None,
            task=plan.policy.task,
            rule=plan.decision.rule.name,
            policy_revision=plan.policies.revision,
            requested_model=arrival.body.chat.model,
            ending=ending,
            certainty=self._certainty(answer),
            routed_model=last.model.name if last else None,
            reported_model=answer.reported_model if answer else None,
            provider=last.target.provider if last else None,
            kind=last.model.kind if last else None,
            usage=told.usage if told else None,
            estimated_nusd=plan.estimate_nusd(last.candidate) if last else 0,
            held_nusd=self.held_nusd,
            charged_nusd=charged_nusd,
            baseline_nusd=self._baseline_nusd(answer),
            overhead_nusd=charged_nusd - (answer.charge_nusd if answer else 0),
            over_budget_nusd=self._over_budget_nusd(),
            attempts=tuple(attempts),
            difficulty=plan.facts.difficulty,
            facts=self._noted(),
            verified=self.verified,
            refusal=error.code if error else None,
            latency_s=latency_s,
            first_token_s=self.first_token_s,
            own_s=max(0.0, latency_s - upstream_s),
            warnings=self.warnings,
            trace=arrival.trace,
        )

    def _over_budget_nusd(self) -> int:
        """Return what its budgets failed to hold: what went above its own, or above what was held in a window's."""
        plan = self.plan
        over_nusd = max(0, self.spent_nusd - plan.purse.nusd) if plan.purse else 0
        return max(over_nusd, self._over_holds_nusd) if plan.draws_on_limits else over_nusd

    def _noted(self) -> dict[str, object]:
        """Return the facts, with the request's part in an experiment, what was cached where, and the notes."""
        decision, warm = self.plan.decision, self.plan.facts.warm
        noted = dict(self.notes)
        if isinstance(decision, Route) and decision.trial:
            noted["experiment"] = decision.trial.recorded()
        if warm is not None:
            stay = decision.stay if isinstance(decision, Route) else None
            noted["warm"] = {"model": warm.model, "tokens": warm.tokens, "stays": stay.stays if stay else None}
        return {**self._facts, **noted} if noted else self._facts

    def _certainty(self, answer: Attempt | None) -> Certainty:
        """Return how sure the least sure part of the charge is."""
        sure = [attempt.certainty for attempt in self.attempts if attempt.charge_nusd or attempt is answer]
        return max(sure, key=list(Certainty).index, default=Certainty.REPORTED)

    def _baseline_nusd(self, answer: Attempt | None) -> int:
        """Price the same answer at the baseline model; at what it cost where the policy names no baseline."""
        if answer is None or answer.usage is None:
            return 0
        plan, usage = self.plan, answer.usage
        name = plan.policy.baseline
        if name is None:
            return answer.charge_nusd
        if plan.policy.prompts:
            # Its own prompt made the input shorter; the baseline would have read the whole one.
            usage = Usage(input_tokens=plan.facts.input_tokens_for(name), output_tokens=usage.output_tokens)
        return plan.policies.models[name].targets[0].price.charge_nusd(usage)
