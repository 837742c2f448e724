"""A chat request turned into the facts that rules see. Only facts that a policy needs are worked out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

from router.chat import Chat
from router.difficulty.gauge import Gauge, Reading, reference_gauge
from router.difficulty.look import key_of, question_of, shape_of
from router.policy.conversation import conversation_of
from router.policy.facts import Facts
from router.policy.language import language_of
from router.policy.policy import Policy, PolicySet
from router.policy.vocabulary import WEEKDAYS
from router.policy.warm import Warm
from router.tokens import Counter, TokenRules, rules_for

FACT_RULES = rules_for("openai", "gpt-4o")
"""How the fact `input_tokens` is counted, whichever models a policy uses."""

_CODE = re.compile(
    r"```|\bdef \w+\(|\bclass \w+[:({]|#include\s*<|\bfunction \w*\(|=> ?\{|\bSELECT\s.{1,200}\sFROM\s|;\s*\n.*;\s*\n"
)
_CODE_MARKS = ("```", "def ", "class ", "#include", "function ", "=>", "SELECT", ";")
LOOKED_AT_CHARS = 20_000


class Circumstances(Struct, frozen=True):
    """What is known of a request beside its body: when, who, and how full the budgets are."""

    now_s: float = 0.0
    account: str | None = None
    headers: Mapping[str, str] | None = None
    budget_used_pct: float = 0.0
    budget_remaining_usd: float | None = None
    gauge: Gauge | None = None
    """What is known of the traffic so far; None reads a request as if it were the first of its task."""
    label: str | None = None
    """What kind of work it is within its task, where someone said so; else its instructions and tools tell."""
    warm: Warm | None = None
    pace: float = 1.0
    drawn_difficulty: float | None = None
    """A difficulty that was drawn at random, to learn from what comes of it; None for almost every request."""


def facts_of(
    chat: Chat,
    policies: PolicySet,
    policy: Policy,
    counter: Counter,
    around: Circumstances,
    pinned: str | None = None,
) -> Facts:
    """Work out the facts of one request for one policy."""
    needs = policy.needs
    has = parts_of(chat, look_for_code="has" in needs or policies.lacks_code)
    text = chat.last_user_text()
    at = datetime.fromtimestamp(around.now_s, UTC)
    input_tokens, by_model = _counts(chat, policies, policy, counter, has, pinned)
    predicted = _predicted_text(chat)
    gauge = around.gauge or reference_gauge(policies.weights)
    reading = _reading(chat, policy, around, gauge) if "difficulty" in needs else None
    difficulty = _difficulty(reading, policy) if reading else None
    return Facts(
        input_tokens=input_tokens,
        messages=len(chat.messages),
        n=chat.choices,
        max_output_tokens=chat.asked_output_tokens,
        expected_output_tokens=policy.expected_output_tokens,
        has=has,
        stream=bool(chat.stream),
        language=language_of(text) if "language" in needs else "und",
        difficulty=difficulty if around.drawn_difficulty is None else around.drawn_difficulty,
        explored_from=None if around.drawn_difficulty is None else difficulty,
        reading=reading,
        gain=_gain(reading, policy) if reading else None,
        pace=around.pace,
        ranks=_ranks(reading, policy, gauge) if reading else _NO_RANKS,
        hour=at.hour,
        weekday=WEEKDAYS[at.weekday()],
        account=around.account,
        headers=around.headers or {},
        metadata=chat.metadata or {},
        budget_used_pct=around.budget_used_pct,
        budget_remaining_usd=around.budget_remaining_usd,
        text=text,
        service_tier=chat.service_tier,
        search_context=_search_context(chat),
        predicted_tokens=counter.count_text(predicted, FACT_RULES) if predicted else 0,
        conversation=conversation_of(chat) if policy.experiments else "",
        warm=around.warm,
        input_tokens_by_model=by_model,
    )


def _reading(chat: Chat, policy: Policy, around: Circumstances, gauge: Gauge) -> Reading:
    question = question_of(chat)
    return gauge.read(policy.task, question, shape_of(chat, question), key=key_of(chat, around.label))


def _gain(reading: Reading, policy: Policy) -> float:
    if reading.unsure and policy.unsure:
        return 1.0 if policy.unsure == "premium" else 0.0
    return round(reading.gain, 6)


def _ranks(reading: Reading, policy: Policy, gauge: Gauge) -> Mapping[str, float]:
    """Return the request's place among those that reached each rule that asks for a share."""
    rules = (rule.name for rule in policy.rules if rule.premium_share is not None)
    return {name: gauge.rank_in(policy.task, name, reading, policy.unsure) for name in rules}


