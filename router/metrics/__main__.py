"""`python -m router.metrics docs/metrics.md`: puts the table of metrics into a page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from router.metrics.families import table

MARKER = "<!-- metrics -->\n"


def with_table(page: str) -> str:
    """Return a page with the table of metrics as it is now under its marker."""
    lines = "".join(f"{line}\n" for line in table())
    return re.sub(rf"{MARKER}(?:\|.*\n)*", lambda found: MARKER + lines, page)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_table(path.read_text("utf-8")), "utf-8")
