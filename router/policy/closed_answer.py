"""What a text answers, where the answer is closed: its number, its choice among letters, or its JSON value.

Models dress the same answer differently ("\\boxed{42}", "The answer is 42.", "$42.00"), so two of them are compared by
what is found here. None where nothing is found: that agrees with nothing, not even with another None.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from fractions import Fraction
from typing import Literal, NamedTuple

import msgspec

from router.policy.canonical import canonical
from router.policy.said import Said

By = Literal["exact", "number", "choice", "json"]

LOOKED_AT_CHARS = 16_384
"""Of the end of a text, where answers stand; what lies before is not searched for numbers and letters."""
MOST_PLACES = 8
"""Of a kind that are looked into, the last first: a text that announces thousands of answers has none."""
_PLACE_CHARS = 200
_BEFORE_CHARS = 40
_BOX_CHARS = 400
_LAST_NUMBER_CHARS = 300
LONGEST_NUMBER = 40
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af"
"""Letters of languages that put no space between words: a sign may follow one, as it may not follow others (`x-5`)."""
_NUMBER = (
    rf"(?:(?:(?<![\w.])|(?<=[{_UNSPACED}]))[-\u2212+])?"
    r"(?:(?:\d{1,3}(?:,\d{3}){1,12}|\d{1,40})(?:\.\d{1,40})?|(?<![\w.])\.\d{1,40})"
    r"(?:[eE][-+]?\d{1,2})?"
)
_FRACTION = re.compile(rf"({_NUMBER})\s*/\s*(\d{{1,20}})(?![\d.,]*\d)")
_LATEX_FRACTION = re.compile(
    r"([-\u2212]?)\\[dt]?frac\s*\{\s*([-\u2212]?\d{1,20})\s*\}\s*\{\s*([-\u2212]?\d{1,20})\s*\}"
)
_SHORT_FRACTION = re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)")
_MIXED = re.compile(
    r"(?<![\w.,/])(\d{1,4})\s{0,3}(?:\s(\d{1,4})/(\d{1,4})(?![\d/]|\.\d)"
    r"|\\[dt]?frac\s{0,3}\{\s{0,3}(\d{1,4})\s{0,3}\}\s{0,3}\{\s{0,3}(\d{1,4})\s{0,3}\})"
)
_TIMES_TEN = re.compile(
    r"(?<=\d)\s{0,3}(?:\\times|\\cdot|\u00d7|\*)\s{0,3}10\s{0,3}\^\s{0,3}\{?\s{0,3}([-+\u2212]?\d{1,2})\}?"
)
_POWER = re.compile(
    r"(?<![\w.,^])(\d{1,6})(?:\s{0,3}\^\s{0,3}\{?\s{0,3}(-?\d{1,2})\s{0,3}\}?(?!\d)|\*\*(-?\d{1,2})(?![\d*]))"
)
"""10^3 and 10**3; but not a number in bold behind another."""
_VULGAR = re.compile(r"[\u00bc-\u00be\u2150-\u215e]")
"""A fraction that is one character, such as \u00bd."""
_SCALED = re.compile(
    r"(?<=\d)(?:(?P<e3>k|\s{0,3}thousand)|(?:\\text\{)?\s{0,3}(?:(?P<e6>million(?:s|en)?|millones)"
    r"|(?P<e9>billions?|milliard(?:s|en?)?)|(?P<e12>trillions?)))\b",
    re.IGNORECASE,
)
"""5k, 1.5 million; a billion is the English one."""
_GROUPED = re.compile(r"(?<=\d)(?:\\[,!;: ]|\{,\}|[\u00a0\u2007\u2009\u202f'\u2019])(?=\d{3}(?!\d))")
_SPACED = re.compile(
    r"(?<![\w.,/^])(?<!(?<!\d)\d[,;/] )(?<!(?<!\d)\d\d[,;/] )(?<!\d )"
    r"[1-9]\d{0,2}(?: \d{3}){1,12}(?!\d|[.,]\d{3}(?!\d)| ?\d| ?/ ?\d)"
)
"""12 500; but not 2023 500, nor what stands in a row of small numbers (1, 3 400) or before a fraction (2 125/1000).
After a year or another long number (2023, 12 500) it is one."""
_SPACED_FRACTION = re.compile(
    r"(?<![\w.,/^])(?<!\d )(?:[1-9]\d{0,2}(?: \d{3}){1,12}|\d{3,40}) ?/ ?"
    r"[1-9]\d{0,2}(?: \d{3}){1,6}(?!\d|[.,]\d| ?\d| ?/)"
)
"""10 500/1 000, which is 10.5 in whole and mixed numbers alike; whoever writes 2 000 so writes 12 500 so as well."""
_DECIMAL_COMMA = re.compile(
    r"(?<![\d.,])(?:(\d{1,3}(?:\.\d{3}){1,12}|0),(\d{1,40})|(\d{1,40}),(\d{1,2}|\d{4,40})|(\d{1,3}(?:\.\d{3}){2,12}))"
    r"(?![.,]?\d)"
)
"""1.250,50 and 1,5 and 1.250.000; 1,250 and 1.250 are read as English has them."""
_INDIAN = re.compile(r"(?<![\d.,])\d{1,2}(?:,\d{2}){1,6},\d{3}(?!,?\d)")
"""1,23,456 is 123456."""
_MINUS_MONEY = re.compile(rf"(?:(?<!\w)|(?<=[{_UNSPACED}]))[-\u2212]\s?\\?[$\u20ac\u00a3](?=[\d.])")
_PLAIN = re.compile(_NUMBER)
_BEYOND = (
    r"(?:\\(?:sqrt|pi|ln|log|exp|sin|cos|tan|infty|pm|mp)(?![A-Za-z])|[\u221a\u03c0\u221e\u00b1]"
    r"|(?<![A-Za-z])(?:sqrt|pi)(?![A-Za-z])|square root of)"
)
"""What makes more of the numbers beside it than one that can be compared: \\sqrt{2} is no 2."""
_BEYOND_BEFORE = re.compile(
    rf"{_BEYOND}[\s\d(){{}}\[\]+\-*/^_.\u00b7\u00d7]{{0,20}}$|[A-Za-z\d)}}\]](?:\^|_)\{{?[-\u2212]?$", re.IGNORECASE
)
_BEYOND_AFTER = re.compile(
    rf"[\s)}}\]]{{0,5}}(?:(?:[-+*/\u00b7\u00d7]|\\cdot|\\times)\s{{0,3}})?(?:\d{{1,9}}\s{{0,3}})?"
    rf"(?:\\[dt]?frac)?[\s({{\[]{{0,5}}{_BEYOND}"
    r"|\s?\^\s?\{?\s?(?:[-\u2212]?\d|[a-z](?![a-z]))",
    re.IGNORECASE,
)
_UNIT_RAISED = re.compile(
    r"(?<![A-Za-z\\])((?:[cdkmn\u00b5]?m|ft|feet|in|inch|inches|yd|mi|miles|s|sec|h|units?|met(?:er|re)s?)\}?)"
    r"\s?\^\s?\{?[-\u2212]?\d\}?"
)
"""cm^2; its 2 is no answer."""
_LEFT_IN_A_BOX = re.compile(
    rf"\d|{_BEYOND}|\\[dt]?frac|\\[gl][et]?q?(?![A-Za-z])|\\neq?|[<>\u2264\u2265\u2260]", re.IGNORECASE
)
_UNKNOWN = re.compile(r"(?<![A-Za-z\\])[a-ceiknrtxyz]\s?[\^_\u00b2\u00b3]|\d\s?[einxyz](?![A-Za-z\d])|\d\s?!")
"""Unknowns and factorials in a box: x^2, x_1, 2x and 5!"""
_DIGIT = re.compile(rf"\d|{_VULGAR.pattern}")
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]{0,200}\}){0,200})\}")
_SAID = re.compile(
    r"(?:\banswer\b(?:\s+is)?\s*[:=]?|\banswer\s*\w{0,12}\s+is\b|####"
    r"|\b(?:antwort|r\u00e9ponse|respuesta|risposta|resposta|\u043e\u0442\u0432\u0435\u0442)\b"
    r"(?:\s+(?:ist|lautet|est|es|\u00e8|\u00e9)\b)?\s*[:=]?"
    r"|(?:\u7b54\u6848|\u7b54\u3048|\u6b63\u89e3|\uc815\ub2f5)[\u662f\u4e3a\u70ba\u306f\uc740]?\s*[:=\uff1a]?)",
    re.IGNORECASE,
)
"""Announces an answer: in English, German, French, Spanish, Italian, Portuguese, Russian, Chinese, Japanese, Korean."""
_CHOSEN = re.compile(rf"{_SAID.pattern}|\b(?:choice|option)\s*(?:is\b|[:=])", re.IGNORECASE)
_LETTER_ALONE = re.compile(r"^\W*(?:(?:option|choice)\s+)?([A-Ja-j])\W*$", re.IGNORECASE)
_OPENING = r"^[\s:=*_(\[{$\\]*(?:(?:[Oo]ption|[Cc]hoice|text)[\s{(*]+)?"
_LETTER_SAID = re.compile(
    rf"{_OPENING}([A-J])(?![A-Za-z'\u2019])(?!(?<=[AI])\s+(?!and\b|as\b|because\b|for\b|is\b|or\b|since\b)[a-z])"
)
_SMALL_LETTER_SAID = re.compile(
    rf"{_OPENING}([a-j])[*_$]*(?:[.,;)\]}}]|\s*$|\s{{1,3}}(?:because|since)\b)", re.MULTILINE
)
_LETTER_FIRST = re.compile(
    r"^\s*[*_(\[]*([A-J])[*_]*(?:[).:\]]|\s{1,3}(?:because|since|is\s+(?:the\s+)?(?:answer|best|correct|right))\b)"
    r"|^\s*[*_(\[]*([a-j])[*_]*[).:\]]+(?:[\s*_]|$)"
)
_LETTER_MARKED = re.compile(r"\(([A-J])\)|\*\*([A-J])[.)]?\*\*|\b([B-HJ])\b(?!['\u2019])|\b(A)\b(?=\W{0,9}$)")
_FENCED = re.compile(r"```\w{0,12}(.*?)```", re.DOTALL)
"""White space before the value is JSON's to skip: to look for it here takes minutes where a fence has no end."""


