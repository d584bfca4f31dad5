"""Who stands nearest to all others in an embedding space: Smoothie's estimate, and truth inference with texts."""

from __future__ import annotations

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats


def distances(z: Floats) -> Floats:
    """(m,) the mean squared distance r_i of each member's answer to the centroid of its query, z (n, m, d).

    A query in which a member has no answer (NaN) counts for nobody.

    >>> z = np.array([[[1., 0, 0], [0, 2, 0], [0, 0, 3]]])
    >>> distances(z).round(4).tolist()
    [1.8889, 2.8889, 4.5556]
    """
    whole = ~np.isnan(z).any(axis=(1, 2))
    if not whole.any():
        raise BadParameter("answers", z.shape, "must hold a query that every member has answered")
    z = z[whole]
    away = z - z.mean(axis=1, keepdims=True)
    found: Floats = (away**2).sum(axis=2).mean(axis=0)
    return found


def errors(r: Floats) -> Floats:
    """(m,) Smoothie's estimate of E‖z_i − z*‖² from centroid distances (m,), m ≥ 3 (2412.04692; closed form ours).

    δ_i = [m(m−1) r_i − Σ_j r_j] / [(m−1)(m−2)]: the mean over all pairs (j, k) of ½(D_ij + D_ik − D_jk). It may be
    negative, and its inverse has no meaning then: choose by the least δ, which is the least r.

    >>> errors(np.array([17., 26., 41.]) / 9).round(6).tolist()
    [1.0, 4.0, 9.0]
    """
    m = len(r)
    if m < 3:
        raise BadParameter("members", m, "must be three or more for the triplet estimate")
    found: Floats = (m * (m - 1) * r - r.sum()) / ((m - 1) * (m - 2))
    return found


def triplets(squared: Floats) -> Floats:
    """(m,) the same from mean squared distances (m, m) between members, pair by pair as the paper states it.

    >>> triplets(np.array([[0., 5, 10], [5, 0, 13], [10, 13, 0]])).tolist()
    [1.0, 4.0, 9.0]
    """
    m = len(squared)
    found = np.zeros(m)
    for i in range(m):
        others = [j for j in range(m) if j != i]
        pairs = [(j, k) for a, j in enumerate(others) for k in others[a + 1 :]]
        found[i] = np.mean([(squared[i, j] + squared[i, k] - squared[j, k]) / 2 for j, k in pairs])
    return found


def weights(delta: Floats, d: int) -> Floats:
    """(m,) θ_i = d / (2 δ_i), scaled to sum to one: what the paper reports; only where every δ is positive."""
    if (delta <= 0).any():
        raise BadParameter("delta", delta.tolist(), "must be positive: a negative estimate has no weight")
    theta = d / (2 * delta)
    found: Floats = theta / theta.sum()
    return found


def truth(
    z: Floats, *, significance: float = 0.05, rounds: int = 50, tolerance: float = 1e-9
) -> tuple[Floats, Floats]:
    """RASA (Li et al. 2019): the hidden embedding of each query (n, d), and the reliability of each member (m,).

    ê_q = Σ_w β_w z_qw / Σ_w β_w and β_w = χ²_{α/2, n_w} / Σ_q ‖z_qw − ê_q‖² in turn, from equal weights, over
    z (n, m, d) with NaN where a member has no answer. Reliabilities sum to one.
    """
    from scipy.stats import chi2

    there = np.asarray(~np.isnan(z).any(axis=2))  # (n, m)
    if not there.any(axis=1).all():
        raise BadParameter("answers", z.shape, "must hold an answer to every query")
    filled = np.where(there[:, :, None], z, 0.0)
    count = there.sum(axis=0)
    scale = chi2.ppf(1 - significance / 2, np.maximum(count, 1)) * (count > 0)
    beta = np.full(z.shape[1], 1 / z.shape[1])
    for _ in range(rounds):
        share = there * beta
        hidden = (share[:, :, None] * filled).sum(axis=1) / share.sum(axis=1, keepdims=True)
        squared = (((filled - hidden[:, None]) ** 2).sum(axis=2) * there).sum(axis=0)
        new = scale / np.maximum(squared, 1e-12)
        new = new / new.sum()
        if np.abs(new - beta).max() < tolerance:
            break
        beta = new
    return hidden, beta
