"""Anthropic's messages format, as its API reads and writes it.

Source: https://docs.anthropic.com/en/api/messages, 2025-09.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from router.chat import (
    Chat,
    FunctionCall,
    FunctionDefinition,
    ImageUrl,
    Limit,
    Message,
    Part,
    Tool,
    ToolCall,
)
from router.providers.simulated.question import (
    Beat,
    CacheMark,
    Choice,
    Choosing,
    Question,
    Rejection,
    Reply,
)
from router.providers.simulated.text import pieces, text_of
from router.values import Usage

SNAPSHOTS: Mapping[str, str] = {
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
    "claude-sonnet-4-0": "claude-sonnet-4-20250514",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
}

FAILURES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}

MOST_MARKS = 4
"""Places in a request that may be marked for the cache."""


class _CacheControl(Struct, frozen=True):
    type: str = "ephemeral"
    ttl: str = "5m"


class _Source(Struct, frozen=True):
    type: str = ""
    media_type: str = ""
    data: str = ""
    url: str = ""


class _Block(Struct, frozen=True):
    type: str = "text"
    text: str = ""
    id: str = ""
    name: str = ""
    input: Any = None
    tool_use_id: str = ""
    content: Any = None
    source: _Source | None = None
    cache_control: _CacheControl | None = None


class _Message(Struct, frozen=True):
    role: str
    content: str | list[_Block]


class _Tool(Struct, frozen=True):
    name: str = ""
    description: str | None = None
    input_schema: Any = None
    cache_control: _CacheControl | None = None


class _ToolChoice(Struct, frozen=True):
    type: str = "auto"
    name: str | None = None
    disable_parallel_tool_use: bool = False


class _Thinking(Struct, frozen=True):
    type: str = "disabled"
    budget_tokens: int = 0


class _Format(Struct, frozen=True):
    type: str = ""
    schema: dict[str, Any] = {}


class _OutputConfig(Struct, frozen=True):
    format: _Format | None = None


class _Request(Struct, frozen=True):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_tokens: Limit
    system: str | list[_Block] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    stream: bool = False
    stop_sequences: list[str] | None = None
    thinking: _Thinking | None = None
    output_format: _Format | None = None
    output_config: _OutputConfig | None = None


_request = msgspec.json.Decoder(_Request)
_encode = msgspec.json.Encoder().encode


class Anthropic:
    """Messages, whole and streamed, with tools, thinking and marked prompt caching."""

    def read(self, body: bytes, path_model: str, action: str) -> Question | Rejection:
        try:
            request = _request.decode(body)
        except msgspec.ValidationError as error:
            return Rejection(400, _worded(str(error)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Rejection(400, "The request body is not valid JSON.")
        marks = _marks(request)
        if len(marks) > MOST_MARKS:
            return Rejection(
                400,
                f"A maximum of {MOST_MARKS} blocks with cache_control may be provided. Found {len(marks)}.",
            )
        chat = _chat(request)
        choice = request.tool_choice or _ToolChoice()
        wanted = request.output_format or (request.output_config and request.output_config.format)
        return Question(
            model=request.model,
            chat=chat,
            limit=request.max_tokens,
            stream=request.stream,
            tools=tuple(tool.function for tool in chat.tools or () if tool.function is not None),
            choosing=_choosing(choice),
            named_tool=choice.name if choice.type == "tool" else None,
            parallel_tools=not choice.disable_parallel_tool_use,
            schema=wanted.schema if wanted else None,
            stop=tuple(request.stop_sequences or ()),
            reasoning_effort=1.0 if request.thinking and request.thinking.type != "disabled" else 0.0,
            cache_marks=marks,
        )

    def whole(self, reply: Reply) -> bytes:
        choice = reply.choices[0]
        message = _message(reply) | {
            "content": list(_blocks(choice)),
            "stop_reason": _stop_reason(choice),
            "stop_sequence": choice.stopped_by,
        }
        return _encode(message | ({"usage": _usage(reply.usage)} if reply.usage else {}))

    def events(self, reply: Reply, chunk_tokens: int) -> Iterator[Beat]:
        choice = reply.choices[0]
        begun = {"usage": _usage(reply.usage) | {"output_tokens": 1}} if reply.usage else {}
        yield _beat("message_start", {"message": _message(reply) | begun}, 0)
        tokens = 0
        for index, block in enumerate(_blocks(choice, empty=True)):
            yield _beat("content_block_start", {"index": index, "content_block": block}, tokens)
            if index == 0:
                yield _beat("ping", {}, tokens)
            for delta, took in _deltas(choice, index, chunk_tokens):
                tokens += took
                yield _beat("content_block_delta", {"index": index, "delta": delta}, tokens)
            yield _beat("content_block_stop", {"index": index}, tokens)
        ended: dict[str, object] = {"delta": {"stop_reason": _stop_reason(choice), "stop_sequence": choice.stopped_by}}
        if reply.usage:
            told = _usage(reply.usage)
            ended["usage"] = {name: count for name, count in told.items() if isinstance(count, int)}
        yield _beat("message_delta", ended, choice.output_tokens)
        yield _beat("message_stop", {}, choice.output_tokens)

    def error(self, rejection: Rejection) -> bytes:
        kind = rejection.code or FAILURES.get(rejection.status, "api_error")
        error = {"type": kind, "message": rejection.message}
        return _encode({"type": "error", "error": error, "request_id": "req_simulated"})

    def error_event(self) -> bytes:
        return _beat("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}}, 0).raw


def _beat(kind: str, members: Mapping[str, object], tokens: int) -> Beat:
    return Beat(b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode({"type": kind} | dict(members))), tokens)


def _message(reply: Reply) -> dict[str, object]:
    model = reply.question.model
    return {
        "id": f"msg_01{reply.id[:22]}",
        "type": "message",
        "role": "assistant",
        "model": SNAPSHOTS.get(model, model),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _blocks(choice: Choice, *, empty: bool = False) -> Iterator[dict[str, object]]:
    """Return thinking, then text or calls of tools; without what the deltas bring where `empty`."""
    if choice.reasoning:
        seen = {"thinking": "", "signature": ""} if empty else _thought(choice)
        yield {"type": "thinking", **seen}
    if choice.content:
        yield {"type": "text", "text": "" if empty else text_of(choice.content)}
    for tool in choice.tools:
        arguments = {} if empty else _object(text_of(tool.arguments))
        yield {"type": "tool_use", "id": f"toolu_01{tool.id[:22]}", "name": tool.name, "input": arguments}


def _thought(choice: Choice) -> dict[str, str]:
    return {"thinking": text_of(choice.reasoning), "signature": "c2ltdWxhdGVk"}


def _deltas(choice: Choice, index: int, chunk_tokens: int) -> Iterator[tuple[dict[str, str], int]]:
    """Return what comes of the block at `index`, and how many tokens each part took."""
    if choice.reasoning:
        if index == 0:
            for piece in pieces(choice.reasoning, chunk_tokens):
                yield {"type": "thinking_delta", "thinking": piece.text}, len(piece.tokens)
            yield {"type": "signature_delta", "signature": "c2ltdWxhdGVk"}, 0
            return
        index -= 1
    if choice.tools:
        yield {"type": "input_json_delta", "partial_json": ""}, 0
        for piece in pieces(choice.tools[index].arguments, chunk_tokens):
            yield {"type": "input_json_delta", "partial_json": piece.text}, len(piece.tokens)
        return
    for piece in pieces(choice.content, chunk_tokens):
        yield {"type": "text_delta", "text": piece.text}, len(piece.tokens)


def _object(arguments: str) -> object:
    """Read a tool's input; a limit may have cut it, and then there is none."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}


