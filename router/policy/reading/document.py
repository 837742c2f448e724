"""A YAML file as a tree whose nodes know their places. Any bytes give a tree or faults, in bounded time.

The scalars follow YAML 1.2's core schema (`no` and `on` are text, `010` is ten), decimals stay exact, and
there are no tags, merge keys or second documents. libyaml reads the syntax: it is twenty times as fast as a
parser in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Protocol

import yaml  # type: ignore[import-untyped, unused-ignore]

from router.policy.fault import START, Place, Report
from router.policy.reading.symbols import said_in_words
from router.policy.reading.syntax import way_out

LARGEST_FILE_BYTES = 1_000_000
MOST_NODES = 250_000
"""Counted after aliases are put in, so that a few lines of them can't grow without end."""
DEEPEST = 64
LONGEST_NUMBER = 40
"""In characters; no price, limit or time needs more."""
LARGEST_EXPONENT = 30
MERGE = "<<"
EXPRESSION = "cel"
"""The key of a text that has faults at places of its own."""

Scalar = str | int | bool | Decimal | None
Step = str | int
Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value: text, a number, true or false, or nothing."""

    place: Place
    value: Scalar
    nodes: int = 1
    written: str = ""
    """As it stands in the file, quotes and indentation included; kept of what `cel` is given, for places within."""

    def plain(self) -> object:
        return self.value


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple[Node, ...]
    nodes: int

    def plain(self) -> list[object]:
        return [item.plain() for item in self.items]


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value` of a mapping; `place` is the key's."""

    place: Place
    value: Node


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping. Keys are text, whatever they look like."""

    place: Place
    entries: Mapping[str, Entry]
    nodes: int

    def plain(self) -> dict[str, object]:
        return {key: entry.value.plain() for key, entry in self.entries.items()}

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry.value if entry else None


Node = Leaf | Items | Table


def is_empty(node: Node) -> bool:
    """Say whether a value was left out after its key or dash, or is null."""
    return isinstance(node, Leaf) and node.value is None


def at(node: Node | None, *path: Step) -> Node | None:
    """Return the node at `path`, or None where there is none."""
    for step in path:
        match node, step:
            case Table(), str():
                node = node.get(step)
            case Items(), int() if step < len(node.items):
                node = node.items[step]
            case _:
                return None
    return node


def text_at(node: Node | None, *path: Step) -> str | None:
    """Return the text at `path`, or None where there is none, or something else."""
    found = at(node, *path)
    return found.value if isinstance(found, Leaf) and isinstance(found.value, str) else None


def texts_at(node: Node | None, *path: Step) -> Iterator[tuple[str, Place]]:
    """Yield the texts at `path`, a list or a single one, with their places; skip what is not text."""
    found = at(node, *path)
    for item in found.items if isinstance(found, Items) else (found,):
        if isinstance(item, Leaf) and isinstance(item.value, str):
            yield item.value, item.place


def entries_at(node: Node | None, *path: Step) -> Mapping[str, Entry]:
    """Return the entries of the mapping at `path`; none where there is something else."""
    found = at(node, *path)
    return found.entries if isinstance(found, Table) else {}


def items_at(node: Node | None, *path: Step) -> tuple[Node, ...]:
    """Return the items of the list at `path`; none where there is something else."""
    found = at(node, *path)
    return found.items if isinstance(found, Items) else ()


def place_of(root: Node, path: Path) -> Place:
    """Return the place of the node at `path`, or of the nearest above it that exists."""
    found: Node = root
    for length in range(1, len(path) + 1):
        below = at(root, *path[:length])
        if below is None:
            break
        found = below
    return found.place


def key_place(root: Node, path: Path) -> Place:
    """Return the place of the key that `path` ends in, or the nearest there is."""
    entry = entries_at(root, *path[:-1]).get(str(path[-1])) if path else None
    return entry.place if entry else place_of(root, path)


def read_document(data: bytes, report: Report) -> Table | None:
    """Return the mapping that `data` holds, or None with the faults in `report`."""
    text = _decoded(data, report)
    if text is None:
        return None
    try:
        root = _Composer(text, report).compose()
    except _Unreadable as error:
        report.error(error.place, error.message)
        return None
    except yaml.YAMLError as error:
        report.error(*_syntax_fault(error, data))
        return None
    if root is None or is_empty(root):
        report.error(START, "the file is empty; it should begin with `version: 1`")
        return None
    if not isinstance(root, Table):
        report.error(root.place, "the file should be a mapping that begins with `version: 1`")
        return None
    return root


class _Unreadable(Exception):
    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


def _decoded(data: bytes, report: Report) -> str | None:
    if len(data) > LARGEST_FILE_BYTES:
        report.error(START, f"the file is larger than {LARGEST_FILE_BYTES:,} bytes")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8", "replace")
        report.error(_end_of(good), f"the file is not UTF-8: byte 0x{data[error.start]:02x}")
        return None


def _end_of(text: str) -> Place:
    lines = text.removeprefix("\ufeff").split("\n")
    return Place(len(lines), len(lines[-1]) + 1)


def _syntax_fault(error: yaml.YAMLError, data: bytes) -> tuple[Place, str]:
    if isinstance(error, yaml.reader.ReaderError):
        # libyaml says where it is in bytes or in characters, depending on which of its checks found it.
        found = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufffe\uffff]", data.decode("utf-8-sig"))
        place = _end_of(data.decode("utf-8-sig")[: found.start()]) if found else START
        return place, "the character here can't stand in YAML; write it as an escape in double quotes"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = Place(mark.line + 1, mark.column + 1) if mark else START
    problem = getattr(error, "problem", None) or "it can't be read"
    line = data.decode("utf-8-sig").split("\n")[place.line - 1 : place.line]
    if line and "\t" in line[0][: place.column]:
        return place, "not valid YAML: a tab can't indent; use spaces"
    context, begun = getattr(error, "context", None), getattr(error, "context_mark", None)
    since = f", begun on line {begun.line + 1}" if begun else ""
    # A bare ">" begins a block of text in YAML.
    compared = re.search(r":\s*(>=?\s*[\d.]+)", line[0]) if line else None
    meant = said_in_words(compared[1], ("gt", "gte")) if compared else None
    begun_on = begun.line + 1 if begun else None
    hint = f"write {meant}" if meant else way_out(problem, line[0] if line else "", place.column - 1, begun_on)
    return place, f"not valid YAML: {problem}" + (f" {context}{since}" if context else "") + (
        f"; {hint}" if hint else ""
    )


class _Events(Protocol):
    def check_event(self) -> bool: ...
    def get_event(self) -> yaml.Event: ...
    def dispose(self) -> None: ...


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    place: Place
    anchor: str | None
    items: list[Node]
    entries: dict[str, Entry] | None
    """None for a list."""
    key: str | None = None
    key_place: Place = START
    split_off: str | None = None
    """Where the key is what a comma has split off a number, as the 01 of {lt: 0,01}: the number's beginning."""
    nodes: int = 1


