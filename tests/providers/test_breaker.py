"""When a target is passed over, and when it is tried again."""

from __future__ import annotations

import pytest

from router.errors import ProviderOverloaded, ProviderRefused
from router.policy.target import Model, Target
from router.pricing import Price
from router.providers.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, OPENS_AFTER_S, TRIAL_S, Breakers
from router.tokens import rules_for

FAILURE = ProviderOverloaded("busy", status=503)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def model_of(*names: str) -> Model:
    targets = (Target("openai", name, Price.free(), rules_for("openai", "gpt-4o")) for name in names)
    return Model("cheap", "routine", tuple(targets))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[tuple[str, str, bool]]:
    return []


@pytest.fixture
def breakers(clock: Clock, told: list[tuple[str, str, bool]]) -> Breakers:
    return Breakers(3, lambda *change: told.append(change), clock)


def opened(breakers: Breakers, clock: Clock, model: Model) -> Target:
    target = model.targets[0]
    breakers.failed(model, target, FAILURE)
    clock.now_s += OPENS_AFTER_S
    breakers.failed(model, target, FAILURE)
    assert not breakers.passes_over(model, target)
    breakers.failed(model, target, FAILURE)
    assert breakers.passes_over(model, target)
    return target


def test_it_opens_after_so_many_failures_in_a_row_and_others_go_first(
    breakers: Breakers, clock: Clock, told: list[tuple[str, str, bool]]
) -> None:
    model = model_of("a", "b")
    target = opened(breakers, clock, model)
    assert breakers.in_order(model, model.targets) == (model.targets[1], target)
    assert told == [("cheap", "openai/a", True)]


def test_failures_of_one_moment_open_nothing(breakers: Breakers, clock: Clock) -> None:
    model = model_of("a")
    for _ in range(50):
        breakers.failed(model, model.targets[0], FAILURE)
    assert not breakers.passes_over(model, model.targets[0])


def test_an_answer_between_begins_the_count_anew(breakers: Breakers, clock: Clock) -> None:
    model = model_of("a")
    for failure in (FAILURE, FAILURE, ProviderRefused("too long", status=400), FAILURE, FAILURE):
        breakers.failed(model, model.targets[0], failure)
        clock.now_s += OPENS_AFTER_S
    assert not breakers.passes_over(model, model.targets[0])


def test_after_a_pause_one_request_finds_out_and_an_answer_closes_it(
    breakers: Breakers, clock: Clock, told: list[tuple[str, str, bool]]
) -> None:
    model = model_of("a")
    target = opened(breakers, clock, model)
    clock.now_s += FIRST_PAUSE_S
    assert not breakers.passes_over(model, target)
    breakers.tries(model, target)
    assert breakers.passes_over(model, target), "the others wait for what the one finds out"
    breakers.answered(model, target)
    assert not breakers.passes_over(model, target)
    assert told == [("cheap", "openai/a", True), ("cheap", "openai/a", False)]


def test_each_failed_trial_doubles_the_pause_up_to_the_longest(breakers: Breakers, clock: Clock) -> None:
    model = model_of("a")
    target = opened(breakers, clock, model)
    pause_s = FIRST_PAUSE_S
    for _ in range(6):
        clock.now_s += pause_s
        assert not breakers.passes_over(model, target)
        breakers.tries(model, target)
        breakers.failed(model, target, FAILURE)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        clock.now_s += pause_s - 0.1
        assert breakers.passes_over(model, target)
        clock.now_s += 0.1
        clock.now_s -= pause_s
    assert pause_s == LONGEST_PAUSE_S


def test_a_trial_that_never_ends_leaves_the_next_to_another(breakers: Breakers, clock: Clock) -> None:
    model = model_of("a")
    target = opened(breakers, clock, model)
    clock.now_s += FIRST_PAUSE_S
    breakers.tries(model, target)
    clock.now_s += TRIAL_S
    assert not breakers.passes_over(model, target)


def test_zero_failures_open_none_ever(clock: Clock) -> None:
    breakers, model = Breakers(0, lambda *_: None, clock), model_of("a")
    for _ in range(5):
        breakers.failed(model, model.targets[0], FAILURE)
        clock.now_s += OPENS_AFTER_S
    assert not breakers.passes_over(model, model.targets[0])
