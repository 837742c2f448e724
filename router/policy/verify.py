"""What an answer must pass before it is given out, and the checks that look at nothing but the answer.

Pure: `failing` never raises, whatever the answer, the request and their schemas hold. The checks that ask another
model, or run an operator's own code, are specified here and carried out by the pipeline.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from router.chat import Chat, FunctionCall
from router.policy.closed_answer import By
from router.policy.json_schema import BadSchema, Schema
from router.policy.pattern import Pattern
from router.policy.refusals import REFUSAL_ABROAD
from router.policy.said import Said

OwnCheck = Callable[[dict[str, Any], dict[str, Any]], object]
"""Takes the request and the answer, as OpenAI's API has them; a true value says that the answer passes."""


@dataclass(frozen=True, slots=True)
class Agree:
    """A second answer, by `model`, that must say the same."""

    model: str
    by: By


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that grades the answer from 0 to 1, and the least grade that passes."""

    model: str
    question: str
    gte: float


@dataclass(frozen=True, slots=True)
class Verify:
    """The checks of a rule, all of which must pass, and who is asked where one does not."""

    json: bool = False
    json_schema: Schema | bool = False
    """True: the schema that the request itself asks for."""
    regex: Pattern | None = None
    min_chars: int = 0
    not_refusal: bool = False
    not_truncated: bool = False
    tool_calls_valid: bool = False
    logprob_gte: float | None = None
    own: OwnCheck | None = field(default=None, compare=False)
    """`python: module:function`."""
    agree: Agree | None = None
    judge: Judge | None = None
    escalate_to: str | None = None
    buffer: bool | None = None
    """Whether streams are held back until they have passed; else they go out unchecked."""

    @property
    def beside(self) -> tuple[str, ...]:
        """The models that are asked beside the answer; may be empty."""
        return tuple(check.model for check in (self.agree, self.judge) if check is not None)

    @property
    def agrees_only(self) -> bool:
        """Whether a second answer is all that is asked for, so that no cheaper check could spare it."""
        return (
            self.agree is not None
            and self == Verify(agree=self.agree, judge=self.judge, escalate_to=self.escalate_to, buffer=self.buffer)
            and self.own is None
        )


@dataclass(frozen=True, slots=True)
class Unknown:
    """A check that could not be made: what it looks at is not there."""

    because: str
    """The check and why, in few words that are names: `judge_money`."""


LONGEST_KEPT_BYTES = 64_000
"""Of a caller's schema; a longer one is compiled anew for each answer."""
Verdict = str | Unknown | None
"""The name of the check that failed; why, where none failed but one could not be made; None: all passed."""


def failing(verify: Verify, choices: Sequence[Said], chat: Chat) -> Verdict:
    """Hold an answer against the checks that look at it alone, cheapest first."""
    if not choices:
        return "empty"
    unknown: Unknown | None = None
    for name, wanted, passes in _CHECKS:
        if not wanted(verify):
            continue
        for choice in choices:
            passed = passes(verify, choice, chat)
            if passed is False:
                return name
            if passed is None and unknown is None:
                unknown = Unknown(f"{name}_absent")
    return unknown


def _not_truncated(verify: Verify, said: Said, chat: Chat) -> bool:
    return said.finish_reason != "length"


def _long_enough(verify: Verify, said: Said, chat: Chat) -> bool:
    return said.says_otherwise or len((said.text or "").strip()) >= verify.min_chars


def _not_refusal(verify: Verify, said: Said, chat: Chat) -> bool:
    if said.refusal is not None or said.finish_reason == "content_filter":
        return False
    begins = (said.text or "")[:400].replace("\u2019", "'")
    return not (_REFUSAL.match(begins) or REFUSAL_ABROAD.match(begins))


def _is_json(verify: Verify, said: Said, chat: Chat) -> bool:
    return said.says_otherwise or decoded(said.text or "") is not NOT_JSON


def _logprob(verify: Verify, said: Said, chat: Chat) -> bool | None:
    if said.mean_logprob is None or verify.logprob_gte is None:
        return True if said.says_otherwise else None
    return said.mean_logprob >= verify.logprob_gte


def _matches(verify: Verify, said: Said, chat: Chat) -> bool:
    return said.says_otherwise or verify.regex is None or verify.regex.found_in(said.text or "")


def _calls_valid(verify: Verify, said: Said, chat: Chat) -> bool:
    if not said.calls:
        return not _must_call(chat)
    known = _parameters(chat)
    if (demanded := _must_call_named(chat)) is not None:
        known = {name: parameters for name, parameters in known.items() if name == demanded}
    return all(call.name in known and _fits_parameters(call, known[call.name]) for call in said.calls)


def _fits_schema(verify: Verify, said: Said, chat: Chat) -> bool:
    if said.says_otherwise:
        return True
    try:
        schema = verify.json_schema if isinstance(verify.json_schema, Schema) else _requested_schema(chat)
    except BadSchema:
        return False
    value = decoded(said.text or "")
    return schema is None or (value is not NOT_JSON and schema.fits(value))


_CHECKS: tuple[tuple[str, Callable[[Verify], object], Callable[[Verify, Said, Chat], bool | None]], ...] = (
    ("not_truncated", lambda verify: verify.not_truncated, _not_truncated),
    ("min_chars", lambda verify: verify.min_chars, _long_enough),
    ("not_refusal", lambda verify: verify.not_refusal, _not_refusal),
    ("json", lambda verify: verify.json, _is_json),
    ("logprob", lambda verify: verify.logprob_gte is not None, _logprob),
    ("regex", lambda verify: verify.regex, _matches),
    ("tool_calls_valid", lambda verify: verify.tool_calls_valid, _calls_valid),
    ("json_schema", lambda verify: verify.json_schema is not False, _fits_schema),
)
"""Name, whether a rule asks for it, and the check: False fails, None can't say. The cheapest first."""

