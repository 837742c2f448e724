"""A made-up day of requests: the same for the same seed, spread over the tasks and shapes that a proxy meets.

Whole and streamed, short and long, with tools, pictures and schemas, in many languages; by task header, by
`task:NAME` and by model name. Every sixteenth request may cost next to nothing, so that refusals are seen too.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from router.cli.demo import texts

DEFAULT = "default"
SHARES = MappingProxyType({DEFAULT: 30, "support": 26, "extract": 16, "code": 12, "summarise": 10, "legal-drafting": 6})
"""How much of a day each known task has; any other has as much as `OTHER_SHARE` and asks what `default` does."""
OTHER_SHARE = 10

TIGHT_EVERY = 16
TIGHT_USD = "0.0000001"
"""Less than any priced model takes for one answer."""
CLAMP_EVERY = 11
CLAMP_USD = "0.002"
"""Enough for an answer, though not for a long one from a dear model."""

Body = dict[str, object]


@dataclass(frozen=True, slots=True)
class Errand:
    """One request to send: `task` is whose it is, however the request says so."""

    task: str
    body: bytes
    """A chat-completions request as JSON."""
    headers: Mapping[str, str]
    streamed: bool


def day(tasks: Sequence[str], names: Collection[str], requests: int, seed: int) -> list[Errand]:
    """Return `requests` errands over all of `tasks`, in the order of sending.

    `names` are all that the proxy takes as a model; each task has at least one errand where there are enough.
    """
    chance = Random(seed)
    order = [task for task, count in _spread(tasks, requests).items() for _ in range(count)]
    chance.shuffle(order)
    return [_errand(task, frozenset(names), index, chance) for index, task in enumerate(order)]


def _spread(tasks: Sequence[str], requests: int) -> dict[str, int]:
    """Share out the requests, what is left over to the largest remainders."""
    shares = {task: SHARES.get(task, OTHER_SHARE) for task in tasks}
    total = sum(shares.values())
    exact = {task: requests * share / total for task, share in shares.items()}
    counts = {task: max(1, int(count)) for task, count in exact.items()}
    by_remainder = sorted(tasks, key=lambda task: int(exact[task]) - exact[task])
    for index in range(max(0, requests - sum(counts.values()))):
        counts[by_remainder[index % len(tasks)]] += 1
    while sum(counts.values()) > requests:
        counts[max(counts, key=lambda task: counts[task])] -= 1
    return counts


def _errand(task: str, names: frozenset[str], index: int, chance: Random) -> Errand:
    body = _KINDS.get(task, _default)(chance)
    headers: dict[str, str] = {}
    _name_task(task, names, body, headers, chance)
    if "response_format" not in body and chance.random() < 0.45:
        body["stream"] = True
        if chance.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
    if chance.random() < 0.35:
        limit = chance.choice((120, 250, 400)) if task != "legal-drafting" else 1500
        body[chance.choice(("max_tokens", "max_completion_tokens"))] = limit
    if chance.random() < 0.3:
        body["temperature"] = 0.2
    if index % TIGHT_EVERY == TIGHT_EVERY // 2:
        headers["x-farthing-budget-usd"] = TIGHT_USD
    elif index % CLAMP_EVERY == 0:
        headers["x-farthing-budget-usd"] = CLAMP_USD
    return Errand(task, json.dumps(body).encode(), headers, streamed="stream" in body)


def _name_task(task: str, names: frozenset[str], body: Body, headers: dict[str, str], chance: Random) -> None:
    """Say whose request it is, in one of the ways there are."""
    way = chance.random()
    body["model"] = "auto"
    if task == "support" and "support-bot" in names and way < 0.3:
        body["model"] = "support-bot"
    elif way < 0.3:
        body["model"] = f"task:{task}"
    elif task == DEFAULT and way < 0.75:
        # Code that was written for OpenAI asks for OpenAI's names; some files claim them.
        body["model"] = chance.choice(sorted(names & {"gpt-4o", "gpt-4o-mini"}) or ["auto"])
        if body["model"] == "auto":
            headers["x-farthing-task"] = task
    else:
        headers["x-farthing-task"] = task
        pinnable = sorted(names & {"cheap", "standard"})
        if pinnable and way > 0.97:
            body["model"] = chance.choice(pinnable)


def _default(chance: Random) -> Body:
    kind = chance.random()
    if kind < 0.50:
        return {"messages": _asked(_filled(chance.choice(texts.PLAIN), chance), texts.SYSTEM[0])}
    if kind < 0.65:
        return {"messages": _asked(_filled(chance.choice(texts.HARD), chance))}
    if kind < 0.78:
        return {"messages": _conversation(chance)}
    if kind < 0.88:
        return _with_tools(chance)
    if kind < 0.94:
        return {"messages": [_picture("What does this sign say?", chance)]}
    report = _prose(texts.SENTENCES, chance.choice((2_000, 18_000)), chance)
    return {"messages": _asked(f"Which dates are named in this report?\n\n{report}")}


def _support(chance: Random) -> Body:
    asked = _filled(chance.choice(texts.SUPPORT), chance)
    if chance.random() < 0.15:
        asked += " " + _filled(chance.choice(texts.HARD), chance)
    if chance.random() < 0.25:
        before: list[object] = [
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": "Hello, how can I help you?"},
        ]
        return {"messages": [_system(texts.SYSTEM[1]), *before, {"role": "user", "content": asked}]}
    return {"messages": _asked(asked, texts.SYSTEM[1])}


def _summarise(chance: Random) -> Body:
    if chance.random() < 0.25:
        text = "Fasse zusammen:\n\n" + _prose(texts.GERMAN_SENTENCES, chance.choice((200, 900)), chance)
    else:
        words = chance.choices((150, 600, 2_500, 14_000), (4, 4, 3, 1))[0]
        text = "Summarise in five sentences:\n\n" + _prose(texts.SENTENCES, words, chance)
    return {"messages": _asked(text)}


def _extract(chance: Random) -> Body:
    text = _filled(chance.choice(texts.INVOICES), chance)
    if chance.random() < 0.2:
        messages: list[object] = [_picture("Read this invoice and answer as JSON.", chance)]
    else:
        messages = _asked(f"Answer as JSON.\n\n{text}", "You extract facts from documents, as JSON.")
    if chance.random() < 0.5:
        return {"messages": messages, "response_format": {"type": "json_object"}}
    properties = {"number": {"type": "string"}, "supplier": {"type": "string"}, "total_eur": {"type": "number"}}
    invoice = {
        "type": "object",
        "additionalProperties": False,
        "required": [*properties],
        "properties": properties,
    }
    schema = {"name": "invoice", "strict": True, "schema": invoice}
    return {"messages": messages, "response_format": {"type": "json_schema", "json_schema": schema}}


def _code(chance: Random) -> Body:
    kind = chance.random()
    if kind < 0.45:
        return {"messages": _asked(_filled(chance.choice(texts.CODE_EASY), chance))}
    if kind < 0.85:
        return {"messages": _asked(_filled(chance.choice(texts.CODE_HARD), chance))}
    lines = "\n".join(f"{index:5}: value_{chance.randrange(999)} = load({index})" for index in range(1_200))
    call = {
        "id": f"call_{chance.randrange(10**8):08}",
        "type": "function",
        "function": {"name": "read_file", "arguments": '{"path": "settings.py"}'},
    }
    return {
        "messages": [
            {"role": "user", "content": "Find out why value_7 is loaded twice, and fix it."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": lines},
        ],
        "tools": [_tool("read_file", "path"), _tool("write_file", "path")],
    }


def _legal(chance: Random) -> Body:
    return {"messages": _asked(_filled(chance.choice(texts.LEGAL), chance), "You draft for a commercial law firm.")}


_KINDS: Mapping[str, Callable[[Random], Body]] = MappingProxyType(
    {
        "support": _support,
        "summarise": _summarise,
        "extract": _extract,
        "code": _code,
        "legal-drafting": _legal,
    }
)


def _filled(template: str, chance: Random) -> str:
    return template.format(
        thing=chance.choice(texts.THINGS),
        day=chance.choice(texts.DAYS),
        place=chance.choice(texts.PLACES),
        number=chance.randrange(1_000, 99_999),
        euros=chance.randrange(12, 480),
        small=chance.randrange(3, 40),
    )


def _prose(sentences: Sequence[str], words: int, chance: Random) -> str:
    """Return at least so many words, in paragraphs."""
    written: list[str] = []
    count = 0
    while count < words:
        paragraph = " ".join(_filled(chance.choice(sentences), chance) for _ in range(6))
        written.append(paragraph)
        count += paragraph.count(" ") + 1
    return "\n\n".join(written)


def _system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def _asked(text: str, system: str | None = None) -> list[object]:
    asked: list[object] = [{"role": "user", "content": text}]
    return [_system(system), *asked] if system else asked


def _conversation(chance: Random) -> list[object]:
    messages: list[object] = [_system(texts.SYSTEM[0])]
    for _ in range(chance.randrange(2, 5)):
        messages.append({"role": "user", "content": _filled(chance.choice(texts.PLAIN), chance)})
        messages.append({"role": "assistant", "content": "Gladly. " + _prose(texts.SENTENCES, 40, chance)})
    return [*messages, {"role": "user", "content": "And how did you arrive at that?"}]


def _with_tools(chance: Random) -> Body:
    return {
        "messages": _asked(_filled("What is the weather in {place} on {day}, and is there a train?", chance)),
        "tools": [_tool("get_weather", "place"), _tool("find_trains", "destination")],
        "tool_choice": chance.choice(("auto", "required")),
    }


def _tool(name: str, parameter: str) -> dict[str, object]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name.replace('_', ' ').capitalize()} by {parameter}.",
            "parameters": {
                "type": "object",
                "properties": {parameter: {"type": "string"}},
                "required": [parameter],
            },
        },
    }


def _picture(question: str, chance: Random) -> dict[str, object]:
    url = "data:image/png;base64," + base64.b64encode(_png(chance.choice((480, 768, 1_200)), 640)).decode()
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": url, "detail": chance.choice(("low", "high"))}},
        ],
    }


def _png(width: int, height: int) -> bytes:
    """Return a white picture of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\x00" + b"\xff" * ((width + 7) // 8)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(row * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
