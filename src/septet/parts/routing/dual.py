"""Online dual prices: what a unit of each member's budget is worth, learned once from the start of a stream."""

from __future__ import annotations

from typing import Literal

import numpy as np

from septet.core.errors import BadParameter, MissingExtra
from septet.core.types import Floats


def dual_value(
    prices: Floats, gain: Floats, cost: Floats, budget: Floats, share: float, nobody: bool = True
) -> float:
    """share·γᵀB + Σ_j max_m(gain_jm − γ_m·cost_jm): the objective that the prices γ (m,) make least; with
    `nobody` the largest is at least 0."""
    net = (gain - prices * cost).max(axis=1)
    return float(share * prices @ budget + (np.maximum(net, 0.0) if nobody else net).sum())


def dual_prices(
    gain: Floats,
    cost: Floats,
    budget: Floats,
    share: float,
    solver: Literal["l-bfgs-b", "lp"] = "l-bfgs-b",
    nobody: bool = True,
) -> Floats:
    """(m,) prices γ in [0, 1] that minimise `dual_value` (PORT, 2509.02718, equation of the dual).

    `gain` (w, m): α times the predicted quality of the w queries that were seen; `cost` (w, m) their predicted
    cost and `budget` (m,) ≥ 0 in one unit; `share`: what part of the stream the w queries are. A price is
    quality units (times α) per unit of cost; a member whose budget is never used up has price 0. The objective
    is convex and piecewise linear: "l-bfgs-b" is the paper's solver, started from 0, which may stop at a kink
    short of the least; "lp" is exact. With `nobody` a query may go to nobody for a gain of 0, the dual of Σ x ≤ 1;
    without, as released, every query must be served, and budgets that do not suffice drive all prices to the
    cap. An unknown gain or cost takes no part; an infinite budget has price 0.

    >>> gain, cost = np.array([[.9, .6], [.8, .7]]), np.ones((2, 2))
    >>> dual_prices(gain, cost, np.array([9., 9.]), 1.0).tolist()
    [0.0, 0.0]
    """
    if gain.shape != cost.shape or np.shape(budget) != gain.shape[1:]:
        raise BadParameter("budget", np.shape(budget), f"must hold one number for each of {gain.shape[1]}")
    bounded = np.isfinite(budget)
    known = ~np.isnan(gain) & ~np.isnan(cost)
    rows = known.any(axis=1)
    # far below every known net gain, yet finite: it is never the largest
    lowest = float(gain[known].min() - cost[known].max() - 1.0) if known.any() else 0.0
    gain, cost = np.where(known, gain, lowest)[rows], np.where(known, cost, 0.0)[rows]
    m = gain.shape[1]
    if not bounded.any() or not len(gain):
        return np.zeros(m)
    limits, upper = np.where(bounded, budget, 0.0), bounded.astype(np.float64)
    if nobody:  # one more member, who gains nothing, costs nothing and has no price
        gain, cost = (
            np.column_stack([gain, np.zeros(len(gain))]),
            np.column_stack([cost, np.zeros(len(cost))]),
        )
        limits, upper = np.append(limits, 0.0), np.append(upper, 0.0)
    solve = _lp if solver == "lp" else _l_bfgs_b
    return solve(gain, cost, limits, share, upper)[:m]


def _l_bfgs_b(gain: Floats, cost: Floats, budget: Floats, share: float, upper: Floats) -> Floats:
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise MissingExtra("scipy", "fit") from None
    rows = np.arange(len(gain))
    scale = max(float(np.abs(gain).sum()), 1e-300)  # its stopping rules are absolute, and α makes gains small

    def objective(prices: Floats) -> tuple[float, Floats]:
        net = gain - prices * cost
        pick = net.argmax(axis=1)
        used = np.bincount(pick, weights=cost[rows, pick], minlength=len(prices))
        value = share * prices @ budget + net[rows, pick].sum()
        return float(value) / scale, (share * budget - used) / scale

    m = gain.shape[1]
    bounds = list(zip(np.zeros(m), upper, strict=True))
    prices: Floats = minimize(objective, np.zeros(m), jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.clip(prices, 0.0, 1.0)


def _lp(gain: Floats, cost: Floats, budget: Floats, share: float, upper: Floats) -> Floats:
    """min share·γᵀB + Σ u_j subject to u_j + γ_m·cost_jm ≥ gain_jm."""
    try:
        from scipy.optimize import linprog
        from scipy.sparse import coo_array
    except ImportError:
        raise MissingExtra("scipy", "fit") from None
    w, m = gain.shape
    scale = max(float(np.abs(gain).max()), 1e-300)
    row = np.arange(w * m)
    columns = np.concatenate([np.tile(np.arange(m), w), m + np.repeat(np.arange(w), m)])
    entries = np.concatenate([-cost.ravel() / scale, np.full(w * m, -1.0)])
    rules = coo_array((entries, (np.concatenate([row, row]), columns)), shape=(w * m, m + w)).tocsr()
    found = linprog(
        np.concatenate([share * budget / scale, np.ones(w)]),
        A_ub=rules,
        b_ub=-gain.ravel() / scale,
        bounds=[(0.0, float(u)) for u in upper] + [(None, None)] * w,
        method="highs",
    )
    prices: Floats = np.clip(found.x[:m], 0.0, 1.0)
    return prices
