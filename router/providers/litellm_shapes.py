"""OpenAI's shapes as litellm fills them: what of an answer or a chunk is passed on, and its usage as ours.

Only the members named here pass; litellm's private ones (`provider_specific_fields`, costs, …) do not.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from router.providers.litellm_watch import Watch
from router.values import Usage

TIERS = {"standard": "default"}
"""Anthropic's name for what we call `default`."""


class FunctionCall(Struct, omit_defaults=True):
    arguments: str | None = None
    name: str | None = None


class ToolCall(Struct, omit_defaults=True):
    function: FunctionCall
    index: int | None = None
    id: str | None = None
    type: str | None = None


class Message(Struct, omit_defaults=True):
    """A whole message, or the part of it that a chunk brings."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[dict[str, Any]] | None = None
    """Signed by Anthropic: the caller sends them back with the results of its tools."""
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    audio: dict[str, Any] | None = None
    images: list[dict[str, Any]] | None = None
    annotations: list[dict[str, Any]] | None = None

    def text(self) -> str:
        """Return all of it that was generated and can be seen, for counting."""
        calls = [call.function for call in self.tool_calls or ()]
        if self.function_call:
            calls.append(self.function_call)
        pieces = [self.reasoning_content, self.content, self.refusal]
        for call in calls:
            pieces += [call.name, call.arguments]
        return "".join(piece for piece in pieces if piece)


class Choice(Struct):
    index: int = 0
    finish_reason: str | None = None
    logprobs: Any = None
    message: Message | None = None
    delta: Message | None = None


class CacheWrites(Struct):
    ephemeral_1h_input_tokens: int | None = None


class PromptDetails(Struct):
    cached_tokens: int | None = None
    cache_creation_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_token_details: CacheWrites | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    web_search_requests: int | None = None


class CompletionDetails(Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class ServerToolUse(Struct):
    web_search_requests: int | None = None


class VendorUsage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    server_tool_use: ServerToolUse | None = None
    service_tier: str | None = None


class Reply(Struct):
    """A ModelResponse, or one chunk of a stream."""

    id: str
    created: int
    choices: list[Choice]
    model: str | None = None
    usage: VendorUsage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None

    def texts(self) -> dict[int, str]:
        """Return what each choice says, by its index; none is empty, and nothing is lost where two have one index."""
        said: dict[int, str] = {}
        for choice in self.choices:
            if (message := choice.message or choice.delta) and (text := message.text()):
                said[choice.index] = said.get(choice.index, "") + text
        return said

    @property
    def finish_reason(self) -> str | None:
        return next((choice.finish_reason for choice in self.choices if choice.finish_reason), None)


def usage_of(reply: Reply, watch: Watch, search_context: str) -> Usage | None:
    """Return the usage that was reported, or None: where none was, litellm writes zeros or its own count.

    litellm's `prompt_tokens` includes cached reads and writes for every provider, Anthropic too, whose own
    `input_tokens` does not (litellm 1.106.2, llms/anthropic/chat/transformation.py, calculate_usage).
    """
    usage = reply.usage
    if usage is None or not (usage.prompt_tokens or usage.completion_tokens) or watch.usage_missing:
        return None
    prompt = usage.prompt_tokens_details or PromptDetails()
    completion = usage.completion_tokens_details or CompletionDetails()
    tools = usage.server_tool_use or ServerToolUse()
    writes = prompt.cache_creation_token_details or CacheWrites()
    tier = usage.service_tier or reply.service_tier or watch.service_tier or "default"
    sent, cached = watch.modalities()
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=prompt.cached_tokens or 0,
        cache_write_tokens=prompt.cache_write_tokens or prompt.cache_creation_tokens or 0,
        cache_write_1h_tokens=writes.ephemeral_1h_input_tokens or 0,
        input_audio_tokens=sent.get("AUDIO", prompt.audio_tokens or 0),
        cached_audio_tokens=cached.get("AUDIO", 0),
        input_image_tokens=sent.get("IMAGE", prompt.image_tokens or 0),
        reasoning_tokens=completion.reasoning_tokens or 0,
        output_audio_tokens=completion.audio_tokens or 0,
        output_image_tokens=completion.image_tokens or 0,
        searches=tools.web_search_requests or prompt.web_search_requests or 0,
        search_context=search_context,
        service_tier=TIERS.get(tier, tier),
    )


def answer_body(reply: Reply, usage: Usage | None) -> bytes:
    """Write a whole answer as OpenAI does."""
    body: dict[str, object] = {
        "id": reply.id,
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [_whole_choice(choice) for choice in reply.choices],
    }
    if usage is not None:
        body["usage"] = usage_members(usage)
    return msgspec.json.encode(body)


def chunk_event(reply: Reply) -> bytes:
    """Write a chunk as a server-sent event; nothing where it says nothing."""
    choices = [_chunk_choice(choice) for choice in reply.choices if _says_something(choice)]
    return _event(reply, choices) if choices else b""


def usage_event(reply: Reply, usage: Usage) -> bytes:
    """Write the event that ends a stream whose caller asked for usage."""
    return _event(reply, [], usage_members(usage))


def usage_members(usage: Usage) -> dict[str, object]:
    prompt = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.input_audio_tokens}
    if usage.cache_write_tokens:
        prompt["cache_write_tokens"] = usage.cache_write_tokens
    completion = {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": usage.output_audio_tokens}
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": completion,
    }


def _whole_choice(choice: Choice) -> dict[str, object]:
    message = choice.message or Message()
    for call in message.tool_calls or ():
        # Whole answers number no calls; litellm leaves Anthropic's number of the content block there.
        call.index = None
    members: dict[str, object] = {"role": "assistant", "content": None, "refusal": None}
    return {
        "index": choice.index,
        "message": members | msgspec.to_builtins(message),
        "finish_reason": choice.finish_reason,
        "logprobs": choice.logprobs,
    }


def _chunk_choice(choice: Choice) -> dict[str, object]:
    delta = choice.delta or Message()
    if not delta.content and not delta.role:
        delta.content = None
    members = {"index": choice.index, "delta": delta, "finish_reason": choice.finish_reason}
    return members if choice.logprobs is None else members | {"logprobs": choice.logprobs}


def _says_something(choice: Choice) -> bool:
    said = msgspec.structs.asdict(choice.delta).values() if choice.delta else ()
    return choice.finish_reason is not None or any(value not in (None, "", []) for value in said)


def _event(reply: Reply, choices: list[dict[str, object]], usage: dict[str, object] | None = None) -> bytes:
    body: dict[str, object] = {
        "id": reply.id,
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": reply.model,
        "choices": choices,
    }
    if usage is not None:
        body["usage"] = usage
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