def answers_agree(first: str, second: str, by: By) -> bool:
    """Say whether two texts give the same answer."""
    found = closed_answer(first, by)
    return found is not None and found == closed_answer(second, by)


def say_the_same(first: Said, second: Said, by: By) -> bool:
    """Compare two answers; where one of them calls tools, by the calls, for there is no text to find an answer in."""
    if first.calls or second.calls:
        return call_the_same(first, second)
    return answers_agree(first.text or "", second.text or "", by)


def call_the_same(first: Said, second: Said) -> bool:
    """Say whether two answers call the same tools in the same order with the same arguments."""
    return len(first.calls) == len(second.calls) and all(
        one.name == other.name and answers_agree(one.arguments or "{}", other.arguments or "{}", "json")
        for one, other in zip(first.calls, second.calls, strict=True)
    )


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
    """Return the number that a text ends in: the last boxed one, else the one said to be the answer, else the last.

    Only where a number may stand is it written plainly, for that takes ten times as long as to find such places.
    """
    text = text[-LOOKED_AT_CHARS:]
    for box in _boxed(text):
        if _DIGIT.search(box):
            return _number_of_a_box(box)
    for place in _said(text, _SAID):
        if (found := _first_number(_plainly(place))) is not None:
            return found.value
    return _last_number(_plainly(_around_the_last_digit(text)))


