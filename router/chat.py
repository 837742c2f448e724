"""An OpenAI chat request: decoded once at the edge, and written again with only a few members changed.

Every member of the body that we do not change reaches the provider as the very bytes that came in, known to us or
not. What is decoded here is what counting, routing and pricing need to see.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from router.errors import InvalidRequest

LARGEST_LIMIT = 1_000_000_000
"""No model gives this many tokens; a larger limit is a mistake in the caller's code."""

Limit = Annotated[int, Meta(ge=1, le=LARGEST_LIMIT)]


class ImageUrl(Struct, frozen=True):
    url: str
    detail: str | None = None


class InputAudio(Struct, frozen=True):
    data: str
    format: str = ""


class Part(Struct, frozen=True):
    """One part of a message's content; `type` says which of the others is set."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None
    input_audio: InputAudio | None = None
    file: Any = None
    cache_control: Any = None


class FunctionCall(Struct, frozen=True):
    name: str = ""
    arguments: str = ""


class CustomCall(Struct, frozen=True):
    name: str = ""
    input: str = ""


class ToolCall(Struct, frozen=True):
    id: str = ""
    type: str = "function"
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class Message(Struct, frozen=True):
    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    reasoning_content: str | None = None
    cache_control: Any = None

    def text(self) -> str:
        """Return the message's text, its parts joined by newlines; empty where it has none."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.text)


class FunctionDefinition(Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: Any = None
    strict: bool | None = None


class Tool(Struct, frozen=True):
    type: str
    function: FunctionDefinition | None = None
    custom: Any = None
    cache_control: Any = None


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None


class Chat(Struct, frozen=True):
    """The members of a chat-completions body that Farthing looks at; all others pass through unseen."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    functions: list[FunctionDefinition] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    function_call: Any = None
    response_format: Any = None
    prediction: Any = None
    modalities: list[str] | None = None
    web_search_options: Any = None
    search_parameters: Any = None
    """xAI's name for it."""
    service_tier: str | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None

    @property
    def choices(self) -> int:
        """How many answers were asked for."""
        return self.n or 1

    @property
    def asked_output_tokens(self) -> int | None:
        """The caller's own limit for one answer; the smaller where both names are given, None where neither is."""
        given = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return min(given, default=None)

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools or self.functions)

    @property
    def wants_usage(self) -> bool:
        """Whether the caller asked for the usage chunk at the end of a stream."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def last_user_text(self) -> str:
        """Return the text of the last user message; empty where there is none."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text()
        return ""


class ChatBody:
    """A body as it came (each member's raw bytes) beside what was decoded of it.

    Raises on construction:
        InvalidRequest: the bytes are not UTF-8, not JSON, too deeply nested or not of the documented shape; says where.
    """

    __slots__ = ("chat", "fields")

    def __init__(self, body: bytes) -> None:
        try:
            if not body.isascii():
                body.decode()
            self.fields: dict[str, Raw] = _FIELDS.decode(body)
            self.chat: Chat = _CHAT.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise not_read(error, body) from None

    def rewritten(self, changes: dict[str, bytes | None]) -> bytes:
        """Return the body with the members in `changes` set to those raw JSON values, or left out where None.

        All other members keep their bytes and their order; new members come last.
        """
        merged: dict[str, bytes | Raw | None] = {**self.fields, **changes}
        members = (
            _encode(name) + b":" + (value if isinstance(value, bytes) else bytes(value))
            for name, value in merged.items()
            if value is not None
        )
        return b"{" + b",".join(members) + b"}"


_FIELDS: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_CHAT = msgspec.json.Decoder(Chat)
_encode = msgspec.json.Encoder().encode
MOST_TOLD_CHARS = 60
"""Of a name that a caller made up."""
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)


def not_read(error: Exception, body: bytes) -> InvalidRequest:
    """Say in our words why a body could not be decoded, and where."""
    match error:
        case msgspec.ValidationError():
            return _wrong_shape(str(error))
        case UnicodeDecodeError(start=start):
            return InvalidRequest(f"The body is not valid UTF-8: byte 0x{body[start]:02x} at position {start}.")
        case RecursionError():
            return InvalidRequest("The body is nested too deeply to be read; flatten it.")
    return InvalidRequest(f"The body is not valid JSON: {_uncapitalised(str(error))}.")


def _wrong_shape(text: str) -> InvalidRequest:
    """Turn msgspec's words ("Expected `int`, got `str` - at `$.n`") into ours, with the place as `param`."""
    found = _AT.match(text)
    what, path = (found["what"], found["path"] or "$") if found else (text, "$")
    param = path.removeprefix("$").removeprefix(".").replace("[...]", "[]") or None
    if missing := re.match(r"Object missing required field `(\w+)`", what):
        where = f"{param}.{missing[1]}" if param else missing[1]
        return InvalidRequest(f"The body lacks the required member `{where}`.", param=where)
    if unknown := re.match(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        where = f"{param}.{unknown[1]}" if param else unknown[1]
        return InvalidRequest(
            f"There is no member `{where[:MOST_TOLD_CHARS]}`; leave it out.", param=where[:MOST_TOLD_CHARS]
        )
    place = f"`{param}`" if param else "the body"
    return InvalidRequest(f"Wrong value in {place}: {_uncapitalised(what)}.", param=param)


def _uncapitalised(text: str) -> str:
    return text if text.startswith("JSON") else text[:1].lower() + text[1:]
