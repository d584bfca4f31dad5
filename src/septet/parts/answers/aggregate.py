"""From scores to one answer, and from several distributions over the answers to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from septet.core.types import Completion, Floats

Tie = Literal["first", "random", "best-member", "longest", "shortest"]
"""Who wins among candidates of equal value: the first (in the order of members, then samples), one drawn at
random, the first of the member with the greatest weight, or the first of the longest or shortest text."""

CLOSE = 1e-9
"""Relative: values that differ by less are equal, since sums depend on the order in which they are made."""


def best_of(values: Floats, completions: Sequence[Completion], tie: Tie, rng: np.random.Generator) -> int:
    """The candidate with the greatest value (n,); NaN counts least, and if all are NaN all are equal.

    >>> texts = [Completion(member="a", text=t) for t in ("no", "perhaps", "yes")]
    >>> best_of(np.array([0.5, 0.5, 0.1]), texts, "longest", np.random.default_rng(0))
    1
    """
    known = np.where(np.isnan(values), -np.inf, values)
    top = known.max()
    slack = CLOSE * max(1.0, abs(top)) if np.isfinite(top) else 0.0
    tied = np.flatnonzero(known >= top - slack)
    if tie == "random":
        return int(rng.choice(tied))

    def key(i: int) -> float:
        if tie == "best-member":
            return completions[i].weight
        length = len(completions[i].text)
        return 0.0 if tie == "first" else float(length if tie == "longest" else -length)

    return int(tied[np.argmax([key(i) for i in tied.tolist()])])


def pooled(p: Floats, weights: Floats, kind: Literal["linear", "log"]) -> Floats:
    """(c,) one distribution over c classes from those of m members, p (m, c), by weights (m,) that add up to 1.

    linear: Σ w_m·p_m. log: ∝ Π p_m^w_m, a class that anyone with a weight rules out is out; where that leaves none, all
    are equal.

    >>> p, even = np.array([[0.8, 0.2], [0.5, 0.5]]), np.array([0.5, 0.5])
    >>> pooled(p, even, "linear").round(3).tolist(), pooled(p, even, "log").round(3).tolist()
    ([0.65, 0.35], [0.667, 0.333])
    """
    if kind == "linear":
        linear: Floats = weights @ p
        return linear
    used = weights > 0
    with np.errstate(divide="ignore"):
        score = weights[used] @ np.log(p[used])
    if np.isneginf(score).all():
        return np.full(p.shape[1], 1 / p.shape[1])
    scaled = np.exp(score - score.max())
    found: Floats = scaled / scaled.sum()
    return found


def borda(scores: Floats, p: float) -> Floats:
    """(n,) votes (n − rank + 1)^p by rank of the scores (n,), the greatest first (2502.18581, section 3.3).

    p = 0 gives everyone one vote, a great p only the first. Equal scores share the mean of their votes, so that order
    does not matter; NaN is last.

    >>> borda(np.array([.1, .7, .3, .2]), .5).round(3).tolist(), borda(np.array([1., 1., 0.]), 1).tolist()
    ([1.0, 2.0, 1.732, 1.414], [2.5, 2.5, 1.0])
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    votes = np.arange(1, len(known) + 1, dtype=np.float64) ** p
    _, place = np.unique(known, return_inverse=True)
    totals = np.bincount(np.sort(place), weights=votes)
    shared: Floats = (totals / np.bincount(place))[place]
    return shared
