"""`cel:` in a `when`: what holds, which facts it reads, what is refused and where, and what fails at run time."""

from __future__ import annotations

import logging
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.policy.expression import BadExpression, Slip, compile_expression
from router.policy.facts import Facts
from router.policy.fault import Report
from router.policy.reading.document import Leaf, Table, read_document
from router.policy.reading.within import place_within
from router.policy.vocabulary import LONGEST_EXPRESSION


def holds(text: str, /, **facts: object) -> bool:
    return compile_expression(text).holds(Facts(**{"input_tokens": 7, **facts}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("input_tokens == 7 && messages < 2 && !stream", {}),
        ("budget_used_pct < 90", {"budget_used_pct": 89.9}),
        ("difficulty >= 0.7 && difficulty <= 1", {"difficulty": 0.7}),
        ("'tools' in has && size(has) == 1", {"has": frozenset({"tools"})}),
        ("headers['x-team'] == 'search'", {"headers": {"x-team": "search"}}),
        ("metadata.user.visits > 9 && metadata.tags.exists(tag, tag == 'a')",
         {"metadata": {"user": {"visits": 10}, "tags": ["b", "a"]}}),
        ("has(metadata.beta) && metadata.beta", {"metadata": {"beta": True}}),
        ("account.startsWith('team-') && language in ['de', 'en']", {"account": "team-a", "language": "de"}),
        ("text.matches('(?i)refund')", {"text": "a Refund"}),
        ("weekday in ['sat', 'sun'] ? hour >= 8 : hour >= 18", {"weekday": "sun", "hour": 8}),
        ("expected_output_tokens * 2 > input_tokens", {}),
        ("max_output_tokens == null && account == null && budget_remaining_usd == null", {}),
    ],
)  # fmt: skip
def test_an_expression_holds(text: str, facts: dict[str, object]) -> None:
    assert holds(text, **facts)


@pytest.mark.parametrize("fact", ["max_output_tokens", "difficulty", "budget_remaining_usd"])
def test_a_fact_that_is_not_known_holds_no_comparison_but_ne(fact: str) -> None:
    signs = {"==": False, "!=": True, "<": False, "<=": False, ">": False, ">=": False}
    assert {sign: holds(f"{fact} {sign} 1", **{fact: None}) for sign in signs} == signs


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("input_tokens > 5 && 'difficulty' != language", {"input_tokens", "language"}),
        ("[1, 2].exists(hour, hour > 1) && stream", {"stream"}),
        ("has(metadata.text) && 'tools' in has", {"metadata", "has"}),
    ],
)
def test_an_expression_needs_the_facts_it_reads_and_no_others(text: str, facts: set[str]) -> None:
    assert compile_expression(text).needs() == facts


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("input_tokns > 5", 0, 'unknown fact "input_tokns"; did you mean "input_tokens"?'),
        ("stream && contians(text)", 10, 'unknown function "contians"; did you mean "contains"?'),
        ("hour > 'ten'", 5, "`>` can't take a whole number and text"),
        ("account == 5", 8, "`==` can't take text and a whole number"),
        ("difficulty * 2 > 1.0", 11,
         "`*` can't take a decimal number and a whole number; write a whole number here with .0"),
        ("hour + 1", 0, "the expression gives a whole number, not true or false"),
        ("metadata", 0, "the expression gives a map, not true or false"),
        ("hour >", 6, "not valid CEL: the expression ends too early"),
        ("", 0, "not valid CEL: the expression ends too early"),
        ("hour 5", 5, "not valid CEL: 5 can't stand here"),
        ("(" * 500, 0, "the expression is nested too deeply"),
        ("1 / 0 == 1", 0, "the expression reads no fact, so it always fails: it divides by zero"),
        ("text.matches('[z-a]')", 13, "the regular expression can't be used: invalid character class range: z-a"),
        ("stream && hour > 3 && text.matches( r'(a')", 36, "the regular expression can't be used: missing ): (a"),
        ("text.startsWith(5)", 5, "`startsWith` can't take text and a whole number"),
        ("stream && hour = 5", 15, "not valid CEL: = can't stand here; write =="),
        ("stream || " * 500 + "stream", 0, f"the expression is longer than {LONGEST_EXPRESSION:,} characters"),
    ],
)  # fmt: skip
def test_a_bad_expression_is_refused_in_our_words_at_its_place(text: str, offset: int, message: str) -> None:
    with pytest.raises(BadExpression) as raised:
        compile_expression(text)
    assert [(slip.offset, slip.message) for slip in raised.value.slips] == [(offset, message)]


@pytest.mark.parametrize(
    "text",
    [
        r"text.matches('it\'s (a|b)')",
        r"text.matches(r'a\\') || text.contains('(')",
        "matches('(a', text)",
        "text.contains(\"matches('(a')\")",
        "stream // as in matches('(a')",
        "text.matches('(?i)a' + 'b')",
        "text.matches(language)",
    ],
)
def test_a_pattern_that_may_well_be_good_is_not_refused(text: str) -> None:
    assert compile_expression(text).needs()


