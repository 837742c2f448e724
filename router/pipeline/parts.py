"""What requests are carried with, and what is told of them when they have been answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from router.budgets.contract import Budgets
from router.difficulty.gauge import Gauge
from router.difficulty.pacing import Pacing
from router.pipeline.own_checks import OwnChecks
from router.pipeline.plan import Arrival, Plan, WarmAt, cold
from router.policy.policy import PolicySet
from router.policy.said import Said
from router.policy.target import Target
from router.providers.breaker import Breakers
from router.providers.contract import Provider
from router.tokens import Counter
from router.values import Outcome


class Commit(Protocol):
    """What a run waits for before its answer's end goes out."""

    async def wait(self) -> None: ...


class Ledger(Protocol):
    """What a run needs of the ledger's writer."""

    @property
    def not_ready(self) -> str | None: ...

    def record(self, outcome: Outcome) -> Commit: ...


@dataclass(frozen=True, slots=True)
class Answered:
    """A request whose answer is complete, with its texts, for what is done behind it. Never kept longer than that."""

    arrival: Arrival
    plan: Plan
    outcome: Outcome
    text: str
    """All that was generated and can be seen."""
    said: Callable[[], tuple[Said, ...]] | None
    """Reads what each choice says, calls of tools included, or raises Unreadable; None where that was not kept."""
    committed: Commit | None
    """Set when nothing holds the answer's last byte back any more; None where nothing does."""


def _unheard(answered: Answered) -> None:
    """Do nothing behind an answer."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What requests are carried with; the composition root makes each part once."""

    policies: Callable[[], PolicySet]
    counter: Counter
    budgets: Budgets
    ledger: Ledger
    lane: Callable[[Target], Provider]
    breakers: Breakers
    observe: Callable[[Outcome], None]
    """Told of every outcome, once: metrics and the log."""
    escalated: Callable[[str, str, str, str], None]
    """Told of every escalation: task, from which model, to which, and the check that failed."""
    clock: Callable[[], float]
    """Seconds since the epoch."""
    usual_output_tokens: Callable[[str, str], int | None] = lambda task, model: None
    """How long an answer of this task and model usually is at the most; None while that is not known."""
    own_checks: OwnChecks = field(default_factory=OwnChecks)
    gauge: Gauge | None = None
    """What is known of the difficulty of each task's traffic."""
    pacing: Pacing | None = None
    """How freely tasks may spend."""
    warm_at: WarmAt = cold
    answered: Callable[[Answered], None] = _unheard
    """Told of every answer that is complete, when it is recorded; must not wait."""
    traced: bool = False
    """Whether spans are sent, and so whether providers are told of them."""
