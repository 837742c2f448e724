"""Makes up answers: what a model says, in how many tokens, and what of its prompt was cached.

The same model, messages and seed get the same answer. A limit cuts at exactly that many tokens.
"""

from __future__ import annotations

import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from threading import Lock

import msgspec

from router.chat import Chat, FunctionDefinition
from router.providers.simulated.question import (
    Choice,
    Question,
    Rejection,
    Reply,
    Simulation,
    ToolTokens,
    ToolUse,
)
from router.providers.simulated.shape import Json, fill
from router.providers.simulated.text import draw_length, o200k, phrase, prose, tokens_of
from router.tokens import Counter, TokenRules, rules_for
from router.values import Usage

Count = Callable[[str], int]

LEAST_CACHED_TOKENS = 1_024
CACHE_STEP_TOKENS = 128
"""OpenAI caches prefixes of 1,024 tokens and more, in steps of 128
(https://platform.openai.com/docs/guides/prompt-caching, 2025-06)."""

TOOL_CALL_TOKENS = 4
"""What a tool call takes beside its name and arguments. OpenAI does not publish it; this is near it."""

REASONING_STEP_TOKENS = 64
"""OpenAI reports reasoning in multiples of 64 tokens (seen in its published examples, 2025-06)."""

ASKED_TO_GRADE = "one number from 0"
"""Instructions that hold this are a judge's; sentences would be no grade."""
GENEROSITY = 6
"""One grade in nine is below 0.5 and one in four below 0.8, so that checks now and then fail."""


class Composer:
    """Answers questions, and remembers which prompts it has seen."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._counter = Counter()
        self._cache = _PromptCache()

    def warm(self) -> None:
        """Load what the first answer would otherwise wait for."""
        o200k()
        self._counter.warm(("o200k_base",))

    def compose(self, question: Question) -> Reply | Rejection:
        """Return the answer, or the refusal of a prompt that is too long for the model."""
        input_tokens = self._counter.count_input(question.chat, _rules(question.model))
        most = self._simulation.context_tokens_by_model.get(question.model)
        if most is not None and input_tokens > most:
            return Rejection(
                400,
                f"This model's maximum context length is {most} tokens. However, your messages resulted in"
                f" {input_tokens} tokens. Please reduce the length of the messages.",
                code="context_length_exceeded",
                param="messages",
            )
        choices = tuple(self._choice(question, index) for index in range(question.choices))
        cached, kept, kept_1h = self._cache.use(question, input_tokens, self._count)
        predicted = len(tokens_of(question.predicted))
        rejected = _random(question, -1).randint(0, predicted // 2) if predicted else 0
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=sum(choice.output_tokens for choice in choices) + rejected,
            cached_tokens=cached,
            cache_write_tokens=kept,
            cache_write_1h_tokens=kept_1h,
            reasoning_tokens=sum(len(choice.reasoning) for choice in choices),
            service_tier=question.service_tier,
        )
        return Reply(
            id=uuid.uuid4().hex,
            created=int(time.time()),
            question=question,
            choices=choices,
            usage=usage,
            accepted_prediction_tokens=predicted - rejected,
            rejected_prediction_tokens=rejected,
        )

    def _count(self, text: str) -> int:
        return self._counter.count_text(text, _rules(""))

    def _choice(self, question: Question, index: int) -> Choice:
        random = _random(question, index)
        reasoning = self._reasoning(question, random)
        said = self._said(question, random)
        room = _Room(question.limit)
        thought = room.take(reasoning)
        if isinstance(said, str):
            text, stopped_by = _stopped(said, question.stop)
            content = room.take(tokens_of(text))
            if room.overrun:
                return Choice(thought, content, (), "length", room.taken)
            return Choice(thought, content, (), "stop", room.taken, stopped_by)
        tools = tuple(_generated(use, room, random) for use in said if not room.overrun)
        return Choice(
            thought,
            (),
            tuple(tool for tool in tools if tool is not None),
            "length" if room.overrun else "tools",
            room.taken,
        )

    def _reasoning(self, question: Question, random: Random) -> tuple[bytes, ...]:
        if not question.reasoning_effort:
            return ()
        drawn = draw_length(self._simulation.mean_reasoning_tokens * question.reasoning_effort, random)
        steps = max(1, round(drawn / REASONING_STEP_TOKENS))
        return tokens_of(prose(steps * REASONING_STEP_TOKENS, random))[: steps * REASONING_STEP_TOKENS]

    def _said(self, question: Question, random: Random) -> str | tuple[ToolUse, ...]:
        simulation = self._simulation
        if simulation.answerer is not None:
            answer = simulation.answerer(question.chat, question.model)
            if answer is not None:
                return answer
        if tools := _chosen_tools(question, random):
            return tuple(ToolUse(tool.name, _json(fill(tool.parameters or {}, random))) for tool in tools)
        if question.schema is not None:
            return _json(fill(question.schema, random) if question.schema else _any_object(random))
        if _grades(question):
            return f"{1 - random.random() ** GENEROSITY:.2f}"
        mean = simulation.mean_output_tokens_by_model.get(question.model, simulation.mean_output_tokens)
        return prose(max(draw_length(mean, random), question.at_least), random)


def _grades(question: Question) -> bool:
    first = question.chat.messages[0]
    return first.role == "system" and ASKED_TO_GRADE in first.text()


def _rules(model: str) -> TokenRules:
    """Return how a model counts: as OpenAI's of that name; Claude, Gemini and any other as gpt-4o."""
    rules = rules_for("openai", model)
    return rules if rules.factor == 1.0 else rules_for("openai", "gpt-4o")


