"""From predicted quality and cost to members: one, a mixture of two, or a weighted set.

Every rule takes q (n, m) in quality units and c (n, m) in USD, NaN unknown, and gives weights (n, m) whose rows
add up to one; a single member is a one among zeros. Equals go to the lowest index. What is decided for many
queries together stands in `assign`, what spends a budget over a stream in `dual`, what guarantees a risk in `sets`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats

Otherwise: TypeAlias = Literal["best", "cheapest", "dearest"]
"""Who answers where no member is good enough."""


def net_utility(q: Floats, c: Floats, prefer: Floats) -> Floats:
    """(n, m) quality less the price of its cost, q − prefer·c; NaN where unknown.

    q (n, m) in quality units, c (n, m) in USD, prefer (n,) in quality units per USD. An infinite price asks
    for the cheapest. A query of which no cost is known is decided by quality alone.

    >>> net_utility(np.array([[.9, .6]]), np.array([[.02, .001]]), np.array([100.0])).round(2)
    array([[-1.1,  0.5]])
    """
    if not (prefer > 0).any():  # nobody asks what anything costs
        return q.copy()
    rate = np.broadcast_to(prefer[:, None], q.shape)
    blind = np.isnan(c).all(axis=1, keepdims=True)
    cost = np.where(blind, 0.0, c)
    with np.errstate(invalid="ignore"):
        priced = q - np.where(rate > 0, rate * cost, 0.0)
    cheapest = np.where(np.isnan(q), np.nan, -cost)
    return np.where(np.isinf(rate) & ~blind, cheapest, np.where(np.isinf(rate), q, priced))


def best(net: Floats) -> Floats:
    """(n, m) weights with a one at the largest of net (n, m): ties go to the lowest index, and NaN is never
    chosen unless all are.

    >>> best(np.array([[np.nan, 2., 2.]]))
    array([[0., 1., 0.]])
    """
    rows = np.arange(len(net))
    index = net.argmax(axis=1)  # of a row with NaN the first NaN
    if np.isnan(net[rows, index]).any():
        index = np.where(np.isnan(net), -np.inf, net).argmax(axis=1)  # 0 where all are NaN
    weights = np.zeros(net.shape)
    weights[rows, index] = 1.0
    return weights


def strong_if(p: Floats, threshold: float) -> Floats:
    """(n, 2) weights over weak and strong: strong where p (n,), the probability that it wins, is ≥ threshold.

    RouteLLM (2406.18665, section 3): a threshold of 0 always asks the strong member, one above 1 never. An
    unknown p asks it too, since the strong member is the safe one.

    >>> strong_if(np.array([.2, .7, np.nan]), 0.7).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    strong = np.isnan(p) | (p >= threshold)
    return np.column_stack([~strong, strong]).astype(np.float64)


def cheapest_good(q: Floats, c: Floats, floor: Floats | float, otherwise: Otherwise = "best") -> Floats:
    """(n, m) the cheapest member with q ≥ floor, and of equally cheap ones the best; `floor` (n,) or one number.

    An unknown quality is not good enough; an unknown cost counts as dearer than any known one. Where nobody is
    good enough, `otherwise` says who answers: the best, the cheapest or the dearest.

    >>> q, c = np.array([[.9, .8, .3]]), np.array([[5., 2., 1.]])
    >>> cheapest_good(q, c, 0.75).tolist(), cheapest_good(q, c, 0.95, "cheapest").tolist()
    ([[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    """
    wanted = np.asarray(floor, dtype=np.float64)
    wanted = wanted[:, None] if wanted.ndim else wanted
    with np.errstate(invalid="ignore"):
        good = q >= wanted
    fallback = {"best": lambda: best(q), "cheapest": lambda: cheapest(q, c), "dearest": lambda: dearest(c)}
    return np.where(good.any(axis=1, keepdims=True), cheapest(q, c, good), fallback[otherwise]())


def within(q: Floats, c: Floats, epsilon: float) -> Floats:
    """(n, m) the cheapest member whose quality is at most epsilon below the best one's.

    0 leaves the best, and whatever spans all qualities the cheapest.
    """
    top = np.nanmax(np.where(np.isnan(q), -np.inf, q), axis=1)
    return cheapest_good(q, c, top - epsilon)


