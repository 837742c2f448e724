"""The pages of the documentation as tests see them: fenced blocks, tables under a comment, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / ".github" / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
Table = list[list[str]]


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its fence."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@cache
def blocks() -> tuple[Block, ...]:
    """Return the blocks of all pages, in their order."""
    found = []
    for page in sorted(PAGES):
        fence: tuple[int, str] | None = None
        lines: list[str] = []
        for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
            if not line.startswith("```"):
                lines.append(line)
            elif fence is None:
                fence, lines = (number, line.removeprefix("```")), []
            else:
                found.append(Block(page, *fence, "\n".join(lines) + "\n"))
                fence = None
        assert fence is None, f"{page} has an open fence"
    return tuple(found)


@cache
def tables() -> dict[str, Table]:
    """Return the tables under a comment, by what it says: the header, then the rows, each as its cells."""
    found: dict[str, Table] = {}
    for page in PAGES:
        for match in re.finditer(r"<!-- ([\w: ]+) -->\n((?:\|.*\|\n)+)", page.read_text("utf-8")):
            assert match[1] not in found, f"two tables are called {match[1]}"
            header, _, *lines = ([cell.strip() for cell in line[1:-1].split("|")] for line in match[2].splitlines())
            found[match[1]] = [header, *lines]
    return found


def rows(name: str) -> Table:
    return tables()[name][1:]


def coded(cell: str) -> list[str]:
    """Return what stands in backquotes in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def firsts(name: str) -> list[str]:
    """Return what stands in backquotes in a table's first column."""
    return [code for row in rows(name) for code in coded(row[0])]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
