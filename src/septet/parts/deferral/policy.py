"""Whom to ask next as a decision that is learned from rewards: the rewards of a chain of answers, and PPO.

The rewards are those of DER (2412.07448); the update is proximal policy optimisation (1707.06347, eq. 7) with a value
network as its baseline. The networks are given: anything that has activations and their gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats


def rewards(
    quality: Floats,
    penalty: Floats,
    *,
    good: float,
    limit: int,
    gain: float = 5.0,
    bonus: float = 2.0,
    from_zero: bool = False,
) -> Floats:
    """(n, L) what each answer of n chains earns: r_t = P_t − pen_t + gain·(P_t − P_{t−1}), the last term from t = 1 on.

    The last answer of a chain earns `bonus` more if its quality is `good` or better, and loses it if it is not and the
    chain has `limit` answers. `quality` P and `penalty` (n, L) are NaN after the end of a chain, as is the result.

    So a bad answer before a good one earns more than the good one alone: 0, then 1 earns 6 and the bonus, 1 at once
    earns 1 and the bonus. With `from_zero` the first answer has its gain too, P_{−1} being 0: then 1 at once earns 6.

    >>> chain = np.array([[.60, .70, .74]]), np.array([[.007, .013, .012]])
    >>> rewards(*chain, good=0.73, limit=5).round(3).tolist()
    [[0.593, 1.187, 2.928]]
    >>> rewards(*chain, good=0.73, limit=5, from_zero=True).round(3).tolist()
    [[3.593, 1.187, 2.928]]
    """
    if quality.shape != penalty.shape or quality.ndim != 2:
        raise BadParameter("penalty", penalty.shape, f"must be (n, L), as quality is: {quality.shape}")
    there = ~np.isnan(quality)
    length = there.sum(axis=1)
    if (there != (np.arange(quality.shape[1]) < length[:, None])).any() or (length < 1).any():
        raise BadParameter("quality", "NaN", "must stand after the last answer only, and one answer be there")
    earned = quality - penalty
    earned[:, 1:] += gain * np.diff(quality, axis=1)
    earned[:, 0] += gain * quality[:, 0] * from_zero
    chain, end = np.arange(len(quality)), length - 1
    reached = quality[chain, end] >= good
    earned[chain, end] += np.where(reached, bonus, np.where(length >= limit, -bonus, 0.0))
    return np.where(there, earned, np.nan)


def returns(earned: Floats, discount: float) -> Floats:
    """(n, L) Σ_{k ≥ t} discount^{k−t}·r_k of rewards r (n, L), which are NaN after the end of a chain.

    >>> returns(np.array([[1.0, 2.0, 4.0], [3.0, np.nan, np.nan]]), 0.5).tolist()
    [[3.0, 4.0, 4.0], [3.0, nan, nan]]
    """
    found, ahead = np.empty_like(earned), np.zeros(len(earned))
    for t in reversed(range(earned.shape[1])):
        found[:, t] = earned[:, t] + discount * ahead
        ahead = np.nan_to_num(found[:, t], nan=0.0)
    return found


def shares(logits: Floats, allowed: NDArray[np.bool_]) -> Floats:
    """(n, m) softmax of the logits (n, m) over those that are allowed (n, m), one at least in every row.

    >>> shares(np.array([[1.0, 9.0, 1.0]]), np.array([[True, False, True]])).tolist()
    [[0.5, 0.0, 0.5]]
    """
    z = np.where(allowed, logits, -np.inf)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    found: Floats = p / p.sum(axis=1, keepdims=True)
    return found


class Network(Protocol):
    """Layers of units: `activations` (n, …) of every layer, the outputs last, and the gradient of all weights."""

    def activations(self, x: Floats) -> list[Floats]: ...
    def gradient(self, activations: Sequence[Floats], pull: Floats) -> Floats: ...


@dataclass(frozen=True)
class Ppo:
    """How far one update may go: the ratio of probabilities is clipped to 1 ± `clip`; `epochs` gradient steps per
    update; `entropy` and `value` weigh the policy's entropy and the value network's squared error."""

    clip: float = 0.3
    epochs: int = 4
    entropy: float = 0.01
    value: float = 0.5


@dataclass(frozen=True)
class Steps:
    """k steps that a policy took: states (k, d), who was allowed (k, m), the action (k,), its log-probability (k,)
    when it was taken, and the discounted return (k,) from there on."""

    state: Floats
    allowed: NDArray[np.bool_]
    action: NDArray[np.int64]
    logp: Floats
    returned: Floats


def surrogate(p: Floats, entropy: float, steps: Steps, advantage: Floats, clip: float) -> float:
    """The objective: mean of min(ρA, clip(ρ, 1 ± clip)·A) + entropy·H(p), with ρ = p(action) / p_old(action).

    p (k, m) are the policy's probabilities now, the advantages A (k,).
    """
    ratio = p[np.arange(len(p)), steps.action] / np.exp(steps.logp)
    held = np.clip(ratio, 1 - clip, 1 + clip)
    chaos = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)
    return float((np.minimum(ratio * advantage, held * advantage) + entropy * chaos).mean())


def pull(p: Floats, entropy: float, steps: Steps, advantage: Floats, clip: float) -> Floats:
    """(k, m) the gradient of −`surrogate` at the logits; nothing pulls where the clipped ratio is the smaller one."""
    at = np.arange(len(p))
    ratio = p[at, steps.action] / np.exp(steps.logp)
    clipped = np.where(advantage > 0, ratio > 1 + clip, ratio < 1 - clip)
    chosen = np.zeros_like(p)
    chosen[at, steps.action] = 1.0
    log_p = np.log(np.where(p > 0, p, 1.0))
    chaos = -(p * log_p).sum(axis=1, keepdims=True)
    found: Floats = -np.where(clipped, 0.0, ratio * advantage)[:, None] * (chosen - p)
    found += entropy * p * (log_p + chaos)
    return found / len(p)


def update(
    actor: Network, critic: Network, step: Callable[[Sequence[Floats]], None], steps: Steps, how: Ppo
) -> None:
    """One update of both networks from the steps. `step` moves the weights against gradients [actor's, critic's].

    The advantages are returns less the critic's values before the update, with mean 0 and deviation 1.
    """
    gained = steps.returned - critic.activations(steps.state)[-1][:, 0]
    advantage = (gained - gained.mean()) / (gained.std() + 1e-8)
    for _ in range(how.epochs):
        inside, valued = actor.activations(steps.state), critic.activations(steps.state)
        p = shares(inside[-1], steps.allowed)
        on_actor = pull(p, how.entropy, steps, advantage, how.clip)
        on_critic = 2 * how.value * (valued[-1] - steps.returned[:, None]) / len(p)
        step([actor.gradient(inside, on_actor), critic.gradient(valued, on_critic)])
