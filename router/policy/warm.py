"""Warm caches: what a provider keeps of a conversation's beginning, and what staying with it comes to."""

from __future__ import annotations

from msgspec import Struct

from router.values import usd_text

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
