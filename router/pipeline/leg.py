"""One candidate being tried at one target: what it may cost, and the body that is sent there."""

from __future__ import annotations

import functools
import re

import msgspec
from msgspec import Struct

from router.chat import ChatBody
from router.policy.decide import Candidate
from router.policy.target import Model, Target
from router.pricing import Ask

_encode = msgspec.json.Encoder().encode
_SYSTEM_ROLES = (b'"system"', b'"developer"')
_REASONS = re.compile(r"(ft:)?(o\d|gpt-5)(?!.*chat)")


class Leg(Struct, frozen=True):
    """One candidate being tried at one target, under its own hold."""

    hold_id: str
    candidate: Candidate
    target: Target
    ask: Ask
    purse_nusd: int | None
    """What this leg may cost at the most; None where nothing limits it."""
    started: float

    @property
    def model(self) -> Model:
        return self.candidate.model


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


def _limit_name(target: Target) -> str:
    """Return the name of the output limit that a target surely knows: OpenAI's newer one only where it is OpenAI."""
    plain_openai = target.provider in ("openai", "azure") and not target.base_url
    return "max_completion_tokens" if plain_openai or _refuses_max_tokens(target) else "max_tokens"


@functools.lru_cache(maxsize=1024)
def _refuses_max_tokens(target: Target) -> bool:
    """Say whether a target is one of OpenAI's models that reason, which know `max_completion_tokens` alone."""
    return target.provider in ("openai", "azure") and _REASONS.match(target.model) is not None
