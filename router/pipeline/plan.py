"""What arrives, and what is decided for it: the steps before any money is held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import anyio.to_thread
from msgspec import Struct, structs

from router.budgets.contract import Budgets
from router.chat import Chat, ChatBody
from router.difficulty.gauge import Gauge
from router.difficulty.pacing import Pacing
from router.policy.claim import claim
from router.policy.decide import Candidate, Decision, Purse, Route, decide
from router.policy.experiment import point_of
from router.policy.explain import explained
from router.policy.facts import Facts
from router.policy.features import Circumstances, facts_of
from router.policy.learn import is_explored
from router.policy.policy import Account, Policy, PolicySet
from router.policy.purse import purse_of
from router.policy.record import recorded_circumstances, recorded_decision, recorded_facts
from router.policy.room import AmountNusd, foreseen, left_usd, scopes_of, tighter
from router.policy.warm import Warm
from router.tokens import Counter
from router.values import Level, Scope, Trace

Purpose = Literal["explain", "serve"]
"""What a decision is for: to be told to whoever writes policies, or to answer the request."""
OF_THE_TEXT = frozenset({"difficulty", "has", "language"})
"""Facts that take time to work out, and so are worked out for rules that look at them and to be told."""


class Arrival(Struct, frozen=True):
    """A request as it came in, authenticated and decoded."""

    id: str
    at_s: float
    """Seconds since the epoch, by the injected clock."""
    started: float
    """`perf_counter` at arrival."""
    body: ChatBody
    account: Account | None
    headers: Mapping[str, str]
    task: str | None
    """From the header x-farthing-task."""
    budget_nusd: int | None
    """From the header x-farthing-budget-usd."""
    policies: PolicySet | None = None
    """The set that its account was found in, which decides as well; None: the one in force."""
    trace: Trace | None = None


class Plan(Struct, frozen=True):
    """What was decided for an arrival, under one revision of the policies."""

    policies: PolicySet
    policy: Policy
    facts: Facts
    purse: Purse | None
    pinned: str | None
    scopes: tuple[Scope, ...]
    decision: Decision
    named_task: bool = True
    """Whether the caller named the task, and no `match` had to be looked at."""

    @property
    def is_bounded(self) -> bool:
        """Whether a budget limits what the request may cost, its own or one of an hour, day or month."""
        return self.purse is not None or self.draws_on_limits

    @property
    def draws_on_limits(self) -> bool:
        """Whether it draws on an hour's, day's or month's budget that refuses what it has no room for."""
        return any(not scope.is_soft for scope in self.scopes)

    def estimate_nusd(self, candidate: Candidate) -> int:
        """Return what the request was expected to cost with an answer of `candidate`, its checks included."""
        decision = self.decision
        estimate_nusd = candidate.estimate_nusd
        return decision.with_checks_nusd(estimate_nusd) if isinstance(decision, Route) else estimate_nusd

    def explained(self) -> dict[str, Any]:
        """Return the contract's explain object."""
        return explained(self.decision, self.facts, self.policy)

    def recorded(self, asked_nusd: int | None) -> dict[str, Any]:
        """Return what the ledger keeps, so that this can be decided again; `asked_nusd` is the caller's own limit."""
        around = recorded_circumstances(self.policies, self.policy, self.facts, budgets=bool(self.scopes))
        decided = recorded_decision(self.decision, asked_nusd, named_task=self.named_task)
        return recorded_facts(self.facts) | around | decided

    def seeing(self, levels: tuple[Level, ...]) -> Plan:
        """Tell how full the budgets are among the facts, where no rule asked for it before."""
        if not levels or _looks_at_budgets(self.policy):
            return self
        facts = structs.replace(self.facts, budget_used_pct=_used_pct(levels), budget_remaining_usd=left_usd(levels))
        return structs.replace(self, facts=facts)

    def within(self, level: Level, now_s: float) -> Plan:
        """Decide again with no more than a budget has left, after others took what this request was to hold."""
        purse = tighter(self.purse, level, now_s)
        decision = decide(self.policies, self.policy, self.facts, purse=purse, pinned=self.pinned)
        return structs.replace(self, purse=purse, decision=decision)

    def foreseen(
        self,
        levels: tuple[Level, ...],
        amount_nusd: AmountNusd,
        now_s: float,
        well_first: Callable[[Route], Route] = lambda route: route,
    ) -> Plan:
        """Return what a call comes to that finds the budgets this full; see `router.policy.room.foreseen`."""
        decision = foreseen(
            self.decision, levels, amount_nusd, lambda level: self.within(level, now_s).decision, well_first
        )
        hard = [level for level in levels if not level.scope.is_soft]
        if isinstance(decision, Route) and hard and self.policy.budget.hold == "ceiling":
            tightest = min(hard, key=lambda level: level.left_nusd)
            decision = structs.replace(decision, purse=tighter(self.purse, tightest, now_s))
        return structs.replace(self, decision=decision)


