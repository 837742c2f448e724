"""What is taken from a request before it is scored: measured cues and hashed words, never text."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from zlib import crc32

from msgspec import Struct

from router.chat import Chat
from router.difficulty.cues import NAMES, Shape, asks_briefly, cues_of, looked_at, tokens_in
from router.difficulty.grams import SIZE, grams_of, words_of
from router.difficulty.material import without_material
from router.difficulty.worked import MOST_CHARS, without_worked_examples

BRIEF_TOKENS = 16
"""A caller who pays for no more than this asks for a letter, a number or a word."""
MOST_INSTRUCTIONS = 8
"""System messages in which it is looked for how much is asked for."""
FOLLOW_UP_BYTES = 16
"""A message shorter than this ("and now?") goes on from what was asked before it."""
MOST_FOLLOW_UPS = 8
KEYS = 1_024
KEY_CHARS = 2_000
"""So much of the instructions tells one kind of work from another."""
ENOUGH_WORDS = 2
"""So many can be told of; no more are counted."""
_ANSWERING = frozenset({"assistant", "tool", "function"})
_ENCODED_END = re.compile(r"(?:\\n){2,}|\\n(?![a-z])")
_MARK = re.compile(r"<\|\w{1,32}\|>")
"""Of a chat's turns, as models read them: no word of it is one of the question's."""
_WORD_OR_NUMBER = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Look:
    """A request as the model sees it. `cues` are in the order of `cues.NAMES`; `grams` ascend and may be empty."""

    cues: tuple[float, ...]
    grams: Sequence[int]
    tokens: float
    """A guess of the whole prompt's length."""
    words: int
    """Words and numbers, counted up to ENOUGH_WORDS: a sign is none, a number of many digits is one."""
    key: int | None
    """Which kind of work within the task, as a place below KEYS; None where nothing says."""
    left_out: tuple[int, ...] = ()
    """Hashes of what it shares with other requests and is not looked at."""
    brief: bool = False
    """Whether no more than a letter, a number or a word is asked for, so that the prompt is nearly all that is paid."""


class WrittenLook(Struct, frozen=True, omit_defaults=True):
    """A look as it may be written down: numbers and hashes, no text."""

    cues: tuple[float, ...]
    grams: tuple[int, ...]
    tokens: float
    words: int
    key: int | None
    left_out: tuple[int, ...] = ()
    brief: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether this version can learn from it; another one may have looked at other things."""
        return (
            len(self.cues) == len(NAMES)
            and all(place < SIZE for place in self.grams)
            and self.tokens > 0
            and (self.key is None or 0 <= self.key < KEYS)
        )

    def look(self) -> Look:
        grams = array("H", self.grams)
        return Look(self.cues, grams, self.tokens, self.words, self.key, self.left_out, self.brief)


def written(look: Look) -> WrittenLook:
    """Write a look down, as exactly as learning needs it."""
    cues = tuple(round(cue, 3) for cue in look.cues)
    return WrittenLook(cues, tuple(look.grams), look.tokens, look.words, look.key, look.left_out, look.brief)


def look_at(
    text: str,
    shape: Shape,
    *,
    whole: str | None = None,
    key: str | None = None,
    left_out: tuple[int, ...] = (),
) -> Look:
    """Look at a question, as little of it as the time allows.

    `whole` is it before shared text was left out, of which `left_out` are hashes: all of that is paid for. `key`
    names the kind of work: a label, or what the instructions and tools are. Material in it counts by its length alone.
    """
    seen = looked_at(without_material(text, whole or text)).lower()
    if "<|" in seen:
        seen = _MARK.sub(" ", seen)
    words = words_of(seen)
    return Look(
        cues=cues_of(seen, words, len(text), shape),
        grams=array("H", grams_of(words)),
        tokens=tokens_in(len(whole or text) + shape.other_chars),
        words=sum(1 for _ in islice(_WORD_OR_NUMBER.finditer(seen), ENOUGH_WORDS)),
        key=None if key is None else crc32(key.encode("utf-8", "replace")) % KEYS,
        left_out=left_out,
        brief=shape.brief,
    )


def question_of(chat: Chat) -> str:
    """Return what a request asks: the last user message, after those that it goes on from where it is a word or two.

    Without the worked examples in it. Where no message is a user's, the last that is no answer and no tool's result
    asks; empty where there is none.
    """
    asked: list[str] = []
    for message in reversed(chat.messages):
        if message.role == "user":
            asked.append(message.text())
            begins = asked[-1][:FOLLOW_UP_BYTES].encode("utf-8", "replace")
            if len(asked) > MOST_FOLLOW_UPS or len(begins) >= FOLLOW_UP_BYTES:
                break
    if not asked:
        others = (message.text() for message in reversed(chat.messages) if message.role not in _ANSWERING)
        asked += islice(others, 1)
    return "\n".join(without_worked_examples(_with_lines(text)) for text in reversed(asked))


def _with_lines(text: str) -> str:
    """Return a text with its lines, where it came encoded twice; a formula's "\\nu" is no end of a line.

    A long one is left as it is: 5 MB of such ends take 100 ms.
    """
    if len(text) > MOST_CHARS:
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if "\n" in text or "\\n" not in text else _ENCODED_END.sub("\n", text)


def goes_on(chat: Chat, question: str) -> bool:
    """Say whether a request's question is an earlier one with a word or two behind it.

    It says nothing of what a task's prompts share: all turns of one conversation begin alike.
    """
    asks = any(message.role == "user" for message in chat.messages)
    return asks and len(question) > len(chat.last_user_text())


def shape_of(chat: Chat, question: str) -> Shape:
    """Return what is around a request's question, as `question_of` tells it."""
    images = False
    chars = 0
    for message in chat.messages:
        if isinstance(message.content, str):
            chars += len(message.content)
        elif message.content:
            chars += sum(len(part.text) for part in message.content if part.text)
            images = images or any(part.type == "image_url" for part in message.content)
    return Shape(
        tools=bool(chat.tools or chat.functions),
        images=images,
        messages=len(chat.messages),
        other_chars=max(0, chars - len(question)),
        brief=_is_brief(chat, question),
        goes_on=goes_on(chat, question),
    )


def _is_brief(chat: Chat, question: str) -> bool:
    if chat.asked_output_tokens is not None and chat.asked_output_tokens <= BRIEF_TOKENS:
        return True
    told = (message.text() for message in chat.messages if message.role in ("system", "developer"))
    asked = {question, chat.last_user_text()}
    return any(map(asks_briefly, asked)) or any(asks_briefly(text) for text in islice(told, MOST_INSTRUCTIONS))


def key_of(chat: Chat, task: str | None = None) -> str | None:
    """Return what names the kind of work: a label, or the instructions, the tools and the answer's format; or None."""
    if task is not None:
        return f"task {task}"
    told = [message.text()[:KEY_CHARS] for message in chat.messages if message.role in ("system", "developer")]
    told += [tool.function.name for tool in chat.tools or () if tool.function]
    told += [function.name for function in chat.functions or ()]
    match chat.response_format:
        case {"json_schema": {"name": str(name)}}:
            told.append(name)
    return "\n".join(told) or None
