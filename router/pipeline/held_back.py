"""A stream that is read to its end before any of it goes out, so that it can be checked, and then sent as it came.

It is bounded as any answer is: a provider that writes past its limit is cut off, and what arrived is charged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import Struct

from router.pipeline.leg import Leg
from router.pipeline.relay import DONE, Tally, comment, cut_event, said_in_events, usage_event
from router.pipeline.run import Run
from router.policy.said import Said
from router.providers.contract import Call, Chunk, Provider
from router.tokens import Counter
from router.values import Outcome, Usage


class HeldBack(Struct, frozen=True):
    """A stream as it came, all of it, with what its events say together."""

    raw: bytes
    """The events, without the usage and without [DONE]."""
    usage_event: bytes
    usage: Usage | None
    texts: tuple[str, ...]
    """What each choice says."""
    first_byte_s: float
    last: Chunk
    """One that tells its id and its model."""
    cut: bool
    """Whether it was ended by us, at its limit."""

    @property
    def reported_model(self) -> str | None:
        return self.last.reported_model

    def said(self) -> tuple[Said, ...]:
        """Return what each choice says.

        Raises:
            Unreadable: an event is no chunk of a chat completion.
        """
        return said_in_events(self.raw)


async def read_all(run: Run, counter: Counter, lane: Provider, call: Call) -> HeldBack:
    """Ask for a stream and wait for its end; what has arrived meanwhile is told by `run.heard`.

    Raises:
        ProviderError: it could not be had, or broke off; nothing has gone out, so that another may be asked.
    """
    leg = run.leg
    tally = Tally(counter, leg)
    run.heard = tally.texts
    last, usage, cut = Chunk(b""), Chunk(b""), False
    raw: list[bytes] = []
    stream = await lane.stream(call)
    try:
        async for chunk in stream:
            if chunk.usage is not None or chunk.texts:
                # What was reported tells of nothing that came after it.
                usage = chunk
            last = chunk if chunk.reported_model else last
            if chunk.texts and not tally.add(chunk.texts):
                cut = True
                break
            raw.append(chunk.raw)
    finally:
        await stream.aclose()
    if cut:
        raw.append(cut_event(run, leg, last))
    return HeldBack(b"".join(raw), usage.usage_event, usage.usage, tally.texts(), stream.first_byte_s, last, cut)


class CheckedStream:
    """A stream that was held back and checked, on its way to the caller: settled before its first byte goes out."""

    def __init__(self, run: Run, leg: Leg, answer: HeldBack, outcome: Outcome) -> None:
        self.run = run
        self.leg = leg
        self.ended = False
        """Whether the last piece is out, or about to be."""
        self._answer = answer
        self._outcome = outcome

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the events as the provider made them, then the cost and `data: [DONE]`."""
        answer, wanted = self._answer, self.run.arrival.body.chat.wants_usage
        if answer.raw:
            yield answer.raw
        told = b""
        if wanted:
            used = self._outcome.usage
            told = answer.usage_event or (usage_event(self.run, self.leg, used, answer.last) if used else b"")
        self.ended = True
        yield told + comment(self._outcome) + DONE

    async def aclose(self) -> None:
        """Do nothing: it is settled, and its connection is closed."""
