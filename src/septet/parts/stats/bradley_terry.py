"""Bradley–Terry strengths from battles: over all of them alike, or more from those on like questions."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats

Ints: TypeAlias = NDArray[np.int32] | NDArray[np.int64]

ELO_PER_NAT = 400 / np.log(10)
"""Elo points per natural-log unit of strength: e times the odds are 173.7 points."""

_STEPS, _TOLERANCE = 100, 1e-10


def won(a: Ints, b: Ints, share: Floats, n_members: int, weight: Floats | None = None) -> Floats:
    """(…, m, m) weighted wins of the row's member over the column's.

    Battles (r,) of members a and b, a's share 1, ½ or 0: a tie is half a win of each. `weight` (…, r).

    >>> won(np.array([0, 0]), np.array([1, 1]), np.array([1.0, 0.5]), 2).tolist()
    [[0.0, 1.5], [0.5, 0.0]]
    """
    weights = np.ones(len(a)) if weight is None else weight
    flat = np.zeros((*weights.shape[:-1], n_members * n_members))
    for cell, part in ((a * n_members + b, share), (b * n_members + a, 1 - share)):
        for place in np.unique(cell):
            here = cell == place
            flat[..., place] += weights[..., here] @ part[here]
    return flat.reshape(*flat.shape[:-1], n_members, n_members)


def strengths(wins: Floats, l2: float = 1e-6) -> Floats:
    """(…, m) strengths ξ in natural logs that make the wins (…, m, m) most likely, of mean 0.

    P(a beats b) = σ(ξ_a − ξ_b); maximises Σ wins·log P − l2/2·|ξ|², by Newton's method. Without a penalty a
    member that never lost would be infinitely strong. A member without any battle is NaN.

    >>> strengths(np.array([[0.0, 3.0], [1.0, 0.0]])).round(4).tolist()  # ±ln(3)/2
    [0.5493, -0.5493]
    """
    m = wins.shape[-1]
    fought = wins + np.swapaxes(wins, -1, -2)
    xi = np.zeros(wins.shape[:-1])

    def value(at: Floats) -> Floats:
        gap = at[..., :, None] - at[..., None, :]
        found: Floats = -(wins * np.logaddexp(0.0, -gap)).sum(axis=(-1, -2)) - 0.5 * l2 * (at * at).sum(-1)
        return found

    for _ in range(_STEPS):
        p = np.exp(-np.logaddexp(0.0, xi[..., None, :] - xi[..., :, None]))  # σ of the gap
        slope = (wins - fought * p).sum(axis=-1) - l2 * xi
        bend = fought * p * (1 - p)
        curve = -bend
        diagonal = np.arange(m)
        curve[..., diagonal, diagonal] += bend.sum(axis=-1) + l2
        # the floor keeps steps finite where all is decided; the constant, where the curve is flat, stays 0
        move = np.linalg.solve(curve + 1e-12 * np.eye(m) + 1.0 / m, slope[..., None])[..., 0]
        now, size = value(xi), np.ones((*xi.shape[:-1], 1))
        for _ in range(30):  # halve the step where it would overshoot
            worse = value(xi + size * move) < now - 1e-12 * (1 + np.abs(now))
            if not worse.any():
                break
            size = np.where(worse[..., None], size / 2, size)
        xi = xi + size * move
        if np.abs(size * move).max(initial=0.0) < _TOLERANCE:
            break
    xi = xi - xi.mean(axis=-1, keepdims=True)
    return np.where(fought.sum(axis=-1) > 0, xi, np.nan)


def similarity_weights(
    similarity: Floats,
    *,
    gamma: float = 10.0,
    scaling: Literal["query", "none"] = "query",
    best: Floats | None = None,
) -> Floats:
    """(n, r) weights ω = γ^(1 + S) of known battles for n queries; similarity (n, r) in cosines.

    S is the cosine divided by the largest one of the query ("query": the best match always weighs γ²; the
    released code of 2406.18665), or the plain cosine ("none": the paper, whose divisor is 1 for a battle whose
    question is among the known ones). `best` (n, 1): the largest cosine, where `similarity` is but a part.

    >>> similarity_weights(np.array([[0.6, 0.3]])).round(2).tolist()
    [[100.0, 31.62]]
    """
    if scaling == "query":
        top = similarity.max(axis=-1, keepdims=True) if best is None else best
        similarity = similarity / np.where(top > 0, top, 1.0)
    weights: Floats = gamma ** (1 + similarity)
    return weights
