"""Log probabilities of tokens: asked for where a check needs them, and taken out where the caller did not ask."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Raw, structs

from router.chat import ChatBody
from router.pipeline.held_back import HeldBack
from router.providers.contract import Answer
from router.providers.sse import EventCutter, payload

AnswerT = TypeVar("AnswerT", Answer, HeldBack)

_members: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode
_NULL = Raw(b"null")


def with_logprobs(body: ChatBody) -> ChatBody:
    """Ask for the tokens' log probabilities as well."""
    return ChatBody(body.rewritten({"logprobs": b"true"}))


def without_logprobs(answer: AnswerT) -> AnswerT:
    """Take the log probabilities out again; every other member keeps its bytes."""
    if isinstance(answer, HeldBack):
        return structs.replace(answer, raw=_events_without(answer.raw))
    return structs.replace(answer, body=_without(answer.body))


def _events_without(raw: bytes) -> bytes:
    cutter = EventCutter()
    events = [*cutter.feed(raw), cutter.finish()]
    return b"".join(_event_without(event) for event in events if event)


def _event_without(event: bytes) -> bytes:
    data = payload(event)
    return b"data: " + _without(data) + b"\n\n" if data.startswith(b"{") else event


def _without(raw: bytes) -> bytes:
    """Set `logprobs` of each choice to null, as it is where nobody asked for them."""
    try:
        members = _members.decode(raw)
        choices = msgspec.json.decode(members.get("choices", b"[]"), type=list[dict[str, Raw]])
    except (msgspec.DecodeError, RecursionError):
        return raw
    if not any("logprobs" in choice for choice in choices):
        return raw
    without = [{**choice, "logprobs": _NULL} if "logprobs" in choice else choice for choice in choices]
    return _encode({**members, "choices": without})
