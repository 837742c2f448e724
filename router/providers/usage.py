"""Usage as OpenAI-format providers report it, turned into ours; their small differences end here."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from router.values import Usage


class PromptDetails(Struct, frozen=True):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(Struct, frozen=True):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class ReportedUsage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name for cached tokens."""
    num_search_queries: int | None = None
    """Perplexity's name for billed searches."""


_NO_PROMPT_DETAILS = PromptDetails()
_NO_COMPLETION_DETAILS = CompletionDetails()
_decoder = msgspec.json.Decoder(ReportedUsage)


def usage_from(raw: msgspec.Raw | bytes, service_tier: str | None) -> Usage | None:
    """Read a `usage` member; None where it is missing, null, or can't be true (then we count for ourselves)."""
    if bytes(raw) in (b"", b"null"):
        return None
    try:
        reported = _decoder.decode(raw)
    except msgspec.DecodeError:
        return None
    if reported.prompt_tokens < 0 or reported.completion_tokens < 0:
        return None
    if not (reported.prompt_tokens or reported.completion_tokens):
        # No answer is made of nothing: some servers send zeros where they did not count.
        return None
    prompt = reported.prompt_tokens_details or _NO_PROMPT_DETAILS
    completion = reported.completion_tokens_details or _NO_COMPLETION_DETAILS
    input_tokens, output_tokens = reported.prompt_tokens, reported.completion_tokens
    reasoning = max(0, completion.reasoning_tokens or 0)
    # xAI counts reasoning beside completion_tokens; everyone else counts it inside.
    if reasoning and reported.total_tokens == input_tokens + output_tokens + reasoning:
        output_tokens += reasoning
    cached = prompt.cached_tokens if prompt.cached_tokens is not None else reported.prompt_cache_hit_tokens
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=_part(cached, input_tokens),
        cache_write_tokens=_part(prompt.cache_write_tokens, input_tokens),
        input_audio_tokens=_part(prompt.audio_tokens, input_tokens),
        input_image_tokens=_part(prompt.image_tokens, input_tokens),
        reasoning_tokens=min(reasoning, output_tokens),
        output_audio_tokens=_part(completion.audio_tokens, output_tokens),
        output_image_tokens=_part(completion.image_tokens, output_tokens),
        searches=max(0, reported.num_search_queries or 0),
        service_tier=service_tier or "default",
    )


def _part(tokens: int | None, whole: int) -> int:
    return max(0, min(tokens or 0, whole))