def _difficulty(reading: Reading, policy: Policy) -> float:
    """Return the fact: where the reading is unsure and the policy says what to do then, one end of the scale."""
    if reading.unsure and policy.unsure:
        return 1.0 if policy.unsure == "premium" else 0.0
    return reading.difficulty


def parts_of(chat: Chat, *, look_for_code: bool = True) -> frozenset[str]:
    """Return what a request has: tools, images, audio, files, json, json_schema, code, system, cache_control…"""
    has: set[str] = set()
    if chat.tools or chat.functions:
        has.add("tools")
        for tool in chat.tools or ():
            if tool.cache_control is not None:
                has.add("cache_control")
            if tool.type.startswith("web_search"):
                has.add("web_search")
    match chat.response_format:
        case {"type": "json_schema"}:
            has.update(("json_schema", "json"))
        case {"type": "json_object"}:
            has.add("json")
    if chat.modalities and "audio" in chat.modalities:
        has.update(("audio", "audio_out"))
    match chat.search_parameters:
        case None | {"mode": "off"}:
            searches = chat.web_search_options is not None
        case _:
            searches = True
    if searches:
        has.add("web_search")
    for message in chat.messages:
        if message.role in ("system", "developer"):
            has.add("system")
        if message.cache_control is not None:
            has.add("cache_control")
        if isinstance(message.content, list):
            for part in message.content:
                if name := _PARTS.get(part.type):
                    has.add(name)
                if part.cache_control is not None:
                    has.add("cache_control")
        if look_for_code and "code" not in has and _has_code(message.text()[:LOOKED_AT_CHARS]):
            has.add("code")
    return frozenset(has) if has else _NOTHING


_NOTHING: frozenset[str] = frozenset()
_NO_RANKS: Mapping[str, float] = {}
_NOT_TEXT = frozenset({"images", "audio", "files"})
_PARTS = {"image_url": "images", "input_audio": "audio", "file": "files"}


def _counts(
    chat: Chat,
    policies: PolicySet,
    policy: Policy,
    counter: Counter,
    has: frozenset[str],
    pinned: str | None,
) -> tuple[int, dict[str, int]]:
    """Count the input: for the facts, and as each model in play counts it.

    A model with several targets counts as its dearest, and one that the policy gives a prompt counts that prompt.
    """
    only_text = has.isdisjoint(_NOT_TEXT)
    counted: dict[tuple[object, str | None], int] = {}

    def count(rules: TokenRules, prompt: str | None) -> int:
        key = (rules.text_profile if only_text else rules.name, prompt)
        if key not in counted:
            counted[key] = counter.count_input(chat, rules, system_prompt=prompt)
        return counted[key]

    names = (pinned,) if pinned else (*policy.counted_models, *policy.trial_models)
    if policy.baseline and policy.baseline not in names:
        names = (*names, policy.baseline)
    return count(FACT_RULES, None), {
        name: max(count(target.token_rules, policy.prompts.get(name)) for target in policies.models[name].targets)
        for name in names
    }


def _has_code(text: str) -> bool:
    """Say whether a text holds code; most hold none of the marks, which is far quicker to see than the pattern."""
    return any(mark in text for mark in _CODE_MARKS) and _CODE.search(text) is not None


def _search_context(chat: Chat) -> str | None:
    match chat.web_search_options:
        case {"search_context_size": str(size)}:
            return size
    return None


def _predicted_text(chat: Chat) -> str:
    match chat.prediction:
        case {"content": str(text)}:
            return text
        case {"content": list(parts)}:
            return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
    return ""
