"""How long answers usually are."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from router.budgets.lengths import FEWEST, MOST_REMEMBERED, Lengths


def test_nothing_is_usual_before_twenty_answers() -> None:
    lengths = Lengths()
    for _ in range(FEWEST - 1):
        lengths.add("support", "cheap", 100)
    assert lengths.usual("support", "cheap") is None
    lengths.add("support", "cheap", 100)
    assert lengths.usual("support", "cheap") == 100
    assert lengths.usual("support", "dear") is None


@given(st.lists(st.integers(0, 5000), min_size=FEWEST, max_size=3 * MOST_REMEMBERED))
def test_nineteen_in_twenty_of_the_last_answers_are_no_longer(tokens: list[int]) -> None:
    lengths = Lengths()
    for length in tokens:
        lengths.add("support", "cheap", length)
    recent = sorted(tokens[-MOST_REMEMBERED:])
    assert lengths.usual("support", "cheap") == recent[math.ceil(0.95 * len(recent)) - 1]


def test_what_was_observed_before_a_restart_counts() -> None:
    order = random.Random(1)
    tokens = [order.randrange(1000) for _ in range(3 * MOST_REMEMBERED)]
    before, after = Lengths(), Lengths()
    for length in tokens:
        before.add("support", "cheap", length)
    after.restore([("support", "cheap", length) for length in reversed(tokens)])
    assert after.usual("support", "cheap") == before.usual("support", "cheap")