@pytest.mark.parametrize(
    "written",
    [
        '{cel: "x == \\"y\\" \\u00e9 && nope"}',
        "{cel: 'x == ''y'' && nope'}",
        "{cel: x > 5 && nope}",
        "\n  cel: >-\n    x > 5 &&\n    y && nope",
        "\n  cel: |\n    x > 5 &&\n      y && nope\n",
        "\n  cel: |+2\n      x\n\n     && nope\n",
        "\n  cel: x > 5 &&\n    y\n      && nope",
        '\n  cel: "x > 5 && \\\n    y &&\n    nope"',
        "{cel: '😀 nope'}",
        '{cel: &late "x && nope"}',
        "\n  cel: &late >-\n    x > 5 &&\n    nope",
        "\r\n  cel: |\r\n    x > 5 &&\r\n      y && nope\r\n",
        "\r\n  cel: >-\r\n    x > 5 &&\r\n    y && nope\r\n",
        '\r\n  cel: "x > 5 && \\\r\n    nope"',
    ],
)
def test_a_place_within_an_expression_is_found_however_it_is_written(written: str) -> None:
    file = f"a: {written}"
    root = read_document(file.encode(), Report("a"))
    assert isinstance(root, Table)
    table = root.get("a")
    assert isinstance(table, Table)
    leaf = table.get("cel")
    assert isinstance(leaf, Leaf)
    line, column = place_within(leaf, str(leaf.value).index("nope"))
    assert file.split("\n")[line - 1][column - 1 :].startswith("nope")


def test_a_failure_does_not_hold_and_is_explained_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    expression = compile_expression("metadata.tier == 'gold'")
    facts = Facts(input_tokens=1, metadata={"secret": "my secret"})
    with caplog.at_level(logging.WARNING):
        assert [expression.holds(facts) for _ in range(3)] == [False] * 3
    assert expression.explain(facts) == "cel metadata.tier == 'gold': no (a key is missing)"
    assert [record.getMessage() for record in caplog.records] == [
        "The expression `cel: metadata.tier == 'gold'` fails, so that its rule does not hold: a key is missing."
    ]


def test_what_is_not_known_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    expression = compile_expression("max_output_tokens > 5 && hour > 1")
    with caplog.at_level(logging.WARNING):
        assert not expression.holds(Facts(input_tokens=1, hour=2))
    assert expression.explain(Facts(input_tokens=1, hour=2)).endswith(": no (max_output_tokens not known)")
    assert caplog.records == []


def test_an_explanation_shows_facts_and_no_text_of_the_caller() -> None:
    facts = Facts(input_tokens=812, text="my secret", headers={"a": "my secret"})
    said = compile_expression("input_tokens > 5 && text != headers['a']").explain(facts)
    assert said == "cel input_tokens > 5 && text != headers['a']: no (input_tokens is 812)"


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("\ud800"))
JSON = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=8,
)
ALL_FACTS = compile_expression(
    "metadata.a > 5 || metadata.a.b == 'x' || metadata.a.exists(x, x) || headers.a == text || difficulty > 0.5 "
    "|| budget_remaining_usd < 1 || max_output_tokens + 9223372036854775807 > 1 || size(has) > 3 || account == 'a'"
)


@given(
    metadata=st.dictionaries(st.sampled_from(["a", "b"]), JSON, max_size=3),
    text=st.text(max_size=50) | st.just("\ud800x"),
    asked=st.none() | st.integers(),
    remaining=st.none() | st.floats(),
)
@settings(max_examples=200, deadline=None)
def test_no_facts_raise(metadata: dict[str, object], text: str, asked: int | None, remaining: float | None) -> None:
    facts = Facts(input_tokens=1, metadata=metadata, text=text, max_output_tokens=asked, budget_remaining_usd=remaining)
    assert ALL_FACTS.holds(facts) in (True, False)
    assert ALL_FACTS.explain(facts)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("double(input_tokens) < 4000", True),
        ("double(input_tokens) == 1", True),
        ("double(input_tokens) < 0", False),
        ("size(text) >= 1.5", False),
    ],
)
def test_a_number_that_was_converted_compares_with_one_of_another_kind(text: str, holds: bool) -> None:
    assert compile_expression(text).holds(Facts(input_tokens=1)) is holds


@pytest.mark.parametrize("text", [".0<0", "1 == 1.0", "-(metadata['b']) || has(metadata.x)"])
def test_what_the_evaluator_alone_refuses_is_told_as_a_fault(text: str) -> None:
    with pytest.raises(BadExpression):
        compile_expression(text)


@given(text=st.text(max_size=60) | st.text("input_tokens has()[].'\"&|<>=!+-*/%? 0123456789xu\\", max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_expression_raises_anything_else(text: str) -> None:
    slips: tuple[Slip, ...] = ()
    try:
        compile_expression(text).holds(Facts(input_tokens=1))
    except BadExpression as error:
        slips = error.slips
    assert all(0 <= slip.offset <= len(text) and "\n" not in slip.message for slip in slips)


def test_a_hostile_text_does_not_slow_an_expression() -> None:
    expression = compile_expression("text.matches('(a+)+b') || text.matches('(x+x+)+y')")
    started = time.perf_counter()
    expression.holds(Facts(input_tokens=0, text="a" * 1_000_000))
    assert time.perf_counter() - started < 0.5


def test_an_expression_costs_some_microseconds() -> None:
    expression = compile_expression("input_tokens <= 4000 && difficulty < 0.7 && !('tools' in has)")
    facts = Facts(input_tokens=5, difficulty=0.5)
    best_s = 1.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(2_000):
            expression.holds(facts)
        best_s = min(best_s, (time.perf_counter() - started) / 2_000)
    print(f"{best_s * 1e6:.2f} µs")
    assert best_s < 30e-6