class _Composer:
    """Makes a tree of libyaml's events with a stack of its own, so that no nesting can exhaust Python's."""

    def __init__(self, text: str, report: Report) -> None:
        self.text = text
        self.events: _Events = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self.report = report
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node | None] = {}
        """None while the anchored node is still open."""
        self.root: Node | None = None
        self.documents = 0

    def compose(self) -> Node | None:
        try:
            while self.events.check_event():
                self._take(self.events.get_event())
        finally:
            self.events.dispose()
        return self.root

    def _take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        place = Place(mark.line + 1, mark.column + 1)
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event, place)
        elif kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
            self._open(event, place)
        elif kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
            self._close()
        elif kind is yaml.AliasEvent:
            self._add(self._alias(event.anchor, place), place)
        elif kind is yaml.DocumentStartEvent:
            self.documents += 1
            if self.documents > 1:
                raise _Unreadable(place, "a second document begins here; one file holds one document")

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        self._refuse_tag(event.tag, place)
        if self._awaits_key():
            self._key(event.value, place)
            self.stack[-1].split_off = self._splits_a_number(event)
            return
        if not event.value and event.implicit[0] and self.stack and (whole := self.stack[-1].split_off):
            self._put_together(whole)
            return
        value = self._resolved(event.value, place) if event.implicit[0] else event.value
        written = ""
        if self.stack and self.stack[-1].key == EXPRESSION:
            written = self.text[event.start_mark.index : event.end_mark.index]
        self._add(self._anchored(event.anchor, Leaf(place, value, written=written)), place)

    def _open(self, event: yaml.Event, place: Place) -> None:
        self._refuse_tag(event.tag, place)
        if self._awaits_key():
            raise _Unreadable(place, "a key must be text, not a list or a mapping")
        if len(self.stack) >= DEEPEST:
            raise _Unreadable(place, f"nested more than {DEEPEST} deep")
        if event.anchor:
            self.anchors[event.anchor] = None
        entries: dict[str, Entry] | None = {} if isinstance(event, yaml.MappingStartEvent) else None
        self.stack.append(_Open(place, event.anchor, [], entries))

    def _close(self) -> None:
        done = self.stack.pop()
        node: Node = (
            Items(done.place, tuple(done.items), done.nodes)
            if done.entries is None
            else Table(done.place, done.entries, done.nodes)
        )
        self._add(self._anchored(done.anchor, node), done.place)

    def _add(self, node: Node, place: Place) -> None:
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        parent.nodes += node.nodes
        if parent.nodes > MOST_NODES:
            raise _Unreadable(place, f"more than {MOST_NODES:,} values, aliases put in")
        if parent.entries is None:
            parent.items.append(node)
        elif parent.key is None:
            raise _Unreadable(place, "a key must be text, not an alias")
        else:
            if parent.key not in parent.entries and parent.key != MERGE:
                parent.entries[parent.key] = Entry(parent.key_place, node)
            parent.key = None

    def _awaits_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].entries is not None and self.stack[-1].key is None

    def _key(self, key: str, place: Place) -> None:
        parent = self.stack[-1]
        if key == MERGE:
            self.report.error(place, "merge keys (<<) are not part of YAML 1.2; write the keys out")
        elif parent.entries is not None and key in parent.entries:
            first = parent.entries[key].place.line
            self.report.error(place, f'the key "{key[:60]}" is given twice; it is first on line {first}')
        parent.key, parent.key_place = key, place

    def _splits_a_number(self, event: yaml.ScalarEvent) -> str | None:
        """Return the beginning of a number, where what is read as a key is only what a comma has split off it."""
        begin, entries = event.start_mark.index, self.stack[-1].entries
        if not entries or not event.value.isdecimal() or self.text[begin - 1 : begin] != ",":
            return None
        before = entries[next(reversed(entries))].value
        if not isinstance(before, Leaf) or not isinstance(before.value, int) or isinstance(before.value, bool):
            return None
        written = _COUNTED.search(self.text[max(0, begin - LONGEST_NUMBER) : begin - 1])
        return written[0].replace(",", "") if written else None

    def _put_together(self, whole: str) -> None:
        """Report a number that is written with a comma, and take it for what was meant."""
        parent = self.stack[-1]
        assert parent.entries is not None, "a key was split off"
        assert parent.key is not None, "a key was split off"
        below, parent.key, parent.split_off = parent.key[:LONGEST_NUMBER], None, None
        name, entry = parent.entries.popitem()
        place = entry.value.place
        grouped = len(below) == len("000")
        if not self.report.knows(place):
            or_whole = f", or {whole}{below} without the comma" if grouped else ""
            self.report.error(place, f"a comma ends a value here; write {whole}.{below} with a point{or_whole}")
        value = self._resolved(whole + below if grouped else f"{whole}.{below}", place)
        parent.entries[name] = Entry(entry.place, Leaf(place, value))

    def _alias(self, name: str, place: Place) -> Node:
        node = self.anchors.get(name)
        if node is None:
            why = "contains itself" if name in self.anchors else "is not defined above"
            raise _Unreadable(place, f"the alias *{name[:60]} {why}")
        return node

    def _anchored(self, anchor: str | None, node: Node) -> Node:
        if anchor:
            self.anchors[anchor] = node
        return node

    def _refuse_tag(self, tag: str | None, place: Place) -> None:
        if tag is not None:
            self.report.error(place, "tags (!) are not allowed; quote a value to make it text")

    def _resolved(self, text: str, place: Place) -> Scalar:
        """Give a plain scalar its type, by the core schema of YAML 1.2."""
        if text in _WORDS:
            return _WORDS[text]
        if text[0] not in _NUMBER_STARTS:
            return text
        if _ENDLESS.fullmatch(text):
            self.report.error(place, f"{text} is no number that can be used here")
            return 0
        if not (_WHOLE.fullmatch(text) or _DECIMAL.fullmatch(text)):
            return text
        number = _number(text) if len(text) <= LONGEST_NUMBER else None
        if number is None:
            self.report.error(place, "the number is too large, too small or too long; quote it if it is text")
            return 0
        return number


_WORDS: Mapping[str, Scalar] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NUMBER_STARTS = frozenset("+-.0123456789")
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_COUNTED = re.compile(r"[-+]?[0-9][0-9,]*$")
_ENDLESS = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def _number(text: str) -> int | Decimal | None:
    if _WHOLE.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number:
        return Decimal(0)
    return number if abs(number.adjusted()) <= LARGEST_EXPONENT else None
