"""What a task learns from its traffic: how likely it was that a model was tried."""

from __future__ import annotations

import pytest

from router.policy.learn import propensity

EXPLORE = 0.2


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.3, 0.5, 0.95, 0.98, 0.99])
def test_a_drawn_request_has_the_odds_of_the_draw(share: float) -> None:
    def chosen(difficulty: float, drawn_for: float | None) -> str | None:
        return "premium" if difficulty >= 1 - share else "cheap"

    hardest, easiest = 0.9999, 0.0001
    assert propensity(chosen, hardest, easiest, EXPLORE) == pytest.approx(EXPLORE * share, rel=0.01)
    assert propensity(chosen, easiest, hardest, EXPLORE) == pytest.approx(EXPLORE * (1 - share), rel=0.01)
    assert propensity(chosen, hardest, None, EXPLORE) == pytest.approx(1 - EXPLORE * (1 - share), rel=0.01)
    assert propensity(chosen, hardest, None, 0.0) == 1
