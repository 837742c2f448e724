"""Recorded requests decided again under other policies: where each would go now, and what it would cost. Pure.

Requests are decided in the order of their time, each with what those before it left of the policies' hours, days and
months; one that these very policies decided meets its budgets as it met them, until anything before it in their windows
came out otherwise. What it would cost rests on what it used: a decision that stays as it was keeps every attempt,
priced at the policies' prices; another model is taken to answer at once and at the same length, as far as the budget
allows. What the ledger can't tell is counted, not guessed; only a difficulty that was not worked out is taken as evenly
spread, for a rank is that among the requests of its task.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from types import MappingProxyType

from msgspec import structs

from router.errors import FarthingError
from router.policy.backtest.limits import Limit, Limits
from router.policy.backtest.playable import Playable, playable_of
from router.policy.backtest.recorded import NOBODYS, Played, Record, RecordedAttempt, Request
from router.policy.claim import Claim, claim
from router.policy.decide import Decision, Purse, Refusal, Route, decide
from router.policy.facts import Facts
from router.policy.features import FACT_RULES
from router.policy.policy import Policy, PolicySet
from router.policy.purse import purse_of
from router.policy.record import BUDGET_FACTS, LEFT_OF_A_BUDGET, RecordedFacts
from router.policy.room import Levels, left_usd, scopes_of, tighter
from router.policy.target import Model
from router.values import Ending, Scope, Usage, short_of

MOST_CLAIMS = 10_000
"""Distinct requests to claim that are remembered; then it is begun anew."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Steps of it round a circle cover any arc in its share, after few of them as well."""


