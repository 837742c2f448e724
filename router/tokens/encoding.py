"""Loads OpenAI's encodings once, offline, from the ranks that the litellm package ships, and makes them safe.

A count never raises, and takes time in proportion to the text whatever the text is.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Literal

from router.errors import FarthingError

EncodingName = Literal["o200k_base", "cl100k_base"]

Encode = Callable[[str], list[int]]

PIECE_CHARS = 32_768
"""Longer texts are encoded in pieces: the encoder's time for one unbroken run grows faster than its
length."""

CUT_WINDOW_CHARS = 1_024
"""How far back from the end of a piece we look for a place where a token starts for certain."""

_RANK_FILES: dict[EncodingName, str] = {
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
}
"""tiktoken's cache names: the SHA-1 of the address it would otherwise fetch."""


class Encodings:
    """The encodings of one process, each loaded when first asked for. May be used from several threads."""

    def __init__(self) -> None:
        self._loaded: dict[str, Encode] = {}
        self._loading = Lock()

    def get(self, name: EncodingName) -> Encode:
        """Return the encoder called `name`.

        Raises:
            FarthingError: its ranks are not on this machine; nothing was fetched.
        """
        encode = self._loaded.get(name)
        if encode is not None:
            return encode
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = _load(name)
        return self._loaded[name]


def _load(name: EncodingName) -> Encode:
    ranks = _ranks_folder()
    if ranks is None or not (ranks / _RANK_FILES[name]).is_file():
        message = f"The ranks of {name} are not in the installed litellm package; install it again."
        raise FarthingError(message)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(ranks)
    import tiktoken  # noqa: PLC0415  It must not be imported, nor fetch, before it knows where its ranks are.

    encoding = tiktoken.get_encoding(name)
    # Only decoding by bytes needs the ranks once the native part has its copy: that is 28 MB for o200k_base.
    encoding._mergeable_ranks = {}
    _return_memory()
    return encoding.encode_ordinary


def _ranks_folder() -> Path | None:
    """Find litellm's tokenizers without importing it, which would take seconds."""
    spec = importlib.util.find_spec("litellm")
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) / "litellm_core_utils" / "tokenizers" if places else None


def _return_memory() -> None:
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # musl has none
            trim(0)


def utf8_length(text: str) -> int:
    """Return how many bytes `text` is in UTF-8: no byte-level tokenizer makes more tokens of it."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def count(encode: Encode, text: str) -> int:
    """Count the tokens of `text`, special tokens' names being ordinary text. Never above its UTF-8 length."""
    if len(text) <= PIECE_CHARS:
        return _count_piece(encode, text)
    total = start = 0
    while start < len(text):
        end, clean = _cut(text, start)
        # A token may lie across an unclean cut, so that the whole makes fewer than its pieces, rarely more.
        total += _count_piece(encode, text[start:end]) + (0 if clean else 1)
        start = end
    return min(total, utf8_length(text))


def _count_piece(encode: Encode, text: str) -> int:
    try:
        return len(encode(text))
    except BaseException as error:
        # A panic of the native part is a BaseException whose class can't be imported; every other passes on.
        if type(error).__name__ != "PanicException":
            raise
        return utf8_length(text)


_MARKS = " \n.,\u3002\uff0c\u3001\u0964"
"""What often follows a word: space, line end, and the commas and full stops of several scripts."""


def _cut(text: str, start: int) -> tuple[int, bool]:
    """Return where the piece from `start` ends, and whether a token starts there for certain."""
    end = start + PIECE_CHARS
    if end >= len(text):
        return len(text), True
    low = end - CUT_WINDOW_CHARS
    for mark in _MARKS:
        at = text.rfind(mark, low, end)
        while at > low:
            if _starts_token(mark, text[at - 1]):
                return at, True
            at = text.rfind(mark, low, at)
    return end, False


def _starts_token(mark: str, before: str) -> bool:
    """Say whether both encodings' patterns always begin a token at `mark` when `before` stands before it.

    White space joins what follows it, save line ends, which punctuation before them takes in; and no word
    goes on past punctuation (apostrophes apart).
    """
    return not before.isspace() if mark == " " else before.isalpha()