def _stop_reason(choice: Choice) -> str:
    if choice.finish == "stop":
        return "stop_sequence" if choice.stopped_by else "end_turn"
    return {"length": "max_tokens", "tools": "tool_use"}[choice.finish]


def _usage(usage: Usage) -> dict[str, object]:
    """Write usage as Anthropic does: `input_tokens` was neither read from the cache nor written to it."""
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - usage.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }


def _choosing(choice: _ToolChoice) -> Choosing:
    match choice.type:
        case "none":
            return "none"
        case "any" | "tool":
            return "required"
        case _:
            return "auto"


def _chat(request: _Request) -> Chat:
    """Write the request as a chat, so that it is counted and answered as any other."""
    system = _plain(request.system)
    messages = [Message("system", system)] if system else []
    for message in request.messages:
        messages += _messages(message)
    tools = [
        Tool("function", FunctionDefinition(tool.name, tool.description, tool.input_schema))
        for tool in request.tools or ()
    ]
    return Chat(request.model, messages, tools=tools or None)


def _messages(message: _Message) -> Iterator[Message]:
    if isinstance(message.content, str):
        yield Message(message.role, message.content)
        return
    parts: list[Part] = []
    calls: list[ToolCall] = []
    for block in message.content:
        match block.type:
            case "tool_result":
                yield Message("tool", _plain(block.content), tool_call_id=block.tool_use_id)
            case "tool_use":
                function = FunctionCall(block.name, _encode(block.input).decode())
                calls.append(ToolCall(block.id, function=function))
            case "image" if block.source is not None:
                source = block.source
                url = source.url or f"data:{source.media_type};base64,{source.data}"
                parts.append(Part("image_url", image_url=ImageUrl(url)))
            case _ if block.text:
                parts.append(Part("text", text=block.text))
    if parts or calls:
        yield Message(message.role, parts or None, tool_calls=calls or None)


def _plain(content: object) -> str:
    """Return the text of a system prompt or a tool's result: a string, or blocks of which some are text."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") if isinstance(block, dict) else getattr(block, "text", "") for block in blocks]
    return "\n".join(text for text in texts if isinstance(text, str))


def _marks(request: _Request) -> tuple[CacheMark, ...]:
    """Return the places marked for the cache, in Anthropic's order: tools, system, messages."""
    marks: list[CacheMark] = []
    prefix: list[str] = []
    blocks: list[tuple[str, _CacheControl | None]] = [
        (_encode(tool).decode(), tool.cache_control) for tool in request.tools or ()
    ]
    blocks += _marked(request.system or "")
    for message in request.messages:
        blocks += _marked(message.content)
    for text, control in blocks:
        prefix.append(text)
        if control is not None:
            marks.append(CacheMark("\n".join(prefix), for_an_hour=control.ttl == "1h"))
    return tuple(marks)


def _marked(content: str | list[_Block]) -> list[tuple[str, _CacheControl | None]]:
    if isinstance(content, str):
        return [(content, None)]
    return [(block.text or _encode([block.input, block.content]).decode(), block.cache_control) for block in content]


def _worded(text: str) -> str:
    what, _, path = text.partition(" - at `$")
    if "missing required field" in what:
        name = what.split("`")[1]
        place = path.strip(".`")
        return f"{place + '.' if place else ''}{name}: Field required"
    return f"{path.strip('.`') or 'body'}: {what}"
