"""Rules that make one distribution of several: from log-probabilities (n_members, t) over one list of strings.

Each rule gives probabilities (t,) that sum to one. Rows are natural logs; a member without a view has a row of
−inf, and is left out where the rule is a mean. Sums are float64.
"""

from __future__ import annotations

import numpy as np

from septet.core.errors import RunError
from septet.core.types import Floats
from septet.parts.decoding.union import Logp

Rows = Floats | Logp


def arithmetic(logp: Rows, weights: Floats) -> Floats:
    """p(x) ∝ Σ_i w_i p_i(x), w ≥ 0 (n,); absent members lose their weight to the others.

    >>> p = np.log([[.9, .1], [.2, .8]])
    >>> arithmetic(p, np.array([.5, .5])).round(4).tolist()
    [0.55, 0.45]
    """
    live = _live(logp)
    if not (weights[live] > 0).any():
        raise RunError("no member that has an opinion has any weight")
    mixed = np.zeros(logp.shape[1])
    for row, weight in zip(logp[live], weights[live], strict=True):
        if weight:
            mixed += weight * np.exp(row, dtype=np.float64)
    return mixed / mixed.sum()  # type: ignore[no-any-return]


def geometric(logp: Rows, weights: Floats) -> Floats:
    """p(x) ∝ Π_i p_i(x)^w_i: the sum of weighted logits. Weights are taken as they are, negative or above one.

    A string that a member with weight ≠ 0 holds impossible (−inf) is impossible, whatever the sign.

    >>> geometric(np.log([[.9, .1], [.2, .8]]), np.array([.5, .5])).round(4).tolist()
    [0.6, 0.4]
    >>> geometric(np.log([[.5, .5], [.8, .2]]), np.array([-1., 2.])).round(4).tolist()  # DeRa, λ = 2
    [0.9412, 0.0588]
    """
    live = _live(logp) & (weights != 0)
    if not live.any():
        raise RunError("no member that has an opinion has any weight")
    with np.errstate(invalid="ignore"):
        score = weights[live] @ logp[live].astype(np.float64)
    score[np.isneginf(logp[live]).any(axis=0)] = -np.inf
    return softmax(score)


def power(logp: Rows, weights: Floats, alpha: float) -> Floats:
    """p(x) ∝ (Σ_i w_i p_i(x)^α)^(1/α), the weighted power mean, α ≠ 0: 1 is arithmetic, −1 harmonic.

    >>> power(np.log([[.9, .1], [.2, .8]]), np.array([.5, .5]), -1).round(4).tolist()
    [0.648, 0.352]
    """
    live = _live(logp) & (weights > 0)
    if not live.any():
        raise RunError("no member that has an opinion has any weight")
    rows = alpha * logp[live].astype(np.float64) + np.log(weights[live])[:, None]
    peak = rows.max(axis=0)
    finite = np.isfinite(peak)
    summed = np.full(rows.shape[1], -np.inf if alpha > 0 else np.inf)
    with np.errstate(divide="ignore"):
        summed[finite] = peak[finite] + np.log(np.exp(rows[:, finite] - peak[finite]).sum(axis=0))
    return softmax(summed / alpha)


def harmonic(logp: Rows, weights: Floats) -> Floats:
    """p(x) ∝ (Σ_i w_i / p_i(x))⁻¹, the minimiser of forward KL (2406.18853)."""
    return power(logp, weights, -1.0)


def minimum(logp: Rows) -> Floats:
    """p(x) ∝ min_i p_i(x) over the members that have an opinion (CP-Δ, 2302.10870).

    >>> minimum(np.log([[.7, .2, .1], [.1, .8, .1]])).round(4).tolist()
    [0.25, 0.5, 0.25]
    """
    live = _live(logp)
    if not live.any():
        raise RunError("no member has an opinion")
    return softmax(logp[live].astype(np.float64).min(axis=0))


def plausible(logp: Rows, alpha: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(t,) whether p(x) ≥ α · max p, for one row (t,) (2210.15097, eq. 4).

    >>> plausible(np.log([.6, .35, .05]), .1).tolist()
    [True, True, False]
    """
    return np.asarray(logp >= logp.max() + np.log(alpha)) if alpha > 0 else np.asarray(logp > -np.inf)


def softmax(score: Floats) -> Floats:
    """(t,) exp(score) / Σ, in float64; −inf is 0."""
    peak = score.max()
    if not np.isfinite(peak):
        raise RunError("the members agree on no string that may come next")
    p = np.exp(score - peak)
    return p / p.sum()  # type: ignore[no-any-return]


def _live(logp: Rows) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray(logp.max(axis=1) > -np.inf)
