"""Where a character of a YAML text stands in its file: quotes, escapes, indentation and folded lines lie between."""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.policy.fault import Place
from router.policy.reading.document import Leaf

_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|.)", re.DOTALL)
_CONTINUED = re.compile(r"(?:\\\n[ \t]*)+")
_ANCHOR = re.compile(r"(?:&\S+\s+)?")
_BLANK = re.compile(r"[ \t\n]*")


def place_within(leaf: Leaf, offset: int) -> Place:
    """Return the place of the character at `offset` of a text; the text's own where what is written is not kept."""
    written = leaf.written.replace("\r\n", "\n")
    positions = [*_positions(written, str(leaf.value))]
    if offset >= len(positions):
        return leaf.place
    before = written[: positions[offset]].split("\n")
    column = len(before[-1]) + (leaf.place.column if len(before) == 1 else 1)
    return Place(leaf.place.line + len(before) - 1, column)


def _positions(written: str, value: str) -> Iterator[int]:
    """Yield where in `written` each character of `value` stands, and where its end does."""
    anchor = _ANCHOR.match(written)
    begin = anchor.end() if anchor else 0
    style = written[begin : begin + 1]
    position = written.find("\n") + 1 if style in ("|", ">") else begin + (style in ("'", '"'))
    for character in value:
        if style == '"' and (continued := _CONTINUED.match(written, position)):
            position = continued.end()
        here = written[position : position + 1]
        folded = character == " " and here == "\n"
        if here != character and not folded and not (style == '"' and here == "\\"):
            position = _blank_end(written, position)
        yield position
        position += _width(written, position, style)
    yield position


def _blank_end(written: str, position: int) -> int:
    blank = _BLANK.match(written, position)
    return blank.end() if blank else position


def _width(written: str, position: int, style: str) -> int:
    escape = _ESCAPE.match(written, position) if style == '"' else None
    if escape:
        return len(escape[0])
    return 2 if style == "'" and written.startswith("''", position) else 1