NAMES = (*(name for name, _, _ in _CHECKS), "python", "agree", "judge")
"""Every check, in the order in which they are made."""

_OPENINGS = (
    r"(?:I'm|I am|we're|we are) (?:(?:very|really|so|truly|terribly) )?(?:sorry|afraid)(?: that)?"
    r"|sorry(?: about that)?|I apologi[sz]e(?: for [\w ]{0,39}\w)?|(?:my )?apologies|unfortunately|regrettably"
    r"|I regret(?: to (?:say|inform you))?(?: that)?|no|thank you for (?:asking|your (?:question|request|message))"
    r"|as an? (?:AI|artificial|language|large language)(?:[\w ]{0,39}\w)?"
    r"|I(?:'m| am) (?:just |only )?an? (?:AI|language model)(?:[\w ]{0,29}\w)?"
    r"|I(?:'m| am) (?:designed|programmed|trained|built) to [\w ,]{0,79}\w|this (?:request|question) [\w ]{0,59}\w"
    r"|but|however|so|and|therefore"
)
"""Each ends in a letter: the white space behind it is looked for once, or 400 characters would take 0.3 s."""
_CAN_NOT = (
    r"(?:can(?:'t|not| not)|could(?:n't| not)|won't|will not|(?:'m|'re| am| are) (?:not able|unable) to)"
    r"(?: be able to)?(?:,? in good conscience,?)?(?: and will not| or will not)?"
    r"(?: directly| legally| ethically| really| actually| currently| knowingly)?"
)
_REFUSED = (
    r"help(?! (?:but|[a-z]+ing)\b)|assist|provide|comply|do (?:that|this|so|it)\b|fulfil"
    r"|answer(?! with (?:full )?\w*certain)|share|create|generate|discuss|support|engage|continue|give|offer|produce"
    r"|complete|process|accommodate|satisfy|respond|condone|facilitate|participate|tell you"
    r"|write (?:that|this|such|about|it|a|an|any|content|code)\b"
)
_DECLINES = (
    r"(?:must|have to|need to|will have to|'ll have to|(?:'m| am) going to have to) (?:\w{1,14}ly )?"
    rf"(?:decline|refuse)\b|(?:\w{{1,14}}ly )?(?:refuse|decline) to (?:{_REFUSED})|'d rather not\b|would rather not\b"
    r"|(?:(?:'m| am) not|do(?:n't| not) feel) comfortable (?:with )?[a-z]+ing\b"
    r"|do(?:n't| not) have the ability to (?:help|assist|do|provide|answer)\b"
)
_REFUSAL = re.compile(
    rf"[\s\"*]{{0,9}}(?:(?:{_OPENINGS})[\s,.;:!\u2013\u2014-]{{1,4}}){{0,5}}"
    rf"(?:I ?{_CAN_NOT} ?(?:{_REFUSED})|I ?(?:{_DECLINES})"
    rf"|we ?{_CAN_NOT} (?:help(?! (?:but|[a-z]+ing)\b)|assist|comply|fulfil|provide|process|accommodate|support)"
    r"|(?:that|this|it)(?:'s| is) (?:not|n't) something I (?:can|am able|'m able)\b"
    r"|(?:that|this|it) isn't something I (?:can|am able|'m able)\b"
    r"|(?:it|this|that)(?:'s| is| goes) against my (?:guidelines|programming|principles|polic))",
    re.IGNORECASE,
)
"""What the large providers' models begin a refusal with, in English."""


class NotJson:
    """What `decoded` returns for a text that is no JSON, for None is JSON's `null`."""


NOT_JSON = NotJson()


def decoded(text: str) -> object:
    """Return the JSON value of a text, or NOT_JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return NOT_JSON


def _must_call(chat: Chat) -> bool:
    """Say whether the caller left the model no choice but to call a tool."""
    return chat.tool_choice == "required" or isinstance(chat.tool_choice, dict) or isinstance(chat.function_call, dict)


def _must_call_named(chat: Chat) -> str | None:
    """Return the one function that the caller demands; None where the model may choose."""
    match chat.tool_choice, chat.function_call:
        case ({"type": "function", "function": {"name": str(name)}}, _) | (_, {"name": str(name)}):
            return name
    return None


def _parameters(chat: Chat) -> dict[str, Any]:
    """Return the parameters' schema of each function that the request offers; None where it has none."""
    offered = [tool.function for tool in chat.tools or () if tool.function is not None]
    return {function.name: function.parameters for function in (*offered, *(chat.functions or ()))}


def _fits_parameters(call: FunctionCall, parameters: Any) -> bool:
    # OpenAI's models write no arguments at all where a function has no parameters.
    value = decoded(call.arguments or "{}")
    if not isinstance(value, dict):
        return False
    if parameters is None:
        return True
    try:
        return _schema(msgspec.json.encode(parameters)).fits(value)
    except BadSchema:
        return False


def _requested_schema(chat: Chat) -> Schema | None:
    """Return the schema of the request's `response_format`; None where it asks for none.

    Raises:
        BadSchema: what is there is no schema.
    """
    match chat.response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return _schema(msgspec.json.encode(schema))
    return None


def _schema(text: bytes) -> Schema:
    """Compile a caller's schema; one of a usual length once, for applications send the same again and again."""
    return _kept_schema(text) if len(text) <= LONGEST_KEPT_BYTES else _kept_schema.__wrapped__(text)


@functools.lru_cache(maxsize=256)
def _kept_schema(text: bytes) -> Schema:
    plain = msgspec.json.decode(text)
    if not isinstance(plain, Mapping | bool):
        said = "a schema is an object"
        raise BadSchema(said)
    return Schema(plain)
