"""Checks that look at an answer alone: what passes, what fails, and that a stranger's schema can do no harm."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from router.chat import Chat, ChatBody, FunctionCall
from router.policy.json_schema import BadSchema, Schema
from router.policy.pattern import Pattern
from router.policy.said import Said, Unreadable, said_by, said_in
from router.policy.verify import NAMES, Unknown, Verify, failing

CHAT = ChatBody(b'{"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}').chat
REFUSALS = [
    "I'm sorry, but I can't help with that.", "I\u2019m sorry, I can\u2019t assist with that request.",
    "I cannot provide that.",
    "Sorry, I am unable to answer.", "As an AI language model, I cannot help you.", "Unfortunately, I won't do that.",
    "I'm afraid I can't do that.", "I must respectfully decline.", "I refuse to answer.",
    "Apologies, but I can't share that.",
    "Sorry, but that isn't something I can help with.", "I'm not comfortable writing this.", "I won't be able to help.",
    "I\u2019m sorry \u2014 I can\u2019t help with that.", "I'm sorry, but as an AI, I can't help.",
    "No, I can't help with that.",
    "I cannot in good conscience help with that.", "I cannot and will not help with this.",
    "It is against my guidelines.",
    "This request violates our policy, so I cannot help.", "Thank you for asking, but I can't assist.",
    "I can't tell you how.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.", "Leider kann ich diese Anfrage nicht bearbeiten.",
    "Entschuldigung, ich kann Ihnen damit nicht weiterhelfen.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Désolée, je ne suis pas en mesure de répondre.",
    "Lo siento, pero no puedo ayudarte con eso.", "Mi dispiace, ma non posso aiutarti.",
    "Desculpe, mas não posso ajudar com isso.",
    "К сожалению, я не могу помочь с этим.",
    "抱歉，我无法提供帮助。",
    "申し訳ありませんが、お手伝いできません。",
]  # fmt: skip
NO_REFUSALS = [
    "I'm sorry to hear that.", "I can't believe it!", "You cannot park here.", "Sorry, the shop is closed.", "Yes.",
    "I can't help but notice that it is 5.", "I cannot help falling in love is a song.",
    "I refuse to believe it, he said.",
    "We cannot write this as a fraction.", "I can't answer with certainty, but it is probably 5.",
    "Apologies for the delay: 5.",
    "Sorry for the confusion: the answer is 5.", "I'm afraid the train is late.", "No, it is 5.",
    "Es tut mir leid, dass Ihr Paket fehlt.", "Leider kann ich nicht genau sagen, wann. Wir helfen Ihnen.",
    "Ich kann Ihnen helfen.", "Leider ist das nicht möglich.", "Je suis désolé pour ce retard.",
    "Je ne peux pas croire que c'est fini.", "Lo siento mucho por la demora.", "Non posso crederci!",
    "No puedo creerlo.", "抱歉，我们晚了。",
    "申し訳ありません。答えは5です。",
    "Desculpe o atraso.", "I can help with that.", 'He said: "I cannot help."',
]  # fmt: skip


def check(verify: Verify, *said: Said, chat: Chat = CHAT) -> object:
    return failing(verify, said, chat)


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_seen(text: str) -> None:
    assert check(Verify(not_refusal=True), Said(text)) == "not_refusal"


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_what_is_no_refusal_passes(text: str) -> None:
    assert check(Verify(not_refusal=True), Said(text)) is None


@pytest.mark.parametrize(
    "unit",
    [
        "ich kann nicht ",
        "leider, leider  aber ",
        "je ne peux pas ",
        "我无法",
        "this request so   ",
        "I am built to so  so  so  ",
        "  I am trained to no,  so,  but,  ",
    ],
)
def test_a_hostile_opening_is_searched_in_bounded_time(unit: str) -> None:
    started = time.thread_time()
    assert check(Verify(not_refusal=True), Said(unit * 50)) is None
    assert time.thread_time() - started < 0.05


def test_a_refusal_by_name_or_by_a_filter_is_seen() -> None:
    assert check(Verify(not_refusal=True), Said(None, refusal="No.")) == "not_refusal"
    assert check(Verify(not_refusal=True), Said("Well", finish_reason="content_filter")) == "not_refusal"


@pytest.mark.parametrize(("text", "verdict"), [("12345", None), (" 1234 ", "min_chars")])
def test_the_length_is_without_the_space_around_it(text: str, verdict: str | None) -> None:
    assert check(Verify(min_chars=5), Said(text)) == verdict


@pytest.mark.parametrize(("mean", "verdict"), [(-0.5, None), (-0.51, "logprob"), (None, Unknown("logprob_absent"))])
def test_log_probabilities_that_are_not_told_are_not_judged(mean: float | None, verdict: object) -> None:
    assert check(Verify(logprob_gte=-0.5), Said("Yes", mean_logprob=mean)) == verdict


def test_the_cheapest_check_is_named_and_a_failure_outweighs_what_is_not_known() -> None:
    verify = Verify(json=True, min_chars=9, logprob_gte=-1, regex=Pattern("x"))
    assert check(verify, Said("no")) == "min_chars"
    assert check(verify, Said("no json at all")) == "json"
    assert check(verify, Said('"no letter e"')) == "regex"
    assert check(verify, Said('"an x in it"')) == Unknown("logprob_absent")
    assert NAMES[-3:] == ("python", "agree", "judge")


def test_an_answer_without_a_choice_fails_and_one_that_is_no_text_passes_checks_of_text() -> None:
    assert check(Verify(json=True)) == "empty"
    call = Said(None, calls=(FunctionCall("track", "{}"),))
    assert check(Verify(json=True, min_chars=5, json_schema=Schema({"type": "object"})), call) is None


def test_a_tool_that_must_be_called_is_missed() -> None:
    chat = ChatBody(
        b'{"model": "auto", "messages": [{"role": "user", "content": "x"}], "tool_choice": "required", '
        b'"tools": [{"type": "function", "function": {"name": "track"}}]}'
    ).chat
    assert check(Verify(tool_calls_valid=True), Said("No."), chat=chat) == "tool_calls_valid"
    assert check(Verify(tool_calls_valid=True), Said(None, calls=(FunctionCall("track"),)), chat=chat) is None
    assert check(Verify(tool_calls_valid=True), Said("No.")) is None


DOUBLING: dict[str, Any] = {
    "$defs": {
        **{f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)},
        "d40": {},
    },
    "$ref": "#/$defs/d0",
}
HOSTILE = [
    (DOUBLING, 1),
    ({"$ref": "#"}, 1),
    ({"$ref": "http://127.0.0.1:9/schema.json"}, 1),
    ({"$ref": "file:///etc/hostname"}, 1),
    ({"pattern": "(a+)+$"}, "a" * 5_000 + "!"),
    ({"pattern": "(?=a)a"}, "a"),
    ({"patternProperties": {"(a+)+$": {}}, "additionalProperties": False}, {"a" * 5_000 + "!": 1}),
    (
        {"items": {"enum": [{"a": {"b": [1, 2, 3, n]}} for n in range(3_000)]}},
        [{"a": {"b": [1, 2, 3, 2_999]}}] * 40_000,
    ),
    ({"anyOf": [{"type": "string"}] * 9_000}, [{"name": "x" * 20, "n": n} for n in range(2_000)]),
    ({"items": {"properties": {f"p{n}": True for n in range(5_000)}}}, [{}] * 6_000),
    ({"items": {"patternProperties": {f"^p{n}$": True for n in range(900)}}}, [{f"q{n}": 1 for n in range(300)}] * 40),
    ({"allOf": [{"prefixItems": [True], "unevaluatedItems": True}] * 2_000}, [1] * 8_000),
    ({"allOf": [{"uniqueItems": True}] * 9_000}, [{"n": n} for n in range(3_000)]),
    ({"allOf": [{"pattern": rf"(\w{{20}}\d){{10}}x{n}"} for n in range(60)]}, "a"),
]


@pytest.mark.parametrize(("plain", "value"), HOSTILE)
def test_a_hostile_schema_ends_soon_and_does_not_pass(plain: dict[str, Any], value: object) -> None:
    started = time.thread_time()
    assert not Schema(plain).fits(value)
    assert time.thread_time() - started < 5


@pytest.mark.parametrize(
    "plain",
    [
        {"type": "nothing"},
        {"properties": []},
        {"required": "a"},
        {"unevaluatedProperties": False, "patternProperties": {"a": {}}},
    ],
)
def test_what_is_no_schema_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(BadSchema):
        Schema(plain)


def test_additional_members_and_patterns_are_held_to_their_schemas() -> None:
    schema = Schema(
        {"properties": {"a": {}}, "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False}
    )
    assert schema.fits({"a": "b", "x1": 2})
    assert not schema.fits({"x1": "b"})
    assert not schema.fits({"b": 1})


def test_an_enum_of_thousands_costs_little_for_each_item_that_is_held_against_it() -> None:
    codes = [f"c{number}" for number in range(3_000)]
    schema = Schema({"type": "array", "items": {"enum": codes}})
    assert schema.fits(codes[:1_000])
    assert not schema.fits([*codes[:1_000], "d"])


def test_what_an_answer_of_thousands_of_items_is_held_to_takes_no_seconds() -> None:
    items = [{"n": n, "of": ["a", n]} for n in range(5_000)]
    named = {"items": {"properties": {"kind": {"enum": [f"kind {n}" for n in range(300)]}}}}
    started = time.thread_time()
    assert Schema({"uniqueItems": True}).fits(items)
    assert not Schema({"uniqueItems": True}).fits([*items, {"of": ["a", 7.0], "n": 7}])
    assert Schema(named).fits([{"kind": "kind 299"}] * 1_000)
    assert time.thread_time() - started < 2


@pytest.mark.parametrize(
    ("plain", "value", "fits"),
    [
        ({"uniqueItems": True}, [1, True, "1", [1], None], True),
        ({"uniqueItems": True}, [1, 1.0], False),
        ({"uniqueItems": False}, [1, 1], True),
        ({"uniqueItems": True}, "aa", True),
        ({"enum": [1, "a", {"b": [1.0]}]}, {"b": [1]}, True),
        ({"enum": [1, "a"]}, True, False),
        ({"enum": [1, "a"]}, 1.0, True),
        ({"const": [0]}, [False], False),
        ({"const": {"a": 1, "b": 2}}, {"b": 2, "a": 1}, True),
    ],
)
def test_values_are_the_same_where_json_says_so(plain: dict[str, Any], value: object, fits: bool) -> None:
    assert Schema(plain).fits(value) is fits


def test_decimals_of_a_policy_file_are_numbers_as_json_has_them() -> None:
    assert Schema({"multipleOf": Decimal("0.5"), "enum": [0.1, Decimal("1.5")]}).fits(1.5)
    assert Schema({"const": Decimal("0.1")}).fits(0.1)


def test_a_stream_s_events_say_what_a_whole_answer_does() -> None:
    events = [
        b'{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "He"}}]}',
        b'{"choices": [{"index": 1, "delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "llo"}, "finish_reason": "stop"}]}',
        b'{"choices": [{"index": 1, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}}]}',
        b'{"choices": [], "usage": {}}',
    ]
    first, second = said_by(events)
    assert (first.text, first.finish_reason) == ("Hello", "stop")
    assert (second.text, second.calls) == (None, (FunctionCall("f", "{}"),))
    whole = said_in(b'{"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}')
    assert whole == (first,)
    for broken in (b"[]", b'{"choices": 1}', b"{"):
        with pytest.raises(Unreadable):
            said_in(broken)


@pytest.mark.parametrize("content", ["null", '""'])
@pytest.mark.parametrize("refusal", ["null", '""'])
def test_a_call_of_a_tool_is_no_text_however_a_server_leaves_the_text_out(content: str, refusal: str) -> None:
    call = '{"function": {"name": "f", "arguments": "{}"}}'
    message = f'{{"content": {content}, "refusal": {refusal}, "tool_calls": [{call}]}}'
    (said,) = said_in(f'{{"choices": [{{"message": {message}}}]}}'.encode())
    assert check(Verify(json=True, min_chars=5, not_refusal=True), said) is None
