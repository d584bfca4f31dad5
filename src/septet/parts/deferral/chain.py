"""The search for a cascade: which members in which order, and how sure each must be to be the last one asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from septet.core.errors import BadParameter, MissingExtra
from septet.core.table import Table
from septet.core.types import Floats

N_REFINED = 10
"""How many of the best lists have their thresholds refined after the grid."""


@dataclass(frozen=True)
class Chain:
    """Members in the order in which they are asked; `thresholds` has one number less, for the last is always
    accepted. `quality` and `cost` (in `unit`) are the means on the rows of the search."""

    order: tuple[int, ...]
    thresholds: tuple[float, ...]
    quality: float
    cost: float
    unit: str = "usd"


@dataclass(frozen=True)
class Seen:
    """What is known of q queries and m members: confidence in each answer, its score and its cost, (q, m)."""

    confidence: Floats
    score: Floats
    cost: Floats

    @classmethod
    def of_rows(cls, rows: Table, confidence: Floats, cost: Floats) -> Seen:
        """The queries that every member has answered; confidence (r,) and cost (r,) of the rows."""
        shape = (len(rows.queries), len(rows.members))
        matrices = [np.full(shape, np.nan) for _ in range(3)]
        for matrix, column in zip(matrices, (confidence, rows.score, cost), strict=True):
            matrix[rows.query, rows.member] = column
        whole = ~np.isnan(matrices[0]).any(axis=1)
        if not whole.any():
            raise BadParameter("table", len(rows), "must hold questions that every member has answered")
        return cls(*(matrix[whole] for matrix in matrices))

    def of(self, order: Sequence[int], thresholds: Sequence[float]) -> Chain:
        """What a chain comes to on these queries: an answer is accepted if its confidence ≥ the threshold."""
        score, cost = self.score[:, order[-1]], self.cost[:, order[-1]]
        for member, threshold in zip(reversed(order[:-1]), reversed(thresholds), strict=True):
            accepted = self.confidence[:, member] >= threshold
            score = np.where(accepted, self.score[:, member], score)
            cost = self.cost[:, member] + np.where(accepted, 0.0, cost)
        return Chain(tuple(order), tuple(map(float, thresholds)), float(score.mean()), float(cost.mean()))

    def threshold(self, member: int, share: float) -> float:
        """The threshold that accepts this share of a member's answers."""
        return float(np.quantile(self.confidence[:, member], 1 - share))


def search(
    seen: Seen,
    *,
    depth: int,
    budget: float | None,
    unit: str = "usd",
    n_grid: int = 40,
    lists: Sequence[tuple[int, ...]] = (),
) -> Chain:
    """The chain of at most `depth` members with the best mean score whose mean cost is within the budget.

    Every ordered list whose first member alone is within the budget is tried; thresholds are quantiles of
    acceptance, on a grid of `n_grid` per threshold, then refined by Nelder–Mead (2305.05176, section 3 and
    released code). Of chains that score alike the cheaper is taken, then the one listed first. `lists`: try only
    these, whatever the depth.
    """
    allowed = np.inf if budget is None else budget
    m = seen.score.shape[1]
    grid = _Grid.of(seen, n_grid)
    tried = lists or [order for d in range(1, min(depth, m) + 1) for order in permutations(range(m), d)]
    affordable = [order for order in tried if seen.cost[:, order[0]].mean() <= allowed]
    chains = [c for order in affordable if (c := grid.best(order, allowed)) is not None]
    if not chains:
        least = min(float(seen.cost[:, order[0]].mean()) for order in tried)
        raise BadParameter(
            "budget_usd", budget, f"must be at least {least:g}, the cheapest member's mean cost"
        )
    chains.sort(key=_rank)
    refined = [_refined(seen, chain, allowed) for chain in chains[:N_REFINED]]
    return replace(min(refined, key=_rank), unit=unit)


def _rank(chain: Chain) -> tuple[float, float]:
    return (-round(chain.quality, 12), chain.cost)


@dataclass(frozen=True)
class _Grid:
    """Acceptance of every member's answers at every threshold of the grid, (m, t, q), as 0.0 and 1.0."""

    seen: Seen
    thresholds: Floats  # (m, t)
    accepts: Floats

    @classmethod
    def of(cls, seen: Seen, n_grid: int) -> _Grid:
        shares = np.linspace(0, 1, n_grid)
        thresholds = np.quantile(seen.confidence, 1 - shares, axis=0).T  # (m, t)
        accepts = (seen.confidence.T[:, None, :] >= thresholds[:, :, None]).astype(np.float64)
        return cls(seen, thresholds, accepts)

    def best(self, order: tuple[int, ...], allowed: float) -> Chain | None:
        """The best thresholds for a list, all combinations at once; None where none is within the budget."""
        if len(order) == 1:
            return self.seen.of(order, ())
        score, cost = self.seen.score[None, :, order[-1]], self.seen.cost[None, :, order[-1]]  # (1, q)
        for member in reversed(order[1:-1]):  # combinations of later thresholds become rows
            passed = 1 - self.accepts[member]
            score = (self.accepts[member] * self.seen.score[:, member])[:, None] + passed[:, None] * score
            cost = self.seen.cost[:, member] + passed[:, None] * cost
            score, cost = (x.reshape(-1, x.shape[-1]) for x in (score, cost))
        first = order[0]
        passed, n = 1 - self.accepts[first], len(self.seen.score)
        own = self.accepts[first] @ self.seen.score[:, first]  # (t,)
        quality = (own[:, None] + passed @ score.T) / n  # (t, combinations)
        spent = self.seen.cost[:, first].mean() + passed @ cost.T / n
        affordable = spent <= allowed
        if not affordable.any():
            return None
        ranked = np.lexsort((spent.ravel(), np.where(affordable, -quality.round(12), np.inf).ravel()))
        place = np.unravel_index(ranked[0], (self.thresholds.shape[1],) * (len(order) - 1))
        thresholds = [float(self.thresholds[m, int(t)]) for m, t in zip(order[:-1], place, strict=True)]
        return self.seen.of(order, thresholds)


def _refined(seen: Seen, chain: Chain, allowed: float) -> Chain:
    """Nelder–Mead over acceptance shares around the grid's best; what exceeds the budget is penalised."""
    if len(chain.order) == 1:
        return chain
    try:
        from scipy.optimize import minimize
    except ModuleNotFoundError:
        raise MissingExtra("scipy", "fit") from None

    def at(shares: Floats) -> Chain:
        inside = np.clip(shares, 0.0, 1.0)
        pairs = zip(chain.order[:-1], inside, strict=True)
        return seen.of(chain.order, [seen.threshold(m, float(s)) for m, s in pairs])

    def loss(shares: Floats) -> float:
        found = at(shares)
        return -found.quality + (1e3 if found.cost > allowed else 0.0)

    columns = seen.confidence[:, list(chain.order[:-1])]
    start = (columns >= np.array(chain.thresholds)).mean(axis=0)
    simplex = np.vstack([start, start + 0.02 * np.eye(len(start))])
    found = at(
        minimize(loss, start, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 200}).x
    )
    return min((c for c in (chain, found) if c.cost <= allowed), key=_rank)
