"""The answer that a text gives, however it is dressed."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.closed_answer import By, answers_agree, choice_in, closed_answer, number_in

NUMBERS = [
    ("42", 42), ("The answer is 42.", 42), ("so \\boxed{42}", 42), ("$1,234.50", Fraction(2469, 2)),
    ("the answer is $\\frac{3}{4}$", Fraction(3, 4)), ("3/4", Fraction(3, 4)), ("x = 5-7", 7), ("Answer: -3", -3),
    ("Answer: \u22123", -3), ("#### 18\n", 18), ("It is 12. In total 15 apples", 15), ("final answer is x = 12", 12),
    ("7.0", 7), ("costs 80%", 80), ("1e3", 1000), ("\\boxed{\\dfrac{-1}{2}}", Fraction(-1, 2)),
    ("the answer is 5, not 6", 5), ("first \\boxed{1}, no: \\boxed{2}", 2), ("1/0", None), ("none at all", None),
    ("", None), ("\\frac{1}{2}", Fraction(1, 2)), ("$\\dfrac{22}{7}$", Fraction(22, 7)),
    ("\\boxed{\\frac12}", Fraction(1, 2)),
    (".5", Fraction(1, 2)), ("-.5", Fraction(-1, 2)), ("No. 5.", 5), ("2 1/2", Fraction(5, 2)),
    ("\\boxed{-2\\frac{1}{2}}", Fraction(-5, 2)), ("10^3", 1000), ("5 \\times 10^{3}", 5000),
    ("2 \u00d7 10^-2", Fraction(1, 50)),
    ("2^{10}", 1024), ("x^2 = 9", 9), ("\\boxed{1\\,234}", 1234), ("1{,}234", 1234), ("1\u202f234\u202f567", 1234567),
    ("It is -$1,234.50", Fraction(-2469, 2)),
    ("Die Antwort ist 1,5", Fraction(3, 2)), ("1.250,50 \u20ac", Fraction(2501, 2)), ("3,1416", Fraction(3927, 1250)),
    ("0,125", Fraction(1, 8)), ("1.250.000", 1250000), ("1'250", 1250), ("1\u202f250,50 \u20ac", Fraction(2501, 2)),
    ("1,250,000", 1250000), ("\u7b54\u6848\u662f-5", -5), ("\uac12\uc740 -$5", -5), ("x-5", 5), ("1, 2", 2),
    ("La respuesta es 5, no 6", 5), ("Die Antwort lautet: 5 (nicht 6)", 5),
    ("\u7b54\u6848\uff1a5\uff0c\u4e0d\u662f6", 5),
    ("12 500", 12500), ("The answer is 12 500.", 12500), ("1 234 567", 1234567),
    ("12 500,50 \u20ac", Fraction(25001, 2)),
    ("-12 500", -12500), ("$12 500.50", Fraction(25001, 2)), ("12 500g", 12500), ("\\boxed{12\\ 500}", 12500),
    ("12\u00a0500", 12500), ("12\u2009500", 12500), ("12\u2007500", 12500), ("12'500", 12500), ("12\u2019500", 12500),
    ("In 2023 500 people", 500), ("1, 3 400g", 400), ("1 2 500", 500), ("12 500 5", 5), ("12 50", 50),
    ("12 5000", 5000), ("0 500", 500), ("v2 500", 500), ("12  500", 500), ("12\n500", 500),
    ("2 125/1000", Fraction(17, 8)),
    ("In 2023, 12 500 people", 12500), ("12 500, 13 600", 13600), ("12 500; 13 600", 13600), ("12, 3 400g", 400),
    ("12 500/month", 12500), ("12 500 / month", 12500), ("2 500/4", 125),
    ("1.5 million", 1500000), ("It is $3.2 billion.", 3200000000), ("1,5 Millionen", 1500000), ("12 thousand", 12000),
    ("5k", 5000), ("5 km", 5), ("3 millionaires", 3), ("\\boxed{1.2\\text{ million}}", 1200000), ("10**3", 1000),
    ("**5** **3**", 3), ("\u00bd", Fraction(1, 2)), ("2\u00bd cups", Fraction(5, 2)), ("-\u00bd", Fraction(-1, 2)),
    ("x = 2\u00bd.", Fraction(5, 2)), ("It is 2 1/2.", Fraction(5, 2)), ("1,23,456", 123456),
    ("1,23 and 1,24", Fraction(31, 25)),
    ("10 500/1 000", Fraction(21, 2)), ("11 500 / 1 000.", Fraction(23, 2)), ("500/1 000", Fraction(1, 2)),
    ("\\boxed{\\sqrt{2}}", None), ("\\boxed{2\\pi}", None), ("\\boxed{\\frac{\\sqrt{3}}{2}}", None),
    ("\\boxed{\\frac{\\pi}{2}}", None), ("\\boxed{1 + \\sqrt{2}}", None), ("\\boxed{\\pm 2}", None),
    ("\\boxed{(2, 3)}", None), ("\\boxed{2x}", None), ("\\boxed{x^2}", None), ("\\boxed{x > 5}", None),
    ("\\boxed{\\frac{a}{2}}", None), ("\\boxed{3!}", None), ("\\boxed{9:30}", None),
    ("It is 4, or \\boxed{\\sqrt{16}}", None), ("\\boxed{x_1 = 5}", 5), ("\\boxed{\\sqrt{16} = 4}", 4),
    ("\\boxed{12\\text{ cm}^2}", 12), ("\\boxed{90^\\circ}", 90), ("\\boxed{\\text{Day 5}}", 5), ("\\boxed{5 N}", 5),
    ("\\boxed{\\left(\\frac{1}{2}\\right)}", Fraction(1, 2)), ("\\boxed{B} of 7", 7), ("\\boxed{5\\%}", 5),
    ("It covers 12 cm^2.", 12), ("5 m/s^2", 5), ("The answer is $2\\pi$.", None), ("The answer is \u221a2.", None),
    ("x = 3\\sqrt{2}", None), ("so 2 * pi", None), ("\u03c0 \u2248 3.14", Fraction(157, 50)), ("\\log_2 8 = 3", 3),
    ("e^2", None), ("It is the square root of 2", None), ("_5_", 5), ("**7**", 7),
    ("2 500 / 4", 125), ("5 250,000", 250000), ("1.5 300", 300), ("12 500 and 13 000", 13000),
]  # fmt: skip
CHOICES = [
    ("B", "B"), ("(b)", "B"), ("The answer is (B).", "B"), ("Answer: B", "B"), ("**B**", "B"), ("B. because of A", "B"),
    ("I think the answer is C", "C"), ("\\boxed{\\text{(B)}}", "B"), ("So option D is right: D", "D"),
    ("answer is b", "B"), ("The answer is (b).", "B"), ("Answer: **c**", "C"), ("\\boxed{d}", "D"), ("(b) Paris", "B"),
    ("b. Paris", "B"), ("e.g. Paris", None), ("My choice: (c)", "C"), ("The best choice is A.", "A"),
    ("It must be A", "A"),
    ("Answer: I think it is B", "B"), ("The answer is A because", "A"), ("The answer is A plain one", None),
    ("the correct choice is **(F)**", "F"), ("A cat sat", None), ("the answer is a bit hard", None), ("K", None),
    ("Die Antwort ist B (Vitamin C)", "B"), ("La respuesta es A.", "A"), ("La r\u00e9ponse est D", "D"),
    ("\u041e\u0442\u0432\u0435\u0442: B (\u043d\u0435 C)", "B"), ("\u7b54\u6848\u662fB\u3002", "B"),
    ("\uc815\ub2f5\uc740 B\uc785\ub2c8\ub2e4", "B"),
    ("B because A is wrong", "B"), ("A because of B", "A"), ("A is the answer", "A"), ("A is an article", None),
    ("Answer: b because", "B"), ("a because", None), ("\u6b63\u89e3\u306fB\u3067\u3059", "B"),
    ("\u7b54\u3048\u306fB\u3067\u3059", "B"), ("\u7b54\u6848\u9009B", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_the_number_of_a_text_is_found(text: str, number: object) -> None:
    assert number_in(text) == number


@pytest.mark.parametrize(("text", "letter"), CHOICES)
def test_the_letter_of_a_text_is_found(text: str, letter: str | None) -> None:
    assert choice_in(text) == letter


@pytest.mark.parametrize(
    ("first", "second", "by", "agree"),
    [
        ("Yes,\n of course", "Yes, of course ", "exact", True),
        ("Yes", "yes", "exact", False),
        ("", "", "exact", False),
        ("", "", "number", False),
        ('{"a": 1, "b": [1.0]}', '```json\n{"b": [1], "a": 1}\n```', "json", True),
        ("null", "null", "json", True),
        ("{", "{", "json", False),
        ('Here it is:\n```JSON\n{"a": 1}\n```\nBye.', '{"a": 1}', "json", True),
        ("```\n1\n```\n```\n2\n```", "1", "json", False),
        ("\\frac{1}{2}", "2", "number", False),
        ("10^3", "3", "number", False),
        ("1,000", "1000.00", "number", True),
        ("B", "the answer is (B)", "choice", True),
        ("Es sind 1,5 Liter", "Es sind 2,5 Liter", "number", False),
        ("1.250,00 \u20ac", "9.999,00 \u20ac", "number", False),
        ("1.250,00 \u20ac", "1,250.00 \u20ac", "number", True),
        ("1'250", "3'250", "number", False),
        ("12 500", "13 500", "number", False),
        ("12 500", "12,500", "number", True),
        ("In 2023, 12 500 people", "In 2023, 13 500 people", "number", False),
        ("It is 12 500/month", "It is 13 500/month", "number", False),
        ("\u7b54\u6848\u662f-5", "\u7b54\u6848\u662f5", "number", False),
        ("It is 3 million", "It is 3 billion", "number", False),
        ("It is 3 million", "3,000,000", "number", True),
        ("2\u00bd", "2\u00be", "number", False),
        ("1,23,456", "9,23,456", "number", False),
        ("10 500/1 000", "11 500/1 000", "number", False),
        ("\\boxed{\\sqrt{2}}", "\\boxed{2}", "number", False),
        ("\\boxed{2\\pi}", "\\boxed{2\\pi}", "number", False),
    ],
)
def test_answers_agree_where_they_say_the_same(first: str, second: str, by: By, agree: bool) -> None:
    assert answers_agree(first, second, by) is agree


@given(st.text(alphabet="0123456789.,/-+=^_eE{}()\\boxedfracanswer is#ABJpsqt \n\u2212", max_size=200))
def test_any_text_has_an_answer_or_none(text: str) -> None:
    for by in ("exact", "number", "choice", "json"):
        closed_answer(text, by)  # type: ignore[arg-type]  the four there are


def test_space_without_end_in_a_code_fence_is_read_in_bounded_time() -> None:
    started = time.perf_counter()
    assert closed_answer("```json\n" + " \n" * 50_000, "json") is None
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "unit",
    [
        "\\boxed{",
        "{",
        "1,111",
        "answer ",
        "(",
        "*",
        "1/",
        "-",
        "9",
        "\\frac{1}",
        "2 1/",
        "2^",
        "9 ",
        "```",
        "1.111",
        "9 999/",
        "\\sqrt{2",
        "\\pi ",
        "\\boxed{\\sqrt{2}}",
        "cm^",
        "1.111,",
        "1,5 ",
        "\u7b54\u6848",
    ],
)
def test_a_hostile_text_is_searched_in_bounded_time(unit: str) -> None:
    started = time.perf_counter()
    for by in ("number", "choice", "json"):
        closed_answer(unit * 50_000, by)  # type: ignore[arg-type]  as above
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "unit",
    [
        "\u00bd",
        "1,23",
        "1 million ",
        "9**9",
        "999999^6 ",
        "####",
        "1",
        "answer",
        "answer 5 ",
        "answer:\n",
        "1 ",
        "1 500 ",
        "\\frac12 ",
        "9^9",
        "1'000 ",
        "A ",
    ],
)
@pytest.mark.parametrize("start", ["", "1"])
def test_a_hostile_answer_keeps_the_loop_for_a_few_milliseconds(unit: str, start: str) -> None:
    hostile = (start + unit * 16_384)[:16_384]

    def took_s() -> float:
        started = time.thread_time()
        for by in ("exact", "number", "choice", "json"):
            answers_agree(hostile, "The answer is 5.", by)  # type: ignore[arg-type]  the four there are
        return time.thread_time() - started

    assert min(took_s() for _ in range(3)) < 0.02
