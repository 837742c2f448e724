"""OpenAI's chat-completions format, as its API reads and writes it.

Source: https://platform.openai.com/docs/api-reference/chat, 2025-06.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import chain, zip_longest
from random import Random
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from router.chat import Chat, FunctionDefinition
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

SNAPSHOTS: Mapping[str, str] = {
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-4-turbo": "gpt-4-turbo-2024-04-09",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o4-mini": "o4-mini-2025-04-16",
}
"""An alias is reported as the dated model that ran; any other name as it was asked."""

REASONING = re.compile(r"(o[1-9]|gpt-5)(?!.*chat)")

EFFORTS: Mapping[str | None, float] = {
    "none": 0.0,
    "minimal": 0.0,
    "low": 0.4,
    None: 1.0,
    "medium": 1.0,
    "high": 2.5,
    "xhigh": 4.0,
}

FAILURES: Mapping[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    408: ("timeout", None),
    409: ("conflict", None),
    413: ("invalid_request_error", "request_too_large"),
    422: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
    503: ("service_unavailable_error", None),
}
"""The type and code of an error of each status; of any other, `server_error`."""


class _Request(Chat, frozen=True):
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stop: str | list[str] | None = None
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None


class _Name(Struct, frozen=True):
    name: str = ""


class _NamedTool(Struct, frozen=True):
    type: str = "function"
    function: _Name = _Name()


class _Schema(Struct, frozen=True):
    name: str = ""
    schema: dict[str, Any] = {}


class _Format(Struct, frozen=True):
    type: str = "text"
    json_schema: _Schema | None = None


class _Prediction(Struct, frozen=True):
    content: Any = ""


_request = msgspec.json.Decoder(_Request)
_encode = msgspec.json.Encoder().encode


class OpenAI:
    """Chat completions, whole and streamed."""

    def read(self, body: bytes, path_model: str, action: str) -> Question | Rejection:
        try:
            request = _request.decode(body)
            tools = tuple(tool.function for tool in request.tools or () if tool.function is not None)
            choosing, named = _choice(request.tool_choice)
            schema = _schema(request.response_format)
            prediction = msgspec.convert(request.prediction or {}, _Prediction)
        except msgspec.ValidationError as error:
            return _wrong(str(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Rejection(
                400,
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using"
                " your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was"
                " not valid JSON.)",
            )
        if (refused := _refused(request, tools, named, schema)) is not None:
            return refused
        effort = EFFORTS.get(request.reasoning_effort, 1.0) if REASONING.match(request.model) else 0.0
        return Question(
            model=request.model,
            chat=request,
            limit=request.asked_output_tokens,
            choices=request.choices,
            stream=bool(request.stream),
            stream_usage=request.wants_usage,
            tools=tools,
            choosing=choosing,
            named_tool=named,
            parallel_tools=request.parallel_tool_calls is not False,
            schema=schema,
            stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
            seed=request.seed,
            reasoning_effort=effort,
            predicted=_plain(prediction.content),
            top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
            service_tier=request.service_tier if request.service_tier in ("flex", "priority") else "default",
        )

    def whole(self, reply: Reply) -> bytes:
        question = reply.question
        choices = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": _logprobs(choice.content, question),
                "finish_reason": _finish(choice, question),
            }
            for index, choice in enumerate(reply.choices)
        ]
        answer = _head(reply, "chat.completion") | {"choices": choices}
        return _encode(answer | ({"usage": _usage(reply, reply.usage)} if reply.usage else {}))

    def events(self, reply: Reply, chunk_tokens: int) -> Iterator[Beat]:
        head = _head(reply, "chat.completion.chunk")
        head |= {"usage": None} if reply.question.stream_usage else {}
        streams = (_deltas(reply.question, index, choice, chunk_tokens) for index, choice in enumerate(reply.choices))
        tokens = 0
        for delta in chain.from_iterable(zip_longest(*streams)):
            if delta is not None:
                tokens, choice = max(tokens, delta[0]), delta[1]
                yield Beat(_event(head | {"choices": [choice]}), tokens)
        if reply.question.stream_usage and reply.usage:
            yield Beat(_event(head | {"choices": [], "usage": _usage(reply, reply.usage)}), tokens)
        yield Beat(b"data: [DONE]\n\n", tokens)

    def error(self, rejection: Rejection) -> bytes:
        kind, code = FAILURES.get(rejection.status, ("server_error", None))
        error = {
            "message": rejection.message,
            "type": kind if rejection.code != "insufficient_quota" else "insufficient_quota",
            "param": rejection.param,
            "code": rejection.code or code,
        }
        return _encode({"error": error})

    def error_event(self) -> bytes:
        return _event(
            {
                "error": {
                    "message": "The server had an error while processing your request. Sorry about that!",
                    "type": "server_error",
                    "param": None,
                    "code": None,
                }
            }
        )


def _head(reply: Reply, kind: str) -> dict[str, object]:
    model = reply.question.model
    return {
        "id": f"chatcmpl-{reply.id}",
        "object": kind,
        "created": reply.created,
        "model": SNAPSHOTS.get(model, model),
        "service_tier": reply.question.service_tier,
        "system_fingerprint": "fp_" + blake2b(model.encode(), digest_size=5).hexdigest(),
    }


def _event(value: object) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


def _message(choice: Choice) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if choice.tools else text_of(choice.content),
        "refusal": None,
        "annotations": [],
    }
    if choice.tools:
        message["tool_calls"] = [
            {
                "id": f"call_{tool.id}",
                "type": "function",
                "function": {"name": tool.name, "arguments": text_of(tool.arguments)},
            }
            for tool in choice.tools
        ]
    return message


def _deltas(
    question: Question, index: int, choice: Choice, chunk_tokens: int
) -> Iterator[tuple[int, dict[str, object]]]:
    """Return what each chunk says of one choice, and how many tokens it took until then."""

    def chunk(delta: Mapping[str, object], logprobs: object = None, finish: str | None = None) -> dict[str, object]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    tokens = len(choice.reasoning)
    opening: dict[str, object] = {"role": "assistant", "content": "", "refusal": None}
    if not choice.tools:
        yield tokens, chunk(opening)
    for piece in pieces(choice.content, chunk_tokens):
        tokens += len(piece.tokens)
        yield tokens, chunk({"content": piece.text}, _logprobs(piece.tokens, question))
    for place, tool in enumerate(choice.tools):
        call = {
            "index": place,
            "id": f"call_{tool.id}",
            "type": "function",
            "function": {"name": tool.name, "arguments": ""},
        }
        start: dict[str, object] = {"tool_calls": [call]}
        yield tokens, chunk(start if place else {**opening, "content": None, **start})
        for piece in pieces(tool.arguments, chunk_tokens):
            tokens += len(piece.tokens)
            yield tokens, chunk({"tool_calls": [{"index": place, "function": {"arguments": piece.text}}]})
    yield choice.output_tokens, chunk({}, finish=_finish(choice, question))


def _finish(choice: Choice, question: Question) -> str:
    """Return the finish reason. Where the caller named the function, OpenAI says "stop"."""
    if choice.finish == "tools":
        return "stop" if question.named_tool else "tool_calls"
    return choice.finish


def _logprobs(tokens: tuple[bytes, ...], question: Question) -> dict[str, object] | None:
    if question.top_logprobs is None:
        return None
    return {"content": [_logprob(token, question.top_logprobs) for token in tokens], "refusal": None}


def _logprob(token: bytes, alternatives: int) -> dict[str, object]:
    random = Random(token)
    likely = random.uniform(0.5, 1.0)
    entries = [_likelihood(token, likely)]
    entries += [_likelihood(b" " * rank + token.strip(), (1 - likely) / 2**rank) for rank in range(1, alternatives)]
    return {**entries[0], "top_logprobs": entries[:alternatives]}


def _likelihood(token: bytes, probability: float) -> dict[str, object]:
    return {"token": token.decode(errors="replace"), "logprob": math.log(probability), "bytes": list(token)}


def _usage(reply: Reply, usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": reply.accepted_prediction_tokens,
            "rejected_prediction_tokens": reply.rejected_prediction_tokens,
        },
    }


def _choice(asked: object) -> tuple[Choosing, str | None]:
    match asked:
        case "none" | "auto" | "required":
            return asked, None
        case {"type": "function"}:
            return "required", msgspec.convert(asked, _NamedTool).function.name
        case _:
            return "auto", None


def _schema(asked: object) -> Mapping[str, object] | None:
    wanted = msgspec.convert(asked or {}, _Format)
    if wanted.type == "json_object":
        return JSON_OBJECT
    return wanted.json_schema.schema if wanted.type == "json_schema" and wanted.json_schema else None


def _plain(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _refused(
    request: _Request,
    tools: tuple[FunctionDefinition, ...],
    named: str | None,
    schema: Mapping[str, object] | None,
) -> Rejection | None:
    """Refuse what the real API refuses of a request that has the right shape."""
    if REASONING.match(request.model) and request.max_tokens is not None:
        return Rejection(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model."
            " Use 'max_completion_tokens' instead.",
            code="unsupported_parameter",
            param="max_tokens",
        )
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        return Rejection(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            code="invalid_parameter_combination",
            param="max_tokens",
        )
    if request.stream_options is not None and not request.stream:
        return Rejection(
            400,
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    if named is not None and named not in {tool.name for tool in tools}:
        return Rejection(400, f"Tool choice '{named}' not found in 'tools' parameter.", param="tool_choice")
    said = " ".join(message.text() for message in request.messages).lower()
    if schema is JSON_OBJECT and "json" not in said:
        return Rejection(
            400,
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )
    return None


def _wrong(text: str) -> Rejection:
    """Word a wrong shape as OpenAI does, with the member at fault as `param`."""
    if missing := re.match(r"Object missing required field `(\w+)`(?: - at `\$\.?(.*)`)?", text):
        param = f"{missing[2]}.{missing[1]}" if missing[2] else missing[1]
        if param == "model":
            return Rejection(400, "you must provide a model parameter")
        return Rejection(400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    place = re.search(r"`\$\.?([^`]*)`", text)
    param = place[1] if place else None
    if param == "messages" and "length >= 1" in text:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        return Rejection(400, message, code="empty_array", param=param)
    code = "invalid_type" if text.startswith("Expected `") and ", got `" in text else "invalid_value"
    return Rejection(400, f"Invalid value for '{param}': {text.partition(' - at')[0]}.", code=code, param=param)
