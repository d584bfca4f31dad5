"""Rules that make one distribution of several: from log-probabilities (n_members, t) over one list of strings.

Each rule gives probabilities (t,) that sum to one. Rows are natural logs; a member without a view has a row of
−inf, and is left out where the rule is a mean. Sums are float64; exponentials have the precision of the rows,
which for 258,776 strings in float32 is some ten times as fast and rounds no more than the rows themselves do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import RunError
from septet.core.types import Floats
from septet.parts.decoding.union import Logp

Rows = Floats | Logp
Kept = slice | NDArray[np.intp]


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
            mixed += weight * np.exp(row)
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
    rows = logp[live]
    kept = _kept((rows > -np.inf).all(axis=0))
    score = np.zeros(rows.shape[1])[kept]
    for row, weight in zip(rows, weights[live], strict=True):
        score += weight * row[kept]
    return _distribution(score, kept, logp)


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
    kept = _kept(np.isfinite(peak))  # not what is impossible for all, or with α < 0 for one
    # 1/α magnifies what is rounded here
    precision = logp.dtype if abs(alpha) >= 0.1 else np.dtype(np.float64)
    parts = sum(np.exp((row[kept] - peak[kept]).astype(precision)) for row in rows)
    return _distribution((peak[kept] + np.log(parts)) / alpha, kept, logp)


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
    least = logp[live].min(axis=0)
    kept = _kept(least > -np.inf)
    return _distribution(least[kept].astype(np.float64), kept, logp)


def plausible(logp: Rows, alpha: float) -> NDArray[np.bool_]:
    """(t,) whether p(x) ≥ α · max p, for one row (t,) (2210.15097, eq. 4).

    >>> plausible(np.log([.6, .35, .05]), .1).tolist()
    [True, True, False]
    """
    return np.asarray(logp >= logp.max() + np.log(alpha)) if alpha > 0 else np.asarray(logp > -np.inf)


def possible(logp: Rows, weights: Floats) -> NDArray[np.bool_]:
    """(t,) whether no member that has an opinion and a weight ≠ 0 holds a string impossible.

    >>> possible(np.array([[-1., -2.], [-np.inf, -.5]]), np.array([1., -1.])).tolist()
    [False, True]
    """
    return np.asarray((logp[_live(logp) & (weights != 0)] > -np.inf).all(axis=0))


def softmax(score: Floats) -> Floats:
    """(t,) exp(score) / Σ, in float64; −inf is 0."""
    kept = _kept(score > -np.inf)
    return _distribution(score[kept], kept, score)


def _distribution(score: Floats, kept: Kept, like: Rows) -> Floats:
    """(t,) exp(score) / Σ where it is `kept`, in the precision of the rows `like` (…, t); 0 elsewhere."""
    if not len(score) or not np.isfinite(peak := score.max()):
        raise RunError("the members agree on no string that may come next")
    p = np.zeros(like.shape[-1])
    p[kept] = np.exp((score - peak).astype(like.dtype))
    return p / p.sum()  # type: ignore[no-any-return]


def _kept(possible: NDArray[np.bool_]) -> Kept:
    """Indices of the possible strings; where that is all of them, a slice, which copies nothing."""
    return slice(None) if possible.all() else np.flatnonzero(possible)


def _live(logp: Rows) -> NDArray[np.bool_]:
    return np.asarray(logp.max(axis=1) > -np.inf)
