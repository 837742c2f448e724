"""What we read of the answers of OpenAI's format; all else passes through."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct


class FunctionText(Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class CustomText(Struct, frozen=True):
    name: str | None = None
    input: str | None = None


class ToolText(Struct, frozen=True):
    function: FunctionText | None = None
    custom: CustomText | None = None


class Said(Struct, frozen=True):
    """A message or a delta: the members that hold generated text."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    """The same under the name that OpenRouter, Groq and newer vLLM give it."""
    tool_calls: list[ToolText] | None = None
    function_call: FunctionText | None = None

    def text(self) -> str:
        reasoning = self.reasoning_content or (self.reasoning if isinstance(self.reasoning, str) else None)
        if self.tool_calls is None and self.function_call is None and not reasoning:
            return self.content or self.refusal or ""
        texts = [reasoning, self.content, self.refusal]
        for tool in self.tool_calls or ():
            if tool.function:
                texts += (tool.function.name, tool.function.arguments)
            if tool.custom:
                texts += (tool.custom.name, tool.custom.input)
        if self.function_call:
            texts += (self.function_call.name, self.function_call.arguments)
        return "".join(text for text in texts if text)


class Choice(Struct, frozen=True):
    index: Any = 0
    """Which choice this is; what is no number is taken for the first, for we need it only to count by."""
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None


class Body(Struct, frozen=True):
    """What we read of a chat.completion or a chat.completion.chunk; the rest passes through."""

    id: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[Choice] = []
    usage: Raw = Raw()
    service_tier: str | None = None
    error: Raw = Raw()
