"""Thresholds of a chain without labels: agree with the last member, at a cost that is bounded for new questions.

A chain asks its members in order and accepts the first answer whose confidence reaches the member's threshold; a
member whose threshold is above 1 can never be accepted, so it is not asked; the last is always accepted
(C3PO, 2511.07396).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats

MOST = 2_000_000
"""Combinations of thresholds that a search looks at, at most."""

_AT_ONCE = 2_000_000
"""Numbers of a block of combinations × questions."""


@dataclass(frozen=True)
class Sampled:
    """q questions, m members, the last being the strongest: `confidence` (q, m) in 0..1, `differs` (q, m): 1 where the
    member's answer is not the last one's, and `cost` (q, m)."""

    confidence: Floats
    differs: Floats
    cost: Floats

    def only(self, rows: NDArray[np.int64]) -> Sampled:
        """Some of the questions."""
        return Sampled(self.confidence[rows], self.differs[rows], self.cost[rows])


@dataclass(frozen=True)
class Found:
    """`thresholds` (m − 1,) of all members but the last; the mean disagreement with the last member on the questions
    of the search, the mean cost there, and the bound on the cost of a new question."""

    thresholds: tuple[float, ...]
    disagreement: float
    cost: float
    bound: float


def walked(seen: Sampled, thresholds: Floats) -> tuple[Floats, Floats]:
    """(k, q) disagreement and cost of k chains; `thresholds` (k, m − 1).

    >>> seen = Sampled(np.array([[.8, 1.], [.4, 1.]]), np.array([[1., 0.], [1., 0.]]), np.array([[1., 9.], [1., 9.]]))
    >>> lost, cost = walked(seen, np.array([[.6], [1.1]]))  # accepts the first; skips the member
    >>> lost.tolist(), cost.tolist()
    ([[1.0, 0.0], [0.0, 0.0]], [[1.0, 10.0], [9.0, 9.0]])
    """
    shape = (len(thresholds), len(seen.cost))
    lost = np.broadcast_to(seen.differs[:, -1], shape).copy()
    cost = np.broadcast_to(seen.cost[:, -1], shape).copy()
    for member in reversed(range(thresholds.shape[1])):
        at = thresholds[:, member, None]  # (k, 1)
        asked = at <= 1
        accepted = asked & (seen.confidence[None, :, member] >= at)
        lost = np.where(accepted, seen.differs[None, :, member], lost)
        cost = np.where(asked, seen.cost[None, :, member], 0.0) + np.where(accepted, 0.0, cost)
    return lost, cost


def cost_bound(cost: Floats, alpha: float) -> Floats:
    """(…,) the ⌈(n + 1)(1 − α)⌉-th smallest of n costs, cost being (…, n): with probability ≥ 1 − α the cost of a new
    question is at most this, if all are exchangeable; infinite where n is too small for α.

    >>> cost_bound(np.array([1., 2., 3., 4.]), 0.2).tolist(), cost_bound(np.array([1., 2., 3., 4.]), 0.1).tolist()
    (4.0, inf)
    """
    n = cost.shape[-1]
    rank = int(np.ceil(np.round((n + 1) * (1 - alpha), 9)))
    if rank > n:
        return np.full(cost.shape[:-1], np.inf)
    return np.asarray(np.sort(cost, axis=-1)[..., rank - 1])


def grid(points: int) -> Floats:
    """(points,) thresholds from 0 to 1.1; the last stands for a member that is skipped."""
    return np.linspace(0.0, 1.1, points)


def search(fitted: Sampled, held_out: Sampled, *, points: int, alpha: float, budget: float) -> Found:
    """The thresholds of the grid with the least disagreement on `fitted` whose cost bound on `held_out` is ≤ budget.

    Of equals the cheaper on `fitted`, then the one with the lower thresholds. Thresholds that treat every question
    alike are tried once. A budget below every chain's bound is refused.
    """
    choices = [_distinct(fitted, held_out, member, points) for member in range(fitted.cost.shape[1] - 1)]
    n_chains = int(np.prod([len(c) for c in choices], dtype=np.float64))
    if n_chains > MOST:
        raise BadParameter(
            "points", points, f"makes {n_chains:,} chains of {len(choices) + 1} members, more than {MOST:,}"
        )
    best: tuple[float, float, tuple[float, ...], float] | None = None
    least = float("inf")
    size = max(1, _AT_ONCE // max(len(fitted.cost), len(held_out.cost)))
    for block in _blocks(choices, size):
        bound = cost_bound(walked(held_out, block)[1], alpha)
        least = min(least, float(bound.min()))
        within = np.isfinite(bound) & (bound <= budget * (1 + 1e-12))
        if not within.any():
            continue
        block, bound = block[within], bound[within]
        lost, cost = (x.mean(axis=1) for x in walked(fitted, block))
        at = int(np.lexsort((cost.round(15), lost.round(12)))[0])
        one = (round(float(lost[at]), 12), float(cost[at]), tuple(map(float, block[at])), float(bound[at]))
        best = one if best is None or one[:2] < best[:2] else best
    if best is None:
        raise BadParameter("budget", budget, _too_low(least, len(held_out.cost), alpha))
    return Found(best[2], best[0], best[1], best[3])


def _too_low(least: float, n: int, alpha: float) -> str:
    if np.isfinite(least):
        return f"must be at least {least:g}, the lowest bound on the cost of any chain"
    needed = int(np.ceil(1 / alpha)) - 1
    return (
        f"can be bounded at alpha = {alpha:g} only with at least {needed} held-out questions, there are {n}"
    )


def _distinct(fitted: Sampled, held_out: Sampled, member: int, points: int) -> Floats:
    """The thresholds of the grid that accept different answers of a member, the lowest of each kind."""
    confidence = np.concatenate([fitted.confidence[:, member], held_out.confidence[:, member]])
    found: dict[int, float] = {}
    for t in grid(points).tolist():
        # above 1 the member is not asked: that is another chain than one that asks it in vain
        kind = -1 if t > 1 else int((confidence >= t).sum())
        found.setdefault(kind, t)
    return np.array(sorted(found.values()))


def _blocks(choices: Sequence[Floats], size: int) -> list[Floats]:
    """All combinations, (k, m − 1) each at most `size` rows, in rising order."""
    every = np.array(list(product(*(c.tolist() for c in choices))), dtype=np.float64)
    every = every.reshape(-1, len(choices))
    return [every[i : i + size] for i in range(0, len(every), size)]
