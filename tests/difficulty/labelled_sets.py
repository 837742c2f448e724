"""Made labelled sets, in which only poems and songs gain from the premium model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec

HARD = ("Write a poem about the river {}", "Sing of the hero numbered {} of this chapter")
EASY = ("Which city lies on the river {}", "Read out the page numbered {} of this chapter")


def lines(count: int, seed: int = 1, **more: Any) -> list[dict[str, Any]]:
    """Return labelled prompts; 9 of 10 hard ones gain, 1 of 10 easy ones does."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        hard = dice.random() < 0.4
        gains = dice.random() < (0.9 if hard else 0.1)
        prompt = dice.choice(HARD if hard else EASY).format(number)
        outcomes = {
            "cheap": {"quality": 0.0 if gains else 1.0, "cost_usd": 0.0001},
            "premium": {"quality": 1.0, "cost_usd": 0.0011},
        }
        found.append({"id": f"p{number}", "prompt": prompt, "outcomes": outcomes, **more})
    return found


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows) + b"\n")
    return file
