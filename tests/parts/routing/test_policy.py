"""Identity vectors and the policy over them: by hand, gradients by differences, and what they learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.parts.learning.adam import softmax
from septet.parts.routing.policy import (
    Identities,
    Policy,
    Ppo,
    World,
    binarised,
    fit_identities,
    improve,
    in_precision,
    kl_to_standard,
    pretrain,
    target,
    untrained_policy,
)

NAMES = ("a", "b")
X = np.repeat(np.eye(2), 20, axis=0)
Y = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)
COST = np.array([1.0, 0.1])


def test_the_distance_of_a_standard_normal_to_itself_is_nothing() -> None:
    assert kl_to_standard(np.zeros((2, 3)), np.zeros((2, 3))) == 0.0
    # mean 2: ½·4; deviation e: ½·(e² − 1 − 2)
    assert kl_to_standard(np.array([2.0]), np.array([1.0])) == pytest.approx(2 + 0.5 * (np.e**2 - 3))


def test_the_target_flips_from_dear_to_cheap_at_the_stated_price() -> None:
    # 1 − w against ⅔ − w/10: equal at w = ⅓ / 0.9 = 0.3704
    p, cost = np.array([[0.9, 0.6]] * 3), np.array([10.0, 1.0])
    assert target(p, cost, np.array([0.0, 0.3703, 0.3705])).tolist() == [0, 0, 1]


def test_without_a_price_cost_is_ignored() -> None:
    p = np.random.default_rng(0).random((50, 3))
    assert (target(p, np.array([1.0, 0.5, 0.01]), np.zeros(50)) == p.argmax(axis=1)).all()


def test_graded_scores_are_cut_where_the_share_above_is_nearest_to_the_mean() -> None:
    # mean 0.5; above 0: ¾, above 0.4: ½, above 0.6: ¼
    y = np.array([[0.0, 0.4], [0.6, 1.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(binarised(y), [[0.0, 0.0], [1.0, 1.0], [np.nan, np.nan]])


def test_scores_of_0_and_1_stay_as_they_are() -> None:
    np.testing.assert_array_equal(binarised(Y), Y)


def some_policy(seed: int = 0) -> Policy:
    return untrained_policy(2, 4, 8, np.random.default_rng(seed))


def test_permuting_the_members_permutes_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    x, p, w, arms, cost = (
        rng.normal(size=(5, 2)),
        rng.random((5, 3)),
        rng.random(5),
        rng.normal(size=(3, 4)),
        rng.random(3),
    )
    order = [2, 0, 1]
    straight = softmax(some_policy().logits(x, p, w, arms, cost))
    turned = softmax(some_policy().logits(x, p[:, order], w, arms[order], cost[order]))
    np.testing.assert_allclose(turned, straight[:, order])


def test_the_gradient_of_the_policy_is_that_of_differences() -> None:
    rng = np.random.default_rng(0)
    x, p, w, arms, cost = (
        rng.normal(size=(5, 2)),
        rng.random((5, 3)),
        rng.random(5),
        rng.normal(size=(3, 4)),
        rng.random(3),
    )
    pull, policy = rng.normal(size=(5, 3)), some_policy()
    found = policy.gradient(policy.forward(x, p, w, arms, cost), pull)
    for theta, exact in zip((policy.element.theta, policy.head.theta), found, strict=True):
        for i in range(len(theta)):
            value = theta[i]
            theta[i] = value + 1e-6
            above = float((policy.logits(x, p, w, arms, cost) * pull).sum())
            theta[i] = value - 1e-6
            below = float((policy.logits(x, p, w, arms, cost) * pull).sum())
            theta[i] = value
            assert exact[i] == pytest.approx((above - below) / 2e-6, abs=1e-6)


def test_identities_find_who_is_good_at_what_and_are_calibrated() -> None:
    who = fit_identities(X, Y, NAMES, np.random.default_rng(0), size=4, rate=0.05, batch=10, epochs=60)
    p = who.calibrated(np.eye(2))
    assert p.argmax(axis=1).tolist() == [0, 1]
    assert p.max(axis=1).min() > 0.8
    np.testing.assert_array_equal(unpack(Identities, *pack(who)).calibrated(X), who.calibrated(X))


def world() -> World:
    p = np.repeat([[0.9, 0.6], [0.2, 0.8]], 20, axis=0)
    return World(X, p, p, Y, NAMES, np.array([[1.0, 0.0, 0.5, -1.0], [0.0, 1.0, -0.5, 1.0]]), COST)


def asked(policy: Policy, w: float) -> list[int]:
    here = world()
    rows = [0, 20]
    logits = policy.logits(here.x[rows], here.raw[rows], np.full(2, w), here.arms, here.cost)
    return logits.argmax(axis=1).tolist()


def test_the_pre_trained_policy_follows_the_target_at_every_price() -> None:
    # the first kind: 1 − w against ⅔ − w/10, so a at 0 and b at 2; the second kind: always b
    policy = some_policy()
    pretrain(policy, world(), np.random.default_rng(0), rate=0.01, batch=64, steps=300, w_max=2.0)
    assert asked(policy, 0.0) == [0, 1]
    assert asked(policy, 2.0) == [1, 1]


@pytest.mark.parametrize("mixup", [0.0, 0.2])
def test_the_policy_gradient_finds_the_better_member_from_rewards_alone(mixup: float) -> None:
    policy, near = some_policy(), np.arange(40) ^ 1  # each one's neighbour is of its kind
    how = Ppo(rate=0.01, batch=64, steps=60, w_max=0.0, mixup=mixup)
    improve(policy, world(), near, np.random.default_rng(0), how)
    assert asked(policy, 0.0) == [0, 1]


def test_an_unknown_member_is_never_drawn() -> None:
    holes = world().y.copy()
    holes[:, 0] = np.nan
    policy, near = some_policy(), np.arange(40) ^ 1
    improve(
        policy, replace(world(), y=holes), near, np.random.default_rng(0), Ppo(rate=0.01, batch=32, steps=20)
    )
    assert np.isfinite(policy.head.theta).all()
    assert np.isfinite(policy.element.theta).all()


def test_single_precision_says_nearly_the_same_and_learns_the_same() -> None:
    here, policy = world(), some_policy()
    small, light = here.in_precision(np.float32), in_precision(policy, np.float32)
    w = np.full(len(here.x), 0.5)
    exact = policy.logits(here.x, here.raw, w, here.arms, here.cost)
    rough = light.logits(small.x, small.raw, w, small.arms, small.cost)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, exact, atol=1e-5)
    pretrain(light, small, np.random.default_rng(0), rate=0.01, batch=64, steps=300, w_max=2.0)
    improve(light, small, np.arange(40) ^ 1, np.random.default_rng(0), Ppo(batch=64, steps=3))
    assert light.head.theta.dtype == np.float32
    found = in_precision(light, np.float64)
    assert (asked(found, 0.0), asked(found, 2.0)) == ([0, 1], [1, 1])
