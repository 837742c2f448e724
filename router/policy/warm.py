"""Staying on a warm cache: whether a conversation is cheaper where its beginning is cached than where it would go.

Only this turn's dollars are compared, at the real prices of both models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from router.values import Usage, usd_text

if TYPE_CHECKING:
    from router.policy.decide import Candidate
    from router.policy.facts import Facts

FEWEST_CACHED_TOKENS = 1024
"""Shorter prompts are not cached (OpenAI's and Anthropic's documentation of prompt caching, November 2025)."""
CACHED_IN_STEPS_OF = 128
"""OpenAI's caches grow by so many tokens (the same page)."""
ASKED_PROVIDERS = frozenset({"anthropic", "bedrock", "vertex_ai"})
"""Who caches only what a request marks with `cache_control`."""


class Warm(Struct, frozen=True):
    """The beginning of a conversation that a model's provider has surely cached."""

    model: str
    tokens: int
    """As we count for that model."""


class Stay(Struct, frozen=True):
    """What came of the comparison: this turn at the warm model against the first model of the rule."""

    warm: Warm
    stays: bool
    elsewhere: str
    stay_nusd: int
    switch_nusd: int

    def __str__(self) -> str:
        where = f"{self.warm.tokens} tokens are cached at '{self.warm.model}'"
        prices = f"${usd_text(self.stay_nusd)} there against ${usd_text(self.switch_nusd)} at '{self.elsewhere}'"
        return f"{'stays' if self.stays else 'moves'}: {where}, so this turn costs {prices}"


def caches(input_tokens: int, provider: str, has: frozenset[str]) -> bool:
    """Say whether a provider has cached a prompt of so many tokens after answering it."""
    return input_tokens >= FEWEST_CACHED_TOKENS and (provider not in ASKED_PROVIDERS or "cache_control" in has)


def in_steps(tokens: int) -> int:
    """Return how much of a prompt is cached, in whole steps."""
    return tokens - tokens % CACHED_IN_STEPS_OF


def compare(warm: Warm, there: Candidate, elsewhere: Candidate, facts: Facts) -> Stay:
    """Price this turn at both; the warm model stays where it is cheaper."""
    stay_nusd = _turn_nusd(there, facts, min(warm.tokens, there.input_tokens))
    switch_nusd = _turn_nusd(elsewhere, facts, 0)
    return Stay(warm, stay_nusd < switch_nusd, elsewhere.model.name, stay_nusd, switch_nusd)


def _turn_nusd(candidate: Candidate, facts: Facts, cached: int) -> int:
    output_tokens = facts.n * min(facts.expected_output_tokens, candidate.max_output_tokens)
    usage = Usage(
        candidate.input_tokens, output_tokens, cached_tokens=cached, service_tier=facts.service_tier or "default"
    )
    return max(price.charge_nusd(usage) for price in candidate.model.prices)
