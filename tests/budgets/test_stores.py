"""What both stores of budgets promise, on a real Redis and in memory."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from budgets.conftest import NOON_S, Place
from router.budgets.contract import HELD, HOLD_TTL_S, LATE_S, Budgets, Draw, Held, Hold, Limited, Short
from router.values import EXACT_NUSD, Kind, Level, OnExceeded, Rate, Scope, Window

pytestmark = pytest.mark.anyio

MIDNIGHT_S = NOON_S + 12 * 3600


def scope(
    limit_nusd: int = 100,
    *,
    kind: Kind = "task",
    name: str = "support",
    window: Window = "day",
    on_exceeded: OnExceeded = "downgrade",
) -> Scope:
    return Scope(kind, name, window, limit_nusd, on_exceeded)


DAY = scope()
SEVERAL = (scope(1000, kind="global", name="all", window="month"), DAY, scope(50, kind="account", name="a"))
REQUESTS = Rate("account", "a", "requests", 60)
TOKENS = Rate("model", "cheap", "tokens", 600)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Budgets]:
    async with place.open() as budgets:
        yield budgets


async def level(store: Budgets, of: Scope = DAY) -> tuple[int, int]:
    (found,) = await store.levels((of,))
    return found.spent_nusd, found.held_nusd


class Asked(list[Scope]):
    """A sequence of which it can be seen whether anybody keeps it."""


async def test_scopes_whose_levels_are_asked_for_are_not_kept(store: Budgets) -> None:
    asked = Asked(SEVERAL)
    kept = weakref.ref(asked)
    assert len(await store.levels(asked)) == 3
    del asked
    gc.collect()
    assert kept() is None


async def test_a_hold_takes_from_every_scope(store: Budgets) -> None:
    assert await store.hold(Hold("1", SEVERAL, 50)) == HELD
    assert [(level.spent_nusd, level.held_nusd) for level in await store.levels(SEVERAL)] == [(0, 50)] * 3


async def test_a_hold_that_fits_exactly_is_held_and_one_more_nano_dollar_is_not(store: Budgets) -> None:
    assert await store.hold(Hold("1", (DAY,), 60)) == HELD
    assert await store.hold(Hold("2", (DAY,), 41)) == Short(Level(DAY, 0, 60))
    assert await store.hold(Hold("3", (DAY,), 40)) == HELD


async def test_a_hold_that_is_short_takes_nothing_and_names_the_fullest_scope(store: Budgets) -> None:
    for amount_nusd in (51, 1001):
        assert await store.hold(Hold("1", SEVERAL, amount_nusd)) == Short(Level(SEVERAL[2], 0, 0))
    assert [level.held_nusd for level in await store.levels(SEVERAL)] == [0, 0, 0]


async def test_a_hold_of_nothing_is_never_short(store: Budgets) -> None:
    await store.hold(Hold("1", (DAY,), 100))
    await store.settle("1", 300)
    assert await store.hold(Hold("2", (DAY,), 0)) == HELD


async def test_holding_twice_under_one_id_holds_once(store: Budgets) -> None:
    assert await store.hold(Hold("1", (DAY,), 70)) == HELD
    assert await store.hold(Hold("1", (DAY,), 70)) == HELD
    assert await level(store) == (0, 70)


async def test_a_settlement_gives_back_what_was_not_used_and_a_second_one_nothing(store: Budgets) -> None:
    await store.hold(Hold("1", SEVERAL, 50))
    for _ in range(3):
        await store.settle("1", 20)
    assert [(level.spent_nusd, level.held_nusd) for level in await store.levels(SEVERAL)] == [(20, 0)] * 3


async def test_settling_what_nobody_holds_does_nothing(store: Budgets) -> None:
    await store.settle("nobody's", 20)
    assert await level(store) == (0, 0)


async def test_a_charge_above_its_hold_is_booked_whole(store: Budgets) -> None:
    await store.hold(Hold("1", (DAY,), 100))
    await store.settle("1", 130)
    assert await level(store) == (130, 0)
    assert await store.hold(Hold("2", (DAY,), 1)) == Short(Level(DAY, 130, 0))


async def test_a_hold_that_expires_is_booked_at_its_ceiling(place: Place, store: Budgets) -> None:
    await store.hold(Hold("1", (DAY,), 10, ceiling_nusd=30))
    place.clock.now_s += HOLD_TTL_S - 0.001
    assert await level(store) == (0, 10)
    place.clock.now_s += 0.001
    assert await level(store) == (30, 0)


async def test_a_settlement_that_comes_after_the_expiry_corrects_it_once(place: Place, store: Budgets) -> None:
    await store.hold(Hold("1", (DAY,), 10, ceiling_nusd=30))
    place.clock.now_s += HOLD_TTL_S
    assert await level(store) == (30, 0)
    assert await store.hold(Hold("1", (DAY,), 10)) == HELD, "its id was there before"
    assert await level(store) == (30, 0)
    for _ in range(2):
        await store.settle("1", 7)
    assert await level(store) == (7, 0)


async def test_a_settlement_that_comes_a_day_after_the_expiry_is_too_late(place: Place, store: Budgets) -> None:
    month = scope(window="month")
    await store.hold(Hold("1", (month,), 10))
    for _ in range(2):
        place.clock.now_s += HOLD_TTL_S + LATE_S
        assert await level(store, month) == (10, 0)
    await store.settle("1", 7)
    assert await level(store, month) == (10, 0)


@pytest.mark.parametrize(
    ("window", "last_s"),
    [
        ("hour", NOON_S + 3599),
        ("day", MIDNIGHT_S - 1),
        ("month", datetime(2096, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()),
        ("month", datetime(2096, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()),
        ("month", datetime(2096, 2, 29, 23, 59, 59, tzinfo=UTC).timestamp()),
    ],
)
async def test_a_window_is_the_calendars_and_a_hold_settles_in_its_own(
    place: Place, store: Budgets, window: Window, last_s: float
) -> None:
    own = scope(window=window)
    place.clock.now_s = last_s
    await store.hold(Hold("1", (own,), 100))
    place.clock.now_s += 1
    assert await level(store, own) == (0, 0)
    assert await store.hold(Hold("2", (own,), 100)) == HELD
    await store.settle("1", 60)
    assert await level(store, own) == (0, 100)
    place.clock.now_s -= 1
    assert await level(store, own) == (60, 0)


async def test_a_clock_that_jumps_loses_nothing(place: Place, store: Budgets) -> None:
    await store.hold(Hold("1", (DAY,), 40))
    place.clock.now_s += 3600
    assert await level(store) == (40, 0), "it expired, for an hour is gone"
    place.clock.now_s -= 3600
    await store.settle("1", 15)
    assert await level(store) == (15, 0)


async def test_a_clock_that_was_far_ahead_for_a_while_forgets_nothing(place: Place, store: Budgets) -> None:
    month = scope(window="month")
    await store.hold(Hold("1", (DAY, month), 40))
    await store.settle("1", 40)
    place.clock.now_s += 400 * 86_400
    assert await store.hold(Hold("2", (DAY, month), 5)) == HELD
    assert await level(store) == await level(store, month) == (0, 5)
    place.clock.now_s -= 400 * 86_400
    assert await level(store) == await level(store, month) == (40, 0)


async def test_a_soft_budget_warns_once_it_is_spent_and_never_refuses(store: Budgets) -> None:
    soft = scope(on_exceeded="warn")
    for hold_id in "12":
        assert await store.hold(Hold(hold_id, (soft,), 300)) == HELD, "what is held may yet come back"
    await store.settle("1", 99)
    assert await store.hold(Hold("3", (soft,), 300)) == HELD
    await store.settle("3", 1)
    assert await store.hold(Hold("4", (soft,), 50)) == Held(over=(Level(soft, 100, 350),))
    await store.settle("2", 100)
    await store.settle("4", 1)
    assert await level(store, soft) == (201, 0)


async def test_a_hard_budget_refuses_beside_a_soft_one_that_is_over(store: Budgets) -> None:
    soft, hard = scope(10, on_exceeded="warn"), scope(20, window="month")
    await store.hold(Hold("1", (soft, hard), 15))
    assert await store.hold(Hold("2", (soft, hard), 6)) == Short(Level(hard, 0, 15))


async def test_amounts_are_exact_up_to_two_to_the_53rd(store: Budgets) -> None:
    large = scope(EXACT_NUSD, window="month")
    await store.hold(Hold("1", (large,), EXACT_NUSD - 1))
    await store.settle("1", EXACT_NUSD - 2)
    assert await level(store, large) == (EXACT_NUSD - 2, 0)
    assert isinstance(await store.hold(Hold("2", (large,), 3)), Short)
    assert await store.hold(Hold("3", (large,), 1)) == HELD
    assert await level(store, large) == (EXACT_NUSD - 2, 1)


async def test_what_the_ledger_says_lifts_a_budget_and_never_lowers_it(store: Budgets) -> None:
    await store.hold(Hold("1", (DAY,), 30))
    await store.restore({DAY: 20})
    assert await level(store) == (0, 30)
    await store.restore({DAY: 55})
    assert await level(store) == (25, 30)
    await store.settle("1", 10)
    assert await level(store) == (35, 0)


async def test_a_hundred_callers_cannot_overspend(store: Budgets) -> None:
    async def call(number: int) -> bool:
        held = isinstance(await store.hold(Hold(str(number), SEVERAL, 10)), Held)
        if held:
            await store.settle(str(number), 10)
        return held

    answers = await asyncio.gather(*(call(number) for number in range(100)))
    assert sum(answers) == 5
    assert [(level.spent_nusd, level.held_nusd) for level in await store.levels(SEVERAL)] == [(50, 0)] * 3


# -- rates ------------------------------------------------------------------------------------------------------------


async def test_a_rate_lets_a_minutes_requests_through_and_says_when_the_next_may_come(
    place: Place, store: Budgets
) -> None:
    for number in range(60):
        assert await store.hold(Hold(str(number), (), 0, draws=(Draw(REQUESTS, 1),))) == HELD
    asked = Hold("late", (), 0, draws=(Draw(REQUESTS, 1),))
    assert await store.hold(asked) == Limited(REQUESTS, 1.0)
    place.clock.now_s += 0.999
    limited = await store.hold(asked)
    assert isinstance(limited, Limited)
    assert 0 < limited.wait_s <= 0.002, "the clock is read in whole milliseconds"
    place.clock.now_s += limited.wait_s
    assert await store.hold(asked) == HELD
    assert isinstance(await store.hold(Hold("later", (), 0, draws=(Draw(REQUESTS, 1),))), Limited)


async def test_the_wait_for_a_rate_is_told_rounded_up(store: Budgets) -> None:
    seven = Rate("account", "b", "requests", 7)
    draws = (Draw(seven, 1),)
    for number in range(7):
        assert await store.hold(Hold(str(number), (), 0, draws=draws)) == HELD
    # A seventh of a minute is 8,571.4 ms.
    assert await store.hold(Hold("late", (), 0, draws=draws)) == Limited(seven, 8.572)
    assert await store.peek_rates(draws) == Limited(seven, 8.572)


async def test_an_hour_of_rest_earns_no_more_than_a_minutes_requests(place: Place, store: Budgets) -> None:
    await store.hold(Hold("first", (), 0, draws=(Draw(REQUESTS, 1),)))
    place.clock.now_s += 3600
    answers = [await store.hold(Hold(str(n), (), 0, draws=(Draw(REQUESTS, 1),))) for n in range(61)]
    assert answers == [*[HELD] * 60, Limited(REQUESTS, 1.0)]


async def test_tokens_are_corrected_when_a_request_settles(store: Budgets) -> None:
    await store.hold(Hold("1", (), 0, draws=(Draw(TOKENS, 500),)))
    assert await store.hold(Hold("2", (), 0, draws=(Draw(TOKENS, 200),))) == Limited(TOKENS, 10.0)
    await store.settle("1", 0, used_tokens=400)
    assert await store.hold(Hold("2", (), 0, draws=(Draw(TOKENS, 200),))) == HELD
    await store.settle("2", 0, used_tokens=260)
    assert await store.hold(Hold("3", (), 0, draws=(Draw(TOKENS, 1),))) == Limited(TOKENS, 6.1)


async def test_tokens_that_were_used_are_no_requests(store: Budgets) -> None:
    draws = (Draw(REQUESTS, 1), Draw(TOKENS, 100))
    await store.hold(Hold("1", (), 0, draws=draws))
    await store.settle("1", 0, used_tokens=500)
    assert await store.hold(Hold("2", (), 0, draws=(Draw(REQUESTS, 59),))) == HELD
    assert await store.hold(Hold("3", (), 0, draws=(Draw(REQUESTS, 1),))) == Limited(REQUESTS, 1.0)


async def test_tokens_that_come_back_late_make_no_more_than_a_minutes_room(place: Place, store: Budgets) -> None:
    await store.hold(Hold("1", (), 0, draws=(Draw(TOKENS, 500),)))
    place.clock.now_s += 60
    assert await store.hold(Hold("2", (), 0, draws=(Draw(TOKENS, 100),))) == HELD
    await store.settle("1", 0, used_tokens=0)
    assert await store.hold(Hold("3", (), 0, draws=(Draw(TOKENS, 600),))) == HELD
    assert await store.hold(Hold("4", (), 0, draws=(Draw(TOKENS, 1),))) == Limited(TOKENS, 0.1)


async def test_a_request_larger_than_a_minutes_tokens_waits_for_a_full_bucket(place: Place, store: Budgets) -> None:
    await store.hold(Hold("1", (), 0, draws=(Draw(TOKENS, 60),)))
    large = Hold("2", (), 0, draws=(Draw(TOKENS, 1200),))
    assert await store.hold(large) == Limited(TOKENS, 6.0)
    place.clock.now_s += 6
    assert await store.hold(large) == HELD
    assert await store.hold(Hold("3", (), 0, draws=(Draw(TOKENS, 600),))) == Limited(TOKENS, 120.0)


async def test_what_is_short_or_limited_draws_on_nothing(store: Budgets) -> None:
    draws = (Draw(REQUESTS, 1), Draw(TOKENS, 600))
    assert isinstance(await store.hold(Hold("1", (DAY,), 101, draws=draws)), Short)
    assert await store.hold(Hold("2", (DAY,), 10, draws=draws)) == HELD
    for _ in range(100):
        assert isinstance(await store.hold(Hold("3", (DAY,), 10, draws=draws)), Limited)
    assert await level(store) == (0, 10)
    assert await store.hold(Hold("4", (DAY,), 10, draws=draws[:1])) == HELD


async def test_a_look_at_rates_tells_what_a_hold_would_meet_and_takes_nothing(place: Place, store: Budgets) -> None:
    draws = (Draw(REQUESTS, 1), Draw(TOKENS, 200))
    for number in range(3):
        for _ in range(3):
            assert await store.peek_rates(draws) is None
        assert await store.hold(Hold(str(number), (), 0, draws=draws)) == HELD
    met = await store.hold(Hold("x", (), 0, draws=draws))
    assert met == await store.peek_rates(draws) == Limited(TOKENS, 20.0)
    assert await store.peek_rates(draws[:1]) is None
    assert await store.peek_rates(()) is None
    place.clock.now_s += 19.999
    assert await store.peek_rates(draws) == Limited(TOKENS, 0.001)
    place.clock.now_s += 0.001
    assert await store.peek_rates(draws) is None
    assert await store.hold(Hold("y", (), 0, draws=draws)) == HELD


async def test_a_clock_set_back_does_not_stop_a_rate(place: Place, store: Budgets) -> None:
    place.clock.now_s += 86_400
    for number in range(60):
        await store.hold(Hold(str(number), (), 0, draws=(Draw(REQUESTS, 1),)))
    place.clock.now_s -= 86_400
    assert await store.hold(Hold("a", (), 0, draws=(Draw(REQUESTS, 1),))) == Limited(REQUESTS, 1.0)
    place.clock.now_s += 1
    assert await store.hold(Hold("a", (), 0, draws=(Draw(REQUESTS, 1),))) == HELD


async def test_a_clock_that_wavers_earns_no_more_than_the_time_that_passed(place: Place, store: Budgets) -> None:
    asked = (Draw(REQUESTS, 1),)
    for number in range(60):
        await store.hold(Hold(str(number), (), 0, draws=asked))
    for _ in range(3):
        place.clock.now_s -= 60
        assert isinstance(await store.hold(Hold("late", (), 0, draws=asked)), Limited)
        place.clock.now_s += 60
        assert await store.hold(Hold("late", (), 0, draws=asked)) == Limited(REQUESTS, 1.0)
