"""The dual contrastive loss: cases by hand, its slopes against differences, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from septet.core.types import Floats
from septet.parts.routing.contrastive import (
    Adam,
    Contrast,
    Pull,
    even_over_tasks,
    line_through,
    through_length,
    to_members,
    to_questions,
)


def sets(scores: list[list[float]], n_best: int = 3, n_worst: int = 3) -> Contrast:
    return Contrast.of(np.array(scores), np.arange(len(scores)) % 2, n_best, n_worst)


def slope_by_differences(f: Callable[[Floats], float], x: Floats, step: float = 1e-6) -> Floats:
    found = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        for sign in (1, -1):
            moved = x.copy()
            moved[i] += sign * step
            found[i] += sign * f(moved) / (2 * step)
    return found


def test_where_every_member_is_above_a_half_nothing_pushes_and_the_loss_is_0() -> None:
    sim = np.array([[0.9, -0.3, 0.1, 0.5]])
    value, slope = to_members(sim, sets([[0.9, 0.8, 0.7, 0.6]]))
    assert value == 0.0
    assert not slope.any()


def test_where_no_member_scores_nothing_pulls_and_the_loss_is_0() -> None:
    value, slope = to_members(np.array([[0.9, -0.3, 0.1, 0.5]]), sets([[0.0, 0.0, 0.0, 0.0]]))
    assert value == 0.0
    assert not slope.any()


def test_one_positive_against_two_negatives_by_hand() -> None:
    # s = (1, 0, 0): −ln(e / (e + 2)) = ln(1 + 2/e) = .5514; slopes −2/(e + 2), and 1/(e + 2) for each negative
    value, slope = to_members(np.array([[1.0, 0.0, 0.0]]), sets([[1.0, 0.0, 0.0]]))
    assert value == pytest.approx(0.5514, abs=1e-4)
    e = np.e
    np.testing.assert_allclose(slope, [[-2 / (e + 2), 1 / (e + 2), 1 / (e + 2)]])


def test_a_member_is_no_negative_of_an_equal_one_and_an_unknown_one_is_neither() -> None:
    # .4 and .4 are positives and among the worst, but not of each other; the unknown one takes no part
    value, slope = to_members(np.zeros((1, 4)), sets([[0.4, 0.4, 0.0, np.nan]]))
    assert value == pytest.approx(2 * np.log(2))
    np.testing.assert_allclose(slope, [[-0.5, -0.5, 1.0, 0.0]])


def test_the_loss_does_not_depend_on_the_length_of_the_members() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    arms, pull = rng.normal(size=(3, 5)), Pull(0.5, 1.0, 2)
    scores = sets([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    one = pull.loss(rows, arms, scores, np.random.default_rng(1))
    ten = pull.loss(rows, 10 * arms, scores, np.random.default_rng(1))
    assert ten[0] == pytest.approx(one[0])
    np.testing.assert_allclose((one[2] * arms).sum(axis=1), 0, atol=1e-12)  # nothing to gain along a member


def test_all_slopes_are_those_of_small_differences() -> None:
    rng = np.random.default_rng(2)
    rows, arms = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    scores = Contrast.of(rng.random((6, 5)).round(1), np.array([0, 0, 0, 1, 1, 2]), 2, 3)
    pull = Pull(0.7, 0.8, 2)
    length = np.linalg.norm(rows, axis=1, keepdims=True)

    def loss(r: Floats, a: Floats) -> float:
        e = r / np.linalg.norm(r, axis=1, keepdims=True)
        return pull.loss(e, a, scores, np.random.default_rng(5))[0]

    _, slope, arms_slope = pull.loss(rows / length, arms, scores, np.random.default_rng(5))
    np.testing.assert_allclose(
        through_length(slope, rows / length, length),
        slope_by_differences(lambda r: loss(r, arms), rows),
        atol=1e-7,
    )
    np.testing.assert_allclose(arms_slope, slope_by_differences(lambda a: loss(rows, a), arms), atol=1e-7)


def test_questions_among_themselves_by_hand() -> None:
    # Three on one axis, the third of another cluster: for each of the first two the partner and the other are
    # equally near, ln 2; the third has no partner. Mean (2 ln 2) / 3, whatever is drawn.
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    value, _ = to_questions(rows, np.array([7, 7, 9]), 3, np.random.default_rng(0))
    assert value == pytest.approx(2 * np.log(2) / 3)


def test_a_batch_of_one_cluster_pushes_nothing() -> None:
    rows = np.eye(3)
    value, slope = to_questions(rows, np.zeros(3, dtype=np.int64), 3, np.random.default_rng(0))
    assert value == 0.0
    assert not slope.any()


def test_at_most_so_many_others_push() -> None:
    # On one point all ratios are 1: with h others the loss of each is ln(1 + h)
    rows = np.tile([[1.0, 0.0]], (8, 1))
    cluster = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    for h in (1, 2, 6, 9):
        value, _ = to_questions(rows, cluster, h, np.random.default_rng(0))
        assert value == pytest.approx(np.log(1 + min(h, 6)))


def test_adam_s_first_step_has_the_length_of_its_rate() -> None:
    np.testing.assert_allclose(Adam(0.1).next(np.zeros(2), np.array([3.0, -0.2])), [-0.1, 0.1])


def test_tasks_are_drawn_alike() -> None:
    assert even_over_tasks(("b", "a", "b", "b", "b")).tolist() == [0.125, 0.5, 0.125, 0.125, 0.125]


def test_a_line_keeps_the_order_even_where_cosines_say_nothing() -> None:
    intercept, slope = line_through(np.array([[0.0, 1.0]]), np.array([[0.8, 0.2]]))
    assert slope == 1e-6
    assert intercept == pytest.approx(0.5 - 0.5e-6)
    assert line_through(np.array([[0.3, 0.3]]), np.array([[1.0, np.nan]])).tolist() == pytest.approx(
        [1.0, 1e-6]
    )
