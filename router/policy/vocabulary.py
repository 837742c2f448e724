"""The words of the policy language: the facts a condition can see, and which operators each takes.

One table, read by the compiler, the JSON Schema and the messages, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "matches"]
Kind = Literal["number", "flag", "word", "set", "text", "headers", "metadata"]

OPERATORS: Mapping[Operator, str] = MappingProxyType(
    {
        "eq": "Is this value. A bare value means the same.",
        "ne": "Is not this value; holds where the fact is not known.",
        "gt": "Is more than.",
        "gte": "Is this or more.",
        "lt": "Is less than.",
        "lte": "Is this or less.",
        "in": "Is one of these (for `has`: has any of these).",
        "not_in": "Is none of these; holds where the fact is not known.",
        "contains": "Holds this text, letter for letter (for `has`: has this, or all of these; "
        "for a list in `metadata`: has this item).",
        "matches": "Has a part that matches this regular expression, in the first 16,384 characters. `(?i)` "
        "ignores case. The dialect is Rust's `regex`: no look-around and no back-references, so that its "
        "time is bounded.",
    }
)

_EQUALITY: tuple[Operator, ...] = ("eq", "ne")
_CHOICE: tuple[Operator, ...] = (*_EQUALITY, "in", "not_in")
_ORDER: tuple[Operator, ...] = ("gt", "gte", "lt", "lte")
_TEXT: tuple[Operator, ...] = ("contains", "matches")

TAKES: Mapping[Kind, tuple[Operator, ...]] = MappingProxyType(
    {
        "number": (*_EQUALITY, *_ORDER, "in", "not_in"),
        "flag": _EQUALITY,
        "word": (*_CHOICE, *_TEXT),
        "set": (*_CHOICE, "contains"),
        "text": _TEXT,
        "headers": (*_CHOICE, *_TEXT),
        "metadata": (*_CHOICE, *_ORDER, *_TEXT),
    }
)
"""The operators that each kind of fact takes."""

HAS: Mapping[str, str] = MappingProxyType(
    {
        "tools": "Tool or function definitions.",
        "images": "An image in a message.",
        "audio": "Audio in a message, or asked for.",
        "audio_out": "Audio asked for in the answer.",
        "files": "A file in a message.",
        "json": "Asks for JSON: `response_format` is json_object or json_schema.",
        "json_schema": "Asks for JSON that follows a schema.",
        "code": "Program text in a message.",
        "system": "A system or developer message.",
        "web_search": "Asks for a web search.",
        "cache_control": "Marks parts of the prompt for caching.",
    }
)
"""What a request can have, and `lacks` and `abilities` of a model can name."""

LONGEST_EXPRESSION = 4_000
"""Of a `cel`, in characters."""
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class FactWord:
    """One fact as the language sees it; `least` and `most` bound the numbers it can be."""

    kind: Kind
    about: str
    least: int | None = None
    most: int | None = None
    whole: bool = False
    words: tuple[str, ...] = ()
    pattern: str | None = None
    may_lack: bool = False
    """Whether it may be not known, so that it is null in an expression."""


FACTS: Mapping[str, FactWord] = MappingProxyType(
    {
        "input_tokens": FactWord("number", "Tokens of the prompt, tools and images included.", 0, whole=True),
        "expected_output_tokens": FactWord("number", "How long answers of this task usually are.", 0, whole=True),
        "max_output_tokens": FactWord(
            "number",
            "The caller's own limit for one answer; not known where it sets none.",
            0,
            whole=True,
            may_lack=True,
        ),
        "difficulty": FactWord(
            "number", "How hard the last user message looks, 0 (routine) to 1; may be not known.", 0, 1, may_lack=True
        ),
        "has": FactWord("set", "What the request has. A bare word or list: has all of these.", words=tuple(HAS)),
        "language": FactWord(
            "word",
            'ISO 639-1 code of the last user message, "und" where it can\'t be told.',
            pattern="[a-z]{2,3}",
        ),
        "messages": FactWord("number", "How many messages the conversation has.", 0, whole=True),
        "stream": FactWord("flag", "Whether the answer is streamed."),
        "hour": FactWord("number", "Hour of the day, 0 to 23, UTC.", 0, 23, whole=True),
        "weekday": FactWord("word", "Day of the week, UTC.", words=WEEKDAYS),
        "account": FactWord(
            "word", "Name of the account in accounts.yaml; not known where the proxy is open.", may_lack=True
        ),
        "headers": FactWord("headers", "Request headers by name, in any case; not known where a header is missing."),
        "metadata": FactWord(
            "metadata",
            "Members of the body's `metadata` by name (`user.tier` goes into a nested one). Text that is a "
            "number compares as one with numbers.",
        ),
        "budget_used_pct": FactWord(
            "number", "How full the fullest of the budgets is that the request draws on, in percent.", 0
        ),
        "budget_remaining_usd": FactWord(
            "number",
            "What the tightest of those budgets has left; not known where nothing is limited.",
            may_lack=True,
        ),
        "text": FactWord("text", "The last user message."),
    }
)
"""Every fact a `when` can see, as documented. One that is not known holds only `ne` and `not_in`."""

COMBINATIONS: Mapping[str, str] = MappingProxyType(
    {
        "all": "Every one of these conditions holds.",
        "any": "At least one of these conditions holds.",
        "not": "This condition does not hold.",
        "condition": "The name of one of the `conditions:`, or a list of names that all hold.",
        "cel": "A Common Expression Language expression over the same facts, as text: "
        "`cel: \"input_tokens > 4000 && 'tools' in has\"`. A fact that is not known is null.",
    }
)
