"""Bounds what input audio may cost in tokens: the longest that its bytes can last, by its format."""

from __future__ import annotations

import base64
import binascii

MP3_BYTES_PER_S = 1_000
"""8 kbit/s, the lowest rate of MPEG layer III: a file of this many bytes can't last longer than a second."""

WAV_BYTES_PER_S = 4_000
"""8 kHz ADPCM; a WAV that says so itself may be denser."""

DENSEST_WAV_BYTES_PER_S = 192_000
"""48 kHz, 16 bit, stereo: a header that claims more is not believed."""


def audio_tokens(data: str, kind: str, tokens_per_s: int) -> int:
    """Return the most tokens that this base64 audio may cost, rounded up.

    OpenAI bills 10 tokens a second: a recording of 4.4 s was billed 44 (pydantic-ai's recorded request to
    gpt-4o-audio-preview, 2025-02-24). Google bills 32 ("Audio understanding", 2026-01).
    """
    length_bytes = len(data) * 3 // 4
    rate = _wav_rate(data) if kind == "wav" else MP3_BYTES_PER_S
    return -(-length_bytes * tokens_per_s // rate) + 1


def _wav_rate(data: str) -> int:
    try:
        head = base64.b64decode(data[:48])
    except (binascii.Error, ValueError):
        return WAV_BYTES_PER_S
    if head[:4] != b"RIFF" or head[12:16] != b"fmt " or len(head) < 32:
        return WAV_BYTES_PER_S
    return min(max(int.from_bytes(head[28:32], "little"), WAV_BYTES_PER_S), DENSEST_WAV_BYTES_PER_S)
