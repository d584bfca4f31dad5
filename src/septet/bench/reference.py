"""The router that every other is held against: nearest neighbours on TF-IDF, cost ignored, by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from septet.core.errors import BadParameter, MissingExtra
from septet.core.types import Floats

REFERENCE = "reference kNN"
"""Its name among the bounds."""

K = 50
"""Neighbours whose scores are averaged."""

CONVENTION = (
    f"tf-idf (sublinear, min_df 2, 50,000 features), cosine, k = {K}: the best mean score of the neighbours"
)

_BLOCK = 512
"""Questions that are compared at once."""


def reference_knn(train: Sequence[str], scores: Floats, test: Sequence[str]) -> Floats:
    """(n, m) mean score of each member over the 50 most similar questions, from scores (r, m) of those to train on.

    Equally similar questions rank by position; an unknown score is left out. A test question that shares no term
    with any other has the mean over the first 50.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise MissingExtra("scikit-learn", "fit") from None
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=50_000)
    try:
        known = words.fit_transform(train)
    except ValueError as error:  # scikit-learn's word for texts that have no term in common
        raise BadParameter("reference kNN", len(train), f"finds no term in two questions ({error})") from None
    rows = words.transform(test)
    found = [
        _mean((rows[i : i + _BLOCK] @ known.T).toarray(), scores) for i in range(0, rows.shape[0], _BLOCK)
    ]
    return np.concatenate(found) if found else np.empty((0, scores.shape[1]))


def _mean(similarity: Floats, scores: Floats) -> Floats:
    """(n, m) means over the most similar of similarity (n, r); NaN for a member none of them knows."""
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :K]
    near = scores[nearest]  # (n, k, m)
    known = ~np.isnan(near)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, near, 0.0).sum(axis=1) / known.sum(axis=1)
    return mean
