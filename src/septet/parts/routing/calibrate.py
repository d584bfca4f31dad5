"""From held-out outcomes to a knob: a threshold for a share, a price of cost for a budget, a bound for a risk."""

from __future__ import annotations

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.parts.routing.choose import best, net_utility
from septet.parts.stats.intervals import clopper_pearson

_STEPS = 200
"""Halvings: they bring two floats next to each other, unless the step lies at a price below 1e-60."""


def share_threshold(p: Floats, share: float) -> float:
    """The threshold at which the given share of p (n,) is at or above it (RouteLLM's calibration, 2406.18665).

    The nearest share that whole queries allow; where several have the same p, all of them count. A share of 0
    gives infinity.

    >>> share_threshold(np.array([.1, .4, .2, .3]), 0.5)
    0.3
    """
    if not 0 <= share <= 1:
        raise BadParameter("share", share, "must be in [0, 1]")
    known = np.sort(p[~np.isnan(p)])[::-1]
    if not len(known):
        raise BadParameter("p", [], "must hold at least one known number")
    # of equal ones none or all are above: the counts that a threshold can give
    ends = np.flatnonzero(np.append(known[:-1] > known[1:], True)) + 1
    counts = np.concatenate([[0], ends])
    count = int(counts[np.abs(counts - share * len(known)).argmin()])
    return float(known[count - 1]) if count else float("inf")


def mean_cost(q: Floats, c: Floats, prefer: float, spent: Floats | None = None) -> float:
    """Mean USD of the members of largest q − prefer·c; `spent` (n, m) are real costs, else c is what is spent."""
    weights = best(net_utility(q, c, np.full(len(q), prefer)))
    paid = c if spent is None else spent
    return float(np.nanmean(np.where(weights > 0, paid, 0.0).sum(axis=1)))


def price_for_budget(q: Floats, c: Floats, budget: float, spent: Floats | None = None) -> float:
    """The least price of cost λ, in quality units per USD, at which the mean cost keeps to the budget in USD.

    Mean predicted cost is a falling staircase in λ; the step is found by bisection down to neighbouring floats,
    so the λ that comes back keeps to the budget and the float below it does not. Real costs `spent` need not
    fall with λ: then it is one such step. A budget below what the cheapest members cost is refused.

    >>> price_for_budget(np.array([[.9, .5]]), np.array([[3., 1.]]), 2.0)
    0.2
    """
    if np.isnan(c).all():
        raise BadParameter("cost", "unknown", "must be known for a budget")
    if mean_cost(q, c, 0.0, spent) <= budget:
        return 0.0
    least = mean_cost(q, c, np.inf, spent)
    if least > budget:
        raise BadParameter("budget", budget, f"must be at least {least:.6g}, what the cheapest members cost")
    low, high = 0.0, 1.0
    while mean_cost(q, c, high, spent) > budget:
        low, high = high, 2 * high
        if np.isinf(high):
            return high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (low, middle) if mean_cost(q, c, middle, spent) <= budget else (middle, high)
    return high


def drop_threshold(p: Floats, weak: Floats, strong: Floats, drop: float) -> float:
    """The threshold with the fewest strong calls whose mean quality loses at most `drop` of strong's, relatively.

    p (n,): probability that strong is needed; weak and strong (n,): scores on the same held-out queries
    (Hybrid-LLM, 2404.14618, section 4.3: the largest cost advantage for a stated drop). Equals are on one side.

    >>> drop_threshold(np.array([.9, .6, .1]), np.array([0., 1., 1.]), np.array([1., 1., 1.]), 0.01)
    0.9
    """
    known = ~(np.isnan(p) | np.isnan(weak) | np.isnan(strong))
    if not known.any():
        raise BadParameter("p", [], "must hold at least one query of which all is known")
    order = np.argsort(-p[known], kind="stable")
    ranked = p[known][order]
    gained = np.concatenate([[0.0], np.cumsum((strong - weak)[known][order])])
    quality = (weak[known].sum() + gained) / known.sum()  # (n + 1,) with the first k at strong
    all_strong = float(strong[known].mean())
    splits = np.concatenate([[True], np.append(ranked[:-1] > ranked[1:], True)])
    wanted = all_strong - drop * abs(all_strong) - 1e-12
    count = int(np.flatnonzero(splits & (quality >= wanted))[0])  # all at strong always qualifies
    return float(ranked[count - 1]) if count else float("inf")


def upper_bound(failures: int, n: int, delta: float = 0.05) -> float:
    """The one-sided Clopper–Pearson bound: with confidence 1 − delta the true rate of failures is not larger.

    >>> round(upper_bound(2, 100), 4), round(upper_bound(0, 59), 4)
    (0.0616, 0.0495)
    """
    return clopper_pearson(failures, n, level=1 - 2 * delta).high
