"""Weights that members earn while they answer (Hedge), and when one that earns too little goes home.

Hedge is Freund and Schapire's multiplicative weights (1997); the rewards are those of SpecEM's released code
(2412.07380, third version).
"""

from __future__ import annotations

import numpy as np

from septet.core.types import Floats


def win_rewards(scores: Floats) -> Floats:
    """(n,) rewards in [0, 1] from scores (n verifiers, n candidates), candidate i being member i's own.

    A candidate wins where another verifier scores it at least as high as another candidate. The reward is
    its wins, at least one, over the (n − 1)² comparisons; so two members always have one each, and their
    weights never part. NaN: a verifier or a candidate that is absent; an absent member has no reward and is
    no opponent.

    >>> win_rewards(np.array([[.5, .3, .2], [.2, .5, .3], [.4, .4, .2]]))    # 2, 3 and 1 wins of 4
    array([0.5 , 0.75, 0.25])
    """
    here = ~np.isnan(scores).all(axis=0)
    n = int(here.sum())
    if n < 2:
        return np.zeros(len(scores))
    beats = scores[:, :, None] >= scores[:, None, :]  # [verifier, candidate, opponent]; False beside a NaN
    i = np.arange(len(scores))
    beats[i, i, :] = beats[:, i, i] = False  # neither one's own verdict nor oneself
    wins = np.maximum(beats.sum(axis=(0, 2)), 1)
    return np.where(here, wins / (n - 1) ** 2, 0.0)


def rate(first: float, n: int, turn: int) -> float:
    """η_t = η √(1/n) / t: the learning rate of the t-th turn, counted from one."""
    return float(first * np.sqrt(1 / n) / turn)


def hedged(w: Floats, rewards: Floats, eta: float) -> Floats:
    """(n,) the next weights, w_i e^(η r_i) over their sum.

    >>> hedged(np.array([.5, .5]), np.array([1.0, 0.0]), np.log(3)).round(3)
    array([0.75, 0.25])
    """
    grown = w * np.exp(eta * (rewards - rewards.max()))
    return grown / grown.sum()  # type: ignore[no-any-return]


def tempered(quality: Floats, temperature: float) -> Floats:
    """(n,) softmax(S / T) of cumulative qualities S with T = T₀ H(softmax(S)) / ln n, H the entropy.

    Where the ranking is unclear T is near T₀ and the shares stay close; where it is clear T falls, and they
    part the faster.

    >>> tempered(np.array([3.0, 2.0, 1.0]), 1.0).round(3)    # H = .832, T = .758
    array([0.747, 0.2  , 0.053])
    """
    if len(quality) < 2:
        return np.ones(len(quality))
    p = _softmax(quality)
    entropy = float(-(p * np.log(np.maximum(p, np.finfo(float).tiny))).sum())
    return _softmax(quality / max(temperature * entropy / np.log(len(quality)), 1e-9))


def staying(quality: Floats, temperature: float, floor: float, at_least: int = 2) -> Floats:
    """(n,) of bool: whose tempered share is at least `floor` / n; never fewer than the `at_least` best.

    >>> staying(np.array([3.0, 2.0, 1.0]), 1.0, .5)    # shares .747, .2 and .053, and .5 / 3 = .167
    array([ True,  True, False])
    """
    share = tempered(quality, temperature)
    last = np.sort(quality)[-min(at_least, len(quality))]  # who is level with it stays, too
    return (share >= floor / len(share)) | (quality >= last)  # type: ignore[no-any-return]


def _softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max())
    return e / e.sum()  # type: ignore[no-any-return]
