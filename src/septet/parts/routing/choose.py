"""From predicted quality and cost to one member."""

from __future__ import annotations

import numpy as np

from septet.core.types import Floats


def net_utility(q: Floats, c: Floats, prefer: Floats) -> Floats:
    """(n, m) quality less the price of its cost, q − prefer·c; NaN where unknown.

    q (n, m) in quality units, c (n, m) in USD, prefer (n,) in quality units per USD. An infinite price asks
    for the cheapest. A query of which no cost is known is decided by quality alone.

    >>> net_utility(np.array([[.9, .6]]), np.array([[.02, .001]]), np.array([100.0])).round(2)
    array([[-1.1,  0.5]])
    """
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
    index = np.where(np.isnan(net), -np.inf, net).argmax(axis=1)
    unknown = np.isnan(net).all(axis=1)
    return np.eye(net.shape[1])[np.where(unknown, 0, index)]
