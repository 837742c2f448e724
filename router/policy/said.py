"""What an answer says, as its checks see it: each choice's text, calls of tools and how it ended.

Read from a whole answer, or from the events of a stream; either way the provider's bytes stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from router.chat import FunctionCall, ToolCall


class Unreadable(ValueError):
    """The answer is not of the shape that OpenAI documents."""


class Said(Struct, frozen=True):
    """One choice."""

    text: str | None = None
    """None where it has no text; a call of a tool, or audio, stands in its place."""
    refusal: str | None = None
    calls: tuple[FunctionCall, ...] = ()
    finish_reason: str | None = None
    mean_logprob: float | None = None
    """Over the tokens of its text; None where the provider told none."""

    @property
    def says_otherwise(self) -> bool:
        """Whether it says something that is no text, so that checks of text have nothing to look at.

        Words beside a call of a tool only announce it: the answer follows once the tool has been called.
        """
        return bool(self.calls) or (self.text is None and self.refusal is None)


class _Logprob(Struct):
    logprob: float


class _Logprobs(Struct):
    content: list[_Logprob] | None = None


class _Message(Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    audio: msgspec.Raw = msgspec.Raw()


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Completion(Struct):
    choices: list[_Choice]


def said_in(body: bytes) -> tuple[Said, ...]:
    """Return what each choice of a whole answer says.

    Raises:
        Unreadable: it is no chat completion.
    """
    try:
        choices = msgspec.json.decode(body, type=_Completion).choices
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    return tuple(_said(choice) for choice in choices)


def _said(choice: _Choice) -> Said:
    message = choice.message
    calls = [call.function for call in message.tool_calls or () if call.function is not None]
    if message.function_call is not None:
        calls.append(message.function_call)
    elsewhere = bool(message.tool_calls or calls or bytes(message.audio) not in (b"", b"null"))
    # Where OpenAI says null, other servers say "".
    text, refusal = message.content or None, message.refusal or None
    return Said(
        text="" if text is None and refusal is None and not elsewhere else text,
        refusal=refusal,
        calls=tuple(calls),
        finish_reason=choice.finish_reason,
        mean_logprob=_mean([token.logprob for token in (choice.logprobs and choice.logprobs.content) or ()]),
    )


class _FunctionDelta(Struct):
    name: str | None = None
    arguments: str | None = None


class _CallDelta(Struct):
    index: int = 0
    function: _FunctionDelta | None = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallDelta] | None = None
    function_call: _FunctionDelta | None = None


class _ChoiceDelta(Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Event(Struct):
    choices: list[_ChoiceDelta] = []


class _Growing:
    """One choice of a stream while its events are put together."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.names: dict[int, str] = {}
        self.arguments: dict[int, list[str]] = {}
        self.logprobs: list[float] = []
        self.finish_reason: str | None = None

    def add(self, choice: _ChoiceDelta) -> None:
        self.finish_reason = choice.finish_reason or self.finish_reason
        self.logprobs += [token.logprob for token in (choice.logprobs and choice.logprobs.content) or ()]
        delta = choice.delta
        if delta is None:
            return
        if delta.content:
            self.texts.append(delta.content)
        if delta.refusal:
            self.refusals.append(delta.refusal)
        legacy = [_CallDelta(0, delta.function_call)] if delta.function_call else []
        for call in (*(delta.tool_calls or ()), *legacy):
            parts = self.arguments.setdefault(call.index, [])
            if call.function is not None:
                self.names.setdefault(call.index, call.function.name or "")
                parts.append(call.function.arguments or "")

    def said(self) -> Said:
        calls = tuple(FunctionCall(self.names.get(at, ""), "".join(parts)) for at, parts in self.arguments.items())
        text = "".join(self.texts) or None
        return Said(
            text="" if text is None and not self.refusals and not calls else text,
            refusal="".join(self.refusals) or None,
            calls=calls,
            finish_reason=self.finish_reason,
            mean_logprob=_mean(self.logprobs),
        )


def said_by(payloads: Iterable[bytes]) -> tuple[Said, ...]:
    """Return what each choice of a stream says, from the JSON of its events.

    Raises:
        Unreadable: an event is no chunk of a chat completion.
    """
    growing: dict[int, _Growing] = {}
    try:
        for payload in payloads:
            for choice in msgspec.json.decode(payload, type=_Event).choices:
                growing.setdefault(choice.index, _Growing()).add(choice)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    return tuple(growing[index].said() for index in sorted(growing))


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
