"""One candidate being tried at one target: what it may cost, the body that is sent there, and what it used."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct, structs

from router.chat import ChatBody
from router.policy.decide import Candidate
from router.policy.target import Model, Target
from router.pricing import Ask
from router.tokens import Counter
from router.values import Certainty, Usage

MOST_TOKENS = 1_000_000_000
"""No request uses more of a kind; where a provider reports it, we count for ourselves."""

_encode = msgspec.json.Encoder().encode
_SYSTEM_ROLES = (b'"system"', b'"developer"')
_REASONS = re.compile(r"(ft:)?(o\d|gpt-5)(?!.*chat)")


class Leg(Struct, frozen=True):
    """One candidate being tried at one target, under its own hold."""

    hold_id: str
    candidate: Candidate
    target: Target
    ask: Ask
    is_bounded: bool
    """Whether it may cost no more than its ceiling; else nothing limits it."""
    started: float
    span_id: str | None = None
    """16 hexadecimal digits; None where nothing is traced."""

    @property
    def model(self) -> Model:
        return self.candidate.model

    @property
    def ceiling_nusd(self) -> int:
        """The most it may cost, as it was held."""
        return self.candidate.ceiling_nusd

    def most_tokens(self) -> int | None:
        """Return how many output tokens, over all choices, what is held for it buys; None where nothing limits it.

        No more than that is its to use: another leg may be under way beside it, and others draw on the same budgets.
        """
        if not self.is_bounded:
            return None
        within = self.target.price.output_tokens_within(self.ceiling_nusd, self.ask)
        return within * self.ask.choices + self.ask.predicted_tokens


def body_for(leg: Leg, body: ChatBody, prompt: str | None) -> bytes:
    """Write the caller's body for a leg: the model's name, the limit that is paid for, `prompt` as the system's."""
    chat = body.chat
    changes: dict[str, bytes | None] = {"model": _encode(leg.target.model)}
    given = [name for name in ("max_completion_tokens", "max_tokens") if getattr(chat, name) is not None]
    if given == ["max_tokens"] and _refuses_max_tokens(leg.target):
        given = ["max_completion_tokens"]
        changes["max_tokens"], changes["max_completion_tokens"] = None, _encode(chat.max_tokens)
    # Where both names are given, a provider may heed the larger; what was held for is the smaller.
    if leg.candidate.clamped or len(given) == 2:
        limit = _encode(leg.candidate.max_output_tokens)
        for name in given or [_limit_name(leg.target)]:
            changes[name] = limit
    if chat.stream:
        options = body.fields.get("stream_options")
        known = msgspec.json.decode(options) if options and bytes(options) != b"null" else {}
        changes["stream_options"] = _encode({**known, "include_usage": True})
    if prompt:
        messages = msgspec.json.decode(body.fields["messages"], type=list[dict[str, msgspec.Raw]])
        others = [message for message in messages if bytes(message["role"]) not in _SYSTEM_ROLES]
        changes["messages"] = _encode([{"role": "system", "content": prompt}, *others])
    return body.rewritten(changes)


def used_by(leg: Leg, usage: Usage | None, texts: Sequence[str], counter: Counter) -> tuple[Usage, Certainty]:
    """Return what was reported, or, where nothing credible was, what we count: the input, and what text arrived.

    `texts` holds that of each choice.
    """
    if usage is not None and _is_credible(usage, texts):
        if leg.target.price.always_searches and not usage.searches:
            # These models bill a search for each answer, and OpenAI's usage does not tell of it.
            context = leg.ask.search_context or usage.search_context
            usage = structs.replace(usage, searches=leg.ask.choices, search_context=context)
        return usage, Certainty.REPORTED
    rules = leg.target.token_rules
    counted = sum(counter.count_text(text, rules) for text in texts)
    if rules.factor > 1:
        # Our count errs high, and a provider that kept the limit is not charged for more than the limit.
        most = leg.candidate.max_output_tokens * leg.ask.choices + leg.ask.predicted_tokens
        least = sum(counter.count_text(text, rules.plain) for text in texts)
        counted = min(counted, max(most, int(least / rules.factor)))
    return Usage(input_tokens=leg.candidate.input_tokens, output_tokens=counted), Certainty.COUNTED


def _is_credible(usage: Usage, texts: Sequence[str]) -> bool:
    """Say whether an answer of these texts can have used that: none is made of no input, and no text of no tokens."""
    most = max(usage.input_tokens, usage.output_tokens, usage.searches)
    return most <= MOST_TOKENS and usage.input_tokens > 0 and (usage.output_tokens > 0 or not any(texts))


def _limit_name(target: Target) -> str:
    """Return the name of the output limit that a target surely knows: OpenAI's newer one only where it is OpenAI."""
    plain_openai = target.provider in ("openai", "azure") and not target.base_url
    return "max_completion_tokens" if plain_openai or _refuses_max_tokens(target) else "max_tokens"


@functools.lru_cache(maxsize=1024)
def _refuses_max_tokens(target: Target) -> bool:
    """Say whether a target is one of OpenAI's models that reason, which know `max_completion_tokens` alone."""
    return target.provider in ("openai", "azure") and _REASONS.match(target.model) is not None
