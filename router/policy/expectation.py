"""What the `tests:` of a policy file say: a request or its facts, circumstances, and what is expected.

Nothing is run here; `farthing test` does that. A test is about the files and not about the machine: every
model counts as there, whatever the environment lacks, but for those that `given: {absent: […]}` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType

from msgspec import structs

from router.policy.facts import Facts
from router.policy.fault import Place
from router.policy.target import Model


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits that a number must keep; an exact value is `eq`. At least one is set."""

    eq: Decimal | None = None
    gt: Decimal | None = None
    gte: Decimal | None = None
    lt: Decimal | None = None
    lte: Decimal | None = None

    def hold(self, value: Decimal | int) -> bool:
        return (
            (self.eq is None or value == self.eq)
            and (self.gt is None or value > self.gt)
            and (self.gte is None or value >= self.gte)
            and (self.lt is None or value < self.lt)
            and (self.lte is None or value <= self.lte)
        )

    def __str__(self) -> str:
        signs = (("", self.eq), ("> ", self.gt), ("≥ ", self.gte), ("< ", self.lt), ("≤ ", self.lte))
        return " and ".join(f"{sign}{bound:f}" for sign, bound in signs if bound is not None)


@dataclass(frozen=True, slots=True)
class Given:
    """The circumstances of a test, always the same ones on every machine and at every hour."""

    budget_used_pct: float = 0.0
    budget_remaining_usd: float | None = None
    hour: int = 12
    weekday: str = "wed"
    account: str | None = None
    language: str | None = None
    """None: as the text says."""
    difficulty: float | None = None
    """None: as it is worked out."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    absent: frozenset[str] = frozenset()
    """Models that can't be used in this test."""

    def over(self, facts: Facts) -> Facts:
        """Return `facts` under these circumstances."""
        return structs.replace(
            facts,
            budget_used_pct=self.budget_used_pct,
            budget_remaining_usd=self.budget_remaining_usd,
            hour=self.hour,
            weekday=self.weekday,
            account=self.account,
            language=self.language or facts.language,
            difficulty=facts.difficulty if self.difficulty is None else self.difficulty,
            gain=facts.gain if self.difficulty is None else None,
            ranks=facts.ranks if self.difficulty is None else {},
            headers=self.headers,
        )

    def models(self, models: Mapping[str, Model]) -> Mapping[str, Model]:
        """Return the models as this test sees them: all there, but for the absent ones."""
        return MappingProxyType(
            {
                name: replace(model, absent="absent in this test" if name in self.absent else None)
                for name, model in models.items()
            }
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come out; None where the test does not say."""

    rule: str | None = None
    use: tuple[str, ...] | None = None
    """One name: the first candidate. Several: the order of all candidates."""
    cost_usd: Bounds | None = None
    """Of the first candidate and its rule's checks, as estimated."""
    max_output_tokens: Bounds | None = None
    """The longest answer the first candidate may give."""
    refused: str | None = None
    """The code of the refusal."""


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One test of one policy. Exactly one of `request`, `request_file`, `facts` is set."""

    name: str
    task: str
    file: str
    place: Place
    expect: Expected
    request: bytes | None = None
    """A chat-completions body as JSON; its model is "auto" where the file gives none."""
    request_file: str | None = None
    """Where the request is, beside the policy's file."""
    facts: Facts | None = None
    given: Given = Given()
