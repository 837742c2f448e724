"""A task's pace makes its day's budget last for the day's usual traffic, and be used by its end."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from router.difficulty.pacing import DAY_S, HOURS, KEPT_BACK, MOST_TASKS, Pacing

NOON_S = DAY_S / 2
CHEAP_USD = 0.05
REQUESTS = 2_000


def hour_weights(steepness: float) -> list[float]:
    return [1 + steepness * math.sin((hour - 9) / HOURS * 2 * math.pi) for hour in range(HOURS)]


def day(
    pacing: Pacing,
    number: int,
    dice: random.Random,
    *,
    budget_usd: float,
    usual_usd: float = 1.0,
    requests: int = 2_000,
    weights: Sequence[float] | None = None,
    from_hour: float = 0,
) -> list[tuple[float, float]]:
    """Return when each request of a day came, in seconds, and what was spent by then; a dearer call that no budget is
    left for becomes a cheap one."""
    hours = dice.choices(range(HOURS), weights or hour_weights(0.9), k=requests)
    times = sorted((hour + dice.random()) * 3_600 for hour in hours)
    times = [time_s for time_s in times if time_s >= from_hour * 3_600]
    spent, found = 0.0, []
    for time_s in times:
        now_s = number * DAY_S + time_s
        pace = pacing.pace("t", spent / budget_usd, now_s)
        gain, extra_usd = 0.25 * math.exp(dice.gauss(0, 0.4)), math.exp(dice.gauss(0, 0.7))
        worth = gain * pace * 4 * usual_usd > extra_usd and spent + CHEAP_USD + extra_usd <= budget_usd
        spent += CHEAP_USD + (extra_usd if worth else 0)
        found.append((time_s, spent))
        pacing.seen("t", pace, now_s)
    return found


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("usual_usd", [0.1, 1.0, 10.0])
def test_the_days_budget_is_used_by_its_end_though_prices_are_far_from_the_usual(
    share: float, usual_usd: float
) -> None:
    pacing, dice = Pacing(), random.Random(4)
    budget_usd = REQUESTS * (CHEAP_USD + share)
    for number in range(3):
        spent_usd = day(pacing, number, dice, budget_usd=budget_usd, usual_usd=usual_usd)[-1][1]
        assert 0.97 <= spent_usd / budget_usd <= 1


def test_once_a_whole_day_was_watched_spending_follows_the_hours_of_its_traffic() -> None:
    pacing, dice, budget_usd = Pacing(), random.Random(5), 700.0
    weights = hour_weights(0.9)
    by_noon = sum(weights[:12]) / sum(weights)

    def spent_by_noon(number: int) -> float:
        return max(usd for at_s, usd in day(pacing, number, dice, budget_usd=budget_usd) if at_s < NOON_S) / budget_usd

    first, *_, last = [spent_by_noon(number) for number in range(4)]
    assert first > 1.5 * by_noon
    assert last == pytest.approx(by_noon, rel=0.25)


OFFICE = [float(9 <= hour < 19) for hour in range(HOURS)]
EVENLY = [1.0] * HOURS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("weights", "from_hour", "least"),
    [(OFFICE, 0, 0.95), (OFFICE, 14.5, 0.95), (EVENLY, 0, 0.97), (EVENLY, 14.5, 0.97)],
)
def test_the_second_day_follows_the_hours_of_the_first_though_that_was_not_watched_whole(
    weights: Sequence[float], from_hour: float, least: float, seed: int
) -> None:
    pacing, dice = Pacing(), random.Random(seed)
    budget_usd = 300 * (CHEAP_USD + 0.3)
    day(pacing, 0, dice, budget_usd=budget_usd, requests=300, weights=weights, from_hour=from_hour)
    for number in (1, 2):
        spent_usd = day(pacing, number, dice, budget_usd=budget_usd, requests=300, weights=weights)[-1][1]
        assert least <= spent_usd / budget_usd <= 1.01


def test_a_day_of_which_little_was_watched_says_nothing_of_the_others() -> None:
    pacing, dice = Pacing(), random.Random(7)
    day(pacing, 0, dice, budget_usd=100.0, requests=300, weights=OFFICE, from_hour=18)
    pacing.seen("t", 1.0, DAY_S)
    half_used = pacing.pace("t", 0.99 / 2, DAY_S + NOON_S)
    assert half_used == pytest.approx(pacing.pace("t", 0.0, DAY_S)), "all hours count the same"


def test_reading_the_pace_changes_nothing_and_equal_state_gives_an_equal_pace() -> None:
    one, other = Pacing(), Pacing()
    for pacing in (one, other):
        for at in range(50):
            pacing.seen("t", 2.0, at * 1_000.0)
    paces = {one.pace("t", 0.4, NOON_S) for _ in range(100)}
    assert paces == {other.pace("t", 0.4, NOON_S)}


def test_the_pace_falls_as_money_runs_ahead_of_traffic_and_stays_within_bounds() -> None:
    pacing = Pacing()
    paces = [pacing.pace("t", used, NOON_S) for used in (0.0, 0.4, 0.5, 0.6, 0.9, 1.0, 7.0)]
    assert paces == sorted(paces, reverse=True)
    assert paces[1] > 1 > paces[2] > 0.8
    assert paces[0] <= 1_000.000_1
    assert paces[-1] >= 0.000_999
    assert pacing.pace("t", 1 - KEPT_BACK, NOON_S) == pacing.pace("t", 1.0, NOON_S) == paces[-1]
    assert pacing.pace("t", 0.0, DAY_S - 1e-6) <= 1_000.000_1


def test_a_new_day_begins_with_the_pace_that_the_day_before_needed() -> None:
    pacing, dice = Pacing(), random.Random(6)
    assert pacing.pace("t", 0.0, 0.0) == 1.0
    for number in range(3):
        day(pacing, number, dice, budget_usd=300.0, usual_usd=10.0)
    assert pacing.pace("t", 0.0, 3.0 * DAY_S) < 0.5


def test_a_clock_set_back_teaches_no_pace() -> None:
    pacing = Pacing()
    pacing.seen("t", 8.0, NOON_S)
    before = pacing.pace("t", 0.0, 0.0)
    pacing.seen("t", 8.0, NOON_S / 2)
    assert pacing.pace("t", 0.0, 0.0) == before == 1.0


def test_of_too_many_tasks_the_one_that_was_quiet_the_longest_is_forgotten() -> None:
    pacing = Pacing()

    def taught(task: str) -> bool:
        return pacing.pace(task, 0.0, 0.0) > 1.0

    for at_s in (0.0, NOON_S):
        for task in ("quiet", "busy"):
            pacing.seen(task, 8.0, at_s)
    assert taught("quiet")
    for number in range(MOST_TASKS - 2):
        pacing.seen(f"{number}", 1.0, NOON_S)
    pacing.seen("busy", 8.0, NOON_S)
    pacing.seen("another", 1.0, NOON_S)
    assert (taught("quiet"), taught("busy")) == (False, True)
    pacing.seen("one more", 1.0, NOON_S)
    assert taught("busy")
