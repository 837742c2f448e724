"""A score from cues that anyone can check: words of maths, code and reasoning, and the shape of the request.

Untrained and deterministic. It says how a request looks, not how the traffic of a task is spread.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

LOOKED_AT_CHARS = 20_000
"""Only the beginning of a long text is looked at, so that the time stays bounded."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One thing that makes a request look harder: how much (in log-odds) and how it is recognised."""

    name: str
    weight: float
    pattern: re.Pattern[str]


def _words(*words: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(words) + r")\b", re.IGNORECASE)


CUES = (
    Cue("maths", 0.9, _words("prove", "proof", "theorem", "integral", "derivative", "equation", "matrix", "probability",
                             "solve", "modulo", "polynomial", "calculate", "compute")),
    Cue("formula", 0.7, re.compile(r"\\(?:frac|sum|int|sqrt|begin)|\$[^$\n]{1,200}\$|\b\d+\s{0,3}[\^*/+=]\s{0,3}\d+")),
    Cue("code", 0.7, re.compile(r"```|\b(?:def|class|import) \w|#include|\bSELECT\b.{0,200}\bFROM\b|=>|\bfunction\b")),
    Cue("programming", 0.6, _words("implement", "refactor", "debug", "algorithm", "complexity", "concurrency",
                                   "regex", "recursion", "compile", "stack trace", "unit tests?")),
    Cue("reasoning", 0.8, _words("why", "explain", "reason", "step by step", "derive", "justify", "compare", "contrast",
                                 "evaluate", "analy[sz]e", "trade-?offs?", "implications?", "therefore")),
    Cue("multi-step", 0.5, _words("first", "then", "finally", "each of", "for every", "as well as", "in addition",
                                  "followed by")),
    Cue("design", 0.6, _words("design", "architecture", "strategy", "plan", "draft", "contract", "clause",
                              "negotiate", "liability", "jurisdiction")),
    Cue("constraint", 0.4, _words("must", "exactly", "at least", "at most", "without", "only if", "unless", "ensure")),
)  # fmt: skip

BASE = -1.6
PER_DOUBLING = 0.25
"""Added for each doubling of the length past 16 words."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """A score from 0 to 1, and what pushed it there, strongest first, in log-odds."""

    score: float
    pushed_by: tuple[tuple[str, float], ...]


def difficulty(text: str, *, tools: bool = False, images: bool = False, messages: int = 1) -> Difficulty:
    """Score one request by the text of its last user message and its shape."""
    looked_at = text[:LOOKED_AT_CHARS]
    pushes: list[tuple[str, float]] = []
    for cue in CUES:
        hits = 0
        for _ in cue.pattern.finditer(looked_at):
            hits += 1
            if hits == 3:
                break
        if hits:
            pushes.append((cue.name, cue.weight * (1 + 0.35 * (hits - 1))))
    words = looked_at.count(" ") + 1
    if words > 16:
        pushes.append(("length", PER_DOUBLING * math.log2(words / 16)))
    if tools:
        pushes.append(("tools", 0.3))
    if images:
        pushes.append(("images", 0.3))
    if messages > 4:
        pushes.append(("turns", 0.1 * math.log2(messages / 4)))
    log_odds = BASE + sum(push for _, push in pushes)
    pushes.sort(key=lambda push: -push[1])
    return Difficulty(round(1 / (1 + math.exp(-log_odds)), 4), tuple(pushes))
