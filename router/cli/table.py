"""How commands print: tables that fit a terminal and are not cut where they are piped, JSON, progress, and dollars."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

WIDTH_WHEN_PIPED = 10_000
"""Wider than any row, so that whatever reads a table by line finds each row on one."""
NARROWEST_PROSE = 20
"""For which columns that can be spared make room; where that does not suffice it is as narrow as its longest word."""
GAP = 2
"""Between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, and how it gives way where the terminal is narrow."""

    heading: str
    number: bool = False
    """Stands on the right and is never broken over lines."""
    prose: bool = False
    """May be broken over lines; all else is as wide as it is."""
    spare: bool = False
    """Is left out where there is no room; the last one goes first."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that writes colours to terminals only."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WHEN_PIPED
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def progress_bar() -> Progress:
    """Return a bar that a terminal shows while there is something to count, and nothing else does."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, total: Sequence[str] | None = None
) -> None:
    """Print rows under their headings, with a line of totals below where there is one.

    Where a terminal is too narrow even without what can be spared, each row is a list of its headings and cells.
    """
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    out = console()
    every = [*rows, total] if total else rows
    shown = columns_within(columns, every, out.width)
    if sum(width_of(columns[index], index, every, by_words=True) for index in shown) > out.width:
        _print_lists(out, columns, every)
        return
    table = Table(box=SIMPLE, show_footer=total is not None, show_edge=False, padding=(0, 1, 0, 0))
    for index in shown:
        column = columns[index]
        table.add_column(
            Text(column.heading, style="bold"),
            Text(total[index], style="bold") if total else "",
            justify="right" if column.number else "left",
            overflow="fold",
            no_wrap=not column.prose,
        )
    for row in rows:
        table.add_row(*(Text(row[index]) for index in shown))
    if out.is_terminal:
        out.print(table)
    else:
        # Each cell is padded to its column's width, the last ones too: hundreds of spaces where prose is long.
        with out.capture() as written:
            out.print(table)
        out.file.writelines(f"{line.rstrip()}\n" for line in written.get().splitlines())
    if left_out := [column.heading for index, column in enumerate(columns) if index not in shown]:
        out.print(f"Left out for want of room: {', '.join(left_out)}.")
    out.print()


def say(text: str, *, style: str = "") -> None:
    """Print a sentence, which a terminal breaks between words."""
    out = console()
    out.print(text, style=style, soft_wrap=not out.is_terminal)


def unbroken(doc: str) -> str:
    """Return a docstring as help, whose paragraphs the terminal breaks at its own width; each example has its line."""
    lines: list[str] = []
    for line in cleandoc(doc).splitlines():
        if line and lines and lines[-1] and not line.startswith("Example: "):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines)


def _print_lists(out: Console, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print each row as lines of heading and cell; cells are broken over lines, and empty ones left out."""
    from rich.table import Table
    from rich.text import Text

    for row in rows:
        table = Table.grid(padding=(0, GAP, 0, 0))
        table.add_column(no_wrap=True, min_width=max(len(column.heading) for column in columns))
        table.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            if cell:
                table.add_row(Text(column.heading, style="bold"), Text(cell))
        out.print(table)
        out.print()


def columns_within(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the places of the columns that fit into `width`, without the last spare ones where needed."""
    shown = list(range(len(columns)))
    while sum(width_of(columns[index], index, rows) for index in shown) > width:
        spare = [index for index in shown if columns[index].spare]
        if not spare:
            break
        shown.remove(spare[-1])
    return shown


def width_of(column: Column, index: int, rows: Sequence[Sequence[str]], *, by_words: bool = False) -> int:
    """Return the width in which a column says all it has to say, the gap after it included.

    Prose has a width that reads well, or where asked `by_words` the least that breaks no word that is not very long.
    """
    from rich.cells import cell_len

    cells = (column.heading, *(row[index] for row in rows))
    widest = max(map(cell_len, cells))
    if not column.prose:
        return GAP + widest
    if by_words:
        widest = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
    return GAP + min(widest, NARROWEST_PROSE)


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def dollars(usd: float) -> str:
    """Write an amount to the millionth of a dollar, in which one request can still be seen."""
    if usd and -0.0000005 < usd < 0.0000005:
        return "<$0.000001" if usd > 0 else ">-$0.000001"
    return f"-${-usd:,.6f}" if usd < 0 else f"${usd:,.6f}"


def percent(part: float, whole: float) -> str:
    """Write a share; empty where there is no whole."""
    return f"{100 * part / whole:.0f}%" if whole else ""


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
