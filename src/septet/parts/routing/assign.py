"""Decisions for many queries together: within a budget, above a floor of quality, with few places per member."""

from __future__ import annotations

from typing import Any

import numpy as np

from septet.core.errors import BadParameter, MissingExtra
from septet.core.types import Floats


def assign(
    value: Floats,
    *,
    cost: Floats | None = None,
    budget: float | None = None,
    quality: Floats | None = None,
    floor: float | None = None,
    capacity: Floats | None = None,
    penalty: float | None = None,
    whole: bool = True,
) -> Floats:
    """(n, m) the assignment x of largest Σ value·x − penalty·Σ y, by HiGHS.

    Subject to Σ cost·x ≤ budget, Σ quality·x ≥ floor, Σ over queries of x ≤ capacity (m,), and per query
    Σ_m x + y = 1. All of value, cost and quality are (n, m), sums are over all queries. With a penalty, y says
    that nobody answers a query (a row of zeros); without, everybody is served. x is 0 or 1, or with whole =
    False any share, so that a budget is used up exactly: all rows but one per constraint are still 0 or 1.
    A pair of which anything needed is unknown is not assigned.

    FORC (2308.06077): value = p, budget; or value = −cost, floor; or value = α·p − (1 − α)·cost. OmniRouter
    (2502.20576): value = −cost, floor = α·n, capacity. What cannot be met is a BadParameter that says why.

    >>> p, cost = np.array([[.6, .9], [.2, .9]]), np.array([[1., 3.], [1., 3.]])
    >>> assign(p, cost=cost, budget=4.0).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    n, m = value.shape
    if not n:
        return np.empty((0, m))
    cost = np.zeros((n, m)) if cost is None or budget is None else cost
    quality = np.zeros((n, m)) if quality is None or floor is None else quality
    usable = ~(np.isnan(value) | np.isnan(cost) | np.isnan(quality))
    value, cost, quality = (np.where(usable, part, 0.0) for part in (value, cost, quality))
    found = _solve(value, cost, budget, quality, floor, capacity, penalty, whole, usable)
    if found is None:
        raise _why(cost, budget, quality, floor, capacity, penalty, usable)
    return found


def _solve(
    value: Floats,
    cost: Floats,
    budget: float | None,
    quality: Floats,
    floor: float | None,
    capacity: Floats | None,
    penalty: float | None,
    whole: bool,
    usable: Any,
) -> Floats | None:
    """The best assignment, or None where there is none."""
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array, eye_array, hstack, kron
    except ImportError:
        raise MissingExtra("scipy", "fit") from None
    n, m = value.shape
    idle = csr_array((1, n))  # y takes part in no sum
    one_each = hstack([kron(eye_array(n), np.ones((1, m))), eye_array(n)]).tocsr()
    rules = [LinearConstraint(one_each, 1.0, 1.0)]

    def total(part: Floats) -> Any:
        return hstack([csr_array(part.reshape(1, -1)), idle]).tocsr()

    if budget is not None and np.isfinite(budget):
        scale = max(float(np.abs(cost).max()), 1e-300)  # HiGHS's tolerance is absolute, and USD are small
        rules.append(LinearConstraint(total(cost / scale), -np.inf, budget / scale))
    if floor is not None:
        rules.append(LinearConstraint(total(quality), floor, np.inf))
    if capacity is not None:
        per_member = hstack([kron(np.ones((1, n)), eye_array(m)), csr_array((m, n))]).tocsr()
        rules.append(LinearConstraint(per_member, -np.inf, np.asarray(capacity, dtype=np.float64)))
    spread = max(float(np.abs(value).max()), abs(penalty or 0.0), 1e-300)
    upper = np.concatenate([usable.ravel().astype(float), np.full(n, float(penalty is not None))])
    found = milp(
        np.concatenate([-value.ravel(), np.full(n, penalty or 0.0)]) / spread,
        constraints=rules,
        bounds=Bounds(0.0, upper),
        integrality=np.full(n * m + n, int(whole)),
    )
    if found.x is None:
        return None
    x = np.clip(found.x[: n * m].reshape(n, m), 0.0, 1.0)
    return np.abs(np.round(x)) if whole else np.where(x < 1e-9, 0.0, x)  # no −0


def _why(
    cost: Floats,
    budget: float | None,
    quality: Floats,
    floor: float | None,
    capacity: Floats | None,
    penalty: float | None,
    usable: Any,
) -> BadParameter:
    """Which of the conditions cannot be met."""
    n = len(cost)
    if penalty is None and not usable.any(axis=1).all():
        query = int(np.flatnonzero(~usable.any(axis=1))[0])
        return BadParameter("query", query, "must have a member of which quality and cost are known")
    if penalty is None and capacity is not None and np.sum(capacity) < n:
        return BadParameter("capacity", np.asarray(capacity).tolist(), f"must have room for {n} queries")
    least = float(np.where(usable, cost, np.inf).min(axis=1).sum()) if penalty is None else 0.0
    if budget is not None and budget < least:
        return BadParameter("budget", budget, f"must be at least {least:.6g}, what the cheapest members cost")
    most = float(np.where(usable, quality, -np.inf).max(axis=1).clip(-1e300).sum())
    if floor is not None and floor > most:
        return BadParameter("floor", floor, f"must be at most {most:.6g}, what the best members reach")
    asked = {"budget": budget, "floor": floor, "capacity": None if capacity is None else list(capacity)}
    stated = {name: limit for name, limit in asked.items() if limit is not None}
    return BadParameter(" and ".join(stated), list(stated.values()), "cannot all be met by any assignment")


def greedy(value: Floats, cost: Floats, budget: float) -> Floats:
    """(n, m) query by query the member of largest value if the rest of the budget covers it, else nobody.

    FORC's greedy rule (2308.06077, released code): never the next best member, and it goes on with the next
    query. An unknown cost is not covered.

    >>> greedy(np.array([[.6, .9], [.2, .9]]), np.array([[1., 3.], [1., 3.]]), 4.0).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    weights, left = np.zeros(value.shape), budget
    for row, (v, c) in zip(weights, zip(value, cost, strict=True), strict=True):
        if np.isnan(v).all():
            continue
        pick = int(np.nanargmax(v))
        if c[pick] <= left:
            row[pick] = 1.0
            left -= c[pick]
    return weights
