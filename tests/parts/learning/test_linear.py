"""Ridge and logistic regression per member: by hand, against scikit-learn, and with unknown scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from septet.core.errors import BadParameter
from septet.parts.learning.linear import fit_logistic, fit_ridge
from septet.parts.learning.rows import Rows

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
Y = X @ RNG.normal(size=(5, 3)) + RNG.normal(size=(60, 3))
LABELS = (Y > 0).astype(float)


def test_a_line_through_two_points_is_found_without_a_penalty() -> None:
    # (0, 1), (1, 3): slope 2, and 1 at zero
    line = fit_ridge(np.array([[0.0], [1.0]]), np.array([[1.0], [3.0]]), l2=0.0)
    assert (line.weights.round(9).tolist(), line.bias.round(9).tolist()) == ([[2.0]], [1.0])


def test_the_penalty_shrinks_the_slope_and_not_the_mean() -> None:
    # centred x ±½: Σx² = ½, Σxy = 1; slope 1 / (½ + ½) = 1; the mean of y, 2, stays at the mean of x
    line = fit_ridge(np.array([[0.0], [1.0]]), np.array([[1.0], [3.0]]), l2=0.5)
    np.testing.assert_allclose(line.outputs(np.array([[0.0], [0.5], [1.0]])), [[1.5], [2.0], [2.5]])


@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_ridge_agrees_with_scikit_learn(l2: float) -> None:
    ours = fit_ridge(X, Y, l2=l2)
    theirs = Ridge(alpha=l2).fit(X, Y)
    np.testing.assert_allclose(ours.outputs(X), theirs.predict(X), atol=1e-9)


@pytest.mark.parametrize("l2", [0.5, 5.0])
def test_logistic_regression_agrees_with_scikit_learn(l2: float) -> None:
    ours = fit_logistic(X, LABELS, l2=l2)
    for m in range(3):
        theirs = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000).fit(X, LABELS[:, m])
        np.testing.assert_allclose(ours.weights[:, m], theirs.coef_[0], atol=1e-4)
        np.testing.assert_allclose(ours.bias[m], theirs.intercept_[0], atol=1e-4)


def test_an_unknown_score_changes_only_its_own_member() -> None:
    holes = Y.copy()
    holes[::3, 1] = np.nan
    whole, part = fit_ridge(X, Y), fit_ridge(X, holes)
    np.testing.assert_allclose(part.weights[:, [0, 2]], whole.weights[:, [0, 2]])
    np.testing.assert_allclose(
        part.weights[:, 1], Ridge().fit(X[~np.isnan(holes[:, 1])], holes[~np.isnan(holes[:, 1]), 1]).coef_
    )
    labels = np.where(np.isnan(holes), np.nan, LABELS)
    np.testing.assert_allclose(
        fit_logistic(X, labels).weights[:, [0, 2]], fit_logistic(X, LABELS).weights[:, [0, 2]], atol=1e-4
    )


def test_a_member_without_scores_is_unknown_everywhere() -> None:
    holes = Y.copy()
    holes[:, 1] = np.nan
    for line in (fit_ridge(X, holes), fit_logistic(X, np.where(np.isnan(holes), np.nan, LABELS))):
        assert np.isnan(line.outputs(X)).all(axis=0).tolist() == [False, True, False]


def test_a_member_that_is_always_right_gets_its_smoothed_share() -> None:
    # three of three, one of each added: 4/5, so the odds are 4
    line = fit_logistic(np.eye(3), np.ones((3, 1)))
    np.testing.assert_allclose(line.outputs(np.eye(3)), np.full((3, 1), np.log(4)))


def test_a_weight_of_two_counts_as_the_row_twice() -> None:
    weight = np.ones_like(LABELS)
    weight[:10] = 2.0
    twice = fit_logistic(np.vstack([X, X[:10]]), np.vstack([LABELS, LABELS[:10]]))
    np.testing.assert_allclose(fit_logistic(X, LABELS, weight=weight).weights, twice.weights, atol=1e-4)


def test_sparse_rows_give_what_dense_rows_give() -> None:
    sparse = Rows.of(np.where(np.abs(X) > 0.5, X, 0.0))
    np.testing.assert_allclose(fit_ridge(sparse, Y).weights, fit_ridge(sparse.dense(), Y).weights)
    np.testing.assert_allclose(
        fit_logistic(sparse, LABELS).weights, fit_logistic(sparse.dense(), LABELS).weights, atol=1e-5
    )


def test_scores_of_other_questions_are_refused() -> None:
    with pytest.raises(BadParameter, match="60 rows"):
        fit_ridge(X, Y[:5])
