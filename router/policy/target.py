"""What can be routed to: a model under our own name, and the targets that serve it."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.pricing import Price
from router.tokens import TokenRules

CONNECTING_SHARE = 0.9
"""Of all the time that there is: what was never sent ends before that, and is not taken for an answer that was late."""
UNKNOWN_OUTPUT_LIMIT = 16_384
"""Held and clamped to where neither the catalogue nor models.yaml says how long an answer can be."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each phase of an attempt may take, in seconds."""

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    between_bytes_s: float = 30.0
    total_s: float = 600.0

    def connecting_s(self, within_s: float) -> float:
        """Return how long connecting may take where the call has `within_s`."""
        return min(self.connect_s, CONNECTING_SHARE * within_s)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One endpoint that serves a model, with all that is needed to count, price and call it. Equal only to itself."""

    provider: str
    model: str
    """The provider's own name for it, sent upstream."""
    price: Price
    token_rules: TokenRules
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    weight: float = 1.0
    context_tokens: int | None = None
    """Input and output together, or input alone, as the catalogue states it; None where unknown."""
    max_output_tokens: int = UNKNOWN_OUTPUT_LIMIT
    output_limit_known: bool = False
    """False where `max_output_tokens` is our assumption, so that it must be sent to hold."""
    lacks: frozenset[str] = frozenset()
    """What a request may have (tools, images, audio, json_schema) that this target can't take."""
    api_key_variable: str | None = None
    """The environment variable that `api_key` comes from, for saying so where it is not set."""

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model as policies name it. Never without a target; several share the load by weight. Equal only to itself."""

    name: str
    kind: str
    targets: tuple[Target, ...]
    deadlines: Deadlines = field(default_factory=Deadlines)
    retries: int = 1
    """More tries on the same target after the first, where a retry can help."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    absent: str | None = None
    """Why this optional model can't be used now (say, its URL is not set); None where it can."""
    prices: tuple[Price, ...] = field(init=False)
    """Of its targets, each price once."""
    lacks: frozenset[str] = field(init=False)
    """What any of its targets can't take."""
    context_tokens: int | None = field(init=False)
    """The smallest of its targets' contexts; None where none is known."""
    max_output_tokens: int = field(init=False)
    """The smallest of its targets' limits."""
    sure_output_tokens: int | None = field(init=False)
    """The limit that every target keeps by itself, unasked; None where one of them is not known to."""

    def __post_init__(self) -> None:
        known = [target.context_tokens for target in self.targets if target.context_tokens is not None]
        limits = {target.max_output_tokens for target in self.targets}
        sure = len(limits) == 1 and all(target.output_limit_known for target in self.targets)
        narrowest = min(limits)
        for name, value in (
            ("prices", tuple(dict.fromkeys(target.price for target in self.targets))),
            ("lacks", frozenset().union(*(target.lacks for target in self.targets))),
            ("context_tokens", min(known, default=None)),
            ("max_output_tokens", narrowest),
            ("sure_output_tokens", narrowest if sure else None),
        ):
            object.__setattr__(self, name, value)
