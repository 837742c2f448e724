"""What a text answers, where the answer is closed: its number, its choice among letters, or its JSON value.

Models dress the same answer differently ("\\boxed{42}", "The answer is 42.", "$42.00"), so two of them are compared by
what is found here. None where nothing is found: that agrees with nothing, not even with another None.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

import msgspec

By = Literal["exact", "number", "choice", "json"]

LOOKED_AT_CHARS = 16_384
"""Of the end of a text, where answers stand; what lies before is not searched for numbers and letters."""
LONGEST_NUMBER = 40
_NUMBER = r"(?:(?<![\w.])[-\u2212+])?(?:\d{1,3}(?:,\d{3}){1,12}|\d{1,40})(?:\.\d{1,40})?(?:[eE][-+]?\d{1,2})?"
_FRACTION = re.compile(rf"({_NUMBER})\s*/\s*(\d{{1,20}})(?![\d.,]*\d)")
_LATEX_FRACTION = re.compile(
    r"([-\u2212]?)\\[dt]?frac\s*\{\s*([-\u2212]?\d{1,20})\s*\}\s*\{\s*([-\u2212]?\d{1,20})\s*\}"
)
_PLAIN = re.compile(_NUMBER)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]{0,200}\}){0,200})\}")
_SAID = re.compile(r"(?:\banswer\b(?:\s+is)?\s*[:=]?|\banswer\s*\w{0,12}\s+is\b|####)", re.IGNORECASE)
_LETTER_ALONE = re.compile(r"^\W*(?:(?:option|choice)\s+)?([A-Ja-j])\W*$", re.IGNORECASE)
_LETTER_SAID = re.compile(r"^[\s:=*_(\[{$\\]*(?:(?:option|choice|text)[\s{(*]+)?([A-J])(?![A-Za-z'\u2019])")
_LETTER_FIRST = re.compile(r"^\s*[*_(\[]*([A-J])[*_]*[).:\]]")
_LETTER_MARKED = re.compile(r"\(([A-J])\)|\*\*([A-J])[.)]?\*\*|\b([B-HJ])\b(?!['\u2019])")


def answers_agree(first: str, second: str, by: By) -> bool:
    """Say whether two texts give the same answer."""
    found = closed_answer(first, by)
    return found is not None and found == closed_answer(second, by)


def closed_answer(text: str, by: By) -> object | None:
    """Return what a text answers in a form that can be compared; None where nothing is found."""
    match by:
        case "number":
            return number_in(text)
        case "choice":
            return choice_in(text)
        case "json":
            return _json_in(text)
        case "exact":
            return " ".join(text.split()) or None


def number_in(text: str) -> Fraction | None:
    """Return the number that a text ends in: the last boxed one, else the one said to be the answer, else the last."""
    text = text[-LOOKED_AT_CHARS:]
    for place in _places(text):
        if (found := _first_number(place)) is not None:
            return found
    return _last_number(text)


def choice_in(text: str) -> str | None:
    """Return the letter from A to J that a text chooses; a small letter counts only where it stands alone."""
    text = text[-LOOKED_AT_CHARS:]
    if alone := _LETTER_ALONE.match(text):
        return alone[1].upper()
    for place in _places(text):
        if said := _LETTER_SAID.match(place):
            return said[1]
    if first := _LETTER_FIRST.match(text):
        return first[1]
    marked = _LETTER_MARKED.findall(text)
    return next(filter(None, marked[-1])) if marked else None


def _places(text: str) -> list[str]:
    """Return the texts that an answer is announced to stand in, the surest first."""
    boxed = _BOXED.findall(text)
    said = [text[found.end() : found.end() + 200] for found in _SAID.finditer(text)]
    return [*reversed(boxed), *reversed(said)]


def _first_number(text: str) -> Fraction | None:
    """Return the number that a text begins with, white space and words aside."""
    text = text.splitlines()[0] if text.strip() and text.splitlines()[0].strip() else text
    plain = _PLAIN.search(text)
    latex = _LATEX_FRACTION.search(text)
    if latex and (plain is None or latex.start() <= plain.start()):
        return _divided(f"{latex[1]}{latex[2]}".replace("--", ""), latex[3])
    if plain is None:
        return None
    if fraction := _FRACTION.match(text, plain.start()):
        return _divided(fraction[1], fraction[2])
    return _value(plain[0])


def _last_number(text: str) -> Fraction | None:
    last = max(_PLAIN.finditer(text), key=re.Match.start, default=None)
    if last is None:
        return None
    fractions = [found for found in _FRACTION.finditer(text) if found.end() >= last.end()]
    return _divided(fractions[-1][1], fractions[-1][2]) if fractions else _value(last[0])


def _divided(above: str, below: str) -> Fraction | None:
    numerator, denominator = _value(above), _value(below)
    if numerator is None or not denominator:
        return None
    return numerator / denominator


def _value(text: str) -> Fraction | None:
    if len(text) > 2 * LONGEST_NUMBER:
        return None
    return Fraction(text.replace(",", "").replace("\u2212", "-"))


class _Json(msgspec.Struct, frozen=True):
    """A JSON value apart from None, so that `null` agrees with `null`."""

    canonical: bytes


def _json_in(text: str) -> _Json | None:
    """Return the JSON value of a text, in a code fence or not; the order of an object's members says nothing."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    try:
        return _Json(msgspec.json.encode(_numbers_alike(msgspec.json.decode(text)), order="sorted"))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def _numbers_alike(value: object) -> object:
    """Write 1.0 as 1, which JSON does not tell apart."""
    match value:
        case dict():
            return {key: _numbers_alike(below) for key, below in value.items()}
        case list():
            return [_numbers_alike(below) for below in value]
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
    return value
