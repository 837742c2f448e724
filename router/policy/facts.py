"""The facts of a request that rules can see: numbers and names, and the text while the request lasts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct, field

from router.difficulty.gauge import Reading
from router.policy.experiment import Drawn
from router.policy.warm import Warm

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    return _NOTHING


class Facts(Struct, frozen=True):
    """What is known of a request before it is routed. Times are UTC; `hour` 0 to 23, `weekday` mon to sun."""

    input_tokens: int
    """By the o200k encoding. What each candidate counts for itself is in `input_tokens_by_model`."""
    messages: int = 1
    n: int = 1
    max_output_tokens: int | None = None
    """The caller's own limit for one answer."""
    expected_output_tokens: int = 256
    """For one answer."""
    has: frozenset[str] = frozenset()
    stream: bool = False
    language: str = "und"
    """ISO 639-1 of the last user message; "und" where it can't be told."""
    difficulty: float | None = None
    """0 to 1; None where no rule of the policy asks for it."""
    reading: Reading | None = None
    """What the difficulty was read from."""
    gain: float | None = None
    """What the dearest model of a rule is expected to add to the cheapest, in quality; None as `difficulty`."""
    pace: float = 1.0
    """How freely the task may spend now: below 1 it is ahead of its day's budget, above 1 it has money to spare."""
    ranks: Mapping[str, float] = field(default_factory=_nothing)
    """Rule → the share of what reaches it that is easier, for rules that ask for a share."""
    explored_from: float | None = None
    """What `difficulty` would have been, where it was drawn at random to learn from; None elsewhere."""
    hour: int = 0
    weekday: str = "mon"
    account: str | None = None
    headers: Mapping[str, str] = field(default_factory=_nothing)
    """Lower-case names."""
    metadata: Mapping[str, object] = field(default_factory=_nothing)
    budget_used_pct: float = 0.0
    """Spent and held, of the fullest budget (account, task, everything) this request draws on."""
    budget_remaining_usd: float | None = None
    """What the tightest of those budgets has left; None where nothing is limited."""
    text: str = ""
    """The last user message. Never leaves the process."""
    service_tier: str | None = None
    """As the caller asked for it."""
    search_context: str | None = None
    """The size of the web search's context, as the caller asked for it."""
    predicted_tokens: int = 0
    """Tokens of a predicted output, which may be billed as output on top of the answer."""
    conversation: str = ""
    """A digest of how the conversation begins; empty where no rule asks for it. Never leaves the process."""
    experiment: Drawn | None = None
    """Its part in an experiment, where the ledger tells it; None for a request that is new."""
    warm: Warm | None = None
    """Where the beginning of this conversation is cached; None where nothing is, or no rule asks for it."""
    input_tokens_by_model: Mapping[str, int] = field(default_factory=_nothing)
    """Our model name → tokens as that model counts them, its own prompt included. Missing: `input_tokens`."""

    def __repr__(self) -> str:
        """Say nothing of text, headers and metadata, for a repr may end in a log."""
        return f"Facts(input_tokens={self.input_tokens}, messages={self.messages}, has={sorted(self.has)})"

    def input_tokens_for(self, model: str) -> int:
        return self.input_tokens_by_model.get(model, self.input_tokens)