class Player:
    """Decides recorded requests under one set of policies."""

    def __init__(self, policies: PolicySet) -> None:
        self._policies = policies
        self._playable = {task: playable_of(policy) for task, policy in policies.policies.items()}
        self._any_absent = any(model.absent for model in policies.models.values())
        self._sets: dict[tuple[frozenset[str], frozenset[str]], PolicySet] = {}
        self._claims: dict[tuple[str, str, bool, str | None], Claim | None] = {}
        self._purses: dict[tuple[str, str | None, int | None], Purse | None] = {}
        self._spread: Counter[str] = Counter()
        self._drawn: dict[tuple[str, str | None], tuple[Limit, ...]] = {}
        self.limits = Limits()
        """The policies' budgets of hours, days and months, as far as was played."""

    @property
    def shares_budgets(self) -> bool:
        """Whether requests of different tasks draw on one budget."""
        accounts = self._policies.accounts.values()
        return any(budget.windows() for budget in (self._policies.budget, *(account.budget for account in accounts)))

    def play(self, request: Request) -> Played:
        """Decide a request again, after all before it, and say what it would have cost."""
        record = request.record
        claimed = self._claim(record, request.facts)
        if claimed is None:
            return NOBODYS
        limits = self._limits(claimed.policy, record.account)
        for limit in limits:
            limit.meet(record.at)
        as_met = record.policy_revision == self._policies.revision and not any(limit.differs for limit in limits)
        played = self._played(request, claimed, None if as_met else limits)
        differs = played.nusd != record.charged_nusd or played.first_model != request.first_model
        for limit in limits:
            limit.draw(record.at, played.nusd)
            limit.differs |= differs
        return played

    def play_alone(self, request: Request) -> Played:
        """Decide a request again with its budgets as it met them, and draw on none."""
        claimed = self._claim(request.record, request.facts)
        return self._played(request, claimed, None) if claimed else NOBODYS

    def _played(self, request: Request, claimed: Claim, limits: tuple[Limit, ...] | None) -> Played:
        """Decide a request within budgets as full as these; None: as it met them."""
        record, policy, pinned = request.record, claimed.policy, claimed.pinned
        playable = self._playable.get(policy.task) or playable_of(policy)
        facts, recounted = self._counted(request.facts, playable.policy)
        levels = tuple([limit.level for limit in limits or ()])
        if limits is not None:
            facts = _meeting(levels, facts, policy)
        recorded, facts = facts, self._with_difficulty(record.task, facts, playable)
        unknown = playable.unknown(facts) if playable.asks else False
        present, asked = self._as_present(facts), playable.sure if unknown else playable.policy
        purse = self._purse(policy, record.account, facts)
        decision = decide(present, asked, facts, purse=purse, pinned=pinned)
        if short := short_of(levels, _held_nusd(policy, decision)):
            whole, purse = decision, tighter(purse, short)
            decision = decide(present, asked, facts, purse=purse, pinned=pinned)
            _bind(limits or (), short.scope, whole, decision)
        doubted = playable.doubted(facts, decision.rule.name) if unknown and pinned is None else ()
        if isinstance(decision, Refusal):
            played = Played(decision.rule.name, None, None, None, 0)
        else:
            played = self._routed(request, decision, facts, recounted=recounted)
            if short and purse and played.nusd > purse.nusd:
                # It goes where it went, and is cut where the budget ends.
                played = structs.replace(played, nusd=purse.nusd)
        spread: tuple[str, ...] = ()
        if facts is not recorded and pinned is None:
            hang = playable.doubted(recorded, decision.rule.name)
            spread = tuple(rule for rule in hang if rule not in doubted)
        return structs.replace(played, unknown_rules=doubted, spread_rules=spread)

    def keep(self, task: str, account_name: str | None, at: str, nusd: int) -> None:
        """Draw what was charged at a time, or in an hour ("2026-11-22T12"), and stays so whatever the policies."""
        # What a task was charged that is not there any more counts in the budgets of its account and of everything.
        policy = self._policies.policies.get(task) or Policy(task, rules=())
        for limit in self._limits(policy, account_name):
            limit.draw(at, nusd)

    def _limits(self, policy: Policy, account_name: str | None) -> tuple[Limit, ...]:
        """Return the budgets that a request draws on; those that only warn are among them, for rules see them."""
        key = (policy.task, account_name)
        if key not in self._drawn:
            account = self._policies.accounts.get(account_name) if account_name else None
            self._drawn[key] = self.limits.of(scopes_of(self._policies, policy, account))
        return self._drawn[key]

    def _with_difficulty(self, task: str, facts: RecordedFacts, playable: Playable) -> RecordedFacts:
        """Give a request whose difficulty was not worked out one of evenly spread places, where the policy asks for it.

        Its place is the same under any policies, so that two folders are compared on the same traffic.
        """
        if facts.difficulty is not None or "difficulty" in facts.looked_at:
            return facts
        place = self._spread[task] * GOLDEN % 1
        self._spread[task] += 1
        if "difficulty" not in playable.lazy:
            return facts
        return structs.replace(facts, difficulty=place, looked_at=facts.looked_at | {"difficulty"})

    def _claim(self, record: Record, facts: RecordedFacts) -> Claim | None:
        key = (record.requested_model, record.task, facts.named_task, record.account)
        if key in self._claims:
            return self._claims[key]
        if len(self._claims) >= MOST_CLAIMS:
            self._claims.clear()
        own = self._policies.policies.get(record.task)
        try:
            found: Claim | None = claim(
                self._policies,
                record.requested_model,
                header_task=record.task if facts.named_task else None,
                metadata=None,
                account=self._policies.accounts.get(record.account) if record.account else None,
                # Headers are not recorded. Those that the match of its own task asks for were there.
                headers=own.match.headers if own else {},
            )
        except FarthingError:
            found = None
        self._claims[key] = found
        return found

    def _purse(self, policy: Policy, account_name: str | None, facts: RecordedFacts) -> Purse | None:
        key = (policy.task, account_name, facts.asked_nusd)
        if key not in self._purses:
            if len(self._purses) >= MOST_CLAIMS:
                self._purses.clear()
            account = self._policies.accounts.get(account_name) if account_name else None
            self._purses[key] = purse_of(self._policies, policy, account, facts.asked_nusd)
        purse = self._purses[key]
        if facts.left_nusd is None or (purse and purse.nusd < facts.left_nusd):
            return purse
        return Purse(facts.left_nusd, "what a budget had left", LEFT_OF_A_BUDGET, facts.left_downgrades)

    def _as_present(self, facts: RecordedFacts) -> PolicySet:
        """Return the policies with the models there that were there then; of one not known then, it is as it is now."""
        if not (self._any_absent or facts.absent):
            return self._policies
        key = (facts.absent, frozenset(facts.input_tokens_by_model))
        if key not in self._sets:
            if len(self._sets) >= MOST_CLAIMS:
                self._sets.clear()
            self._sets[key] = _with_presence(self._policies, *key)
        return self._sets[key]

    def _counted(self, facts: RecordedFacts, policy: Policy) -> tuple[RecordedFacts, bool]:
        """Give each model of the policy its count of the input, and the policy's own expectation of the answer."""
        by_model = facts.input_tokens_by_model
        missing = [name for name in policy.models if name not in by_model]
        if missing:
            counted = {name: _scaled_count(self._policies.models[name], facts.input_tokens) for name in missing}
            facts = structs.replace(facts, input_tokens_by_model={**by_model, **counted})
        if facts.expected_output_tokens != policy.expected_output_tokens:
            facts = structs.replace(facts, expected_output_tokens=policy.expected_output_tokens)
        return facts, bool(missing)

    def _routed(self, request: Request, route: Route, facts: Facts, *, recounted: bool) -> Played:
        candidate = route.candidates[0]
        name = candidate.model.name
        if name == request.first_model:
            record = request.record
            answered_by = record.routed_model
            kept = self._policies.models.get(answered_by) if answered_by else None
            kind = kept.kind if kept else record.kind
            return Played(route.rule.name, name, answered_by, kind, self._again_nusd(request))
        nusd = _anew_nusd(request, route, facts)
        return Played(route.rule.name, name, name, candidate.model.kind, nusd, recounted=recounted)

    def _again_nusd(self, request: Request) -> int:
        """Price the recorded attempts at these policies' prices; what was only held stays at its ceiling."""
        if not request.attempts:
            return request.record.charged_nusd
        return sum(self._attempt_nusd(attempt) for attempt in request.attempts)

    def _attempt_nusd(self, attempt: RecordedAttempt) -> int:
        model, usage = self._policies.models.get(attempt.model), attempt.usage
        if model is None or usage is None:
            return attempt.charged_nusd
        for target in model.targets:
            if target.name == attempt.target:
                return target.price.charge_nusd(usage)
        return _charge_nusd(model, usage)


