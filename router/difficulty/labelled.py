"""Labelled sets: prompts, and how well each model did on them. JSON lines, plain or gzipped.

Every fault is told with its line.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from router.chat import Chat, Message, Tool
from router.errors import UnusableFile


class ModelOutcome(Struct, frozen=True):
    """How one model did on one prompt."""

    quality: float
    """0 (useless) to 1 (as good as can be)."""
    cost_usd: float | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """One prompt and what came of it at each model."""

    id: str
    line: int
    chat: Chat
    task: str | None
    outcomes: Mapping[str, ModelOutcome]


class _Line(Struct, frozen=True):
    outcomes: dict[str, ModelOutcome]
    id: str | int | None = None
    messages: list[Message] | None = None
    prompt: str | None = None
    task: str | None = None
    tools: list[Tool] | None = None
    response_format: Any = None


SHOULD_BE = 'a line is {"prompt": "…", "outcomes": {"MODEL": {"quality": 0 to 1}, …}}'
_LINE = msgspec.json.Decoder(_Line)


def read_labelled(file: Path) -> list[Labelled]:
    """Read JSON lines of `{id, messages or prompt, task?, outcomes}` in their order; never empty.

    Raises:
        UnusableFile: the file can't be read, or a line of it is not what it should be; says which and why.
    """
    found = [_labelled(text, number, file) for number, text in lines_of(file)]
    if not found:
        raise UnusableFile(f"{file} holds no labelled prompts; it should have one JSON object a line.")
    return found


def lines_of(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers from 1.

    Raises:
        UnusableFile: the file can't be read.
    """
    try:
        with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as opened:
            for number, line in enumerate(opened, start=1):
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        raise UnusableFile(f"{file} can't be read: {getattr(error, 'strerror', None) or error}.") from None


def fault(file: Path, line: int, problem: str) -> UnusableFile:
    return UnusableFile(f"{file}:{line}: {problem}.")


def _labelled(text: bytes, number: int, file: Path) -> Labelled:
    try:
        line = _decoded(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise fault(file, number, f"{str(error).removesuffix('.')}; {SHOULD_BE}") from None
    except RecursionError:
        raise fault(file, number, "it is nested too deeply to be read") from None
    if (line.messages is None) == (line.prompt is None):
        raise fault(file, number, "it needs one of `messages` and `prompt`")
    if line.messages == []:
        raise fault(file, number, "`messages` is empty")
    if not line.outcomes:
        raise fault(file, number, "`outcomes` is empty")
    for model, outcome in line.outcomes.items():
        if not 0 <= outcome.quality <= 1:
            raise fault(
                file,
                number,
                f"the quality of {model[:80]} is {repr(outcome.quality).removesuffix('.0')}; it goes from 0 to 1",
            )
        if outcome.cost_usd is not None and not (math.isfinite(outcome.cost_usd) and outcome.cost_usd >= 0):
            raise fault(file, number, f"the cost_usd of {model[:80]} is {outcome.cost_usd:g}; it can't be below 0")
    return Labelled(
        id=str(number) if line.id is None else str(line.id),
        line=number,
        chat=Chat(
            model="auto",
            messages=line.messages or [Message(role="user", content=line.prompt)],
            tools=line.tools,
            response_format=line.response_format,
        ),
        task=line.task,
        outcomes=line.outcomes,
    )


def _decoded(text: bytes) -> _Line:
    """Read a line; half a surrogate pair, as Python writes where a text was cut within a character, becomes a "?"."""
    try:
        return _LINE.decode(text)
    except msgspec.DecodeError:
        if b"\\ud" not in text.lower():
            raise
        try:
            whole = json.dumps(json.loads(text), ensure_ascii=False)
        except ValueError:
            whole = ""
        if not whole:
            raise
    return _LINE.decode(whole.encode("utf-8", "replace"))
