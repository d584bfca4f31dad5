"""What members scored on the questions most like this one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats
from septet.parts.learning.rows import Features
from septet.parts.routing.records import Fitted

_BLOCK = 256
"""Queries that are ranked at once."""


@dataclass(frozen=True)
class Outcomes(Fitted):
    """Known outcomes: `rows` (r, d) of questions, `scores` (r, m) with NaN unknown, `mean` (m,) over tasks."""

    rows: Features
    scores: Floats
    mean: Floats


def nearest_mean(similarity: Floats, scores: Floats, k: int) -> Floats:
    """(n, m) mean score of each member over the k most similar rows for which its score is known.

    `similarity` (n, r); `scores` (r, m), or (n, r, m) where every query has rows of its own. Equally
    similar rows rank by position. A member without any known score is NaN; one with fewer than k known
    scores has the mean of those.

    >>> nearest_mean(np.array([[.9, .1, .5]]), np.array([[1.], [0.], [0.]]), k=2)
    array([[0.5]])
    """
    n = len(similarity)
    mean = _mean_of_all if not np.isnan(scores).any() else _mean_of_known
    blocks = [
        mean(similarity[i : i + _BLOCK], scores if scores.ndim == 2 else scores[i : i + _BLOCK], k)
        for i in range(0, n, _BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, scores.shape[-1]))


def _mean_of_all(similarity: Floats, scores: Floats, k: int) -> Floats:
    mean: Floats = _rows_of(scores, nearest(similarity, k)).mean(axis=1)
    return mean


def _mean_of_known(similarity: Floats, scores: Floats, k: int) -> Floats:
    ranked = _rows_of(scores, np.argsort(-similarity, axis=1, kind="stable"))  # (n, r, m)
    known = ~np.isnan(ranked)
    used = known & (np.cumsum(known, axis=1) <= k)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(used, ranked, 0.0).sum(axis=1) / used.sum(axis=1)
    return mean


def _rows_of(scores: Floats, order: NDArray[np.int64]) -> Floats:
    """(n, k, m) the scores of the rows in `order` (n, k), of all queries together or of each its own."""
    return scores[order] if scores.ndim == 2 else np.take_along_axis(scores, order[:, :, None], axis=1)


def nearest(similarity: Floats, k: int) -> NDArray[np.int64]:
    """(n, ≤ k) the most similar rows of similarity (n, r), nearest first, equals by position.

    The k-th largest value is found without sorting the others, which are thousands.

    >>> nearest(np.array([[.5, .9, .5, .1]]), 2).tolist()
    [[1, 0]]
    """
    n, r = similarity.shape
    if k >= r:
        return np.argsort(-similarity, axis=1, kind="stable")
    bound = np.partition(similarity, r - k, axis=1)[:, r - k, None]
    above, equal = similarity > bound, similarity == bound
    wanted = k - above.sum(axis=1, keepdims=True)
    crowded = equal.sum(axis=1) > wanted[:, 0]  # rows in which only the first of the equals have a place
    if crowded.any():
        equal[crowded] &= np.cumsum(equal[crowded], axis=1) <= wanted[crowded]
    found = np.nonzero(above | equal)[1].reshape(n, k)  # ascending, so the sort below keeps equals in order
    order = np.argsort(-np.take_along_axis(similarity, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def nearest_distance(similarity: Floats, kappa: int) -> Floats:
    """(n,) mean cosine distance, 1 − similarity, to the kappa most similar rows of similarity (n, r)."""
    kappa = min(kappa, similarity.shape[1])
    nearest = np.partition(similarity, similarity.shape[1] - kappa, axis=1)[:, -kappa:]
    distance: Floats = 1 - nearest.mean(axis=1)
    return distance
