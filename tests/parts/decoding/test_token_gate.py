"""The gate on hidden states: its gradient by differences, what is folded, what it learns, and what it reports."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter, RunError
from septet.core.state import pack, unpack
from septet.parts.decoding.token_gate import Course, Gate, Report, _Normed, fit_gate, single
from septet.parts.learning.mlp import Mlp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 6))
GROUPS = np.repeat(np.arange(40), 10).tolist()
RING = (np.abs(X[:, 0]) > 0.7).astype(float)  # no line tells it
COURSE = Course(rate=0.01, batch=50, epochs=60, patience=15)


def test_a_gate_by_hand() -> None:
    # max(2·3 − 1, 0)·4 − 18 = 2, and sigmoid(2) = .8808
    gate = Gate(Mlp((1, 1, 1), np.array([2.0, -1.0, 4.0, -18.0])), None)
    assert gate.chance(np.array([3.0])) == pytest.approx(0.8808, abs=1e-4)


@pytest.mark.parametrize("hidden", [None, np.zeros(3)])
def test_a_hidden_state_of_another_model_is_refused(hidden: np.ndarray | None) -> None:
    with pytest.raises(RunError, match=r"hidden states of length 2.*fit it again"):
        Gate(Mlp((2, 1), np.zeros(3)), None).chance(hidden)


def loss_of_batch(net: _Normed, x: np.ndarray, y: np.ndarray) -> float:
    z = net.folded(x).outputs(x)[:, 0]  # folded over this very batch, it is what the batch sees
    return float(np.mean(np.logaddexp(0, z) - y * z))


def test_the_gradient_through_two_normalised_layers_is_that_of_differences() -> None:
    net = _Normed.before((6, 5, 4, 1), np.random.default_rng(1))
    net.weights = [
        w.astype(np.float64) + 0.1 * np.random.default_rng(2).normal(size=w.shape) for w in net.weights
    ]
    x, y = X[:30], RING[:30]
    exact = net.gradients(x, y, 0.0, np.random.default_rng(0))
    for weights, slopes in zip(net.weights, exact, strict=True):
        rough = np.empty_like(weights)
        for place in np.ndindex(weights.shape):
            kept = weights[place]
            weights[place] = kept + 1e-6
            up = loss_of_batch(net, x, y)
            weights[place] = kept - 1e-6
            rough[place] = (up - loss_of_batch(net, x, y)) / 2e-6
            weights[place] = kept
        np.testing.assert_allclose(slopes, rough, atol=1e-6)


def test_dropout_leaves_units_out_and_keeps_the_mean() -> None:
    net = _Normed.before((6, 2000, 1), np.random.default_rng(1))
    x, y = single(X[:30]), RING[:30]
    whole = net.gradients(x, y, 0.0, np.random.default_rng(0))[
        3
    ]  # of the output's weights: activations·error
    drawn = np.mean([net.gradients(x, y, 0.5, np.random.default_rng(i))[3] for i in range(40)], axis=0)
    assert not np.allclose(net.gradients(x, y, 0.5, np.random.default_rng(0))[3], whole)
    assert np.corrcoef(drawn[:, 0], whole[:, 0])[0, 1] > 0.9


def test_it_learns_what_no_line_can_tell_and_says_so() -> None:
    gate = fit_gate(X, RING, GROUPS, (24, 12), COURSE, np.random.default_rng(3))
    report = gate.report
    assert report is not None
    assert report.positions == 400
    assert report.ones == RING.sum()
    assert report.judged == 60  # 40 questions: 28 learned from, 6 end the fit, 6 judge it
    assert report.fitted[0] > 0.9
    assert report.fitted[1] <= report.fitted[0] <= report.fitted[2]
    assert report.fitted[1] > report.untrained[0]
    assert 0 < report.epochs <= 60


def test_labels_that_hidden_states_do_not_tell_are_not_learned() -> None:
    noise = np.random.default_rng(5).integers(0, 2, 400).astype(float)
    report = fit_gate(X, noise, GROUPS, (24, 12), COURSE, np.random.default_rng(3)).report
    assert report is not None
    assert report.fitted[1] < 0.5 < report.fitted[2]


def test_the_same_seed_learns_the_same_gate() -> None:
    short = Course(rate=0.01, batch=50, epochs=3, patience=3, dropout=0.1)
    first, again = (fit_gate(X, RING, GROUPS, (8,), short, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.network.theta, again.network.theta)


def test_one_label_alone_has_no_area_and_the_state_is_kept_all_the_same() -> None:
    gate = fit_gate(X, np.ones(400), GROUPS, (4,), COURSE, np.random.default_rng(0))
    arrays, facts = pack(gate)
    again = unpack(Gate, arrays, facts)
    assert isinstance(again.report, Report)
    assert np.isnan(again.report.fitted).all()
    assert again.chance(X[0]) == gate.chance(X[0]) > 0.5


def test_fewer_than_three_questions_are_refused() -> None:
    with pytest.raises(BadParameter, match="must be at least three"):
        fit_gate(X[:20], RING[:20], GROUPS[:20], (4,), COURSE, np.random.default_rng(0))
