"""Sets of members with a guaranteed risk: nested sets by a threshold on scores, calibrated on known outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.parts.routing.calibrate import upper_bound
from septet.parts.routing.choose import shares


@dataclass(frozen=True)
class Calibrated:
    """A threshold, how often the calibration set missed at it, and the upper bound of the risk.

    Where no threshold keeps the risk, it is −∞ (everybody is asked) and `kept` is false.
    """

    threshold: float
    misses: int
    n: int
    bound: float
    kept: bool


def nested(
    q: Floats, threshold: float, weigh: Literal["equal", "score"] = "equal", abstain: bool = False
) -> Floats:
    """(n, m) the set of members with score q ≥ threshold, as weights: the lower, the larger the set.

    Where nobody reaches it, the best member alone, or with `abstain` nobody (a row of zeros).

    >>> q = np.array([[.9, .5, .2], [.1, .3, .2]])
    >>> nested(q, 0.5).tolist()
    [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]
    """
    with np.errstate(invalid="ignore"):
        picked = q >= threshold
    weights = shares(q, picked, weigh)
    return np.where(picked.any(axis=1, keepdims=True), weights, 0.0) if abstain else weights


def calibrate_sets(
    q: Floats, right: Floats, alpha: float, delta: float = 0.05, solvable_only: bool = False
) -> Calibrated:
    """The largest threshold whose sets miss with a risk of at most alpha, with confidence 1 − delta.

    q (n, m) scores and `right` (n, m) outcomes ≥ 0.5 of held-out queries, NaN unknown. A set misses where no
    member in it is right. The sets are nested, so the risk falls with the threshold, and the largest one whose
    Clopper–Pearson bound is ≤ alpha needs no correction for having tried others. A query that nobody solves is
    missed by every set; with `solvable_only` such queries are left out, and the risk is that among the others.
    RACER (2603.06616), whose bound is not stated where we could read it; Clopper–Pearson is the exact one.

    >>> q = np.full((59, 1), 0.7)
    >>> found = calibrate_sets(q, np.ones((59, 1)), 0.05)
    >>> found.threshold, found.misses, round(found.bound, 4), found.kept
    (0.7, 0, 0.0495, True)
    """
    if q.shape != right.shape:
        raise BadParameter("right", right.shape, f"must be of the shape of the scores, {q.shape}")
    with np.errstate(invalid="ignore"):
        solves = (right >= 0.5) & ~np.isnan(q)
    if solvable_only:
        q, solves = q[solves.any(axis=1)], solves[solves.any(axis=1)]
    n = len(q)
    if not n:
        raise BadParameter("right", right.shape, "must hold at least one query, and one that is solved")
    reach = np.sort(np.where(solves, q, -np.inf).max(axis=1))  # (n,) the score at which a right member is in
    low, high = 0, n - 1  # how many misses may be borne: the bound grows with them
    if upper_bound(0, n, delta) > alpha:
        return Calibrated(-np.inf, int(np.isneginf(reach).sum()), n, upper_bound(0, n, delta), False)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if upper_bound(middle, n, delta) <= alpha else (low, middle - 1)
    threshold = float(reach[low])
    misses = int((reach < threshold).sum()) if np.isfinite(threshold) else int(np.isneginf(reach).sum())
    bound = upper_bound(misses, n, delta)
    return Calibrated(threshold, misses, n, bound, bound <= alpha)
