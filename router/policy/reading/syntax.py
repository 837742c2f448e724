"""What to do about text that is no YAML, for libyaml says only what it had expected there."""

from __future__ import annotations

import re

_SAME_COLUMN = "begin this line in the same column as the lines beside it"
_QUOTE_WHOLE = "the text ended before this, so put all of it into quotes, and write a ' within it twice"


def way_out(problem: str, line: str, column: int, begun_on: int | None) -> str | None:
    """Say what mends a fault of YAML's syntax, in a few words; None where that is not known.

    `problem` is libyaml's, found in `line` at `column` (from 0); `begun_on` is the line where that which is not whole
    begins, from 1.
    """
    before = line[:column]
    if "unknown escape character" in problem:
        return r"in double quotes a \ begins an escape, so put a pattern into single quotes"
    if "cannot start any token" in problem:
        return "put a text that begins with this sign into quotes"
    if "mapping values are not allowed" in problem:
        if re.search(r":\s", before):
            return 'put a text that holds ": " into quotes'
        return f"{_SAME_COLUMN}, and put a space after each colon"
    if "expected '-' indicator" in problem or "expected key" in problem:
        return _QUOTE_WHOLE if before.strip() else _SAME_COLUMN
    if closing := re.search(r"expected ',' or '([\]}])'", problem):
        opening = "[" if closing[1] == "]" else "{"
        return f"close the {opening} of line {begun_on}, or put a text with brackets or commas into quotes"
    if "could not find expected ':'" in problem:
        return f"line {begun_on} wants a colon and a space after its key, or a space after its dash"
    return None
