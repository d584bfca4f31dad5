"""How sure an answer is: from class probabilities, from what samples say, or from how alike texts are.

Probabilities are along the last axis, (…, k), and add up to 1; a row with a NaN is NaN. Larger is surer, but for
the entropies and the number of meanings, which grow with doubt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats

# --- class probabilities -------------------------------------------------------------------------------


def max_prob(p: Floats) -> Floats:
    """(…,) the probability of the likeliest class (2210.05528, MaxProb).

    >>> max_prob(np.array([[.5, .5, 0.], [.52, .24, .24]])).tolist()
    [0.5, 0.52]
    """
    return np.asarray(_rows(p).max(axis=-1))


def distance_to_uniform(p: Floats) -> Floats:
    """(…,) Euclidean distance of p from (1/k, …, 1/k): 0 to √(1 − 1/k) (2210.05528, DTU).

    >>> distance_to_uniform(np.array([[.5, .5, 0.], [.52, .24, .24]])).round(4).tolist()
    [0.4082, 0.2286]
    """
    rows = _rows(p)
    return np.asarray(np.sqrt(((rows - 1 / rows.shape[-1]) ** 2).sum(axis=-1)))


def margin(p: Floats) -> Floats:
    """(…,) how much likelier the first class is than the second; with one class, its probability.

    >>> margin(np.array([.5, .2, .3])).round(3).tolist()
    0.2
    """
    ranked = np.sort(_rows(p), axis=-1)
    return np.asarray(ranked[..., -1] - (ranked[..., -2] if ranked.shape[-1] > 1 else 0.0))


def entropy(p: Floats) -> Floats:
    """(…,) −Σ p ln p in nats, 0 ≤ H ≤ ln k.

    >>> entropy(np.array([[.5, .5], [1., 0.]])).round(4).tolist()
    [0.6931, 0.0]
    """
    rows = _rows(p)
    return np.asarray(-(rows * np.log(np.where(rows > 0, rows, 1.0))).sum(axis=-1) + 0.0)


def evenness(p: Floats) -> Floats:
    """(…,) entropy over its largest value, ln k: 0 for one certain class, 1 for all alike; 0 where k = 1."""
    k = _rows(p).shape[-1]
    return entropy(p) / np.log(k) if k > 1 else np.zeros(np.shape(p)[:-1])


# --- counts --------------------------------------------------------------------------------------------


def counted(outcomes: Sequence[str]) -> Mapping[str, int]:
    """How often each outcome occurs, in the order first seen."""
    found = dict.fromkeys(outcomes, 0)
    for outcome in outcomes:
        found[outcome] += 1
    return found


def mode_share(outcomes: Sequence[str], void: Sequence[str] = ()) -> float:
    """The share of the most frequent outcome among all; those that are `void` count below the line only.

    0 where all are void (2310.03094, Vote: an answer that could not be read stays in the denominator).

    >>> mode_share(["18", "18", "18", "20", "(no answer)"], void=["(no answer)"])
    0.6
    """
    if not outcomes:
        raise BadParameter("outcomes", [], "must hold at least one outcome")
    counts = [n for outcome, n in counted(outcomes).items() if outcome not in void]
    return max(counts, default=0) / len(outcomes)


def outcome_entropy(outcomes: Sequence[str]) -> float:
    """The entropy in nats of the shares of the outcomes: 0 where all are equal."""
    if not outcomes:
        raise BadParameter("outcomes", [], "must hold at least one outcome")
    counts = np.array(list(counted(outcomes).values()), dtype=np.float64)
    return float(entropy(counts / counts.sum()))


# --- how alike texts are -------------------------------------------------------------------------------


def mean_similarity(s: Floats) -> Floats:
    """(n,) how like the others each text is: the mean of its row of s (n, n) without itself; 1 for a single one.

    >>> mean_similarity(np.array([[1., .5, .3], [.5, 1., .1], [.3, .1, 1.]])).round(3).tolist()
    [0.4, 0.3, 0.2]
    """
    n = len(_square(s))
    return np.ones(1) if n == 1 else np.asarray((s.sum(axis=1) - np.diag(s)) / (n - 1))


def consensus(s: Floats) -> float:
    """How like the others the most central text is: the largest row mean of s (n, n), itself left out.

    The score of a semantic-agreement cascade (2509.21837); with unit rows z of mean c and cosines it is
    max_i (n⟨z_i, c⟩ − 1) / (n − 1).
    """
    return float(mean_similarity(s).max())


def meanings(s: Floats) -> float:
    """How many meanings n texts have: Σ max(0, 1 − λ) over the spectrum λ of the normalised Laplacian of s (n, n).

    U_EigV of 2305.19187: s is made symmetric, negative similarities count 0; with blocks of ones it is the number
    of blocks. 1 where all say the same, n where none is like another.

    >>> block = np.array([[1., 1., 0.], [1., 1., 0.], [0., 0., 1.]])
    >>> round(meanings(block), 9), round(meanings(np.ones((3, 3))), 9)
    (2.0, 1.0)
    """
    w = np.maximum((_square(s) + s.T) / 2, 0.0)
    degree = w.sum(axis=1)  # the diagonal is 1, so no text is without a neighbour
    scale = 1 / np.sqrt(np.where(degree > 0, degree, 1.0))
    laplacian = np.eye(len(w)) - scale[:, None] * w * scale
    return float(np.maximum(0.0, 1 - np.linalg.eigvalsh(laplacian)).sum())


# --- checks --------------------------------------------------------------------------------------------


def _rows(p: Floats) -> Floats:
    rows = np.asarray(p, dtype=np.float64)
    if not rows.ndim or not rows.shape[-1]:
        raise BadParameter("p", rows.shape, "must hold the probability of at least one class")
    return rows


def _square(s: Floats) -> Floats:
    if s.ndim != 2 or s.shape[0] != s.shape[1] or not len(s):
        raise BadParameter("s", s.shape, "must be a similarity of each text with each, (n, n) with n ≥ 1")
    return s
