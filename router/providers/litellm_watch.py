"""What a provider itself says beneath litellm: whether it ended, failed or spoke no JSON, and its usage.

litellm takes a stream that is cut off for one that ended ("stop"), skips events that are not JSON, and fails
a whole answer that lacks its usage. So the bytes are read here too, on their way to it; they pass unchanged,
but an empty usage is put where there is none.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from router.errors import AnswerBroken, ProviderError, ProviderFailed, ProviderOverloaded

BUSY = frozenset({"overloaded_error", "rate_limit_error", "RESOURCE_EXHAUSTED", "UNAVAILABLE", 429, 503, 529})
"""An error's type, status or code that says: wait and try again."""


class Modality(Struct, rename="camel"):
    modality: str = ""
    token_count: int = 0


class UsageMetadata(Struct, rename="camel"):
    """The parts of Gemini's usage that litellm loses: it takes what was cached out of each modality."""

    prompt_tokens_details: list[Modality] = []
    cache_tokens_details: list[Modality] = []


class Candidate(Struct, rename="camel"):
    finish_reason: str | None = None


class PromptFeedback(Struct, rename="camel"):
    block_reason: str | None = None


class Choice(Struct):
    finish_reason: str | None = None


class Event(Struct):
    """One event of a stream, or a whole answer: Anthropic's, Gemini's, Cohere's or OpenAI's."""

    type: str | None = None
    error: Any = None
    message: Any = None
    delta: Any = None
    usage: Any = None
    model: str | None = None
    model_version: str | None = msgspec.field(default=None, name="modelVersion")
    candidates: list[Candidate] = []
    choices: list[Choice] = []
    usage_metadata: UsageMetadata | None = msgspec.field(default=None, name="usageMetadata")
    prompt_feedback: PromptFeedback | None = msgspec.field(default=None, name="promptFeedback")

    @property
    def ends(self) -> bool:
        return (
            self.type in ("message_stop", "message-end")
            or (isinstance(self.delta, dict) and self.delta.get("stop_reason") is not None)
            or any(candidate.finish_reason for candidate in self.candidates)
            or any(choice.finish_reason for choice in self.choices)
            or (self.prompt_feedback is not None and self.prompt_feedback.block_reason is not None)
        )


class Watch:
    """Follows one answer. `model` and `service_tier` are what the provider says it served."""

    def __init__(self, target: str) -> None:
        self.failure: ProviderError | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self._target = target
        self._events = 0
        self._usage_seen = False
        self._metadata: UsageMetadata | None = None
        self._ended = False
        self._line = b""

    @property
    def usage_missing(self) -> bool:
        """Whether the answer was understood and had no usage."""
        return self._events > 0 and not self._usage_seen

    def modalities(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the prompt's tokens and the cached ones among them by modality, where Gemini told them."""
        metadata = self._metadata or UsageMetadata()
        return _by_modality(metadata.prompt_tokens_details), _by_modality(metadata.cache_tokens_details)

    def lines(self, part: bytes) -> bytes:
        """Read the next bytes of a stream of events, and return the whole lines that may pass.

        Comments may not: litellm takes one in Gemini's stream for its end. Where an event fails, `failure` is
        set, and only what came before it may pass.
        """
        *lines, self._line = (self._line + part).split(b"\n")
        passed = []
        for line in lines:
            self._read_line(line.strip())
            if self.failure is not None:
                break
            if not line.startswith(b":"):
                passed.append(line + b"\n")
        return b"".join(passed)

    def close(self) -> bytes:
        """Take note that a stream of events is over; return its last line where that was not ended."""
        line = self._line.strip()
        self._read_line(line)
        if self.failure is None and not self._ended:
            self.failure = AnswerBroken(f"{self._target} ended its answer without a reason for it.")
        return b"" if self.failure else line

    def answer(self, body: bytes) -> bytes:
        """Read a whole answer, and return it with an empty usage where it has none."""
        event = self._event(body)
        if event is None or self._usage_seen:
            return body
        if event.type == "message":
            return body.rstrip()[:-1] + b',"usage":{}}'
        if event.candidates:
            return body.rstrip()[:-1] + b',"usageMetadata":{}}'
        return body

    def _read_line(self, line: bytes) -> None:
        data = line.removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or not data:
            return
        if data == b"[DONE]":
            self._ended = True
        elif event := self._event(data):
            self._ended = self._ended or event.ends
            if event.error is not None:
                self.failure = self._error(event.error)

    def _event(self, data: bytes) -> Event | None:
        try:
            event = _EVENT.decode(data)
        except msgspec.ValidationError:
            return None
        except msgspec.DecodeError:
            self.failure = AnswerBroken(f"{self._target} sent something that is not JSON.")
            return None
        self._events += 1
        message = event.message if isinstance(event.message, dict) else {}
        self.model = event.model or event.model_version or message.get("model") or self.model
        usage = event.usage or message.get("usage")
        if isinstance(usage, dict):
            self.service_tier = usage.get("service_tier") or self.service_tier
        self._metadata = event.usage_metadata or self._metadata
        self._usage_seen = self._usage_seen or bool(usage) or event.usage_metadata is not None
        return event

    def _error(self, error: object) -> ProviderError:
        said = error if isinstance(error, dict) else {}
        # Once an answer has begun, waiting does not mend it.
        if self._events == 1 and any(said.get(name) in BUSY for name in ("type", "status", "code")):
            return ProviderOverloaded(f"{self._target} is overloaded or limits us.")
        return ProviderFailed(f"{self._target} sent an error in place of its answer.")


def _by_modality(details: list[Modality]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for detail in details:
        counts[detail.modality] = counts.get(detail.modality, 0) + detail.token_count
    return counts


_EVENT = msgspec.json.Decoder(Event)
