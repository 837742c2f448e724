"""Counts a request's input tokens, each text once for as long as its digest is remembered.

A count never raises for a request that was decoded, takes time in proportion to it, keeps no text, and is
an upper bound where it can't be exact, because a hold in dollars rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from json.encoder import encode_basestring_ascii

from msgspec.json import Encoder

from router.chat import Chat, FunctionDefinition, Message, Part, ToolCall
from router.tokens import schema
from router.tokens.audio import audio_tokens
from router.tokens.encoding import EncodingName, Encodings, utf8_length
from router.tokens.images import size_of
from router.tokens.rules import TokenRules
from router.tokens.texts import Texts

LONG_CHARS = 65_536
"""A request with more text than this is better counted off the event loop: it takes over a millisecond."""

LONGEST_EXACT_CHARS = 8_000_000
"""A request with more text is bounded by its length in UTF-8 instead; hardly a model's context holds that
much."""

SHORT_CHARS = 1_024
"""A system message shorter than this is counted with and without the line end that tools put behind it."""

CUSTOM_TOOL_TOKENS = 64
"""Around the definition of a tool that is not a function."""

_PLAIN_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
"""Each is one token in both encodings."""

_to_json = Encoder().encode


class Counter:
    """Counts for one process; holds the encodings and what it remembers. May be used from several threads."""

    def __init__(self, *, remembered: int = 16_384) -> None:
        """Remember the counts of the last `remembered` different texts, and of twice as many at most."""
        self._encodings = Encodings()
        self._texts = Texts(self._encodings, remembered)

    def warm(self, encodings: Iterable[EncodingName]) -> None:
        """Load encodings now (about 0.3 s each), so that no request waits for them.

        Raises:
            FarthingError: an encoding's ranks are not on this machine.
        """
        for name in encodings:
            self._encodings.get(name)

    def count_text(self, text: str, rules: TokenRules) -> int:
        """Count a text by itself, without any framing; never more than its bytes in UTF-8."""
        if len(text) > LONGEST_EXACT_CHARS:
            return utf8_length(text)
        return self._texts.count(text, rules)

    def count_input(self, chat: Chat, rules: TokenRules, *, system_prompt: str | None = None) -> int:
        """Count all that a model reads of a request: messages, tools, schema, images, audio and files.

        `system_prompt`, where given, stands in place of every system and developer message.
        """
        exact = len(system_prompt or "") + _text_chars(chat, stop=LONGEST_EXACT_CHARS) <= LONGEST_EXACT_CHARS
        return _Count(self._texts, rules, exact=exact).of(chat, system_prompt)

    def is_long(self, chat: Chat) -> bool:
        """Say whether counting this request may take over a millisecond, and so should leave the loop."""
        if _text_chars(chat, stop=LONG_CHARS) > LONG_CHARS:
            return True
        if not (chat.tools or chat.functions or chat.response_format):
            return False
        try:
            return len(_to_json((chat.tools, chat.functions, chat.response_format))) > LONG_CHARS
        except RecursionError:
            return True


def _text_chars(chat: Chat, stop: int) -> int:
    """Add up the characters of a request's messages until they pass `stop`; images and audio are no text."""
    chars = 0
    for message in chat.messages:
        content = message.content
        if isinstance(content, str):
            chars += len(content)
        elif content:
            chars += sum(len(part.text or "") + len(part.refusal or "") for part in content)
        if message.tool_calls:
            chars += sum(len(text) for call in message.tool_calls for text in _call_texts(call))
        if message.function_call is not None:
            chars += len(message.function_call.arguments)
        chars += len(message.reasoning_content or "") + len(message.refusal or "") + len(message.name or "")
        if chars > stop:
            break
    return chars


def _call_texts(call: ToolCall) -> tuple[str, str]:
    if call.function is not None:
        return call.function.name, call.function.arguments
    return (call.custom.name, call.custom.input) if call.custom is not None else ("", "")


