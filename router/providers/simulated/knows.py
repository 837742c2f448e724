"""Simulated models of known quality on sums: each is right with a probability of its own, the same at every call.

Whether a model is right on a prompt, and what it says where it is not, is a hash of the two; so quality can be worked
out beforehand, and what a cascade gets can be held against it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from router.chat import Chat

_SUM = re.compile(r"(\d{1,9}) \+ (\d{1,9})")
_WORDINGS = ("{}", "The answer is {}.", "Adding the two gives \\boxed{{{}}}.", "That makes {}.0 in all.")


@dataclass(frozen=True, slots=True)
class Knows:
    """Answers "What is 17 + 25?"; a `Simulation`'s answerer.

    `right` is the share of prompts that each model gets right; one that is not named gets none. Two wrong answers
    are the same in one prompt of `wrongs`, as those of real models now and then are.
    """

    right: Mapping[str, float]
    wrongs: int = 8

    def __call__(self, chat: Chat, model: str) -> str | None:
        """Return what `model` says; None where there is no sum in the last user message."""
        text = chat.last_user_text()
        truth = truth_of(text)
        if truth is None:
            return None
        said = truth if self.is_right(model, text) else truth + 1 + int(_draw(model, text, "slip") * self.wrongs)
        return _WORDINGS[int(_draw(model, text, "wording") * len(_WORDINGS))].format(said)

    def is_right(self, model: str, text: str) -> bool:
        return _draw(model, text, "right") < self.right.get(model, 0.0)


def truth_of(text: str) -> int | None:
    """Return what the sum in a text comes to; None where there is none."""
    found = _SUM.search(text)
    return int(found[1]) + int(found[2]) if found else None


def _draw(*words: str) -> float:
    """Return a number from 0 to below 1 that these words alone decide."""
    return int.from_bytes(blake2b("\n".join(words).encode(), digest_size=7).digest()) / 2**56
