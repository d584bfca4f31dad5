"""Calibrated sets: when a risk can be kept, which threshold keeps it, and how often it is kept in truth."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.routing.sets import calibrate_sets, nested


def test_sets_grow_as_the_threshold_falls() -> None:
    q = np.array([[0.9, 0.5, np.nan]])
    np.testing.assert_allclose(nested(q, 0.6), [[1, 0, 0]])
    np.testing.assert_allclose(nested(q, 0.5), [[0.5, 0.5, 0]])
    np.testing.assert_allclose(nested(q, 0.5, "score"), [[9 / 14, 5 / 14, 0]])


def test_where_nobody_reaches_the_threshold_the_best_answers_or_nobody() -> None:
    q = np.array([[0.2, 0.4]])
    np.testing.assert_allclose(nested(q, 0.5), [[0, 1]])
    np.testing.assert_allclose(nested(q, 0.5, abstain=True), [[0, 0]])


def test_a_risk_of_five_percent_needs_59_queries_without_a_miss() -> None:
    q = np.full((59, 1), 0.7)
    found = calibrate_sets(q, np.ones((59, 1)), 0.05)
    assert (found.threshold, found.misses, found.kept) == (0.7, 0, True)
    fewer = calibrate_sets(q[:58], np.ones((58, 1)), 0.05)
    assert (fewer.threshold, fewer.kept) == (-np.inf, False)


def test_the_threshold_bears_as_many_misses_as_the_bound_allows() -> None:
    # one member, scores 1 … 100, always right: 2 misses of 100 have the bound .0616, 3 have .0757
    q = np.arange(1.0, 101.0)[:, None]
    found = calibrate_sets(q, np.ones((100, 1)), 0.07)
    assert (found.threshold, found.misses) == (3.0, 2)
    assert found.bound == pytest.approx(0.0616, abs=5e-5)


def test_only_right_members_count_and_the_best_scored_of_them_decides() -> None:
    q = np.tile([[0.9, 0.6, 0.3]], (59, 1))
    right = np.tile([[0.0, 1.0, 1.0]], (59, 1))
    assert calibrate_sets(q, right, 0.05).threshold == 0.6


def test_queries_that_nobody_solves_bound_the_risk_unless_they_are_left_out() -> None:
    q = np.full((100, 2), 0.5)
    right = np.ones((100, 2))
    right[:20] = 0.0
    found = calibrate_sets(q, right, 0.05)
    assert (found.threshold, found.misses, found.kept) == (-np.inf, 20, False)
    solvable = calibrate_sets(q, right, 0.05, solvable_only=True)
    assert (solvable.threshold, solvable.n, solvable.kept) == (0.5, 80, True)


def test_the_risk_is_kept_as_often_as_promised() -> None:
    # a world without end: the risk at threshold t is P(reach < t) = t; 200 calibrations of 150 queries
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(200):
        q = rng.random((150, 1))
        kept.append(calibrate_sets(q, np.ones((150, 1)), 0.1, delta=0.1).threshold <= 0.1)
    assert np.mean(kept) >= 0.86  # 0.9 less two standard errors


def test_outcomes_of_another_shape_or_of_nobody_are_refused() -> None:
    with pytest.raises(BadParameter, match="shape of the scores"):
        calibrate_sets(np.ones((2, 2)), np.ones((3, 2)), 0.1)
    with pytest.raises(BadParameter, match="one that is solved"):
        calibrate_sets(np.ones((2, 2)), np.zeros((2, 2)), 0.1, solvable_only=True)
