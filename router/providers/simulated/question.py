"""What is asked of a simulated model and what it says, whatever the wire format; and the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from router.chat import Chat, FunctionDefinition
from router.values import Usage

JSON_OBJECT: Mapping[str, object] = MappingProxyType({})
"""The schema of an answer that must be a JSON object, of whatever members."""

Choosing = Literal["none", "auto", "required"]
Finish = Literal["stop", "length", "tools"]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of a function, its arguments as JSON text."""

    name: str
    arguments: str


Answerer = Callable[[Chat, str], str | tuple[ToolUse, ...] | None]
"""Says what a model answers to a chat: text, calls of tools, or None for the usual made-up answer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model answers. The default takes no time at all."""

    first_token_s: float = 0.0
    tokens_per_s: float | None = None

    def due_s(self, tokens: int) -> float:
        """Say how long after the request so many tokens are there."""
        return self.first_token_s + (tokens / self.tokens_per_s if self.tokens_per_s else 0.0)


@dataclass(frozen=True, slots=True)
class Simulation:
    """How the simulated providers behave where nothing else is asked for."""

    port: int = 0
    """0 takes a free one. The address is always loopback."""
    pace: Pace = Pace()
    mean_output_tokens: float = 160
    mean_output_tokens_by_model: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    mean_reasoning_tokens: float = 256
    """Of models that reason (o-series, gpt-5, thinking switched on), at medium effort."""
    chunk_tokens: int = 1
    """In each event of a stream; Gemini's events hold sixteen times as many, as the real ones do."""
    api_key: str | None = field(default=None, repr=False)
    """Demanded of callers where set."""
    models: frozenset[str] | None = None
    """All others are a 404; None takes any name."""
    context_tokens_by_model: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """A longer input is refused as OpenAI does; models that are not named take any."""
    answerer: Answerer | None = None
    calls_kept: int = 1_000


@dataclass(frozen=True, slots=True)
class CacheMark:
    """A place up to which the caller asks for its prompt to be kept, and for how long."""

    prefix: str
    for_an_hour: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One request. `limit` is for one answer and counts reasoning, as the real limits do."""

    model: str
    chat: Chat
    limit: int | None = None
    at_least: int = 0
    choices: int = 1
    stream: bool = False
    stream_usage: bool = True
    tools: tuple[FunctionDefinition, ...] = ()
    choosing: Choosing = "auto"
    named_tool: str | None = None
    parallel_tools: bool = True
    schema: Mapping[str, object] | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: float = 0.0
    """How many times the mean it reasons; 0 where it does not."""
    predicted: str = ""
    top_logprobs: int | None = None
    service_tier: str = "default"
    cache_marks: tuple[CacheMark, ...] | None = None
    """None where the provider caches by itself."""


@dataclass(frozen=True, slots=True)
class ToolTokens:
    """A call of a function as it was generated; a limit may have cut its arguments."""

    id: str
    name: str
    arguments: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer in tokens. `output_tokens` is every token generated, seen or not."""

    reasoning: tuple[bytes, ...]
    content: tuple[bytes, ...]
    tools: tuple[ToolTokens, ...]
    finish: Finish
    output_tokens: int
    stopped_by: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a question: never without a choice. `usage` None where none is to be told."""

    id: str
    created: int
    question: Question
    choices: tuple[Choice, ...]
    usage: Usage | None
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal, to be written in the wire's own shape."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """One event of a stream, due when `tokens` tokens have been generated."""

    raw: bytes
    tokens: int


class Wire(Protocol):
    """One provider's format: requests to questions, replies to bytes. Pure; never raises on any request."""

    def read(self, body: bytes, path_model: str, action: str) -> Question | Rejection: ...

    def whole(self, reply: Reply) -> bytes: ...

    def events(self, reply: Reply, chunk_tokens: int) -> Iterator[Beat]:
        """Return the events of a stream, each with its blank line; the last one ends it properly."""
        ...

    def error(self, rejection: Rejection) -> bytes: ...

    def error_event(self) -> bytes:
        """Return the event that tells of a failure in mid-stream."""
        ...
