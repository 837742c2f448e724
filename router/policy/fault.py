"""What is wrong with a policy file, and where: one frozen value for each fault, in lines and columns from 1.

A message says what was wrong, the value and the fix; it never holds a value that may be a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

Level = Literal["error", "warning"]


class Place(NamedTuple):
    """A line and a column, both from 1; a column counts characters."""

    line: int
    column: int


START = Place(1, 1)
SHORTEST_BEGINNING = 3
"""Of a word, to be taken for what was meant: "saturday" for "sat"."""
MOST_LISTED = 20
"""Of the words that could stand in a place; more would hide the message."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault. They sort by file, line and column."""

    file: str
    line: int
    column: int
    message: str
    level: Level = "error"
    fatal: bool = True
    """Whether an error keeps the folder from being used; one that a change of price can make or mend does not."""

    @property
    def stops(self) -> bool:
        """Whether nothing can be served from a folder that has it."""
        return self.level == "error" and self.fatal

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.level}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """Gathers the faults of one file while it is read."""

    file: str
    faults: list[Fault] = field(default_factory=list)

    def error(self, place: Place, message: str, *, fatal: bool = True) -> None:
        self._add(Fault(self.file, place.line, place.column, message, "error", fatal))

    def warning(self, place: Place, message: str) -> None:
        self._add(Fault(self.file, place.line, place.column, message, "warning"))

    @property
    def stops(self) -> bool:
        """Whether nothing can be made of the file."""
        return any(fault.stops for fault in self.faults)

    def knows(self, place: Place) -> bool:
        """Say whether something is wrong there already, so that no fault is told twice."""
        return any((fault.line, fault.column) == place for fault in self.faults)

    def _add(self, fault: Fault) -> None:
        if fault not in self.faults:
            self.faults.append(fault)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was likely meant to be, in whatever case, or None where none is near."""
    words = {each.lower(): each for each in known}
    written = word[:100].lower()
    if near := difflib.get_close_matches(written, words, n=1, cutoff=0.7):
        return words[near[0]]
    shorter = [each for each in words if len(each) >= SHORTEST_BEGINNING and written.startswith(each)]
    return words[max(shorter, key=len)] if shorter else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean "support"?' for the nearest known word, or their list where none is near."""
    words = [*known]
    if near := nearest(word, words):
        return f'; did you mean "{near}"?'
    return f" (known: {listed(words)})" if len(words) <= MOST_LISTED else ""


def shown(value: object) -> str:
    """Name a value from a file in a message, in few characters."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case None:
            return "nothing"
        case Decimal():
            return f"{value:f}"
    return str(value)


def listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