def capped(q: Floats, c: Floats, cap: Floats | float) -> Floats:
    """(n, m) the best member that costs at most the cap (n,) or one number in USD; where nobody does, the cheapest.

    The strict rule of Prompt-to-Leaderboard (2502.14855) and Eagle (2409.15518). An unknown cost fits no cap.

    >>> capped(np.array([[.9, .6]]), np.array([[.02, .001]]), 0.01).tolist()
    [[0.0, 1.0]]
    """
    limit = np.asarray(cap, dtype=np.float64)
    limit = limit[:, None] if limit.ndim else limit
    with np.errstate(invalid="ignore"):
        fits = (c <= limit) & ~np.isnan(q)
    return np.where(fits.any(axis=1, keepdims=True), best(np.where(fits, q, np.nan)), cheapest(q, c))


def chebyshev(q: Floats, c: Floats, weight: float) -> Floats:
    """(n, m) the member of least max{weight·(1 − q), (1 − weight)·c}: the smallest worst regret.

    RADAR (2509.25426): it also reaches members below the chord between two others, which no price of cost
    picks. q and c both have to lie in 0..1. A member of which either is unknown is chosen only where all are.

    >>> chebyshev(np.array([[.9, .6, .75]]), np.array([[.8, .1, .3]]), 0.5).tolist()
    [[0.0, 0.0, 1.0]]
    """
    return best(-np.maximum(weight * (1 - q), (1 - weight) * c))


def mixture(q: Floats, c: Floats, budget: float) -> Floats:
    """(n, m) per query the mixture of largest expected quality whose expected cost is at most the budget.

    max q·w subject to c·w ≤ budget, Σ w = 1, w ≥ 0 (the simple linear program of 2502.14855). Its solutions
    mix at most two members, one on either side of the budget, so all pairs are looked at instead of solving n
    programs. Where even the cheapest costs more, the cheapest answers. Unknown members take no part.

    >>> mixture(np.array([[1., 3.]]), np.array([[1., 5.]]), 3.0).tolist()
    [[0.5, 0.5]]
    """
    n, m = q.shape
    known = ~np.isnan(q) & ~np.isnan(c)
    fits = known & (np.where(known, c, 0.0) <= budget)
    alone = np.where(fits, q, -np.inf)
    gain, first, second, share = alone.max(axis=1), alone.argmax(axis=1), alone.argmax(axis=1), np.ones(n)
    for a in range(m):  # within the budget
        for b in range(m):  # beyond it
            both = fits[:, a] & known[:, b] & ~fits[:, b]
            with np.errstate(invalid="ignore", divide="ignore"):
                of_a = (c[:, b] - budget) / (c[:, b] - c[:, a])
                value = of_a * q[:, a] + (1 - of_a) * q[:, b]
            better = both & (value > gain)
            gain, share = np.where(better, value, gain), np.where(better, of_a, share)
            first, second = np.where(better, a, first), np.where(better, b, second)
    weights = share[:, None] * np.eye(m)[first] + (1 - share)[:, None] * np.eye(m)[second]
    return np.where(fits.any(axis=1, keepdims=True), weights, cheapest(q, c))


def top(q: Floats, size: int, weigh: Literal["equal", "score"] = "equal") -> Floats:
    """(n, m) the `size` best members as a weighted set, for a method that asks them all.

    Weights are equal, or in proportion to positive scores (equal where no score is positive). An unknown
    member is in no set, unless all are: then the first is.

    >>> top(np.array([[.6, .1, .3]]), 2, "score").round(3).tolist()
    [[0.667, 0.0, 0.333]]
    """
    if size < 1:
        raise BadParameter("size", size, "must be at least 1")
    order = np.argsort(np.where(np.isnan(q), np.inf, -q), axis=1, kind="stable")
    picked = np.zeros(q.shape, dtype=bool)
    np.put_along_axis(picked, order[:, :size], True, axis=1)
    return shares(q, picked & ~np.isnan(q), weigh)