WarmAt = Callable[[Chat, Policy], Warm | None]
"""Tells where the beginning of a conversation is cached now."""


def cold(chat: Chat, policy: Policy) -> Warm | None:
    """Say that nothing is cached anywhere."""
    return None


async def plan_for(
    arrival: Arrival,
    policies: PolicySet,
    counter: Counter,
    budgets: Budgets,
    gauge: Gauge | None = None,
    warm_at: WarmAt = cold,
    pacing: Pacing | None = None,
    *,
    purpose: Purpose = "explain",
) -> Plan:
    """Decide where a request would go; nothing is held, called or written.

    One to be served has only those facts worked out that rules of its task look at, for that takes less time, and may
    have a difficulty drawn at random, where its task learns from that.

    Raises:
        RequestError: the task or the model is unknown, or not allowed.
        StoreUnavailable: a rule looks at a budget that can't be read, or spends by it.
    """
    chat, account = arrival.body.chat, arrival.account
    claimed = claim(
        policies,
        chat.model,
        header_task=arrival.task,
        metadata=chat.metadata,
        account=account,
        headers=arrival.headers,
    )
    policy = claimed.policy
    scopes = scopes_of(policies, policy, account)
    if purpose == "explain":
        # A policy of its own, so it comes behind what is remembered by the policy.
        policy = replace(policy, needs=policy.needs | OF_THE_TEXT)
    name = account.name if account else None
    around = Circumstances(now_s=arrival.at_s, account=name, headers=arrival.headers, gauge=gauge)
    if scopes and _looks_at_budgets(policy):
        levels = await budgets.levels(scopes)
        around = with_levels(around, levels)
        if pacing and policy.paces:
            around = structs.replace(around, pace=pace_of(pacing, policy, levels, arrival.at_s))
    if policy.sticks and (warm := warm_at(chat, policy)):
        around = structs.replace(around, warm=warm)
    if purpose == "serve" and policy.learn and is_explored(policy.learn, policy.task, arrival.id):
        around = structs.replace(around, drawn_difficulty=point_of(f"{policy.task}:drawn", arrival.id))
    work_out = partial(facts_of, chat, policies, policy, counter, around, claimed.pinned)
    # Long text is counted in a thread: tiktoken gives the interpreter lock up meanwhile.
    facts = await anyio.to_thread.run_sync(work_out) if counter.is_long(chat) else work_out()
    purse = purse_of(policies, policy, account, arrival.budget_nusd)
    decision = decide(policies, policy, facts, purse=purse, pinned=claimed.pinned)
    return Plan(policies, policy, facts, purse, claimed.pinned, scopes, decision, claimed.named)


def pace_of(pacing: Pacing, policy: Policy, levels: tuple[Level, ...], now_s: float) -> float:
    """Return how freely a task may spend, by how full its day's budget is; 1 where it has none to spend.

    A month that has less left than the day bounds the day, so that its last dollars are spread as well.
    """
    own = {level.scope.window: level for level in levels if level.scope.kind == "task"}
    if (day := own.get("day")) is None:
        return 1.0
    used_nusd, limit_nusd = day.spent_nusd + day.held_nusd, day.scope.limit_nusd
    if (month := own.get("month")) is not None and not month.scope.is_soft:
        limit_nusd = min(limit_nusd, used_nusd + month.left_nusd)
    return pacing.pace(policy.task, used_nusd / limit_nusd if limit_nusd else 1.0, now_s)


def with_levels(around: Circumstances, levels: tuple[Level, ...]) -> Circumstances:
    """Add how full the budgets are: the fullest in percent, the tightest in dollars."""
    return structs.replace(
        around,
        budget_used_pct=_used_pct(levels),
        budget_remaining_usd=left_usd(levels),
    )


def _looks_at_budgets(policy: Policy) -> bool:
    return policy.paces or not policy.needs.isdisjoint(("budget_used_pct", "budget_remaining_usd"))


def _used_pct(levels: tuple[Level, ...]) -> float:
    return max(level.used_pct for level in levels)
