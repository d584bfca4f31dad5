"""What outputs are fitted to: losses and gradients, what a fit agrees with, what is held out."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.types import Floats
from septet.parts.learning.rows import Rows
from septet.parts.learning.targets import Loss, Targets, activated, fit_head, held_out, loss_of

LOSSES: list[Loss] = ["bce", "mse", "ce", "kl"]


def some(loss: Loss, rows: int = 40, classes: int = 3) -> tuple[Floats, Targets]:
    rng = np.random.default_rng(0)
    y = rng.dirichlet(np.ones(classes), rows)
    return rng.normal(size=(rows, 5)), Targets(y, rng.uniform(0.5, 2.0, size=y.shape), loss)


def test_losses_are_those_that_the_docstring_states() -> None:
    z, y = np.array([[np.log(3.0), 0.0]]), np.array([[1.0, 0.0]])
    # sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2: −ln ¾ − ln ½
    assert loss_of(z, Targets.even(y, "bce"))[0] == pytest.approx(-np.log(0.75) - np.log(0.5))
    assert loss_of(z, Targets.even(y, "mse"))[0] == pytest.approx((np.log(3.0) - 1) ** 2)
    # softmax (¾, ¼)
    assert loss_of(z, Targets.even(y, "ce"))[0] == pytest.approx(-np.log(0.75))
    half = np.array([[0.5, 0.5]])
    kl = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert loss_of(z, Targets.even(half, "kl"))[0] == pytest.approx(kl)


def test_a_weight_of_two_counts_as_two_questions() -> None:
    x, targets = some("bce")
    twice = np.ones_like(targets.y)
    twice[:10] = 2.0
    heavy = fit_head(x, Targets(targets.y, twice, "bce"), 0.1)
    doubled = fit_head(
        np.vstack([x, x[:10]]), Targets.even(np.vstack([targets.y, targets.y[:10]]), "bce"), 0.1
    )
    np.testing.assert_allclose(heavy[0], doubled[0], atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_the_loss(loss: Loss) -> None:
    _, targets = some(loss, rows=5)
    targets.y[0, 1] = np.nan
    z = np.random.default_rng(1).normal(size=(5, 3))
    slope, step = loss_of(z, targets)[1], 1e-6
    for place in np.ndindex(z.shape):
        moved = np.zeros_like(z)
        moved[place] = step
        rise = (loss_of(z + moved, targets)[0] - loss_of(z - moved, targets)[0]) / (2 * step)
        assert slope[place] == pytest.approx(rise, abs=1e-8)


def test_a_fit_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression, Ridge

    x, targets = some("bce", rows=200, classes=2)
    right = (targets.y > 0.5).astype(float)
    weights, bias = fit_head(x, Targets.even(right, "bce"), l2=0.01)
    logistic = LogisticRegression(C=1 / (0.01 * 200), tol=1e-8).fit(x, right[:, 0])
    np.testing.assert_allclose(weights[:, 0], logistic.coef_[0], atol=1e-3)
    assert bias[0] == pytest.approx(logistic.intercept_[0], abs=1e-3)
    weights, _ = fit_head(x, Targets.even(targets.y, "mse"), l2=0.01)
    np.testing.assert_allclose(weights.T, Ridge(alpha=200 * 0.01 / 2).fit(x, targets.y).coef_, atol=1e-4)
    weights, bias = fit_head(x, Targets.even(np.hstack([right, 1 - right])[:, [0, 2]], "ce"), l2=1e-6)
    sides = LogisticRegression(C=1 / (5e-7 * 200), tol=1e-8).fit(x, right[:, 0])
    p = activated(x @ weights + bias, "ce")[:, 0]
    np.testing.assert_allclose(p, sides.predict_proba(x)[:, 1], atol=5e-3)


def test_sparse_rows_give_the_same_head_as_dense_ones() -> None:
    x, targets = some("bce")
    x = np.where(np.abs(x) > 0.7, x, 0.0)
    dense, sparse = fit_head(x, targets, 0.01), fit_head(Rows.of(x), targets, 0.01)
    np.testing.assert_allclose(dense[0], sparse[0], atol=1e-5)


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_an_unknown_target_only_affects_its_own_output(loss: Loss) -> None:
    x, targets = some(loss)
    whole = fit_head(x, targets, 0.01)
    holed = Targets(targets.y.copy(), targets.weight, loss)
    holed.y[:30, 0] = np.nan
    part = fit_head(x, holed, 0.01)
    np.testing.assert_allclose(whole[0][:, 1:], part[0][:, 1:], atol=1e-3)
    alone = fit_head(x[30:], Targets(targets.y[30:, :1], targets.weight[30:, :1], loss), 0.01)
    np.testing.assert_allclose(part[0][:, 0], alone[0][:, 0], atol=1e-3)


def test_large_outputs_do_not_overflow() -> None:
    z = np.array([[1000.0, -1000.0]])
    with np.errstate(all="raise", under="ignore"):
        assert activated(z, "bce").tolist() == [[1.0, 0.0]]
        assert activated(z, "kl").tolist() == [[1.0, 0.0]]


def test_a_share_is_held_out_and_never_all() -> None:
    rng = np.random.default_rng(0)
    assert held_out(50, 0.1, rng).sum() == 5
    assert held_out(3, 0.1, rng).sum() == 1
    assert held_out(1, 0.9, rng).sum() == 0
    assert held_out(50, 0.0, rng).sum() == 0