def _meeting(levels: Levels, facts: RecordedFacts, policy: Policy) -> RecordedFacts:
    """Return a request's facts where it finds its budgets this full, in place of what it found then."""
    if facts.left_nusd is None and policy.needs.isdisjoint(BUDGET_FACTS):
        return facts
    return structs.replace(
        facts,
        left_nusd=None,
        budget_used_pct=max((level.used_pct for level in levels), default=0.0),
        budget_remaining_usd=left_usd(levels),
        looked_at=facts.looked_at | BUDGET_FACTS,
    )


def _held_nusd(policy: Policy, decision: Decision) -> int:
    """Return what a request sets aside. What a task's answers usually cost the rows do not tell: its estimate does."""
    if isinstance(decision, Refusal):
        return 0
    first = decision.candidates[0]
    return first.ceiling_nusd if policy.budget.hold == "ceiling" else first.estimate_nusd


def _bind(limits: tuple[Limit, ...], scope: Scope, whole: Decision, within: Decision) -> None:
    """Note what a budget that had no room made of a decision."""
    refused = isinstance(within, Refusal)
    [limit] = [limit for limit in limits if limit.scope is scope]
    limit.bind(refused=refused, downgraded=not refused and _first(whole) is not _first(within))


def _first(decision: Decision) -> Model | None:
    return decision.candidates[0].model if isinstance(decision, Route) else None


def _anew_nusd(request: Request, route: Route, facts: Facts) -> int:
    """Price a request at a model that it did not go to: the same length of answer, within what the budget allows."""
    record, answer, candidate = request.record, request.answer(), route.candidates[0]
    usage = answer.usage if answer else None
    if answer is None or usage is None:
        if record.outcome == Ending.HELD:
            return candidate.ceiling_nusd
        # What was refused had no answer to go by; what failed, or was turned away, fails again.
        return route.estimate_nusd if request.first_model is None else 0
    then = facts.input_tokens_for(answer.model)
    if then > 0:
        usage = _with_input(usage, candidate.input_tokens / then)
    most = facts.n * candidate.max_output_tokens + facts.predicted_tokens
    if usage.output_tokens > most:
        usage = structs.replace(usage, output_tokens=most)
    return min(_charge_nusd(candidate.model, usage), candidate.ceiling_nusd)


def _with_input(usage: Usage, ratio: float) -> Usage:
    """Return a usage whose input another model counts `ratio` times as long, in all its classes."""
    return structs.replace(
        usage,
        input_tokens=math.ceil(usage.input_tokens * ratio),
        cached_tokens=int(usage.cached_tokens * ratio),
        cache_write_tokens=int(usage.cache_write_tokens * ratio),
        cache_write_1h_tokens=int(usage.cache_write_1h_tokens * ratio),
    )


def _charge_nusd(model: Model, usage: Usage) -> int:
    return max([price.charge_nusd(usage) for price in model.prices])


def _scaled_count(model: Model, input_tokens: int) -> int:
    """Estimate how many tokens a model counts where the facts' own count is `input_tokens`."""
    factor = max(target.token_rules.factor for target in model.targets) / FACT_RULES.factor
    return math.ceil(input_tokens * factor)


def _with_presence(policies: PolicySet, absent: frozenset[str], known: frozenset[str]) -> PolicySet:
    def as_then(name: str, model: Model) -> Model:
        then = "was absent" if name in absent else None if name in known else model.absent
        return model if bool(then) == bool(model.absent) else replace(model, absent=then)

    models = MappingProxyType({name: as_then(name, model) for name, model in policies.models.items()})
    return replace(policies, models=models)
