"""A streamed answer on its way to the caller: passed on as it comes, tallied, ended at its bound, settled once."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial

import anyio
import msgspec
from msgspec import structs

from router.errors import FarthingError, ProviderError, ProviderTimedOut, UpstreamError, UpstreamTimeout
from router.pipeline.leg import Leg
from router.pipeline.run import SETTLE_WITHIN_S, Run
from router.policy.said import Said, said_by
from router.providers.contract import AnswerStream, Chunk
from router.providers.sse import EventCutter, payload
from router.tokens import Counter
from router.values import Attempt, Ending, Outcome, Usage, usd_text

DONE = b"data: [DONE]\n\n"


class Tally:
    """How many tokens have been generated so far, counted only as closely as the limit demands.

    Each choice is counted by itself, for their pieces come in turns and would make more tokens mixed.
    """

    def __init__(self, counter: Counter, leg: Leg) -> None:
        self._counter = counter
        rules = leg.target.token_rules
        self._rules = rules.plain
        most_tokens = leg.most_tokens()
        self._most_counted = None if most_tokens is None else math.ceil(most_tokens * rules.factor)
        """By OpenAI's tokenizer, which may make more tokens of a text than the model's: the benefit of the doubt."""
        self._texts: defaultdict[int, list[str]] = defaultdict(list)
        self._counted = 0
        self._counted_pieces: dict[int, int] = {}
        self._since_bytes = 0

    def add(self, texts: Mapping[int, str]) -> bool:
        """Take some more text of some choices; False where all of them together are now surely past the limit.

        A text counts as at most as many tokens as it has bytes, so nothing is counted while the bytes fit. Pieces
        count as more than the whole, which decides.
        """
        for choice, text in texts.items():
            self._texts[choice].append(text)
            self._since_bytes += len(text) if text.isascii() else len(text.encode(errors="replace"))
        if self._most_counted is None or self._counted + self._since_bytes <= self._most_counted:
            return True
        self._counted += self._count(self._counted_pieces)
        self._counted_pieces = {choice: len(pieces) for choice, pieces in self._texts.items()}
        self._since_bytes = 0
        if self._counted <= self._most_counted:
            return True
        self._counted = self._count({})
        return self._counted <= self._most_counted

    def _count(self, after: Mapping[int, int]) -> int:
        """Count each choice's text that comes after so many of its pieces."""
        texts = ("".join(pieces[after.get(choice, 0) :]) for choice, pieces in self._texts.items())
        return sum(self._counter.count_text(text, self._rules) for text in texts)

    def texts(self) -> tuple[str, ...]:
        """Return what each choice says so far, in their order."""
        return tuple("".join(self._texts[choice]) for choice in sorted(self._texts))


