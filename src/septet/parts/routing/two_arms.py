"""Decisions between a weak and a strong member."""

from __future__ import annotations

import numpy as np

from septet.core.types import Floats
from septet.parts.routing.choose import best, net_utility, strong_if


def weak_or_strong(q: Floats, c: Floats, prefer: Floats, threshold: float) -> Floats:
    """(n, 2) weights: strong where p ≥ threshold + prefer·(c_strong − c_weak)/2, for q = [1 − p, p].

    With prefer = 0 that is the threshold alone; with a threshold of ½ it is the larger q − prefer·c, ties
    going to the strong member. An infinite price asks for the cheaper one. Of a member whose cost alone is
    unknown, a price asks nothing. Unknown p: strong.

    >>> q = np.array([[0.4, 0.6]])
    >>> weak_or_strong(q, np.array([[0.0, 0.001]]), np.array([100.0]), 0.5).tolist()
    [[0.0, 1.0]]
    >>> weak_or_strong(q, np.array([[0.0, 0.001]]), np.array([300.0]), 0.5).tolist()
    [[1.0, 0.0]]
    """
    more = c[:, 1] - c[:, 0]
    blind = np.isnan(c)
    more = np.where(
        blind.all(axis=1), 0.0, np.where(blind[:, 1], np.inf, np.where(blind[:, 0], -np.inf, more))
    )
    priced = np.isfinite(prefer) & (prefer > 0)
    with np.errstate(invalid="ignore"):
        moved = np.where(priced, prefer * more / 2, 0.0)
    # p as it is, not by way of a difference: a rounding error at the threshold would move all that tie there
    finite = strong_if(q[:, 1] - moved, threshold)
    return np.where(np.isinf(prefer)[:, None], best(net_utility(q, c, prefer)), finite)