def choice_in(text: str) -> str | None:
    """Return the letter from A to J that a text chooses; a small letter counts only where no word goes on from it."""
    text = text[-LOOKED_AT_CHARS:]
    if alone := _LETTER_ALONE.match(text):
        return alone[1].upper()
    for place in _places(text, _CHOSEN):
        if said := _LETTER_SAID.match(place) or _SMALL_LETTER_SAID.match(place):
            return said[1].upper()
    if first := _LETTER_FIRST.match(text):
        return (first[1] or first[2]).upper()
    marked = _LETTER_MARKED.findall(text)
    return next(filter(None, marked[-1])) if marked else None


def _places(text: str, announced: re.Pattern[str]) -> list[str]:
    """Return the texts that an answer is announced to stand in, the surest first."""
    return [*_boxed(text), *_said(text, announced)]


def _said(text: str, announced: re.Pattern[str]) -> list[str]:
    """Return what stands behind the words that announce an answer, the last first."""
    said = deque(announced.finditer(text), maxlen=MOST_PLACES)
    return [text[found.end() : found.end() + _PLACE_CHARS] for found in reversed(said)]


def _boxed(text: str) -> list[str]:
    """Return what stands in the boxes of a text, the last first."""
    found, end = [], len(text)
    for _ in range(MOST_PLACES):
        if (end := text.rfind("\\boxed", 0, end)) < 0:
            break
        found.append(_BOXED.match(text, end, end + _BOX_CHARS))
    return [box[1] for box in found if box is not None]


def _around_the_last_digit(text: str) -> str:
    """Return the end of a text that its last number stands in; one without an end is none."""
    if (last := _DIGIT.search(text[::-1])) is None:
        return ""
    at = len(text) - last.start()
    around = text[max(0, at - _LAST_NUMBER_CHARS) : at + LONGEST_NUMBER]
    return around if at <= _LAST_NUMBER_CHARS else around.lstrip("0123456789.,")


def _plainly(text: str) -> str:
    """Write what mathematics and money dress a number in as plain digits: 5 \\times 10^3, 1\\,234, 1.234,50, -$5."""
    text = _UNIT_RAISED.sub(r"\1", text)
    text = _INDIAN.sub(lambda found: found[0].replace(",", ""), _VULGAR.sub(_in_digits, text))
    text = _SPACED_FRACTION.sub(lambda found: found[0].replace(" ", ""), _GROUPED.sub("", text))
    text = _SPACED.sub(lambda found: found[0].replace(" ", ""), text)
    text = _DECIMAL_COMMA.sub(_with_a_point, text)
    text = _MINUS_MONEY.sub("-", text)
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text)
    text = _MIXED.sub(_improper, text)
    text = _TIMES_TEN.sub(lambda found: f"e{found[1].replace(chr(0x2212), '-')}", text)
    return _SCALED.sub(lambda found: str(found.lastgroup), _POWER.sub(_raised, text))


