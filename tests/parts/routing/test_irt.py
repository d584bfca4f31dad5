"""Item-response theory: by hand, its monotony, its gradient by differences, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.parts.learning.adam import sigmoid
from septet.parts.learning.bilinear import Bilinear
from septet.parts.routing.irt import NeuralIrt, fit_mirt, fit_nirt, passes

NAMES = ("a", "b")
X = np.repeat(np.eye(2), 20, axis=0)
Y = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)


def asking(*a: float) -> np.ndarray:
    """What has to stand before a softplus to give discriminations a."""
    return np.log(np.expm1(np.array(a)))


def test_a_question_by_hand() -> None:
    # a = (1, 2), θ = (½, ¼), b = 1: 1·½ + 2·¼ − 1 = 0
    model = Bilinear(
        asking(1.0, 2.0)[None],
        np.zeros(2),
        np.array([[0.5, 0.25]]),
        np.array([-1.0]),
        np.zeros(1),
        positive=True,
    )
    assert sigmoid(model.outputs(np.ones((1, 1)))).round(12).tolist() == [[0.5]]


def test_more_of_any_ability_never_lowers_the_chance() -> None:
    rng = np.random.default_rng(0)
    mirt = fit_mirt(X, Y, NAMES, rng, size=3, rate=0.05, batch=20, epochs=20)
    nirt = fit_nirt(X, Y, NAMES, rng, size=3, hidden=8, rate=0.05, batch=20, epochs=20)
    x = rng.normal(size=(30, 2))
    for i in range(3):
        more = mirt.arms.copy()
        more[:, i] += 0.7
        better = Bilinear(mirt.weights, mirt.bias, more, mirt.offset, mirt.difficulty, positive=True)
        assert (better.outputs(x) >= mirt.outputs(x)).all()
        parts = dict(zip(NeuralIrt.__dataclass_fields__, [p.copy() for p in nirt.parts()], strict=True))
        parts["ability"][:, i] += 0.7
        assert (NeuralIrt(**parts).outputs(x) >= nirt.outputs(x)).all()


def test_where_discrimination_is_constant_all_questions_rank_alike() -> None:
    rng = np.random.default_rng(0)
    model = Bilinear(
        np.zeros((3, 2)), np.ones(2), rng.normal(size=(4, 2)), np.zeros(4), rng.normal(size=3), positive=True
    )
    ranks = model.outputs(rng.normal(size=(20, 3))).argsort(axis=1)
    assert (ranks == ranks[0]).all()


def test_the_gradient_of_the_neural_form_is_that_of_differences() -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 2), (2,), (3, 1), (1,), (3, 2), (2,), (4, 2), (2, 5), (5,), (5,), (1,)]
    parts = [rng.normal(size=shape) for shape in shapes]
    x, y = rng.normal(size=(6, 3)), rng.random((6, 4))
    y[0, 1] = np.nan
    keep = np.array([2.0, 0.0, 2.0, 2.0, 0.0])
    net = NeuralIrt(*parts)

    def loss() -> float:
        dropped = NeuralIrt(*parts[:-2], parts[-2] * keep, parts[-1])
        z, known = dropped.outputs(x), ~np.isnan(y)
        return float((np.logaddexp(0, z) - y * z)[known].mean())

    for part, exact in zip(parts, net.step(x, y, keep), strict=True):
        for cell in np.ndindex(part.shape):
            value = part[cell]
            part[cell] = value + 1e-6
            above = loss()
            part[cell] = value - 1e-6
            below = loss()
            part[cell] = value
            assert exact[cell] == pytest.approx((above - below) / 2e-6, abs=1e-7)


@pytest.mark.parametrize("fit", [fit_mirt, fit_nirt])
def test_the_fit_finds_who_is_good_at_what(fit: object) -> None:
    assert callable(fit)
    model = fit(X, Y, NAMES, np.random.default_rng(0), size=4, rate=0.02, batch=20, epochs=60)
    chance = sigmoid(model.outputs(np.eye(2)))
    assert chance.argmax(axis=1).tolist() == [0, 1]
    assert chance.max() > 0.8


def test_one_ability_is_the_two_parameter_model() -> None:
    # one dimension: members rank alike on all questions, whatever the questions ask
    model = fit_mirt(X, Y, NAMES, np.random.default_rng(0), size=1, rate=0.02, batch=20, epochs=10)
    order = model.outputs(np.random.default_rng(1).normal(size=(20, 2))).argmax(axis=1)
    assert len(set(order.tolist())) == 1


@pytest.mark.parametrize(("fit", "kind"), [(fit_mirt, Bilinear), (fit_nirt, NeuralIrt)])
def test_a_member_without_scores_is_unknown_and_the_model_survives_saving(fit: object, kind: type) -> None:
    assert callable(fit)
    holes = np.column_stack([Y, np.full(len(Y), np.nan)])
    model = fit(X, holes, ("a", "b", "c"), np.random.default_rng(0), size=2, epochs=2)
    assert np.isnan(model.outputs(X)).all(axis=0).tolist() == [False, False, True]
    np.testing.assert_array_equal(unpack(kind, *pack(model)).outputs(X), model.outputs(X))


def test_few_questions_are_seen_more_often_and_many_as_often_as_stated() -> None:
    # 233 questions in steps of 85 are 3 steps a pass: 50 passes make 150; 47 steps a pass make more by themselves
    assert passes(233, 85, 10, 150) == 50
    assert passes(2205, 47, 10, 150) == 10
    assert passes(1, 85, 10, 0) == 10
