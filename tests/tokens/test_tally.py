"""When a stream is past what was held for it: never while it may yet keep to it, and no later than it surely is."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.pipeline.leg import Leg
from router.pipeline.relay import Tally
from router.policy.decide import ask_of, consider
from router.policy.facts import Facts
from router.policy.reading.load import load_files
from router.pricing import Catalogue
from router.tokens import Counter

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
