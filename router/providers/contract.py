"""What a lane to a provider promises, whichever it is.

Requests go in, and answers come out, in OpenAI's chat-completions format. A lane raises only `ProviderError`s, and
closes its connection to the provider at once when the task that waits for it is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from msgspec import Struct

from router.errors import AnswerBroken
from router.policy.target import Deadlines, Target
from router.values import Trace, Usage


class Call(Struct, frozen=True):
    """One attempt, ready to be sent: `body` is the rewritten chat-completions body, model and limits set."""

    id: str
    target: Target
    body: bytes
    deadlines: Deadlines
    trace: Trace | None = None
    """Told to the target, our span as the parent; None where nothing is traced."""


class Answer(Struct, frozen=True):
    """A whole answer. `body` is a chat.completion object as bytes; `usage` None where the provider reported none."""

    body: bytes
    usage: Usage | None
    reported_model: str | None
    texts: tuple[str, ...]
    """What each choice generated that can be seen (content, refusal, tool calls' names and arguments), for counting."""
    finish_reason: str | None
    first_byte_s: float

    @property
    def text(self) -> str:
        """All of it, one choice after the other."""
        return "".join(self.texts)


class AnswerEmpty(AnswerBroken):
    """A whole answer without a choice, which a rule's checks may take for one that failed them; it is in `answer`."""

    def __init__(self, message: str, answer: Answer, *, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.answer = answer


class Chunk(Struct, frozen=True):
    """What one read of a stream brought: one or more whole server-sent events.

    `raw` holds the events as they came, each with its blank line, without `data: [DONE]` and without the usage-only
    event, which is in `usage_event`. It may be empty (a keep-alive, or nothing but the usage).
    """

    raw: bytes
    texts: Mapping[int, str] = {}
    """What was generated in these events, as in `Answer.texts`, by the choice that it belongs to; none is empty."""
    usage: Usage | None = None
    """The last that was reported in these events; None where text came after it, of which it does not tell."""
    usage_event: bytes = b""
    reported_model: str | None = None
    finish_reason: str | None = None
    id: str | None = None
    created: int | None = None


class AnswerStream(Protocol):
    """An answer as it comes. The first chunk is ready when a lane returns it.

    Ends (StopAsyncIteration) only where the provider ended it properly. Raises while it is read:
        AnswerBroken: the connection ended early, or an event was not JSON.
        ProviderFailed: the provider sent an error event.
        ProviderTimedOut: nothing came for `between_bytes_s`, or `total_s` passed.
    """

    first_byte_s: float

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    async def __anext__(self) -> Chunk: ...

    async def aclose(self) -> None:
        """Close the connection to the provider at once, wherever the answer stands. Safe to call again."""
        ...


class Provider(Protocol):
    """A lane. Both verbs raise a `ProviderError`; none of them has been charged unless it says `billable`."""

    async def whole(self, call: Call) -> Answer: ...

    async def stream(self, call: Call) -> AnswerStream:
        """Return once the first event is there, so that a failure before it can still be tried elsewhere."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
