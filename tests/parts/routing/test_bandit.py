"""Bandits: LinUCB and Thompson by hand and against ridge regression and mabwiser; learners without features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from septet.core.state import pack, unpack
from septet.parts.routing.bandit import (
    LinearArms,
    moved_value,
    reward_inaction,
    thompson,
    upper_confidence,
)

RNG = np.random.default_rng(2)
X = RNG.normal(size=(80, 4))
REWARDS = RNG.random((80, 3))


def learned(asked: np.ndarray, ridge: float, discount: float = 1.0) -> LinearArms:
    """One answer after the other."""
    arms = LinearArms.start(3, 4, ridge)
    for x, rewards, row in zip(X, REWARDS, asked, strict=True):
        for member in np.flatnonzero(row):
            arms = arms.learn(int(member), x, float(rewards[member]), discount)
    return arms


def test_after_one_reward_the_mean_is_a_half_and_the_bonus_the_root_of_a_half() -> None:
    x = np.array([1.0, 0.0])
    arms = LinearArms.start(2, 2, 1.0).learn(0, x, 1.0)
    np.testing.assert_allclose(arms.mean(x[None]), [[0.5, 0.0]])
    np.testing.assert_allclose(arms.width(x[None]), [[0.7071, 1.0]], atol=5e-5)
    np.testing.assert_allclose(upper_confidence(arms, x[None], 1.0), [[1.2071, 1.0]], atol=5e-5)


def test_without_a_bonus_it_is_ridge_regression_without_intercept() -> None:
    arms = LinearArms.of(X, REWARDS, 12.94)
    ridge = Ridge(alpha=12.94, fit_intercept=False).fit(X, REWARDS)
    np.testing.assert_allclose(upper_confidence(arms, X[:5], 0.0), ridge.predict(X[:5]))


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_many_answers_at_once_equal_one_after_the_other(discount: float) -> None:
    asked = RNG.random((80, 3)) < 0.5
    rewards = np.where(asked, REWARDS, np.nan)
    at_once = LinearArms.of(X, rewards, 2.0, discount)
    slowly = learned(asked, 2.0, discount)
    np.testing.assert_allclose(at_once.inverse, slowly.inverse, rtol=1e-6)
    np.testing.assert_allclose(at_once.b, slowly.b)
    np.testing.assert_allclose(at_once.seen, slowly.seen)
    np.testing.assert_array_equal(at_once.n, slowly.n)


def test_a_constant_can_be_taken_off_all_rewards_afterwards() -> None:
    less = np.array([0.3, 0.0, 1.0])
    before = LinearArms.of(X, REWARDS - less, 2.0)
    after = LinearArms.of(X, REWARDS, 2.0)
    np.testing.assert_allclose(after.mean(X[:5], less), before.mean(X[:5]))


def test_what_is_learned_changes_a_copy() -> None:
    arms = LinearArms.start(2, 2, 1.0)
    arms.learn(0, np.array([1.0, 0.0]), 1.0)
    assert [inverse.tolist() for inverse in arms.inverse] == [np.eye(2).tolist()] * 2
    assert (arms.b.tolist(), arms.n.tolist()) == ([[0, 0]] * 2, [0, 0])


def test_linucb_gives_mabwisers_scores() -> None:
    from mabwiser.mab import MAB, LearningPolicy

    arm = RNG.integers(0, 3, 80)
    reward = REWARDS[np.arange(80), arm]
    oracle = MAB([0, 1, 2], LearningPolicy.LinUCB(alpha=0.7, l2_lambda=1.5))
    oracle.fit(decisions=arm, rewards=reward, contexts=X)
    expected = oracle.predict_expectations(X[:6])
    rewards = np.where(np.eye(3)[arm] > 0, REWARDS, np.nan)
    ours = upper_confidence(LinearArms.of(X, rewards, 1.5), X[:6], 0.7)
    np.testing.assert_allclose(ours, [[row[a] for a in range(3)] for row in expected], rtol=1e-6)


def test_thompson_draws_have_the_mean_and_the_deviation_of_the_posterior() -> None:
    arms = LinearArms.of(X, REWARDS, 1.0)
    rng = np.random.default_rng(0)
    draws = np.array([thompson(arms, X[:1], 0.5, rng)[0] for _ in range(4000)])
    deviation = 0.5 * arms.width(X[:1])[0]
    np.testing.assert_allclose(draws.mean(axis=0), arms.mean(X[:1])[0], atol=4 * deviation.max() / 60)
    np.testing.assert_allclose(draws.std(axis=0), deviation, rtol=0.06)


def test_thompson_without_deviation_is_the_mean() -> None:
    arms = LinearArms.of(X, REWARDS, 1.0)
    np.testing.assert_allclose(thompson(arms, X[:3], 0.0, RNG), arms.mean(X[:3]))


def test_the_automaton_moves_towards_what_was_rewarded() -> None:
    np.testing.assert_allclose(reward_inaction(np.array([0.5, 0.5]), 0, 1.0, 0.1), [0.55, 0.45])
    np.testing.assert_allclose(reward_inaction(np.array([0.5, 0.3, 0.2]), 1, 0.5, 0.2), [0.45, 0.37, 0.18])


def test_the_automaton_ignores_a_reward_of_zero_and_keeps_its_sum() -> None:
    p = np.array([0.2, 0.5, 0.3])
    np.testing.assert_array_equal(reward_inaction(p, 2, 0.0, 0.1), p)
    for _ in range(100):
        p = reward_inaction(p, int(RNG.integers(3)), float(RNG.random()), 0.3)
        assert p.sum() == pytest.approx(1.0) and (p >= 0).all()


def test_a_value_moves_by_its_rate_towards_the_reward() -> None:
    assert moved_value(np.array([0.0, 0.4]), 1, 1.0, 0.25).tolist() == pytest.approx([0.0, 0.55])


def test_one_answer_copies_one_matrix_and_leaves_the_others_in_place() -> None:
    before = LinearArms.start(3, 2, 1.0)
    after = before.learn(1, np.array([1.0, 0.0]), 1.0)
    assert after.inverse[0] is before.inverse[0]
    assert after.inverse[2] is before.inverse[2]
    np.testing.assert_allclose(after.inverse[1], [[0.5, 0.0], [0.0, 1.0]])


def test_members_that_know_the_same_share_a_matrix_until_one_learns_more() -> None:
    arms = LinearArms.of(X, REWARDS, 2.0)
    assert arms.inverse[0] is arms.inverse[1] is arms.inverse[2]
    widths = arms.learn(1, X[0], 1.0).width(X[:1])[0]
    assert widths[0] == widths[2] > widths[1]


def test_the_arms_survive_saving() -> None:
    arms = LinearArms.of(X, REWARDS, 2.0).learn(1, X[0], 1.0)
    again = unpack(LinearArms, *pack(arms))
    assert pack(arms)[0]["inverse"].shape == (3, 4, 4)
    np.testing.assert_array_equal(again.width(X[:5]), arms.width(X[:5]))
    np.testing.assert_array_equal(again.learn(2, X[1], 0.5).mean(X), arms.learn(2, X[1], 0.5).mean(X))
