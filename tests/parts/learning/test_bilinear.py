"""Factorisation with features: gradients by differences, each loss on outcomes it must tell apart."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.state import pack, unpack
from septet.parts.learning.adam import softmax
from septet.parts.learning.bilinear import Bilinear, Loss, fit_bilinear, pull_of

NAMES = ("a", "b", "c")
X = np.repeat(np.eye(2), 10, axis=0)
Y = np.repeat([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], 10, axis=0)  # a and c know the first kind, b the second
HOW: dict[str, Any] = {"size": 4, "rate": 0.05, "batch": 5, "epochs": 60}


def mean_loss(z: np.ndarray, y: np.ndarray, loss: Loss) -> float:
    known = ~np.isnan(y)
    if loss in ("bce", "irt"):
        return float((np.logaddexp(0, z) - y * z)[known].mean())
    if loss == "pairwise":
        gaps = [
            np.logaddexp(0, z[i, b] - z[i, a])
            for i in range(len(y))
            for a in range(3)
            for b in range(3)
            if y[i, a] > y[i, b]
        ]
        return float(np.mean(gaps))
    logp = np.log(softmax(np.where(known, z, -np.inf)), where=known, out=np.zeros_like(z))
    return float(-np.nansum(y * logp) / len(y))


@pytest.mark.parametrize("loss", get_args(Loss))
def test_the_gradient_is_that_of_differences(loss: Loss) -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(4, 3)), rng.random((4, 3))
    y[0, 1] = np.nan
    if loss == "infonce":
        y /= np.nansum(y, axis=1, keepdims=True)
    rough = np.zeros_like(z)
    for cell in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[cell] = 1e-6
        rough[cell] = (mean_loss(z + step, y, loss) - mean_loss(z - step, y, loss)) / 2e-6
    np.testing.assert_allclose(pull_of(z, y, loss), rough, atol=1e-8)


@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_loss_finds_who_is_good_at_what(loss: Loss) -> None:
    fitted = fit_bilinear(X, Y, NAMES, np.random.default_rng(0), loss=loss, **HOW)
    z = fitted.outputs(np.eye(2))
    assert z[0, 0] > z[0, 1]
    assert z[0, 2] > z[0, 1]
    assert z[1, 1] > max(z[1, 0], z[1, 2])


def test_a_member_against_itself_is_even_and_the_chances_of_two_add_up_to_one() -> None:
    fitted = fit_bilinear(X, Y, NAMES, np.random.default_rng(0), loss="pairwise", **HOW)
    assert fitted.wins(X, 1, 1).tolist() == [0.5] * 20
    np.testing.assert_allclose(fitted.wins(X, 0, 1) + fitted.wins(X, 1, 0), 1.0)


def test_the_same_vector_means_the_same_predictions() -> None:
    arms = np.array([[1.0, 2.0], [1.0, 2.0]])
    twins = Bilinear(np.eye(2), np.zeros(2), arms, np.zeros(2), np.zeros(2))
    z = twins.outputs(np.random.default_rng(0).normal(size=(5, 2)))
    np.testing.assert_array_equal(z[:, 0], z[:, 1])


def test_pairwise_vectors_have_a_length_of_one_before_the_weights() -> None:
    fitted = fit_bilinear(
        X, Y, NAMES, np.random.default_rng(0), loss="pairwise", **{**HOW, "epochs": 1, "rate": 1e-9}
    )
    np.testing.assert_allclose(np.linalg.norm(fitted.arms, axis=1), 1.0, atol=1e-6)


def test_the_order_of_members_permutes_the_fit() -> None:
    turned = fit_bilinear(X, Y[:, ::-1], NAMES[::-1], np.random.default_rng(0), loss="bce", **HOW)
    straight = fit_bilinear(X, Y, NAMES, np.random.default_rng(0), loss="bce", **HOW)
    np.testing.assert_allclose(turned.outputs(X)[:, ::-1], straight.outputs(X), atol=1e-9)


def test_a_member_without_scores_is_unknown() -> None:
    holes = Y.copy()
    holes[:, 1] = np.nan
    fitted = fit_bilinear(X, holes, NAMES, np.random.default_rng(0), loss="bce", **HOW)
    assert np.isnan(fitted.outputs(X)).all(axis=0).tolist() == [False, True, False]


def test_questions_on_which_all_score_alike_teach_no_pair() -> None:
    with pytest.raises(BadParameter, match="teach something under 'pairwise'"):
        fit_bilinear(X, np.ones_like(Y), NAMES, np.random.default_rng(0), loss="pairwise", **HOW)


def test_the_factors_survive_saving() -> None:
    fitted = fit_bilinear(X, Y, NAMES, np.random.default_rng(0), loss="irt", **HOW)
    np.testing.assert_array_equal(unpack(Bilinear, *pack(fitted)).outputs(X), fitted.outputs(X))
