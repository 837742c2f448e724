"""Counts tokens before a request is sent: exact for OpenAI's models, an upper bound for all others."""

from router.tokens.counter import Counter
from router.tokens.rules import TokenRules, rules_for

__all__ = ["Counter", "TokenRules", "rules_for"]
