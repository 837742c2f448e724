"""Cues that anyone can check: words of maths, code and reasoning, figures, and the shape of a request.

Untrained and deterministic. Only the beginning and the end of a long text are looked at, so that the time is bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

HEAD_CHARS = 6_000
TAIL_CHARS = 2_000
"""A question stands at the beginning or at the end of a text; what lies between is most often material."""
BRIEF_WITHIN_CHARS = 400
FEWEST_PARTS = 2
"""Of a task that is listed; of options one may begin with a verb, too."""
PLAIN_TOKENS = 4
"""A request shorter than this, with no cue in it, is a greeting."""
LOOK_UP_TOKENS = 12
LOOK_UP = (
    "what whats who whom whose where when add book call cancel change check close convert define dial flip get give "
    "go inform let lets list make move name open order play pull put read remind remove repeat report reserve reset "
    "revert roll say schedule search send set share show skip speak spell start stop summarise summarize switch tell "
    "text track transfer translate turn update use"
)
"""One that is shorter than this, begins with one of these, and has no cue in it but of design, is a look-up or an
errand: who asks when a contract ends does not ask for one to be drafted."""
YES_OR_NO_TOKENS = 8
YES_OR_NO = "is are was were do does did can could has have will"
"""So is one that is shorter than this and begins with one of these."""
PERSONAL_TOKENS = 20
PERSONAL = "i im my mine me please hi hello hey thank thanks"
ASKED_OF_YOU = "are can could did do have were will would"
"""One that is shorter than this and has no cue in it is small talk or a wish if it holds one of the first, or begins
with one of the second and "you". Any other short question may be as hard as a long one: quizzes and completions are,
and say "you" and "we" of anyone."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a request beside its question."""

    tools: bool = False
    images: bool = False
    messages: int = 1
    other_chars: int = 0
    """Of all other messages: they are paid for, too."""
    brief: bool = False
    """Whether no more than a letter, a number or a word is asked for."""
    goes_on: bool = False
    """Whether the question is an earlier one with a word or two behind it."""


WORDS: dict[str, tuple[float, str]] = {
    "maths": (
        0.9,
        (
            "prove proof theorem integral derivative equation matrix probability solve modulo polynomial calculate "
            "compute determine many"
        ),
    ),
    "code": (0.9, "def import class function python sql return async regex"),
    "programming": (0.6, "implement refactor debug algorithm complexity concurrency recursion compile tests"),
    "reasoning": (
        0.8,
        (
            "why explain reason derive justify compare contrast evaluate analyse analyze tradeoff implications "
            "implication therefore"
        ),
    ),
    "multi-step": (0.5, "first then finally afterwards each"),
    "design": (0.6, "design architecture strategy plan draft contract clause negotiate liability jurisdiction"),
    "constraint": (0.4, "must exactly least without unless ensure"),
}
"""What makes a request look harder: how much (in log-odds), and the words that it is recognised by.

One of them counts as much as many: a long text holds more of them, and is dearer and not so much harder. Where
options are listed to choose from they say nothing, for who is to choose a reason need not explain it; then figures to
choose from are taken for maths, and all else for a constraint.
"""
MARKS: dict[str, tuple[str, ...]] = {
    "code": ("```", "#include", "=>", "();"),
    "reasoning": ("step by step", "trade-off"),
    "multi-step": ("followed by", "in addition"),
}
"""More than one word, or none."""
FORMULA_STRENGTH = 0.7
NAMES = (*WORDS, "formula", "figures", "plain", "length", "tools", "images", "turns", "language")
"""What `cues_of` measures, in its order."""

