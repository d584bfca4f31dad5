"""The small network: its forward pass against scikit-learn, its gradient by differences, unknown scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor

from septet.core.state import pack, unpack
from septet.parts.learning.adam import Adam
from septet.parts.learning.mlp import Mlp, fit_mlp, untrained

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = np.column_stack([np.abs(X[:, 0]), X[:, 1] > 0]).astype(float)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_forward_pass_is_that_of_scikit_learn() -> None:
    theirs = MLPRegressor(hidden_layer_sizes=(6, 3), max_iter=5, random_state=0).fit(X, Y)
    layers = zip(theirs.coefs_, theirs.intercepts_, strict=True)
    ours = Mlp((4, 6, 3, 2), np.concatenate([part.ravel() for layer in layers for part in layer]))
    np.testing.assert_allclose(ours.outputs(X), theirs.predict(X))


def test_a_network_of_one_unit_by_hand() -> None:
    # max(2·3 − 1, 0)·4 + 5 = 25, and for x = 0: max(−1, 0)·4 + 5 = 5
    net = Mlp((1, 1, 1), np.array([2.0, -1.0, 4.0, 5.0]))
    assert net.outputs(np.array([[3.0], [0.0]])).tolist() == [[25.0], [5.0]]


def test_the_gradient_is_that_of_differences() -> None:
    start = untrained((4, 5, 3, 2), np.random.default_rng(1))
    net = Mlp(start.sizes, start.theta + 0.1)  # biases of zero can put a unit exactly on its kink
    inside = net.activations(X)
    exact = net.gradient(inside, inside[-1] - Y)

    def loss(theta: np.ndarray) -> float:
        return float(0.5 * ((Mlp(net.sizes, theta).outputs(X) - Y) ** 2).sum())

    steps = 1e-6 * np.eye(len(net.theta))
    rough = [(loss(net.theta + s) - loss(net.theta - s)) / 2e-6 for s in steps]
    np.testing.assert_allclose(exact, rough, atol=1e-5)


def test_it_learns_what_no_line_can_tell() -> None:
    net = fit_mlp(X, Y, np.random.default_rng(0), hidden=(32,), rate=0.01, epochs=400)
    error = ((net.outputs(X) - Y) ** 2).mean(axis=0)
    assert (error < 0.2 * Y.var(axis=0)).all()


def test_logits_after_a_fit_with_bce_tell_the_classes() -> None:
    net = fit_mlp(X, Y[:, 1:], np.random.default_rng(0), loss="bce", rate=0.01)
    assert ((net.outputs(X) > 0) == Y[:, 1:]).mean() > 0.95


def test_a_member_without_scores_is_unknown_and_disturbs_nobody() -> None:
    holes = np.column_stack([Y, np.full(len(Y), np.nan)])
    found = fit_mlp(X, holes, np.random.default_rng(0), rate=0.01).outputs(X)
    assert np.isnan(found).all(axis=0).tolist() == [False, False, True]


def test_the_network_survives_saving() -> None:
    net = fit_mlp(X, Y, np.random.default_rng(0), epochs=2)
    np.testing.assert_array_equal(unpack(Mlp, *pack(net)).outputs(X), net.outputs(X))


def test_the_first_step_of_adam_is_its_rate_against_the_sign() -> None:
    weights = np.array([1.0, -2.0])
    Adam([weights], rate=0.01).step([np.array([3.0, -0.5])])
    np.testing.assert_allclose(weights, [0.99, -1.99], atol=1e-7)
