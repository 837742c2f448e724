"""Counts texts by a model's rules and remembers the counts by digest, never the texts."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from math import ceil

from router.tokens.encoding import Encodings, count, utf8_length
from router.tokens.rules import TokenRules

REMEMBERED_CHARS = 24
"""Shorter texts are encoded again rather than looked up: that is quicker."""


class Texts:
    """What one process knows of texts: the encodings and recent counts. May be used from several threads."""

    def __init__(self, encodings: Encodings, remembered: int) -> None:
        self._encodings = encodings
        self._recent = Recent(remembered)

    def count(self, text: str, rules: TokenRules) -> int:
        """Return the tokens of `text`, never above its length in UTF-8."""
        encode = self._encodings.get(rules.encoding)
        if len(text) < REMEMBERED_CHARS:
            tokens = count(encode, text)
        else:
            tokens = self.remember(rules.encoding, text, lambda: count(encode, text))
        if rules.exact:
            return tokens
        size = utf8_length(text)
        more = (size - len(text)) * rules.per_wide_byte
        if rules.per_digit:
            more += _digits(text) * rules.per_digit
        return min(ceil(tokens * rules.factor + more), size)

    def remember(self, what: str, text: str, work_out: Callable[[], int]) -> int:
        """Return what depends on `what` (at most 16 bytes) and `text` only; worked out if not remembered."""
        key = _digest(what, text)
        number = self._recent.get(key)
        if number is None:
            number = work_out()
            self._recent.put(key, number)
        return number


class Recent:
    """Numbers by digest, in two generations: a full young one becomes the old, and the old is dropped.

    That is a least-recently-used cache to within a factor of two, and each of its steps is one atomic
    operation on a dict, so that it needs no lock.
    """

    __slots__ = ("_capacity", "_old", "_young")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: bytes) -> int | None:
        tokens = self._young.get(key)
        if tokens is None:
            tokens = self._old.get(key)
            if tokens is not None:
                self.put(key, tokens)
        return tokens

    def put(self, key: bytes, tokens: int) -> None:
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}
        self._young[key] = tokens


def _digits(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return len(data) - len(data.translate(None, b"0123456789"))


def _digest(what: str, text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=what.encode()).digest()