_CUES = (*WORDS, "formula")
_OF_TOPICS = {"design"}
_MATHS, _CONSTRAINT = _CUES.index("maths"), _CUES.index("constraint")
_YES_OR_NO = frozenset(YES_OR_NO.split())
_LOOK_UP, _PERSONAL = frozenset(LOOK_UP.split()), frozenset(PERSONAL.split())
_ASKED_OF_YOU = frozenset(ASKED_OF_YOU.split())
_CUE_OF = {word: index for index, (_, words) in enumerate(WORDS.values()) for word in words.split()}
_WEIGHTS = tuple(weight for weight, _ in WORDS.values())
_MARKS = tuple((tuple(WORDS).index(name), mark) for name, marks in MARKS.items() for mark in marks)
_FORMULA = re.compile(r"\\(?:frac|sum|int|sqrt|begin)|\d ?[\^*/+=] ?\d|\$[^$\n]{1,200}\$")
_OPTIONS = tuple(re.compile(rf"(?:^|[\s(]){letter}[.):]\s") for letter in "abc")
_FIGURE_OPTION = re.compile(r"(?:^|[\s(])[a-j][.):]\s\W{0,3}\d")
_PART = re.compile(
    r"(?:^|[\s(])[a-j][.):]\s{1,9}(?:analy[sz]e|build|calculate|classify|compare|compile|compute|configure|contrast|convert"
    r"|count|create|debug|deduplicate|define|delete|deploy|derive|describe|design|determine|discuss|evaluate|explain|extract"
    r"|filter|find|fix|format|how|identify|implement|import|install|justify|load|log|merge|normali[sz]e|optimi[sz]e|outline"
    r"|parse|plot|print|prove|refactor|remove|rename|render|replace|return|rewrite|show|simplify|sketch|solve|sort"
    r"|summari[sz]e|transform|translate|update|upload|validate|what|why|write)\b"
)
"""A part of a task, which tells what to do, where an option is a thing to choose.

Left out are what options begin with as well, as "read" and "send" do, and of verbs of programs those that two options
of one question of MMLU-Pro begin with: add, check, generate, list, open, split, store, test, use, verify.
"""
_OPTION_MARKS = ("c)", "c.", "c:")
"""One of these is in all that lists options, and is looked for in a tenth of the time."""
_BRIEF = re.compile(
    r"\b(?:only|just)(?: (?:with|a|an|the|one|single|correct|final|right|best|corresponding|capital|your|its))*"
    r" (?:letter|choice|option|word|number|digit|label|yes or no|true or false)\b"
    r"|\b(?:single|one)[- ](?:letter|choice|word|digit|label)\b"
    r"|\bwithout (?:any |further |an )?explanation|\bno explanation|\b(?:do not|don't) explain"
    r"|\b(?:answer|reply|respond)(?: only| just| with|:)* (?:yes or no|true or false)\b"
    r"|\b(?:answer|reply|respond)(?: only| just)? with (?:a|the|one) (?:letter|option|number|word)\b"
)
_BRIEF_MARKS = (
    "only",
    "just ",
    "single",
    "one ",
    "one-",
    "explanation",
    "explain",
    "yes or no",
    "true or false",
    "with ",
)
"""One of these is in all that the pattern finds, and is looked for in a tenth of the time."""
_NOT_DIGITS = str.maketrans("", "", "0123456789")


def asks_briefly(text: str) -> bool:
    """Say whether a text asks, where it begins or ends, for a letter, a number or a word alone."""
    within = BRIEF_WITHIN_CHARS
    ends = text if len(text) <= 2 * within else f"{text[:within]}\n{text[-within:]}"
    seen = ends.lower()
    return any(mark in seen for mark in _BRIEF_MARKS) and _BRIEF.search(seen) is not None


def looked_at(text: str) -> str:
    """Return the part of a text that is looked at: all of it, or its beginning and its end."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return text[:HEAD_CHARS] + "\n" + text[-TAIL_CHARS:]


def cues_of(text: str, words: Sequence[str], chars: int, shape: Shape) -> tuple[float, ...]:
    """Measure each of NAMES in a lower-case text that is looked at; 0 says that nothing of it is there.

    `words` are the text's words, and `chars` is how long the text was before it was cut.
    """
    if _lists_options(text):
        found: set[int | None] = {_MATHS if len(_FIGURE_OPTION.findall(text)) > 1 else _CONSTRAINT}
    else:
        found = {*map(_CUE_OF.get, words)}
        found.update([index for index, mark in _MARKS if mark in text])
    measured = [weight if index in found else 0.0 for index, weight in enumerate(_WEIGHTS)]
    measured.append(FORMULA_STRENGTH if _FORMULA.search(text) else 0.0)
    looked = max(1, len(text))
    measured.append(min(0.3, (len(text) - len(text.translate(_NOT_DIGITS))) / looked) * 5)
    cues = {*compress(_CUES, measured)}
    measured.append(_plainness(words, tokens_in(chars)) if cues <= _OF_TOPICS else 0.0)
    measured.append(math.log2(tokens_in(chars + shape.other_chars) / 64))
    measured.append(1.0 if shape.tools else 0.0)
    measured.append(1.0 if shape.images else 0.0)
    measured.append(math.log2(max(1.0, shape.messages / 4)))
    measured.append(0.0 if text.isascii() else (len(text.encode("utf-8", "replace")) - len(text)) / looked)
    return tuple(measured)


def tokens_in(chars: int) -> float:
    """Guess how many tokens so many characters are: a score needs no better, and a count would take longer."""
    return max(1.0, chars / 4)


def _lists_options(text: str) -> bool:
    if not any(mark in text for mark in _OPTION_MARKS):
        return False
    start = 0
    for option in _OPTIONS:
        found = option.search(text, start)
        if found is None:
            return False
        start = found.end() - 1
    return len(_PART.findall(text)) < FEWEST_PARTS


def _plainness(words: Sequence[str], tokens: float) -> float:
    plain = (
        tokens < PLAIN_TOKENS
        or (tokens < LOOK_UP_TOKENS and not _LOOK_UP.isdisjoint(words[:1]))
        or (tokens < YES_OR_NO_TOKENS and not _YES_OR_NO.isdisjoint(words[:1]))
        or (tokens < PERSONAL_TOKENS and (not _PERSONAL.isdisjoint(words) or _is_asked_of_you(words)))
    )
    return 1.0 if plain else 0.0


def _is_asked_of_you(words: Sequence[str]) -> bool:
    return len(words) > 1 and words[1] == "you" and words[0] in _ASKED_OF_YOU
