"""A random forest as plain arrays: grown by scikit-learn, kept without pickle, and read in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter, MissingExtra
from septet.core.types import Floats


@dataclass(frozen=True)
class Forest:
    """Trees of n nodes in all, one after another. `roots` (trees,): where each begins. Per node (n,): `feature`, −1 at
    a leaf; `threshold`; `left` and `right`, the nodes below; `p`: the share of positive rows."""

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    p: Floats

    def p_positive(self, x: Floats) -> Floats:
        """(r,) the mean over trees of the share at the leaf of each row of x (r, d); left where x ≤ threshold.

        >>> stump = Forest(*(np.array(a, np.int32) for a in ([0], [0, -1, -1])), np.array([.5, 0, 0]),
        ...     *(np.array(a, np.int32) for a in ([1, 1, 2], [2, 1, 2])), np.array([.5, .25, .75]))
        >>> stump.p_positive(np.array([[0.], [1.]])).tolist()
        [0.25, 0.75]
        """
        rows = np.asarray(
            x, dtype=np.float32
        )  # trees are grown on such numbers, so they are read on them, too
        at = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        row = np.arange(len(rows))[:, None]
        while (inside := self.feature[at] >= 0).any():
            value = rows[row, np.maximum(self.feature[at], 0)]
            below = np.where(value <= self.threshold[at], self.left[at], self.right[at])
            at = np.where(inside, below, at)
        found: Floats = self.p[at].mean(axis=1)
        return found


def fit_forest(
    x: Floats, positive: NDArray[np.bool_], rng: np.random.Generator, *, trees: int = 100, least: int = 1
) -> Forest:
    """Grows a forest on x (r, d) and labels (r,): bootstrap rows, √d features at each split, Gini (scikit-learn's
    defaults). `least`: rows at a leaf. With labels of one kind only, every row has that label's share."""
    if not len(x) or len(x) != len(positive):
        raise BadParameter("x", len(x), "must hold at least one row, and as many as there are labels")
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ModuleNotFoundError:
        raise MissingExtra("scikit-learn", "fit") from None
    grown = RandomForestClassifier(
        n_estimators=trees, min_samples_leaf=least, random_state=int(rng.integers(2**31 - 1))
    ).fit(np.asarray(x, dtype=np.float32), positive)
    parts = [one.tree_ for one in grown.estimators_]
    roots = np.concatenate([[0], np.cumsum([t.node_count for t in parts])[:-1]])
    classes = list(grown.classes_)
    shares = [
        t.value[:, 0, classes.index(True)] / t.value[:, 0].sum(axis=1)
        if True in classes
        else np.zeros(t.node_count)
        for t in parts
    ]

    def below(side: str) -> NDArray[np.int32]:
        # a leaf is below itself
        found = []
        for start, t in zip(roots, parts, strict=True):
            child = getattr(t, f"children_{side}")
            found.append(np.where(child < 0, np.arange(t.node_count), child) + start)
        return np.concatenate(found).astype(np.int32)

    return Forest(
        roots.astype(np.int32),
        np.concatenate([np.where(t.children_left < 0, -1, t.feature) for t in parts]).astype(np.int32),
        np.concatenate([t.threshold for t in parts]),
        below("left"),
        below("right"),
        np.concatenate(shares),
    )