class _Count:
    """One request being counted by one model's rules."""

    __slots__ = ("_exact", "_framing", "_rules", "_texts")

    def __init__(self, texts: Texts, rules: TokenRules, *, exact: bool) -> None:
        self._texts = texts
        self._rules = rules
        self._framing = rules.framing
        self._exact = exact

    def of(self, chat: Chat, system_prompt: str | None) -> int:
        messages = chat.messages
        if system_prompt is not None:
            kept = [message for message in messages if message.role not in ("system", "developer")]
            messages = [Message(role="system", content=system_prompt), *kept]
        total = self._framing.reply_tokens + self._messages(messages)
        if chat.tools or chat.functions:
            total += self._tools(chat) + self._system_shared(messages)
        if chat.response_format is not None:
            total += self._response_format(chat.response_format)
        return total

    def _text(self, text: str) -> int:
        if not self._exact:
            return utf8_length(text)
        return self._texts.count(text, self._rules)

    def _messages(self, messages: list[Message]) -> int:
        total = 0
        parallel = False
        for message in messages:
            if message.role != "tool":
                parallel = message.tool_calls is not None and len(message.tool_calls) > 1
            total += self._message(message, escaped=parallel and message.role == "tool")
        return total

    def _message(self, message: Message, *, escaped: bool) -> int:
        framing = self._framing
        role = message.role
        total = framing.message_tokens + (1 if role in _PLAIN_ROLES else self._text(role))
        content = message.content
        if isinstance(content, str):
            total += self._text(encode_basestring_ascii(content) if escaped else content)
        elif content:
            total += sum(self._part(part, escaped=escaped) for part in content)
        if message.name is not None:
            total += self._text(message.name) + framing.name_tokens
        if role == "function":
            total -= 2  # The name stands in the role's place.
        for extra in (message.refusal, message.reasoning_content):
            if extra:
                total += self._text(extra)
        if message.tool_calls:
            total += self._calls(message.tool_calls)
        if message.function_call is not None:
            call = message.function_call
            total += self._text(call.name) + self._text(call.arguments) + 3
        return total

    def _part(self, part: Part, *, escaped: bool) -> int:
        rules = self._rules
        seen = [text for text in (part.text, part.refusal) if text]
        total = sum(self._text(encode_basestring_ascii(text) if escaped else text) for text in seen)
        if part.image_url is not None:
            total += rules.images.tokens(size_of(part.image_url.url), part.image_url.detail)
        elif part.input_audio is not None:
            total += audio_tokens(part.input_audio.data, part.input_audio.format, rules.audio_tokens_per_s)
        elif part.file is not None:
            total += self._file(part.file)
        elif not seen and part.type not in ("text", "refusal"):
            total += rules.images.tokens(None, None)  # A part that we can't read: say, a video's link.
        return total

    def _file(self, file: object) -> int:
        """Bound a file by the length of its data, or where it is only named by the longest that is read."""
        data = file.get("file_data") if isinstance(file, dict) else None
        return schema.size_and_depth(file)[0] if isinstance(data, str) and data else self._rules.file_tokens

    def _calls(self, calls: list[ToolCall]) -> int:
        """Count the calls of one message. Several are one call of a wrapper that takes them as JSON.

        Fitted to requests of 2023-12 to 2026-01: see tests/data/token_examples.json.
        """
        texts = [_call_texts(call) for call in calls]
        if len(texts) == 1:
            name, arguments = texts[0]
            return 2 * self._text(name) + self._text(arguments) + self._framing.call_tokens
        uses = (f'{{"recipient_name":"functions.{name}","parameters":{arguments}}}' for name, arguments in texts)
        wrapped = f'{{"tool_uses":[{",".join(uses)}]}}'
        return self._text(wrapped) + self._framing.call_tokens + 9

    def _tools(self, chat: Chat) -> int:
        """Count what is offered; the answer is remembered by a digest of the definitions."""
        framing = self._framing
        functions = [*(chat.functions or ()), *(tool.function for tool in chat.tools or () if tool.function)]
        others = [tool.custom for tool in chat.tools or () if tool.function is None]
        total = framing.tools_tokens + framing.each_tool_tokens * (len(functions) + len(others))
        if functions:
            total += self._definitions(functions)
        total += sum(CUSTOM_TOOL_TOKENS + self._json(other) for other in others)
        if chat.parallel_tool_calls:
            total += 1  # Saying what is the default is billed: seen with gpt-4.1, 2025-07-24.
        return total + self._choice(chat.tool_choice) + self._choice(chat.function_call)

    def _definitions(self, functions: list[FunctionDefinition]) -> int:
        try:
            written = _to_json(functions).decode()
        except RecursionError:
            return self._read_definitions(functions)
        read = partial(self._read_definitions, functions)
        return self._texts.remember("tools", f"{self._rules.name} {self._exact} {written}", read)

    def _read_definitions(self, functions: list[FunctionDefinition]) -> int:
        size, depth = schema.size_and_depth([function.parameters for function in functions])
        if depth <= schema.DEEPEST and size <= LONGEST_EXACT_CHARS:
            return self._text(self._shown(functions))
        texts = (text for function in functions for text in (function.name, function.description or ""))
        return size + sum(utf8_length(text) + 16 for text in texts)

    def _shown(self, functions: list[FunctionDefinition]) -> str:
        dialect = self._framing.tools_as
        if dialect == "json":
            return _to_json(functions).decode()
        return schema.namespace(
            ({"name": each.name, "description": each.description, "parameters": each.parameters} for each in functions),
            dialect,
        )

    def _choice(self, choice: object) -> int:
        """Count a `tool_choice` or `function_call`: to name one tool, or forbid all, is told to the model."""
        if self._framing.choice_tokens == 0:
            return 0
        if choice == "none":
            return 1
        if not isinstance(choice, dict):
            return 0
        named = choice.get("function", choice)
        name = named.get("name") if isinstance(named, dict) else None
        return self._framing.choice_tokens + self._text(name) if isinstance(name, str) else 0

    def _system_shared(self, messages: list[Message]) -> int:
        """Tools join the first system message, where there is one, behind a line end."""
        for message in messages:
            if message.role == "system" and self._framing.shared_system_tokens:
                content = message.content
                line_end = 1
                if isinstance(content, str) and len(content) < SHORT_CHARS:
                    line_end = self._text(content + "\n") - self._text(content)
                return line_end - self._framing.shared_system_tokens
        return 0

    def _response_format(self, wanted: object) -> int:
        described = wanted.get("json_schema") if isinstance(wanted, dict) else None
        if not isinstance(described, dict):
            return 0
        size, depth = schema.size_and_depth(described)
        if depth > schema.DEEPEST or size > LONGEST_EXACT_CHARS:
            return size + 16
        strict = described.get("strict") is True and self._rules.exact
        text = schema.response_format(
            str(described.get("name", "")),
            described.get("description"),
            described.get("schema"),
            strict=strict,
        )
        return self._text(text) + (1 if described.get("description") else 0)

    def _json(self, value: object) -> int:
        size, depth = schema.size_and_depth(value)
        if depth > schema.DEEPEST or size > LONGEST_EXACT_CHARS:
            return size
        return self._text(schema.compact(value))