def _in_digits(found: re.Match[str]) -> str:
    """Write \u00bd as 1/2, and apart from a whole number before it."""
    apart = " " if found.string[: found.start()][-1:].isdigit() else ""
    return apart + unicodedata.normalize("NFKC", found[0]).replace("\u2044", "/")


def _with_a_point(found: re.Match[str]) -> str:
    whole, below = found[1] or found[3] or found[5], found[2] or found[4]
    return whole.replace(".", "") + (f".{below}" if below else "")


def _improper(found: re.Match[str]) -> str:
    whole, above, below = int(found[1]), int(found[2] or found[4]), int(found[3] or found[5])
    return f"{whole * below + above}/{below}" if above < below else found[0]


def _raised(found: re.Match[str]) -> str:
    base, power = int(found[1]), int(found[2] or found[3])
    if power < 0:
        return f"1/{base**-power}" if base and len(str(base**-power)) <= 20 else found[0]
    # A bound on its digits first: the number itself may have six hundred, which are slow to write.
    raised = str(base**power) if power * (base.bit_length() - 1) <= 4 * LONGEST_NUMBER else ""
    return raised if 0 < len(raised) <= LONGEST_NUMBER else found[0]


class _Found(NamedTuple):
    """A number in a text, and where it stands. `value` is None where it is only a part of what is meant, as in 2 pi."""

    value: Fraction | None
    start: int
    end: int


def _first_number(text: str) -> _Found | None:
    """Return the number that a text begins with, white space and words aside; None for none and for such as 1/0."""
    text = text.splitlines()[0] if text.strip() and text.splitlines()[0].strip() else text
    plain = _PLAIN.search(text)
    latex = _LATEX_FRACTION.search(text)
    if latex and (plain is None or latex.start() <= plain.start()):
        return _found(text, latex, _divided(f"{latex[1]}{latex[2]}".replace("--", ""), latex[3]))
    if plain is None:
        return None
    if fraction := _FRACTION.match(text, plain.start()):
        return _found(text, fraction, _divided(fraction[1], fraction[2]))
    return _found(text, plain, _value(plain[0]))


def _found(text: str, number: re.Match[str], value: Fraction | None) -> _Found | None:
    if value is None:
        return None
    return _Found(value if _stands_alone(text, number) else None, number.start(), number.end())


def _number_of_a_box(box: str) -> Fraction | None:
    """Return the number that a box holds, with its unit or not, and behind an equals sign or not; None for all else.

    A box holds an answer and nothing else, so what is left of it belongs to the answer: (2, 3) is not 2.
    """
    for written in (box, box.rpartition("=")[2]):
        piece = _plainly(written)
        found = None if _UNKNOWN.search(written) else _first_number(piece)
        if (
            found
            and found.value is not None
            and not _LEFT_IN_A_BOX.search(f"{piece[: found.start]} {piece[found.end :]}")
        ):
            return found.value
    return None


def _last_number(text: str) -> Fraction | None:
    last = max(_PLAIN.finditer(text), key=re.Match.start, default=None)
    if last is None:
        return None
    if latex := [found for found in _LATEX_FRACTION.finditer(text) if found.end() > last.end()]:
        value = _divided(f"{latex[-1][1]}{latex[-1][2]}".replace("--", ""), latex[-1][3])
        return value if _stands_alone(text, latex[-1]) else None
    if fractions := [found for found in _FRACTION.finditer(text) if found.end() >= last.end()]:
        return _divided(fractions[-1][1], fractions[-1][2]) if _stands_alone(text, fractions[-1]) else None
    return _value(last[0]) if _stands_alone(text, last) else None


def _stands_alone(text: str, number: re.Match[str]) -> bool:
    """Say whether a number is what is meant, and not a part of it as in \\sqrt{2}, 2\\pi and 1 + \\sqrt{2}."""
    before = text[max(0, number.start() - _BEFORE_CHARS) : number.start()]
    return not (_BEYOND_BEFORE.search(before) or _BEYOND_AFTER.match(text, number.end()))


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

    written: bytes


def _json_in(text: str) -> _Json | None:
    """Return the JSON value of a text or of its only code fence; the order of an object's members says nothing."""
    if len(fenced := _FENCED.findall(text)) == 1:
        text = fenced[0]
    try:
        return _Json(canonical(msgspec.json.decode(text)))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
