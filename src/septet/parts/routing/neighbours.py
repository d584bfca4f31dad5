"""What members scored on the questions most like this one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from septet.core.types import Floats
from septet.parts.routing.records import Fitted
from septet.parts.routing.rows import Features

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
    n, r = similarity.shape
    per_query = np.broadcast_to(scores, (n, r, scores.shape[-1]))
    blocks = [
        _nearest_mean(similarity[i : i + _BLOCK], per_query[i : i + _BLOCK], k) for i in range(0, n, _BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, scores.shape[-1]))


def _nearest_mean(similarity: Floats, scores: Floats, k: int) -> Floats:
    order = np.argsort(-similarity, axis=1, kind="stable")
    if not np.isnan(scores).any():
        near: Floats = np.take_along_axis(scores, order[:, :k, None], axis=1).mean(axis=1)
        return near
    ranked = np.take_along_axis(scores, order[:, :, None], axis=1)  # (n, r, m)
    known = ~np.isnan(ranked)
    used = known & (np.cumsum(known, axis=1) <= k)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(used, ranked, 0.0).sum(axis=1) / used.sum(axis=1)
    return mean


def nearest_distance(similarity: Floats, kappa: int) -> Floats:
    """(n,) mean cosine distance, 1 − similarity, to the kappa most similar rows of similarity (n, r)."""
    kappa = min(kappa, similarity.shape[1])
    nearest = np.partition(similarity, similarity.shape[1] - kappa, axis=1)[:, -kappa:]
    distance: Floats = 1 - nearest.mean(axis=1)
    return distance