def shares(q: Floats, picked: NDArray[np.bool_], weigh: Literal["equal", "score"] = "equal") -> Floats:
    """(n, m) weights of the picked members, adding up to one; where none is picked, the best alone."""
    even = picked.astype(np.float64)
    raw = even if weigh == "equal" else np.where(picked, np.maximum(np.nan_to_num(q), 0.0), 0.0)
    raw = np.where(raw.sum(axis=1, keepdims=True) > 0, raw, even)
    raw = np.where(picked.any(axis=1, keepdims=True), raw, best(q))
    weights: Floats = raw / raw.sum(axis=1, keepdims=True)
    return weights


def mix(weights: Floats, n: int) -> Floats:
    """(n, m) the same mixture for every query, from weights (m,) ≥ 0 in any unit (2401.02994)."""
    total = float(np.sum(weights))
    if not np.isfinite(total) or total <= 0 or (np.asarray(weights) < 0).any():
        raise BadParameter("weights", np.asarray(weights).tolist(), "must be at least 0, and not all 0")
    return np.tile(np.asarray(weights, dtype=np.float64) / total, (n, 1))


def softmax(q: Floats, temperature: float) -> Floats:
    """(n, m) probabilities ∝ exp(q / temperature); an unknown member has none, unless all are unknown.

    >>> softmax(np.array([[np.log(3.), 0., np.nan]]), 1.0).round(3).tolist()
    [[0.75, 0.25, 0.0]]
    """
    if temperature <= 0:
        return best(q)
    known = ~np.isnan(q)
    score = np.where(known, q, -np.inf)
    highest = np.where(known.any(axis=1), score.max(axis=1), 0.0)
    raw = np.exp((score - highest[:, None]) / temperature)
    raw = np.where(known.any(axis=1, keepdims=True), raw, 1.0)
    weights: Floats = raw / raw.sum(axis=1, keepdims=True)
    return weights


def epsilon_greedy(q: Floats, epsilon: float) -> Floats:
    """(n, m) the best with probability 1 − epsilon, else any member, an unknown one too.

    >>> epsilon_greedy(np.array([[.2, .9]]), 0.1).round(2).tolist()
    [[0.05, 0.95]]
    """
    weights: Floats = (1 - epsilon) * best(q) + epsilon / q.shape[1]
    return weights


def cheapest(q: Floats, c: Floats, among: NDArray[np.bool_] | None = None) -> Floats:
    """(n, m) the cheapest of the members in `among` (n, m); of equally cheap ones the best, then the first.

    An unknown cost counts as dearer than any known one, an unknown quality as worse. A row of `among` without
    members gives the first.
    """
    eligible = np.ones(q.shape, dtype=bool) if among is None else among
    price = np.where(eligible, np.where(np.isnan(c), np.finfo(np.float64).max, c), np.inf)
    least = eligible & (price == price.min(axis=1, keepdims=True))
    quality = np.where(np.isnan(q), -np.finfo(np.float64).max, q)
    return best(np.where(least, quality, np.nan))


def dearest(c: Floats) -> Floats:
    """(n, m) the member that costs most on the query; an unknown cost is never the most unless all are."""
    return best(c)


def cheapest_best(net: Floats, c: Floats) -> Floats:
    """(n, m) as `best`, but of members whose net (n, m) is equal the one with the least cost c (n, m) wins.

    Estimates that differ by less than 1e-12 are equal; an unknown cost counts as the highest.

    >>> cheapest_best(np.array([[2., 2., 1.]]), np.array([[.03, .02, .01]]))
    array([[0., 1., 0.]])
    """
    highest = net.max(axis=1, keepdims=True)  # NaN where anything in the row is
    if np.isnan(highest).any():
        net = np.where(np.isnan(net), -np.inf, net)
        highest = net.max(axis=1, keepdims=True)
    top = net >= highest - 1e-12
    if np.count_nonzero(top) == len(net):  # one in every row: no cost decides
        alone: Floats = top.astype(np.float64)
        return alone
    return best(np.where(top, -np.where(np.isnan(c), np.finfo(np.float64).max, c), np.nan))