class StreamedAnswer:
    """A stream with its first events at hand. Iterate `pieces`, and call `aclose` in the end, whatever happened."""

    def __init__(self, run: Run, leg: Leg, stream: AnswerStream, counter: Counter) -> None:
        self.run = run
        self.leg = leg
        self.ended = False
        """Whether the last piece is out, or about to be."""
        self._stream = stream
        self._tally = Tally(counter, leg)
        self._usage: Usage | None = None
        self._usage_event = b""
        self._last = Chunk(b"")
        self._reported_model: str | None = None
        self._kept: list[bytes] | None = [] if run.calls_are_graded else None
        run.first_token(leg, stream.first_byte_s)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield server-sent events, one or more at a time, ending with the cost and `data: [DONE]`.

        Raises:
            UpstreamError: the answer broke off; what was used is charged by then.
        """
        ending = Ending.ANSWERED
        try:
            async for chunk in self._stream:
                if not self._took(chunk):
                    ending = Ending.CUT
                    break
                if self._kept is not None:
                    self._kept.append(chunk.raw)
                if chunk.raw:
                    yield chunk.raw
        except ProviderError as error:
            raise await self._broke_off(error) from error
        if ending is Ending.CUT:
            await self._stream.aclose()
            yield cut_event(self.run, self.leg, self._last)
        attempt = await self._charged(ending.value)
        if self.run.record.verified == "unchecked":
            unchecked = structs.replace(attempt, check="unchecked", because="stream")
            self.run.record.amend(attempt, unchecked)
        said = None if self._kept is None else partial(said_in_events, b"".join(self._kept))
        outcome = await self.run.close(ending, leg=self.leg, said=said)
        await self.run.committed()
        wanted = self.run.arrival.body.chat.wants_usage
        if wanted and not self._usage_event and attempt.usage:
            self._usage_event = usage_event(self.run, self.leg, attempt.usage, self._last)
        self.ended = True
        yield (self._usage_event if wanted else b"") + comment(outcome) + DONE

    async def aclose(self) -> None:
        """Close the provider's connection at once, and charge what had arrived where the stream had not ended."""
        await self._stream.aclose()
        if self.run.outcome is None:
            with anyio.move_on_after(SETTLE_WITHIN_S, shield=True):
                if self.run.under_way(self.leg):
                    await self._charged("cancelled")
                await self.run.close(Ending.CANCELLED, leg=self.leg)

    def _took(self, chunk: Chunk) -> bool:
        """Note what a chunk says; False where its text goes past the bound."""
        if chunk.usage is not None:
            self._usage = chunk.usage
            self._usage_event = chunk.usage_event
        elif chunk.texts:
            # Some providers report a usage at the start, or with every event; it tells of nothing that came after it.
            self._usage, self._usage_event = None, b""
        if chunk.reported_model:
            self._reported_model = chunk.reported_model
            self._last = chunk
        return not chunk.texts or self._tally.add(chunk.texts)

    async def _broke_off(self, error: ProviderError) -> FarthingError:
        await self._stream.aclose()
        failure = (UpstreamTimeout if isinstance(error, ProviderTimedOut) else UpstreamError)(
            error.message, cause=error
        )
        await self._charged(error.reason, error.status)
        await self.run.close(Ending.FAILED, error=failure)
        return failure

    async def _charged(self, reason: str, status: int | None = 200) -> Attempt:
        """Charge what has arrived."""
        texts, model = self._tally.texts(), self._reported_model
        return await self.run.ended(self.leg, reason, self._usage, texts, reported_model=model, status=status)


def said_in_events(raw: bytes) -> tuple[Said, ...]:
    """Return what each choice of a stream says, from all of its events.

    Raises:
        Unreadable: an event is no chunk of a chat completion.
    """
    return said_by(_payloads(raw))


def _payloads(raw: bytes) -> Iterator[bytes]:
    cutter = EventCutter()
    for event in (*cutter.feed(raw), cutter.finish()):
        if (data := payload(event)) not in (b"", b"[DONE]"):
            yield data


def cut_event(run: Run, leg: Leg, last: Chunk) -> bytes:
    """Write the event that ends every choice at its limit."""
    choices: list[dict[str, object]] = [
        {"index": index, "delta": {}, "finish_reason": "length"} for index in range(run.arrival.body.chat.choices)
    ]
    return _event(run, leg, last, choices)


def usage_event(run: Run, leg: Leg, usage: Usage, last: Chunk) -> bytes:
    """Write the event that tells the usage, where the provider told none."""
    wire = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    return _event(run, leg, last, [], usage=wire)


def _event(run: Run, leg: Leg, last: Chunk, choices: list[dict[str, object]], **more: object) -> bytes:
    """Write a chunk of our own in the shape of the provider's; `last` is one that tells its id and its model."""
    chunk: dict[str, object] = {
        "id": last.id or f"chatcmpl-{run.arrival.id}",
        "object": "chat.completion.chunk",
        "created": last.created or int(time.time()),
        "model": last.reported_model or leg.target.model,
        "choices": choices,
        **more,
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def comment(outcome: Outcome) -> bytes:
    """Write the line that ends a stream, which clients skip: what it cost, and who answered."""
    cost, baseline = usd_text(outcome.charged_nusd), usd_text(outcome.baseline_nusd)
    model, attempts = outcome.routed_model, len(outcome.attempts)
    return f": farthing cost_usd={cost} model={model} attempts={attempts} baseline_usd={baseline}\n\n".encode()