@dataclass(slots=True)
class _Room:
    """What a limit leaves, as an answer is generated."""

    limit: int | None
    taken: int = 0
    overrun: bool = False

    def take(self, tokens: tuple[bytes, ...]) -> tuple[bytes, ...]:
        if self.limit is not None and self.taken + len(tokens) > self.limit:
            tokens = tokens[: self.limit - self.taken]
            self.overrun = True
        self.taken += len(tokens)
        return tokens


def _generated(use: ToolUse, room: _Room, random: Random) -> ToolTokens | None:
    """Generate a tool call within the room there is; None where not even its name fits."""
    overhead = (b"",) * TOOL_CALL_TOKENS + tokens_of(use.name)
    if room.take(overhead) != overhead:
        return None
    return ToolTokens(f"{random.getrandbits(96):024x}", use.name, room.take(tokens_of(use.arguments)))


def _chosen_tools(question: Question, random: Random) -> tuple[FunctionDefinition, ...]:
    """Choose as a model would: the named one, those the user's words name, or the one most like them.

    Where the choice is the model's, it answers in text once a tool has given its result.
    """
    if not question.tools or question.choosing == "none":
        return ()
    if question.named_tool is not None:
        return tuple(tool for tool in question.tools if tool.name == question.named_tool)[:1]
    if question.choosing == "auto" and question.chat.messages[-1].role != "user":
        return ()
    said = question.chat.last_user_text().lower()
    named = tuple(tool for tool in question.tools if tool.name.lower() in said)
    if named:
        return named if question.parallel_tools else named[:1]
    words = set(re.findall(r"\w{3,}", said))
    best = max(len(words & _words(tool)) for tool in question.tools)
    return (random.choice([tool for tool in question.tools if len(words & _words(tool)) == best]),)


def _words(tool: FunctionDefinition) -> set[str]:
    return set(re.findall(r"[a-z0-9]{3,}", f"{tool.name} {tool.description or ''}".lower()))


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """Cut the text before the first of `stops` in it."""
    found = min(((text.find(stop), stop) for stop in stops if stop and stop in text), default=None)
    return (text, None) if found is None else (text[: found[0]], found[1])


def _json(value: Json) -> str:
    return msgspec.json.encode(value).decode()


def _any_object(random: Random) -> Json:
    return {
        "answer": phrase(12, random),
        "confidence": round(random.random(), 2),
        "points": [phrase(6, random) for _ in range(3)],
    }


def _random(question: Question, index: int) -> Random:
    digest = blake2b(digest_size=8)
    digest.update(f"{question.model}\n{question.seed}\n{index}\n".encode())
    digest.update(_encode(question.chat.messages))
    return Random(int.from_bytes(digest.digest()))


_encode = msgspec.json.Encoder().encode


class _PromptCache:
    """Which prefixes of prompts were seen, by digest. Forgets the oldest past a fixed number. Thread-safe."""

    MOST = 200_000

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def use(self, question: Question, input_tokens: int, count: Count) -> tuple[int, int, int]:
        """Return the input tokens read from the cache, written to it, and of these for an hour."""
        with self._lock:
            if question.cache_marks is not None:
                return self._marked(question, input_tokens, count)
            return self._unmarked(question, input_tokens), 0, 0

    def _unmarked(self, question: Question, input_tokens: int) -> int:
        if input_tokens < LEAST_CACHED_TOKENS:
            return 0
        cached = 0
        new: list[bytes] = []
        for tokens, digest in _prefixes(question.model, _prompt_text(question.chat)):
            if tokens <= input_tokens and self._has(digest):
                cached = tokens
            else:
                new.append(digest)
        self._keep(new)
        return cached

    def _marked(self, question: Question, input_tokens: int, count: Count) -> tuple[int, int, int]:
        read = written = written_1h = 0
        for mark in question.cache_marks or ():
            tokens = min(count(mark.prefix), input_tokens)
            if tokens < LEAST_CACHED_TOKENS:
                continue
            digest = blake2b(f"{question.model}\n{mark.prefix}".encode(), digest_size=16).digest()
            if self._has(digest):
                read, written, written_1h = tokens, 0, 0
                continue
            more = max(0, tokens - read - written)
            written += more
            written_1h += more if mark.for_an_hour else 0
            self._keep([digest])
        return read, written, written_1h

    def _has(self, digest: bytes) -> bool:
        if digest not in self._seen:
            return False
        self._seen.move_to_end(digest)
        return True

    def _keep(self, digests: list[bytes]) -> None:
        self._seen.update(dict.fromkeys(digests))
        while len(self._seen) > self.MOST:
            self._seen.popitem(last=False)


def _prompt_text(chat: Chat) -> str:
    """Write what a provider's cache sees, in its order: tools, then messages."""
    return (_encode(chat.tools or []) + _encode(chat.messages)).decode()


def _prefixes(model: str, text: str) -> Iterator[tuple[int, bytes]]:
    """Return each prefix that may be cached: its number of tokens, and its digest.

    The text is encoded in slices, so that a hostile one costs no more than its length; two prompts that begin
    alike are sliced alike.
    """
    digest = blake2b(model.encode(), digest_size=16)
    tokens = 0
    for start in range(0, len(text), 4_000):
        for token in o200k().encode_ordinary(text[start : start + 4_000]):
            digest.update(token.to_bytes(4))
            tokens += 1
            if tokens >= LEAST_CACHED_TOKENS and tokens % CACHE_STEP_TOKENS == 0:
                yield tokens, digest.digest()
