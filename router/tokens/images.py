"""What an image costs by each provider's rule, and its size, read from the first bytes of a data URL.

No image is ever decoded. Where the size can't be read, a rule answers with the most it can ever give.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from dataclasses import dataclass
from math import ceil
from typing import Protocol

Size = tuple[int, int]
"""Width and height in pixels, both at least 1."""


class ImageRule(Protocol):
    """How one model bills an image."""

    def tokens(self, size: Size | None, detail: str | None) -> int:
        """Return its tokens, rounded up; the dearest there can be where `size` is None."""
        ...


@dataclass(frozen=True, slots=True)
class Tiles:
    """OpenAI's tile rule: `base` for the whole, `tile` for each 512-pixel square of the scaled image.

    Source: OpenAI, "Images and vision: calculating costs" (2025-12). That sides are rounded to the nearest
    pixel was measured: 2049x513 is billed as eight tiles and 2050x513 as four
    (community.openai.com/t/1281361, 2025-06).
    """

    base: int
    tile: int

    def tokens(self, size: Size | None, detail: str | None) -> int:
        if detail == "low":
            return self.base
        width, height = _within(size or (2048, 768), longest=2048)
        if (shortest := min(width, height)) > 768:
            width, height = _scaled((width, height), 768 / shortest)
        return self.base + self.tile * ceil(width / 512) * ceil(height / 512)


@dataclass(frozen=True, slots=True)
class Patches:
    """OpenAI's patch rule: 32-pixel squares, no more than a budget, times a multiplier in hundredths.

    Larger images are scaled to fit the budget, to somewhat below it; we count all of it, since the documented
    formula is not what is billed (4000x1474 fills it: community.openai.com/t/1281361, 2025-06). `detail: low`
    has no effect on the bill, and each image is billed one token more than its patches (/t/1262691, 2025-05,
    and /t/1377015, 2026-03).
    """

    hundredths: int
    budget: int
    original_budget: int | None = None
    """For `detail: original`, and for `auto` where the newer models take that to mean the same."""

    def tokens(self, size: Size | None, detail: str | None) -> int:
        budget = self.budget if detail in ("high", "low") else self.original_budget or self.budget
        patches = budget if size is None else min(ceil(size[0] / 32) * ceil(size[1] / 32), budget)
        return -(-patches * self.hundredths // 100) + 1


@dataclass(frozen=True, slots=True)
class Squares:
    """So many pixels a side for each token, up to a cap: Claude (28), Qwen (28), Pixtral (16).

    Claude's own figure was width x height / 750 and is 28-pixel squares now (Anthropic, "Vision", 2026),
    which comes to nearly the same.
    """

    side: int
    cap: int

    def tokens(self, size: Size | None, detail: str | None) -> int:
        if size is None:
            return self.cap
        return min(ceil(size[0] / self.side) * ceil(size[1] / self.side), self.cap)


@dataclass(frozen=True, slots=True)
class Crops:
    """Gemini: 258 tokens for each crop, the crop being two thirds of the short side, 256 to 768 pixels.

    Images are scaled to 3072 pixels first, so that 24 crops are the most. Gemini 3 bills by its resolution
    setting instead, `floor_tokens` at most. Source: Google, "Image understanding" and "Media resolution"
    (2026-01).
    """

    floor_tokens: int = 258

    def tokens(self, size: Size | None, detail: str | None) -> int:
        if size is None:
            return 24 * 258
        width, height = _within(size, longest=3072)
        if max(width, height) <= 384:
            return self.floor_tokens
        crop = min(max(min(width, height) * 2 // 3, 256), 768)
        return max(ceil(width / crop) * ceil(height / crop) * 258, self.floor_tokens)


@dataclass(frozen=True, slots=True)
class Flat:
    """The same for every image, where no rule is known."""

    each: int

    def tokens(self, size: Size | None, detail: str | None) -> int:
        return self.each


def _scaled(size: Size, by: float) -> Size:
    return max(int(size[0] * by + 0.5), 1), max(int(size[1] * by + 0.5), 1)


def _within(size: Size, longest: int) -> Size:
    side = max(size)
    return size if side <= longest else _scaled(size, longest / side)


HEADER_BYTES = (32, 4_096, 262_144)
"""How much is decoded, until the size is found. A JPEG has it after its metadata, such as a thumbnail."""

MOST_JPEG_SEGMENTS = 1_000

_DATA_URL = re.compile(r"data:[^,]{0,256};base64,", re.IGNORECASE)
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def size_of(url: str) -> Size | None:
    """Return an image's size from the header in its data URL; None for a link, or where it can't be read."""
    found = _DATA_URL.match(url)
    if not found:
        return None
    for wanted in HEADER_BYTES:
        head = _decoded(url, found.end(), wanted)
        size = _header_size(head) or _jpeg_size(head)
        if size is not None:
            return size if min(size) > 0 else None
        if not head.startswith(b"\xff\xd8"):
            return None
    return None


def _decoded(text: str, start: int, wanted: int) -> bytes:
    """Decode the first `wanted` bytes of base64, or none at all where it is not base64."""
    piece = text[start : start + -(-wanted // 3) * 4]
    try:
        return base64.b64decode(piece + "=" * (-len(piece) % 4))
    except (binascii.Error, ValueError):
        return b""


def _header_size(head: bytes) -> Size | None:
    """Read PNG, GIF and WebP, whose sizes are in their first thirty bytes."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp_size(head)
    return None


def _webp_size(head: bytes) -> Size | None:
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", head[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None


def _jpeg_size(head: bytes) -> Size | None:
    """Walk a JPEG's segments to the one that holds its size."""
    if not head.startswith(b"\xff\xd8"):
        return None
    at = 2
    for _ in range(MOST_JPEG_SEGMENTS):
        if at + 9 > len(head) or head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker in _JPEG_SIZES:
            return int.from_bytes(head[at + 7 : at + 9]), int.from_bytes(head[at + 5 : at + 7])
        standalone = marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD7
        at += (1 if marker == 0xFF else 2) if standalone else 2 + max(int.from_bytes(head[at + 2 : at + 4]), 2)
    return None
