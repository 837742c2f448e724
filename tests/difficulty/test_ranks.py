"""`difficulty` is the share of a task's traffic that is easier: a threshold takes the share that it names."""

from __future__ import annotations

import random

import pytest

from router.difficulty.cues import Shape
from router.difficulty.gauge import Gauge
from router.difficulty.look import Look, look_at
from router.difficulty.ranks import WINDOW, Ranks
from router.difficulty.scorer import Label
from router.difficulty.weights import shipped_weights

LOOK = look_at("any", Shape())
MATHS = "Compute the integral of {} over x and prove that it is {} for every n."
CHAT = "Hi there, I would like to know about order {} please, it was {} days ago"


def share_above(threshold: float, scores: list[float]) -> float:
    ranks = Ranks(shipped_weights().reference)
    above = 0
    for score in scores:
        above += ranks.rank(score) >= threshold
        ranks.seen(LOOK, score, 0, lambda look: 0.0)
    return above / len(scores)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_the_share_holds_though_the_source_changes_half_way(threshold: float, shift: float) -> None:
    dice = random.Random(7)
    scores = [dice.gauss(-6, 0.4) for _ in range(1_000)] + [dice.gauss(-6 + shift, 0.2) for _ in range(1_000)]
    assert share_above(threshold, scores) == pytest.approx(1 - threshold, abs=0.02)


def test_the_share_holds_while_the_traffic_drifts() -> None:
    dice = random.Random(8)
    assert share_above(0.7, [dice.gauss(at / 300, 0.4) for at in range(3_000)]) == pytest.approx(0.3, abs=0.02)


INF = float("inf")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("scores", [[1.0], [1.0, 5.0], [1.0, 5.0, 9.0], [INF, -6.0, -5.0], [-INF, -6.0, -5.0]])
def test_the_share_holds_where_many_requests_score_alike(scores: list[float], share: float) -> None:
    dice = random.Random(11)
    stream = [dice.choice(scores) for _ in range(1_200)]
    assert share_above(1 - share, stream) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("step", [0.01, -0.01])
@pytest.mark.parametrize("count", [600, 1_200])
def test_the_share_holds_where_requests_come_sorted(count: int, step: float, share: float) -> None:
    assert share_above(1 - share, [at * step for at in range(count)]) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("step", [0.01, -0.01])
def test_the_share_holds_where_two_replicas_serve_what_comes_sorted(step: float, share: float) -> None:
    dice = random.Random(13)
    parts: tuple[list[float], list[float]] = ([], [])
    for at in range(1_200):
        dice.choice(parts).append(at * step)
    above = sum(len(part) * share_above(1 - share, part) for part in parts)
    assert above / 1_200 == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize(
    "scores",
    [
        [at % 600 * 0.01 for at in range(6_000)],
        [at % 100 * 0.01 for at in range(6_000)],
        [at // 30 + at * 7 % 30 / 300 for at in range(6_000)],
    ],
    ids=["600 at a time", "100 at a time", "like ones together"],
)
def test_the_share_holds_where_sorted_requests_come_again_and_again(scores: list[float], share: float) -> None:
    assert share_above(1 - share, scores) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("share", [0.01, 0.02, 0.98, 0.99])
@pytest.mark.parametrize("scores", [[1.0], [1.0, 5.0], [at / 1_000 for at in range(-3_000, 3_000)]])
def test_a_small_share_is_not_half_as_large_again(scores: list[float], share: float) -> None:
    dice = random.Random(12)
    stream = [dice.choice(scores) for _ in range(4_000)]
    assert share_above(1 - share, stream) == pytest.approx(share, abs=0.003)


def test_a_small_share_takes_the_hardest() -> None:
    taken = []
    for seed in range(4):
        dice, ranks = random.Random(seed), Ranks(shipped_weights().reference)
        for _ in range(4_000):
            is_hard = dice.random() < 0.02
            score = dice.gauss(3, 0.3) if is_hard else dice.gauss(0, 0.5)
            if is_hard:
                taken.append(ranks.rank(score) >= 0.95)
            ranks.seen(LOOK, score, 0, lambda look: 0.0)
    assert sum(taken) / len(taken) > 0.85


def test_a_mixed_stream_of_prompts_keeps_its_share() -> None:
    dice = random.Random(9)
    gauge = Gauge()
    above = 0
    for at in range(2_000):
        maths = dice.random() < (0.2 if at < 1_000 else 0.8)
        reading = gauge.read("mixed", (MATHS if maths else CHAT).format(dice.randrange(9_999), at), Shape())
        above += reading.difficulty >= 0.7
        gauge.seen("mixed", reading)
    assert above / 2_000 == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_a_task_that_begins_harder_than_the_reference_keeps_its_share_in_its_first_requests(seed: int) -> None:
    dice = random.Random(seed)
    reference = shipped_weights().reference
    scores = [reference[90 if dice.random() < 0.8 else 10] + dice.gauss(0, 0.01) for _ in range(200)]
    assert share_above(0.7, scores) == pytest.approx(0.3, abs=0.015)


def test_before_there_is_traffic_the_reference_ranks() -> None:
    ranks = Ranks([float(step) for step in range(101)])
    assert ranks.rank(70.0) == pytest.approx(0.7, abs=0.01)
    assert ranks.rank(-5.0) == 0
    assert ranks.rank(500.0) == 1


def test_tasks_do_not_mix() -> None:
    gauge = Gauge()
    before = gauge.read("other", CHAT, Shape()).difficulty
    for at in range(300):
        gauge.seen("busy", gauge.read("busy", MATHS.format(at, at), Shape()))
    assert gauge.read("other", CHAT, Shape()).difficulty == before


def test_old_scores_are_worked_out_again_after_labels() -> None:
    gauge = Gauge()
    dice = random.Random(10)
    texts = [(MATHS if dice.random() < 0.5 else CHAT).format(at, at) for at in range(600)]
    for text in texts[:300]:
        gauge.seen("task", gauge.read("task", text, Shape()))
    easy_maths = [Label(gauge.read("task", text, Shape()).look, float(text.startswith("Hi"))) for text in texts[:300]]
    gauge.learn("task", easy_maths)
    above = 0
    for text in texts[300:]:
        reading = gauge.read("task", text, Shape())
        above += reading.difficulty >= 0.5
        gauge.seen("task", reading)
    assert above / 300 == pytest.approx(0.5, abs=0.06)
    assert gauge.read("task", CHAT.format(1, 1), Shape()).score > gauge.read("task", MATHS.format(1, 1), Shape()).score


def test_what_is_harder_has_no_lower_rank_at_any_moment() -> None:
    dice = random.Random(14)
    ranks = Ranks(shipped_weights().reference)
    for at in range(700):
        if at > 300:
            found = [ranks.rank(score / 10) for score in range(-50, 51)]
            assert found == sorted(found)
        ranks.seen(LOOK, dice.gauss(0, 1), 0, lambda look: 0.0)


def test_only_a_window_of_requests_is_kept_and_an_old_score_gives_way_to_its_new_one() -> None:
    ranks = Ranks(shipped_weights().reference)
    for at in range(WINDOW + 50):
        ranks.seen(LOOK, float(at), 1, lambda look: 0.0)
    rescored = 0

    def fresh(look: Look) -> float:
        nonlocal rescored
        rescored += 1
        return -1_000.0

    for _ in range(WINDOW):
        ranks.seen(LOOK, -1_000.0, 2, fresh)
    assert 0 < rescored < WINDOW, "each once, and those that are gone not at all"
    assert ranks.rank(0.0) > 0.9, "what was harder is not any more"
