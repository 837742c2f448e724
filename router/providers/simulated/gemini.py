"""Gemini's generateContent format, as its API reads and writes it.

Source: https://ai.google.dev/api/generate-content, 2025-09.
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
    JSON_OBJECT,
    Beat,
    Choice,
    Choosing,
    Question,
    Rejection,
    Reply,
)
from router.providers.simulated.text import pieces, text_of
from router.values import Usage

CHUNK_FACTOR = 16

FAILURES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

FINISHES: Mapping[str, str] = {"stop": "STOP", "length": "MAX_TOKENS", "tools": "STOP"}


class _Blob(Struct, frozen=True, rename="camel"):
    mime_type: str = ""
    data: str = ""


class _Call(Struct, frozen=True):
    name: str = ""
    args: Any = None
    response: Any = None


class _Part(Struct, frozen=True, rename="camel"):
    text: str | None = None
    inline_data: _Blob | None = None
    function_call: _Call | None = None
    function_response: _Call | None = None


class _Content(Struct, frozen=True):
    parts: list[_Part] = []
    role: str = "user"


class _Declaration(Struct, frozen=True, rename="camel"):
    name: str = ""
    description: str | None = None
    parameters: Any = None
    parameters_json_schema: Any = None


class _Tool(Struct, frozen=True, rename="camel"):
    function_declarations: list[_Declaration] | None = None


class _CallingConfig(Struct, frozen=True, rename="camel"):
    mode: str = "AUTO"
    allowed_function_names: list[str] | None = None


class _ToolConfig(Struct, frozen=True, rename="camel"):
    function_calling_config: _CallingConfig = _CallingConfig()


class _Thinking(Struct, frozen=True, rename="camel"):
    thinking_budget: int | None = None
    include_thoughts: bool = False


class _Generation(Struct, frozen=True, rename="camel"):
    max_output_tokens: Limit | None = None
    candidate_count: Annotated[int, Meta(ge=1, le=8)] = 1
    stop_sequences: list[str] | None = None
    seed: int | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    thinking_config: _Thinking | None = None


class _Request(Struct, frozen=True, rename="camel"):
    contents: Annotated[list[_Content], Meta(min_length=1)]
    system_instruction: _Content | None = None
    tools: list[_Tool] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _Generation = _Generation()


_SNAKE = {
    b'"system_instruction"': b'"systemInstruction"',
    b'"function_declarations"': b'"functionDeclarations"',
    b'"function_call"': b'"functionCall"',
    b'"function_response"': b'"functionResponse"',
    b'"inline_data"': b'"inlineData"',
    b'"mime_type"': b'"mimeType"',
    b'"generation_config"': b'"generationConfig"',
    b'"max_output_tokens"': b'"maxOutputTokens"',
}
_request = msgspec.json.Decoder(_Request)
_encode = msgspec.json.Encoder().encode


class Gemini:
    """generateContent and streamGenerateContent, with tools, thinking and implicit caching."""

    def read(self, body: bytes, path_model: str, action: str) -> Question | Rejection:
        try:
            request = _request.decode(_camel(body))
        except msgspec.ValidationError as error:
            return Rejection(400, f"Invalid JSON payload received. {error}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Rejection(400, "Invalid JSON payload received. Unknown name or unexpected token.")
        wanted = request.generation_config
        calling = (request.tool_config or _ToolConfig()).function_calling_config
        chat = _chat(request, path_model)
        names = calling.allowed_function_names or ()
        schema = wanted.response_schema or wanted.response_json_schema
        as_json = wanted.response_mime_type == "application/json"
        return Question(
            model=path_model,
            chat=chat,
            limit=wanted.max_output_tokens,
            choices=wanted.candidate_count,
            stream=action == "streamGenerateContent",
            tools=tuple(tool.function for tool in chat.tools or () if tool.function is not None),
            choosing=_choosing(calling.mode),
            named_tool=names[0] if len(names) == 1 else None,
            schema=(schema or JSON_OBJECT) if as_json else None,
            stop=tuple(wanted.stop_sequences or ()),
            seed=wanted.seed,
            reasoning_effort=_effort(path_model, wanted.thinking_config),
        )

    def whole(self, reply: Reply) -> bytes:
        candidates = [
            _candidate(index, _parts(choice), FINISHES[choice.finish]) for index, choice in enumerate(reply.choices)
        ]
        return _encode(_answer(reply, candidates, _usage(reply.usage)))

    def events(self, reply: Reply, chunk_tokens: int) -> Iterator[Beat]:
        usage = reply.usage
        for index, choice in enumerate(reply.choices):
            tokens = len(choice.reasoning)
            for piece in pieces(choice.content, chunk_tokens * CHUNK_FACTOR):
                tokens += len(piece.tokens)
                so_far = None
                if usage is not None:
                    so_far = Usage(usage.input_tokens, tokens, reasoning_tokens=len(choice.reasoning))
                part: dict[str, object] = {"text": piece.text}
                yield _beat(_answer(reply, [_candidate(index, [part], None)], _usage(so_far)), tokens)
            last: list[dict[str, object]] = _parts(choice) if choice.tools else [{"text": ""}]
            ended = _candidate(index, last, FINISHES[choice.finish])
            yield _beat(_answer(reply, [ended], _usage(usage)), choice.output_tokens)

    def error(self, rejection: Rejection) -> bytes:
        kind = rejection.code or FAILURES.get(rejection.status, "UNKNOWN")
        return _encode({"error": {"code": rejection.status, "message": rejection.message, "status": kind}})

    def error_event(self) -> bytes:
        error = {
            "code": 503,
            "message": "The model is overloaded. Please try again later.",
            "status": "UNAVAILABLE",
        }
        return _beat({"error": error}, 0).raw


def _camel(body: bytes) -> bytes:
    """Turn the snake-case names, which the API takes as well, to camel case."""
    for snake, camel in _SNAKE.items():
        body = body.replace(snake, camel)
    return body


def _beat(value: object, tokens: int) -> Beat:
    return Beat(b"data: " + _encode(value) + b"\r\n\r\n", tokens)


def _answer(reply: Reply, candidates: list[dict[str, object]], usage: dict[str, object] | None) -> dict[str, object]:
    answer: dict[str, object] = {"candidates": candidates}
    if usage is not None:
        answer["usageMetadata"] = usage
    return answer | {"modelVersion": reply.question.model, "responseId": reply.id[:22]}


def _candidate(index: int, parts: list[dict[str, object]], finish: str | None) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"parts": parts, "role": "model"}, "index": index}
    return candidate | ({"finishReason": finish} if finish else {})


def _parts(choice: Choice) -> list[dict[str, object]]:
    """Return the parts of a whole answer. A call that a limit cut is left out: its arguments are no JSON."""
    if choice.content or not choice.tools:
        return [{"text": text_of(choice.content)}]
    parts: list[dict[str, object]] = []
    for tool in choice.tools:
        try:
            arguments = msgspec.json.decode(text_of(tool.arguments))
        except msgspec.DecodeError:
            continue
        parts.append({"functionCall": {"name": tool.name, "args": arguments}})
    return parts or [{"text": ""}]


def _usage(usage: Usage | None) -> dict[str, object] | None:
    """Write usage as Gemini does: thoughts stand beside the candidates, not in them."""
    if usage is None:
        return None
    told: dict[str, object] = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input_tokens}],
    }
    if usage.reasoning_tokens:
        told["thoughtsTokenCount"] = usage.reasoning_tokens
    if usage.cached_tokens:
        told["cachedContentTokenCount"] = usage.cached_tokens
        told["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cached_tokens}]
    return told


def _effort(model: str, thinking: _Thinking | None) -> float:
    """Gemini 2.5 and later think unless the budget is 0; flash-lite only where it is asked to."""
    if not model.startswith(("gemini-2.5", "gemini-3")):
        return 0.0
    if thinking is not None and thinking.thinking_budget is not None:
        return 0.0 if thinking.thinking_budget == 0 else 1.0
    return 0.0 if "lite" in model else 1.0


def _choosing(mode: str) -> Choosing:
    match mode.upper():
        case "NONE":
            return "none"
        case "ANY":
            return "required"
        case _:
            return "auto"


def _chat(request: _Request, model: str) -> Chat:
    """Write the request as a chat, so that it is counted and answered as any other."""
    messages: list[Message] = []
    if request.system_instruction is not None:
        messages += [Message("system", message.content) for message in _messages(request.system_instruction)]
    for content in request.contents:
        messages += _messages(content)
    tools = [
        Tool(
            "function",
            FunctionDefinition(one.name, one.description, one.parameters or one.parameters_json_schema),
        )
        for tool in request.tools or ()
        for one in tool.function_declarations or ()
    ]
    return Chat(model, messages or [Message("user", "")], tools=tools or None)


def _messages(content: _Content) -> Iterator[Message]:
    parts: list[Part] = []
    calls: list[ToolCall] = []
    for part in content.parts:
        if part.function_response is not None:
            yield Message("tool", _encode(part.function_response.response).decode())
        elif part.function_call is not None:
            function = FunctionCall(part.function_call.name, _encode(part.function_call.args).decode())
            calls.append(ToolCall(function=function))
        elif part.inline_data is not None:
            url = f"data:{part.inline_data.mime_type};base64,{part.inline_data.data}"
            parts.append(Part("image_url", image_url=ImageUrl(url)))
        elif part.text:
            parts.append(Part("text", text=part.text))
    if parts or calls:
        role = "assistant" if content.role == "model" else "user"
        yield Message(role, parts or None, tool_calls=calls or None)
