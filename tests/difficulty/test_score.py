"""The difficulty score: deterministic, explained, bounded in time, and able to say that it does not know."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.chat import Chat
from router.difficulty.cues import NAMES, Shape, asks_briefly, looked_at
from router.difficulty.gauge import Gauge, Reading, reference_gauge
from router.difficulty.grams import SIZE, grams_of, words_of
from router.difficulty.look import Look, goes_on, look_at, question_of, shape_of
from router.difficulty.scorer import Label, Scorer
from router.difficulty.shared import SharedText
from router.difficulty.weights import shipped_weights

EASY = "Where is my parcel?"
HARD = "Prove that the square root of 2 is irrational, then explain why each step must hold."
EXAMPLES = "Answer the question as in the examples.\n\nQ: What is 2 + 2?\nA: 4\n\nQ: What is 3 * 5?\nA: 15\n\nQ: "


def read(text: str, shape: Shape = Shape(), gauge: Gauge | None = None) -> Reading:  # noqa: B008 - frozen
    return (gauge or reference_gauge()).read("support", text, shape)


def test_the_same_words_have_the_same_places_for_ever() -> None:
    assert grams_of(words_of("where is my parcel?")) == (4934, 12748, 17072, 20109, 23904, 25239, 26358, 27162, 28351)


def test_a_proof_is_harder_than_a_look_up() -> None:
    assert read(EASY).difficulty < 0.4
    assert read(HARD).difficulty > 0.8


def talk(*said: str) -> Chat:
    """A conversation in which the user says these, and each but the last was answered."""
    roles = ("user", "assistant")
    turns = [(role, text) for text in said for role, text in zip(roles, (text, "An answer."), strict=True)][:-1]
    wire = {"model": "auto", "messages": [{"role": role, "content": text} for role, text in turns]}
    return msgspec.convert(wire, Chat)


@pytest.mark.parametrize("follow_up", ["and now?", "Go on.", "为什么", ""])
def test_a_follow_up_of_a_word_is_as_hard_as_what_it_goes_on_from(follow_up: str) -> None:
    assert read(question_of(talk(EASY, HARD, follow_up))).difficulty > 0.8
    assert read(question_of(talk(HARD, EASY, "ok", follow_up))).difficulty < 0.4
    assert not read(question_of(talk(EASY, follow_up))).unsure


def test_a_follow_up_of_a_word_is_to_be_as_brief_as_what_it_goes_on_from() -> None:
    asked = "Which is the capital of France? Answer with one word."
    for said, brief in (((asked, "and Spain?"), True), ((asked, EASY, "and now?"), False)):
        question = question_of(chat := talk(*said))
        assert shape_of(chat, question).brief is brief


@pytest.mark.parametrize(
    ("roles", "asked"),
    [
        (("system",), 0),
        (("system", "assistant"), 0),
        (("system", "human"), 1),
        (("system", "user"), 1),
        (("user", "system"), 0),
        (("assistant", "tool"), None),
    ],
)
def test_where_no_message_is_a_users_the_last_one_asks(roles: tuple[str, ...], asked: int | None) -> None:
    texts = (HARD, EASY)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    chat = msgspec.convert({"model": "auto", "messages": messages}, Chat)
    question = question_of(chat)
    assert question == ("" if asked is None else texts[asked])
    assert not goes_on(chat, question)


def test_a_message_that_says_what_it_wants_stands_alone() -> None:
    assert question_of(talk(HARD, EASY)) == EASY
    assert question_of(talk("Hi")) == "Hi"
    assert question_of(talk(*["hm"] * 5_000)).count("hm") < 20


def test_the_turns_of_a_conversation_are_not_what_prompts_share() -> None:
    gauge = Gauge()
    asked = f"{HARD} Use only the axioms."
    alone = [read(asked).score, read(asked + "\nhm" * 6).score]

    def score(*said: str) -> float:
        question = question_of(chat := talk(asked, *said))
        reading = read(question, shape_of(chat, question), gauge)
        gauge.seen("support", reading)
        return reading.score

    told = [score(*("why?", "Is it so?", "go on", "and then?", "yes", "hm")[:turns]) for turns in range(7)]
    assert min(told) > min(alone) - 0.3, "each is read with all of what was asked"
    assert score() == told[0], "nor is it left out where another asks the same"


def test_a_word_of_a_cue_counts_as_much_as_many() -> None:
    one, many = (
        dict(read(text).pushed_by)["reasoning"] for text in ("Explain it.", "Explain why, and justify the reason.")
    )
    assert one == many


@pytest.mark.parametrize("options", ["\nA. it must\nB. it may\nC. it can\n", "\n(A) it must (B) it may (C) it can"])
def test_where_options_are_listed_words_say_nothing(options: str) -> None:
    assert "reasoning" in dict(read("Explain why the court decides first. A. B. or else").pushed_by)
    told = dict(read(f"Explain why the court decides first.{options}").pushed_by)
    assert told.keys().isdisjoint({"reasoning", "multi-step"})
    assert told["constraint"] > 0


@pytest.mark.parametrize("marks", [("(a)", "(b)", "(c)"), ("\na.", "\nb.", "\nc."), ("A:", "B:", "C:")])
def test_the_parts_of_a_task_are_no_options(marks: tuple[str, str, str]) -> None:
    parts = ("Derive the equation of motion.", "Explain why it is invariant.", "The same for two of them.")
    task = "A pendulum swings. " + " ".join(f"{mark} {part}" for mark, part in zip(marks, parts, strict=True))
    assert "reasoning" in dict(read(task).pushed_by)
    one = task.replace("Explain why", "Say that")
    assert "reasoning" not in dict(read(one).pushed_by)


@pytest.mark.parametrize("between", [", ", "; and ", "\n"])
def test_the_steps_of_a_script_are_no_options(between: str) -> None:
    steps = between.join(("a. parse the file", "b. sort the rows", "c. print them"))
    told = dict(read(f"Explain in a script how to do this:\n{steps}").pushed_by)
    assert "reasoning" in told
    chosen = between.join(("a. read the file", "b. send the rows", "c. print them"))
    assert "reasoning" not in dict(read(f"Explain what the script does first:\n{chosen}").pushed_by)


def test_figures_to_choose_from_are_maths() -> None:
    words, figures = (f"Which is it?\nA. {each}\nB. {each}\nC. {each}" for each in ("the court", "$1,200"))
    assert "maths" in dict(read(figures).pushed_by)
    assert "maths" not in dict(read(words).pushed_by)


def test_a_reading_says_what_pushed_it() -> None:
    pushed = dict(read(HARD).pushed_by)
    assert pushed["maths"] > 0
    assert pushed["reasoning"] > 0
    assert dict(read(EASY).pushed_by)["plain"] < 0
    assert set(pushed) <= {*NAMES, "words", "floor", "labels", "cost"}


@pytest.mark.parametrize("text", [EASY, HARD, "Thanks!", "Summarise it. " * 300, "def f(x): return x\n" * 40])
@pytest.mark.parametrize("count", [0, 20])
def test_what_pushed_a_score_adds_up_to_it(text: str, count: int) -> None:
    scorer = Scorer(shipped_weights())
    if count:
        scorer.learn_all(labels(count))
    look = look_at(text, Shape())
    nothing_found = Look((0.0,) * len(NAMES), (), tokens=100, words=75, key=None)
    start = Scorer(shipped_weights()).score(nothing_found).value
    # Each is told to a thousandth, and those below five thousandths are not.
    assert start + sum(push for _, push in scorer.pushes(look)) == pytest.approx(scorer.score(look).value, abs=0.03)


@pytest.mark.parametrize(
    ("asked", "is_brief"),
    [
        ("Print only a single choice from A, B, C or D without explanation.", True),
        ("Answer with the letter of the correct option.", True),
        ("Respond with only the correct letter.", True),
        ("Reply in one word.", True),
        ("Answer yes or no.", True),
        ("I only have one question about my order number.", False),
        ("Explain it without jargon.", False),
        ("Which of these is the letter's author?", False),
    ],
)
def test_who_asks_for_a_letter_pays_for_little_but_the_prompt(asked: str, is_brief: bool) -> None:
    assert asks_briefly(asked) == is_brief
    long = "Material. " * 500
    assert asks_briefly(f"{long}\n{asked}") == asks_briefly(f"{asked}\n{long}") == is_brief


def test_a_request_is_brief_by_its_words_its_instructions_or_its_limit() -> None:
    def shape(system: str = "Be kind.", text: str = "Is it so?", **limits: int) -> Shape:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        chat = msgspec.convert({"model": "auto", "messages": messages, **limits}, Chat)
        return shape_of(chat, text)

    assert not shape().brief
    assert not shape(max_tokens=17).brief
    assert shape(max_tokens=16).brief
    assert shape(max_completion_tokens=1).brief
    assert shape(system="Answer with true or false.").brief
    assert shape(text="Is it so? Just one word.").brief
    # What costs less is sooner worth a better model.
    assert read(HARD, Shape(brief=True)).score > read(HARD).score


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        (EASY, True),
        ("Who wrote Hamlet?", True),
        ("Set a timer for ten minutes", True),
        ("Thanks, that worked!", True),
        ("Opening hours", True),
        ("When does the contract end?", True),
        ("Is clause 7 void?", True),
        ("Draft a limitation of liability clause.", False),
        ("Is the standard for a breach of contract in equity the same as in law?", False),
        ("Sharp beaks are a kind of adaptation for catching", False),
        ("Which gas do plants take in?", False),
        ("Who proved that there are infinitely many primes?", False),
        ("What holds a moon in its orbit round a planet that turns?", False),
        ("Can you check how my order is doing?", True),
        ("You would use a lever to move a", False),
        ("How can you make liquid water become solid?", False),
        ("It is the largest city of which US state?", False),
    ],
)
def test_small_talk_and_look_ups_are_plain_and_short_quizzes_are_not(text: str, is_plain: bool) -> None:
    assert ("plain" in dict(read(text).pushed_by)) == is_plain


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "too short to tell"),
        ("Hello", "too short to tell"),
        ("Hello!", "too short to tell"),
        ("?!", "too short to tell"),
        ("- - -", "too short to tell"),
        ("2026", "too short to tell"),
        ("x = 1", ""),
        (EASY, ""),
        ("Что такое любовь и почему она важна?", "in a script that was not trained on"),
        ("¿Dónde está mi paquete, por favor?", ""),
    ],
)
def test_a_reading_says_why_it_is_unsure(text: str, why: str) -> None:
    assert read(text).unsure == why


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    reading = read(text)
    assert 0 <= reading.difficulty <= 1
    assert all(0 <= place < SIZE for place in reading.look.grams)


def test_a_reading_shows_no_text() -> None:
    assert "parcel" not in repr(read(EASY))


def test_reading_leaves_no_trace() -> None:
    gauge = Gauge()
    before = read(HARD, gauge=gauge)
    for _ in range(100):
        read(EASY, gauge=gauge)
    assert read(HARD, gauge=gauge) == before


def test_the_beginning_and_the_end_of_a_huge_text_are_looked_at() -> None:
    huge = "Compute this. " + "x" * 20_000_000 + " Explain why."
    assert len(looked_at(huge)) < 10_000
    began = time.perf_counter()
    pushed = dict(read(huge).pushed_by)
    assert time.perf_counter() - began < 1
    assert {"maths", "reasoning"} <= set(pushed)


def test_what_prompts_share_is_left_out() -> None:
    shared = SharedText()
    for question in ("Who wrote Emma?", "What is a quark?", "When was Rome founded?"):
        shared.add(EXAMPLES + question)
    assert shared.stripped(EXAMPLES + "Why is the sky blue?").text == "Why is the sky blue?"
    assert shared.stripped("Something else. Entirely.").text == "Something else. Entirely."


def test_what_only_two_prompts_share_is_kept() -> None:
    shared = SharedText()
    shared.add(EXAMPLES + "Who wrote Emma?")
    shared.add(EXAMPLES + "What is a quark?")
    assert shared.stripped(EXAMPLES + "Why is the sky blue?").text.startswith("Answer the question")


def test_what_a_large_set_shares_does_not_depend_on_its_order() -> None:
    # Each third of it has its own examples, and the lines of its prompts are more than a process keeps of its traffic.
    heads = [f"Answer as in part {part} of the examples, briefly.\n\n" for part in range(3)]
    texts = [
        heads[number // 10] + "\n".join(f"Line {line} of what number {number} asks." for line in range(200))
        for number in range(30)
    ]
    onward, backward = Gauge(), Gauge()
    onward.share("task", texts)
    backward.share("task", reversed(texts))
    own = [onward.own_text("task", text) for text in texts]
    assert own == [backward.own_text("task", text) for text in texts]
    assert [text.split(" asks.")[0] for text in own] == [f"Line 0 of what number {number}" for number in range(30)]


def test_a_text_that_is_all_shared_is_still_read() -> None:
    shared = SharedText()
    for _ in range(5):
        shared.add(EXAMPLES)
    assert shared.stripped(EXAMPLES).text


def test_a_question_that_is_often_asked_is_not_taken_for_instructions() -> None:
    asked = "Prove that the square root of two is irrational. Then explain why each step holds."
    shared = SharedText()
    for _ in range(20):
        shared.add(asked)
    assert shared.stripped(asked).text == asked


@pytest.mark.parametrize(("last", "left"), [("Thanks!", 5), ("What about a ring?", 4), ("那么素数阶环呢请解释一下", 1)])
def test_prompts_that_differ_in_their_last_words_are_not_stripped_to_those(last: str, left: int) -> None:
    asked = "Prove that every group of prime order is cyclic. Then explain each step. {}"
    shared = SharedText()
    for ending in ("Thank you!", "Please.", "Go.", "Be quick."):
        shared.add(asked.format(ending))
    assert len(shared.stripped(asked.format(last)).text.split()) == left


def labels(count: int) -> list[Label]:
    """Return labels by which the premium model is only better for poems."""
    return [
        Label(look_at(f"Please write {'a poem' if n % 2 else 'a bill'} number {n}", Shape()), float(n % 2))
        for n in range(count)
    ]


def test_labels_move_the_score_towards_what_they_say() -> None:
    scorer = Scorer(shipped_weights())
    poem, bill = (look_at(f"Please write {what} for my aunt", Shape()) for what in ("a poem", "a bill"))
    cold = scorer.score(poem).value - scorer.score(bill).value
    gaps = []
    for count in (20, 200):
        taught = Scorer(shipped_weights())
        taught.learn_all(labels(count))
        gaps.append(taught.score(poem).value - taught.score(bill).value)
    assert cold < gaps[0] < gaps[1]
    assert dict(taught.pushes(poem))["labels"] > 0


def test_labels_that_cost_nothing_known_leave_the_costs_alone() -> None:
    scorer = Scorer(shipped_weights())
    look = look_at(HARD, Shape())
    before = scorer.costs.of(look)
    scorer.learn_all(labels(30))
    assert scorer.costs.of(look) == before


def test_a_label_that_says_what_was_known_teaches_nothing() -> None:
    scorer = Scorer(shipped_weights())
    look = look_at(HARD, Shape())
    before = scorer.score(look)
    known = scorer.prepared(Label(look, 0.0)).cold
    for _ in range(10):
        scorer.learn(Label(look, known))
    assert scorer.score(look).value == pytest.approx(before.value, abs=1e-9)


@pytest.mark.parametrize("usd", [0.0, -1.0])
def test_a_label_whose_premium_answer_was_no_dearer_leaves_the_costs_alone(usd: float) -> None:
    scorer = Scorer(shipped_weights())
    look = look_at(HARD, Shape())
    before = scorer.costs.of(look)
    scorer.learn(Label(look, 0.5, usd))
    assert scorer.costs.of(look) == before


def test_costs_are_learned_alike_one_by_one_and_at_once_and_not_by_what_is_frozen() -> None:
    one, other = Scorer(shipped_weights()), Scorer(shipped_weights())
    look = look_at(HARD, Shape())
    given = [Label(look_at("word " * words, Shape()), 0.5, 1e-6 * (words + 2_000)) for words in range(2, 60)]
    frozen, before = one.frozen(1), one.costs.of(look)
    for label in given:
        one.learn(label)
    other.learn_all(given)
    assert one.costs.of(look) == other.costs.of(look) != before
    assert frozen.costs.of(look) == before


def test_costs_are_learned_as_a_line_over_the_length() -> None:
    scorer = Scorer(shipped_weights())
    looks = [look_at("word " * words, Shape()) for words in range(2, 400)]
    scorer.learn_all([Label(look, 0.5, 1e-6 * (look.tokens + 2_000)) for look in looks])
    long, short = looks[-1], looks[0]
    expected = (long.tokens + 2_000) / (short.tokens + 2_000)
    assert scorer.costs.of(long) / scorer.costs.of(short) == pytest.approx(expected, rel=0.05)


def test_many_worked_examples_are_left_out_as_well() -> None:
    examples = "".join(f"Question: what is {n} plus {n}?\nAnswer: {n + n}.\n\n" for n in range(60))
    shared = SharedText()
    for question in ("Who wrote Emma?", "What is a quark?", "When was Rome founded?"):
        shared.add(examples + question)
    assert shared.stripped(examples + "Why is the sky blue?").text == "Why is the sky blue?"


def test_the_examples_of_a_benchmark_are_left_out_however_many_lines_they_have() -> None:
    options = "\n".join(f"{letter}. {letter}-shaped" for letter in "ABCDEFGHIJ")
    examples = "".join(f"Q{number}: What is shaped most like this?\n{options}\nA: it is B\n\n" for number in range(200))
    assert len(examples) > 20_000
    shared = SharedText()
    for question in ("Who wrote Emma?", "What is a quark made of?", "Where does a river end?"):
        shared.add(examples + question)
    own = shared.stripped(examples + "Why is the sky blue?").text
    assert own.endswith("Why is the sky blue?")
    assert len(own) < 600


def test_instructions_of_several_lines_below_a_question_are_left_out() -> None:
    asked = '\n\nInstructions:\n- Explain why.\n- First compute.\n\nRespond as JSON:\n{\n  "answer": "X"\n}'
    shared = SharedText()
    for question in ("Who wrote Emma?", "What is a quark made of?", "Where does a river end?"):
        shared.add(question + asked)
    assert shared.stripped("Why is the sky blue?" + asked).text == "Why is the sky blue?"
