"""What is sent for a leg, what it used, and when its stream is past what was held: no sooner than it surely is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from router.chat import ChatBody
from router.pipeline.leg import Leg, body_for, used_by
from router.pipeline.relay import Tally
from router.policy.decide import ask_of, consider
from router.policy.facts import Facts
from router.policy.reading.load import load_files
from router.pricing import Catalogue
from router.tokens import Counter
from router.values import Certainty, Usage

FILES = {
    "models.yaml": b"""version: 1
models:
  exact: {target: openai/gpt-4.1-nano}
  estimated: {target: anthropic/claude-sonnet-4-5}
""",
    "default.yaml": b"version: 1\ntask: default\nmin_output_tokens: 1\nroute: [{use: [exact, estimated]}]\n",
}


def leg(name: str, *, most: int = 20, n: int = 1, predicted: int = 0) -> Leg:
    policies = load_files(FILES, Catalogue(), {}, Path()).checked()
    model, facts = policies.models[name], Facts(10, n=n, max_output_tokens=most, predicted_tokens=predicted)
    candidate = consider(model, policies.policies["default"], facts, None)
    return Leg("1/0", candidate, model.targets[0], ask_of(facts, candidate.input_tokens), True, 0.0)


def test_a_leg_may_use_what_was_held_for_every_choice_and_for_what_was_predicted() -> None:
    assert leg("exact", n=2, predicted=5).most_tokens() == 2 * 20 + 5


@pytest.mark.parametrize("piece", [" word", "\U0001f9ff"])
def test_a_text_is_cut_at_the_first_token_past_its_limit(piece: str) -> None:
    counter, most = Counter(), 20
    bounded = leg("exact", most=most)
    each = counter.count_text(piece * 100, bounded.target.token_rules) / 100
    tally, fit = Tally(counter, bounded), 0
    while tally.add({0: piece}):
        fit += 1
    assert fit == int(most / each), "an emoji is more tokens than characters"


def test_a_word_that_comes_letter_by_letter_counts_as_one() -> None:
    counter, bounded = Counter(), leg("exact")
    text = " internationalization" * 30
    rules = bounded.target.token_rules
    past = next(end for end in range(len(text)) if counter.count_text(text[:end], rules) > 20)
    tally = Tally(counter, bounded)
    assert all(tally.add({0: letter}) for letter in text[: past - 1])
    assert not tally.add({0: text[past - 1]})


def test_choices_are_counted_together_and_each_by_itself() -> None:
    tally = Tally(Counter(), leg("exact", n=2))
    assert tally.add({0: " word" * 20, 1: " word" * 19})
    assert tally.add({1: " word"})
    assert not tally.add({0: " word"})
    assert tally.texts() == (" word" * 21, " word" * 20)


def test_where_tokens_are_estimated_the_stream_has_the_benefit_of_the_doubt() -> None:
    bounded = leg("estimated")
    assert bounded.target.token_rules.factor > 1
    tally = Tally(Counter(), bounded)
    assert tally.add({0: " word" * 21})
    assert not tally.add({0: " word" * 20})


def test_a_search_that_every_answer_bills_is_charged_though_no_usage_tells_of_it() -> None:
    bounded = leg("exact", n=2)
    target = replace(bounded.target, price=replace(bounded.target.price, always_searches=True))
    usage, certainty = used_by(structs.replace(bounded, target=target), Usage(10, 5), ("x", "y"), Counter())
    assert (usage.searches, certainty) == (2, Certainty.REPORTED)


def test_usage_is_asked_for_whatever_the_caller_says_and_a_prompt_is_the_only_system_s() -> None:
    sent = {
        "model": "auto",
        "messages": [{"role": "system", "content": "Be long."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": False},
    }
    body = msgspec.json.decode(body_for(leg("exact"), ChatBody(msgspec.json.encode(sent)), "Be short."))
    assert body["stream_options"] == {"include_usage": True}
    assert body["messages"] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
