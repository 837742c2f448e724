"""Real prompts turned into requests: which task each is for, whether it is a stream, what else it brings.

The rules look at the words and at the place in the file alone, so that every run sends the same.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

LOCAL = "local"
"""The model on this machine, by its name in models.yaml."""

CODE = re.compile(
    r"```|\b(code|coding|program(ming)?|script|function|class|algorithm|API|SQL|regex|compile|debug|python|java|javascript"
    r"|typescript|rust|kotlin|swift|php|html|css|bash|linux|docker|kubernetes|django|react|c\+\+|c#|vba)(?!\w)",
    re.IGNORECASE,
)
LEGAL = re.compile(r"\b(law|legal|contract|clause|patent|licen[cs]e|tax(es|ation)?|regulation|gdpr)\b", re.IGNORECASE)
SUMMARY = re.compile(r"\b(summari[sz]e|summary|synopsis|key points|extract the|shorten)\b", re.IGNORECASE)

LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look something up: an account, an order, a page.",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
    },
}


class Prompt(msgspec.Struct, frozen=True):
    """A line of a file; other members are passed over."""

    prompt: str
    intent: str | None = None
    category: str = ""


@dataclass(frozen=True, slots=True)
class Errand:
    """One request as the SDK is to send it."""

    task: str
    body: dict[str, Any]
    budget_usd: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        asked = {"x-farthing-task": self.task} if self.task != "default" else {}
        return asked | ({"x-farthing-budget-usd": self.budget_usd} if self.budget_usd else {})


def read_prompts(path: Path, most: int) -> list[Prompt]:
    """Read a file; of a longer one, `most` lines at even distances."""
    decode = msgspec.json.Decoder(Prompt).decode
    with gzip.open(path, "rb") as lines:
        prompts = [decode(line) for line in lines if line.strip()]
    return [prompts[index * len(prompts) // most] for index in range(most)] if len(prompts) > most else prompts


def errands_of(prompts: Sequence[Prompt]) -> list[Errand]:
    """Turn prompts into requests, by the rules of `utterance` and `assignment`; half of each kind are streams."""
    errands = []
    for number, prompt in enumerate(prompts):
        errand = (utterance if prompt.intent is not None else assignment)(prompt, number)
        # Both kinds go by tens and twenties, so that bare parity would stream all of some and none of others.
        if (number + number // 20) % 2:
            options = {"stream_options": {"include_usage": True}} if number % 3 else {}
            errand = replace(errand, body=errand.body | {"stream": True} | options)
        errands.append(errand)
    return errands


def utterance(prompt: Prompt, number: int) -> Errand:
    """A support desk: of ten, one asks plainly, one is to become JSON, eight come from an agent that has a tool."""
    asked = {"role": "user", "content": prompt.prompt}
    match number % 10:
        case 0:
            return Errand("support", _body([asked]))
        case 3:
            told = {"role": "system", "content": "Give the intent and its slots as a JSON object."}
            return Errand("extract", _body([told, asked], response_format={"type": "json_object"}))
        case _:
            told = {"role": "system", "content": "You are the support desk of a bank and travel agency. Be brief."}
            choice = "required" if number % 3 == 0 else "auto"
            return Errand("support", _body([told, asked], tools=[LOOK_UP], tool_choice=choice))


def assignment(prompt: Prompt, number: int) -> Errand:
    """An assistant: the words of prompt and category choose the task. One in twenty pins the local model.

    One in fifteen brings a tight budget of its own, from a hundredth of a cent down to what buys nothing. Of those
    that name no task, one in three is plain, which is what the local model gets; the others may use a tool.
    """
    words = f"{prompt.category}\n{prompt.prompt}"
    body = _body([{"role": "user", "content": prompt.prompt}])
    if number % 20 == 7:
        return Errand("default", body | {"model": LOCAL})
    budget_usd = f"{1e-4 / 10 ** (number // 15 % 4):.7f}" if number % 15 == 4 else None
    if SUMMARY.search(words):
        return Errand("summarise", body, budget_usd)
    if LEGAL.search(words):
        return Errand("legal-drafting", body, budget_usd)
    if CODE.search(words):
        return Errand("code", body, budget_usd)
    tools = {"tools": [LOOK_UP]} if number % 3 else {}
    return Errand("default", body | {"model": "gpt-4o" if number % 4 == 2 else "auto"} | tools, budget_usd)


def _body(messages: list[dict[str, str]], **more: object) -> dict[str, Any]:
    return {"model": "auto", "messages": messages, **more}
