"""The learner is a ridge regression: exact, bounded, and able to forget."""

from __future__ import annotations

import random

import pytest

from router.difficulty.learner import Learner, Row


def rows(count: int, seed: int = 1) -> list[Row]:
    dice = random.Random(seed)
    found = []
    for _ in range(count):
        a, b = dice.uniform(-1, 1), dice.uniform(-1, 1)
        found.append(Row((0, 1), (a, b), 2 * a - b))
    return found


def test_it_comes_to_the_exact_ridge_regression() -> None:
    learner = Learner(noise=1.0)
    given = rows(50)
    learner.learn_all(given, passes=100)
    # The normal equations of two features: (XᵀX + noise) w = Xᵀy.
    aa = sum(row.values[0] ** 2 for row in given) + 1
    bb = sum(row.values[1] ** 2 for row in given) + 1
    ab = sum(row.values[0] * row.values[1] for row in given)
    ay = sum(row.values[0] * row.target for row in given)
    by = sum(row.values[1] * row.target for row in given)
    determinant = aa * bb - ab * ab
    assert learner.weight(0) == pytest.approx((ay * bb - by * ab) / determinant, abs=1e-6)
    assert learner.weight(1) == pytest.approx((by * aa - ay * ab) / determinant, abs=1e-6)


def test_the_same_labels_give_the_same_weights() -> None:
    one, other = Learner(noise=1.0), Learner(noise=1.0)
    for row in rows(100):
        one.learn(row)
        other.learn(row)
    assert (one.weight(0), one.weight(1)) == (other.weight(0), other.weight(1))


def test_a_label_past_the_most_is_forgotten_without_a_trace() -> None:
    learner = Learner(noise=1.0, most_labels=10)
    learner.learn(Row((7,), (1.0,), 1.0))
    assert learner.weight(7) > 0
    for row in rows(10):
        learner.learn(row)
    assert len(learner) == 10
    assert learner.weight(7) == pytest.approx(0, abs=1e-12)


def test_many_labels_that_are_taken_in_at_once_are_all_kept() -> None:
    learner = Learner(noise=1.0, most_labels=10)
    learner.learn_all([Row((7,), (1.0,), 1.0), *rows(50)])
    assert len(learner) == 51
    assert learner.weight(7) == pytest.approx(0.5)


def test_without_labels_it_says_nothing() -> None:
    assert Learner(noise=1.0).predict((0, 1), (1.0, 1.0)) == 0


def test_a_label_that_is_amended_leaves_no_trace() -> None:
    learner = Learner(noise=1.0)
    learner.learn(Row((7,), (1.0,), 1.0))
    learner.amend(0, Row((8,), (2.0,), 1.0))
    assert (learner.weight(7), learner.weight(8)) == pytest.approx((0.0, 0.4), abs=1e-12)


def test_what_is_frozen_learns_no_more() -> None:
    learner = Learner(noise=1.0)
    learner.learn(Row((7,), (1.0,), 1.0))
    frozen = learner.frozen(3)
    learner.learn(Row((7,), (1.0,), -5.0))
    assert (frozen.weight(7), frozen.version) == (0.5, 3)
