"""Rewards of a chain of answers, their returns, and the clipped update of a policy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.parts.deferral.policy import Ppo, Steps, pull, returns, rewards, shares, surrogate, update
from septet.parts.learning.adam import Adam
from septet.parts.learning.mlp import Mlp, untrained

NAN = float("nan")


def earned(*quality: float, limit: int = 5, pen: float = 0.0, from_zero: bool = False) -> list[float]:
    row = np.array([quality])
    found = rewards(row, np.where(np.isnan(row), NAN, pen), good=0.73, limit=limit, from_zero=from_zero)
    return [float(r) for r in found[0].round(9)]


def test_the_dossiers_chain() -> None:
    # .60 − .007; .70 − .013 + 5·.10; .74 − .012 + 5·.04 + 2
    found = rewards(np.array([[0.60, 0.70, 0.74]]), np.array([[0.007, 0.013, 0.012]]), good=0.73, limit=5)
    np.testing.assert_allclose(found, [[0.593, 1.187, 2.928]])


def test_a_loss_is_counted_like_a_gain_and_the_limit_without_a_good_answer_costs() -> None:
    assert earned(0.6, 0.5, limit=2) == [0.6, -2.0]  # .5 − 5·.1 − 2
    assert earned(0.6, 0.5, limit=3) == [0.6, 0.0]  # ended before the limit, and not good: neither
    assert earned(0.73) == [2.73]  # good from .73 on
    assert earned(0.5, limit=1) == [-1.5]


def test_chains_of_different_lengths_stand_side_by_side() -> None:
    found = earned(0.9, NAN, NAN, limit=3, pen=0.1)
    assert found[0] == 2.8
    assert np.isnan(found[1:]).all()


def test_a_bad_start_pays_by_the_published_reward_and_not_from_zero() -> None:
    detour, straight = (returns(np.array([earned(*c)]), 0.95)[0, 0] for c in ((0.0, 1.0), (1.0,)))
    assert (detour, straight) == (pytest.approx(7.6), pytest.approx(3.0))
    detour, straight = (
        returns(np.array([earned(*c, from_zero=True)]), 0.95)[0, 0] for c in ((0.0, 1.0), (1.0,))
    )
    assert (detour, straight) == (pytest.approx(7.6), pytest.approx(8.0))


@pytest.mark.parametrize("chain", [[NAN, 0.5], [NAN, NAN]])
def test_a_gap_inside_a_chain_and_an_empty_chain_are_refused(chain: list[float]) -> None:
    with pytest.raises(BadParameter, match="after the last answer only"):
        earned(*chain)


def test_penalties_of_another_shape_are_refused() -> None:
    with pytest.raises(BadParameter, match="as quality is"):
        rewards(np.ones((1, 2)), np.ones((1, 3)), good=0.5, limit=2)


def some_steps(p_old: float) -> Steps:
    """One state with three members, the last not allowed; member 0 was taken with probability p_old."""
    return Steps(
        np.ones((1, 1)), np.array([[True, True, False]]), np.array([0]), np.log([p_old]), np.array([1.0])
    )


@pytest.mark.parametrize(
    ("p_old", "advantage", "value"),
    [
        (0.5, 1.0, 1.0),  # ρ = 1
        (0.25, 1.0, 1.3),  # ρ = 2, clipped at 1.3
        (0.25, -1.0, -2.0),  # ρ = 2: what got worse is not clipped
        (1.0, -1.0, -0.7),  # ρ = .5, clipped at .7
        (1.0, 1.0, 0.5),
    ],
)
def test_the_clipped_objective_by_hand(p_old: float, advantage: float, value: float) -> None:
    p = np.array([[0.5, 0.5, 0.0]])
    assert surrogate(p, 0.0, some_steps(p_old), np.array([advantage]), 0.3) == pytest.approx(value)
    slope = pull(p, 0.0, some_steps(p_old), np.array([advantage]), 0.3)
    # −ρ·A·(1[taken] − p), or nothing where the clipped term is the smaller one
    ratio = 0.0 if value in (1.3, -0.7) else 0.5 / p_old
    np.testing.assert_allclose(slope, [[-ratio * advantage * 0.5, ratio * advantage * 0.5, 0.0]])


def test_the_pull_is_the_gradient_of_the_objective() -> None:
    rng = np.random.default_rng(0)
    logits, allowed = rng.normal(size=(6, 4)), rng.random((6, 4)) < 0.7
    allowed[:, 0] = True
    action = np.array([0, *(int(np.flatnonzero(a)[-1]) for a in allowed[1:])])
    old = shares(logits + 0.3 * rng.normal(size=logits.shape), allowed)[np.arange(6), action]
    steps = Steps(np.zeros((6, 1)), allowed, action, np.log(old), np.zeros(6))
    advantage = rng.normal(size=6)
    found, step = pull(shares(logits, allowed), 0.1, steps, advantage, 0.2), 1e-6

    def objective(z: Floats) -> float:
        return surrogate(shares(z, allowed), 0.1, steps, advantage, 0.2)

    for i, j in np.ndindex(*logits.shape):
        nudge = np.zeros_like(logits)
        nudge[i, j] = step
        slope = (objective(logits + nudge) - objective(logits - nudge)) / (2 * step)
        assert found[i, j] == pytest.approx(-slope, abs=1e-7)


def test_updates_find_the_action_that_pays() -> None:
    # two states; in each the action of its own number earns 1, the other nothing
    rng = np.random.default_rng(0)
    x, allowed = np.eye(2), np.ones((2, 2), dtype=bool)
    actor, critic = untrained((2, 8, 2), rng), untrained((2, 8, 1), rng)
    step = Adam([actor.theta, critic.theta], rate=0.02)
    for _ in range(40):
        state: NDArray[np.int64] = rng.integers(0, 2, 64)
        p = shares(actor.outputs(x[state]), allowed[state])
        action = (rng.random(64) < p[:, 1]).astype(np.int64)
        logp = np.log(p[np.arange(64), action])
        paid = (action == state).astype(np.float64)
        update(actor, critic, step.step, Steps(x[state], allowed[state], action, logp, paid), Ppo())
    p = shares(actor.outputs(x), allowed)
    assert p[0, 0] > 0.9
    assert p[1, 1] > 0.9
    assert critic.outputs(x)[:, 0] == pytest.approx([1.0, 1.0], abs=0.2)


def test_a_network_is_only_what_has_activations_and_a_gradient() -> None:
    still: list[float] = []

    def step(gradients: object) -> None:
        still.append(1.0)

    actor, critic = (Mlp((1, n), np.zeros(2 * n)) for n in (2, 1))
    steps = Steps(np.ones((2, 1)), np.ones((2, 2), bool), np.array([0, 1]), np.log([0.5, 0.5]), np.ones(2))
    update(actor, critic, step, steps, Ppo(epochs=3))
    assert still == [1.0] * 3
    assert not actor.theta.any()  # the update moves nothing itself: that is what `step` is for
