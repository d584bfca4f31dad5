"""The accuracy of a router on a task like this one, and the guard: the paper's rule, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.routing.shift import AccuracyByDistance, corrected, guarded, measure, p_more_right

PAIRS = AccuracyByDistance(np.array([0.1, 0.3]), np.array([[0.9], [0.6]]))


@pytest.mark.parametrize(("u", "accuracy"), [(0.2, 0.75), (0.12, 0.8635)])
def test_the_kernel_weighs_near_pairs_more(u: float, accuracy: float) -> None:
    assert PAIRS.at(u, 0.09).round(4).tolist() == [accuracy]


def test_a_distance_far_from_every_pair_takes_the_nearest() -> None:
    assert PAIRS.at(40.0, 0.01).tolist() == [0.6]


def test_an_unknown_accuracy_is_left_out_of_the_kernel() -> None:
    pairs = AccuracyByDistance(np.array([0.1, 0.3]), np.array([[0.9, np.nan], [0.6, np.nan]]))
    found = pairs.at(0.2, 0.09)
    assert found[0] == pytest.approx(0.75)
    assert np.isnan(found[1])


def test_s3_is_s2_when_predictions_are_surely_right_and_a_half_when_they_say_nothing() -> None:
    s2 = np.array([0.1, 0.9])
    assert corrected(s2, np.ones(2)).tolist() == s2.tolist()
    assert corrected(s2, np.full(2, 0.5)).tolist() == [0.5, 0.5]
    assert corrected(np.array([0.9]), np.array([0.8])) == pytest.approx([0.74])


def test_the_guard_s_probability_for_ten_queries() -> None:
    # Bin(9, .8) + Bin(1, .2) against Bin(7, .9) + Bin(3, .1), and against Bin(6, .9) + Bin(4, .1)
    assert p_more_right(np.array([0.9, 0.7]), np.array([0.8, 0.9]), 10) == pytest.approx(0.586, abs=5e-4)
    assert p_more_right(np.array([0.9, 0.6]), np.array([0.8, 0.9]), 10) == pytest.approx(0.766, abs=5e-4)


def test_the_guard_keeps_the_best_on_average_unless_the_winner_is_surely_better() -> None:
    p, mean = np.array([0.8, 0.9]), np.array([0.5, 0.6])
    kept = guarded(np.array([0.9, 0.7]), p, mean, 10, 0.6)
    switched = guarded(np.array([0.9, 0.6]), p, mean, 10, 0.6)
    assert kept.tolist() == mean.tolist()
    assert switched == pytest.approx([0.74, 0.58])


def test_a_guard_of_zero_always_lets_the_winner_win() -> None:
    s3 = guarded(np.array([0.9, 0.7]), np.array([0.8, 0.9]), np.array([0.5, 0.6]), 10, 0.0)
    assert s3.argmax() == 0


def test_a_task_left_out_is_predicted_from_the_others() -> None:
    # Two tasks of two questions. Across tasks similarity is .4 for both, so u = 0.6 with no label shown.
    # The member is right on all of task s and wrong on all of task t: each predicts the other wrongly.
    similarity = np.array([[1, 0.8, 0.4, 0.4], [0.8, 1, 0.4, 0.4], [0.4, 0.4, 1, 0.8], [0.4, 0.4, 0.8, 1]])
    scores = np.array([[1.0], [1.0], [0.0], [0.0]])
    found = measure(
        similarity,
        scores,
        ["s", "s", "t", "t"],
        np.random.default_rng(0),
        k=1,
        kappa=2,
        threshold=0.5,
        draws=1,
    )
    # of two questions a share below 0.5 is no label, so all 15 shares of both tasks are alike
    assert found.u == pytest.approx(np.full(30, 0.6))
    assert found.accuracy.tolist() == [[0.0]] * 30


def test_a_label_of_the_task_itself_makes_it_nearer_and_better_predicted() -> None:
    # Ten questions per task, alike within it (.9) and not across (.1): from share .1 on one label is shown,
    # which is everybody's nearest neighbour: accuracy 1. Without, the other task predicts wrongly: 0.
    own = np.arange(20) < 10
    similarity = np.where(own[:, None] == own, 0.9, 0.1)
    found = measure(
        similarity,
        own[:, None].astype(float),
        ["s" if o else "t" for o in own],
        np.random.default_rng(0),
        k=1,
        kappa=1,
        threshold=0.5,
        draws=1,
    )
    assert sorted(set(found.u.round(6))) == [0.1, 0.9]
    np.testing.assert_array_equal(found.accuracy[:, 0], (found.u < 0.5).astype(float))


def test_a_table_of_one_task_is_measured_on_its_own_labels() -> None:
    found = measure(
        np.full((10, 10), 0.5),
        np.ones((10, 2)),
        ["t"] * 10,
        np.random.default_rng(0),
        k=1,
        kappa=1,
        threshold=0.5,
    )
    # without labels there is nobody to ask: the shares below 0.1 make no pair
    assert found.u == pytest.approx(np.full(10 * 10, 0.5))
    assert found.accuracy.tolist() == [[1.0, 1.0]] * 100
