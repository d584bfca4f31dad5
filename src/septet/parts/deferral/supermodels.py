"""Cascade routing's decision: which set of members is worth running, given what is expected of each (2410.10347).

A *supermodel* is a set S of members that are all run, of which the best answer is returned: its quality is
E[max_{m ∈ S} q̂_m], the q̂ being jointly Gaussian, and its cost Σ_{m ∈ S} c_m. At every step the best set that
contains what was run already is looked for; if that is what was run, the best answer so far is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter, MissingExtra
from septet.core.types import Floats

Sets: TypeAlias = Literal["cascade-routing", "cascade", "routing"]
"""Which sets may be run: all, the first ones in the pool's order, or single members."""

Ahead: TypeAlias = Literal["full", "greedy", "means"]
"""full: E[max] of all sets · greedy: E[max], at most one member more than was run · means: max of the means."""


def gaussian_points(n: int, m: int, seed: int) -> Floats:
    """(n, m) scrambled Sobol points as standard normal numbers; moments are closer to 0 and 1 than draws have them."""
    try:
        from scipy.stats import norm, qmc
    except ModuleNotFoundError:
        raise MissingExtra("scipy", "fit") from None
    u = qmc.Sobol(m, scramble=True, seed=seed).random_base2(max(1, int(np.ceil(np.log2(n)))))[:n]
    points: Floats = norm.ppf(np.clip(u, 1e-9, 1 - 1e-9))
    return points


def root(covariance: Floats) -> Floats:
    """L (m, m) lower triangular with L·Lᵀ = Σ (m, m): Cholesky's, where a member without variance has a row of zeros.

    >>> root(np.array([[4., 2., 0.], [2., 2., 0.], [0., 0., 0.]])).round(6).tolist()
    [[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    m = len(covariance)
    low = np.zeros((m, m))
    scale = max(float(np.abs(np.diag(covariance)).max(initial=0.0)), 1e-300)
    for j in range(m):
        rest = covariance[j, j] - low[j, :j] @ low[j, :j]
        if rest <= 1e-12 * scale:  # nothing of its own is left: it moves with those before it
            continue
        low[j, j] = np.sqrt(rest)
        low[j + 1 :, j] = (covariance[j + 1 :, j] - low[j + 1 :, :j] @ low[j, :j]) / low[j, j]
    return low


def expected_max(mean: Floats, low: Floats, points: Floats) -> float:
    """E[max] of Gaussians with `mean` (k,) and covariance low·lowᵀ (k, k), over standard normal points (n, k).

    >>> points = gaussian_points(4096, 2, 0)  # Clark's closed form: .6·Φ(−.857) + .9·Φ(.857) + .35·φ(.857) = .9380
    >>> round(expected_max(np.array([.6, .9]), root(np.diag([.35**2, 0.])), points), 3)
    0.938
    """
    return float((mean + points @ low.T).max(axis=1).mean())


@dataclass(frozen=True)
class Believed:
    """What is expected after some members ran: quality `mean` (m,), NaN for a member that cannot be had; `draws` (n, m)
    of all qualities, of which means over maxima are taken (one row, the means, where doubt is ignored); `cost` (m,)."""

    mean: Floats
    draws: Floats
    cost: Floats

    @classmethod
    def of(cls, mean: Floats, low: Floats, points: Floats, cost: Floats, ahead: Ahead) -> Believed:
        """Draws from the Gaussian with root `low` (m, m) at `points` (n, m)."""
        draws = mean[None] if ahead == "means" else mean + points @ low.T
        return cls(mean, draws, cost)

    def value(self, members: Sequence[int], price: float) -> float:
        """τ(S) = E[max over S] − price·cost(S), in quality units."""
        index = list(members)
        return float(self.draws[:, index].max(axis=1).mean() - price * self.cost[index].sum())


@dataclass(frozen=True)
class Best:
    """The best set and its value τ; `following`: the member to be run next, None to stop; `looked_at`: sets tried."""

    members: tuple[int, ...]
    value: float
    following: int | None
    looked_at: int


def best_set(
    believed: Believed,
    run: Sequence[int],
    price: float,
    *,
    sets: Sets = "cascade-routing",
    ahead: Ahead = "full",
    depth: int = 5,
    prune: bool = True,
) -> Best:
    """The best set that contains those that were run, with the member of it to be run next: the cheapest missing one.

    price: λ, quality units per cost unit. A set has at most `depth` members (or those that were run, if more).
    Of equal values the set that was found first wins, smaller before larger; that is, what was run already.
    """
    ran = tuple(sorted(run))
    able = [m for m in range(len(believed.mean)) if m not in ran and not np.isnan(believed.mean[m])]
    if not ran and not able:
        raise BadParameter("members", [], "must hold at least one that can be run")
    if sets == "routing":
        found = [ran] if ran else [(m,) for m in able]
        return _best(found, ran, believed, price, lambda s: believed.value(s, price))
    limit = max(min(depth, len(ran) + 1) if ahead == "greedy" else depth, len(ran), 1)
    if sets == "cascade":
        most = min(limit - len(ran), len(able))
        found = [ran + tuple(able[:k]) for k in range(0 if ran else 1, most + 1)]
        return _best(found, ran, believed, price, lambda s: believed.value(s, price), in_order=True)
    values = _grown(believed, ran, able, price, limit, prune)
    return _best(values, ran, believed, price, values.__getitem__)


def _grown(
    believed: Believed, ran: tuple[int, ...], able: Sequence[int], price: float, limit: int, prune: bool
) -> dict[tuple[int, ...], float]:
    """τ of the sets that are worth looking at, smaller sets first.

    Pruning lemma: E[max] is submodular, so if the member that was added last lowers τ of a set, it lowers τ of all
    sets that contain this one too, and none of them can be the best.
    """
    values: dict[tuple[int, ...], float] = {ran: believed.value(ran, price)} if ran else {}
    level: list[tuple[tuple[int, ...], int]] = [(ran, 0)]  # a set, and where in `able` it goes on
    while level and len(level[0][0]) < limit:
        larger = []
        for members, start in level:
            before = values.get(members, -np.inf)
            for place in range(start, len(able)):
                grown = (*members, able[place])
                values[grown] = believed.value(grown, price)
                if not prune or values[grown] >= before:
                    larger.append((grown, place + 1))
        level = larger
    return values


def _best(
    found: Iterable[tuple[int, ...]],
    ran: tuple[int, ...],
    believed: Believed,
    price: float,
    value: Callable[[tuple[int, ...]], float],
    *,
    in_order: bool = False,
) -> Best:
    listed = list(found)
    worth = np.array([value(s) for s in listed])
    at = int((worth >= worth.max() - 1e-12).argmax())
    chosen = listed[at]
    missing = [m for m in chosen if m not in ran]
    if not missing:
        return Best(chosen, float(worth[at]), None, len(listed))
    following = missing[0] if in_order else min(missing, key=lambda m: (believed.cost[m], m))
    return Best(chosen, float(worth[at]), following, len(listed))


# --- many questions at once ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Worth:
    """For q questions, and every set R that may have run: the sets S ⊇ R that may be run and E[max over S], (q, k).

    The price of cost does not enter, so that one of these serves every price: the decisions of a whole table are
    then one subtraction and one argmax per step.
    """

    sets: Mapping[tuple[int, ...], tuple[tuple[int, ...], ...]]
    quality: Mapping[tuple[int, ...], Floats]
    mean: Mapping[tuple[int, ...], Floats]
    cost: Floats
    in_order: bool

    @classmethod
    def of(
        cls,
        mean: Mapping[tuple[int, ...], Floats],
        low: Mapping[tuple[int, ...], Floats],
        points: Floats,
        cost: Floats,
        *,
        sets: Sets,
        ahead: Ahead,
        depth: int,
    ) -> Worth:
        """`mean[R]` (q, m) and `low[R]` (m, m) after R ran; `cost` (m,) expected."""
        everyone = range(len(cost))
        quality, may_run = {}, {}
        for ran in mean:
            if len(ran) > max(depth, 1) or (sets == "cascade" and ran != tuple(range(len(ran)))):
                continue
            may_run[ran] = tuple(_supersets(ran, everyone, sets, ahead, depth))
            noise = np.zeros((1, len(cost))) if ahead == "means" else points @ low[ran].T
            quality[ran] = np.column_stack([_mean_max(mean[ran], noise, s) for s in may_run[ran]])
        return cls(may_run, quality, {ran: mean[ran] for ran in may_run}, cost, sets == "cascade")

    def walk(self, price: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(q,) the member whose answer is returned, and (q, m) who ran, at a price of cost."""
        q, m = next(iter(self.mean.values())).shape
        chosen, ran_by = np.zeros(q, dtype=np.int64), np.zeros((q, m), dtype=bool)
        groups: dict[tuple[int, ...], NDArray[np.int64]] = {(): np.arange(q)}
        while groups:
            larger: dict[tuple[int, ...], list[NDArray[np.int64]]] = {}
            for ran, rows in groups.items():
                spent = np.array([self.cost[list(s)].sum() for s in self.sets[ran]])
                net = self.quality[ran][rows] - price * spent
                best = (net >= net.max(axis=1, keepdims=True) - 1e-12).argmax(axis=1)  # the first of equals
                for at in np.unique(best).tolist():
                    some, target = rows[best == at], self.sets[ran][at]
                    missing = [i for i in target if i not in ran]
                    if not missing:
                        mine = self.mean[ran][some][:, list(ran)]
                        chosen[some] = np.array(ran)[mine.argmax(axis=1)]
                        continue
                    cheapest = min(missing, key=lambda i: (self.cost[i], i))
                    following = missing[0] if self.in_order else cheapest
                    ran_by[some, following] = True
                    larger.setdefault(tuple(sorted((*ran, following))), []).append(some)
            groups = {ran: np.concatenate(parts) for ran, parts in larger.items()}
        return chosen, ran_by


def _supersets(
    ran: tuple[int, ...], everyone: Sequence[int], sets: Sets, ahead: Ahead, depth: int
) -> list[tuple[int, ...]]:
    """The sets that may be run after `ran`, it first if there is any, smaller before larger."""
    rest = [i for i in everyone if i not in ran]
    if sets == "routing":
        return [ran] if ran else [(i,) for i in rest]
    limit = max(min(depth, len(ran) + 1) if ahead == "greedy" else depth, len(ran), 1)
    more = range(0 if ran else 1, limit - len(ran) + 1)
    if sets == "cascade":
        return [(*ran, *rest[:k]) for k in more if k <= len(rest)]
    return [(*ran, *added) for k in more for added in combinations(rest, k)]


def _mean_max(mean: Floats, noise: Floats, members: Sequence[int]) -> Floats:
    """(q,) E[max] of mean (q, m) plus noise (n, m) over some members."""
    index = list(members)
    if len(index) == 1:
        return np.asarray(mean[:, index[0]] + noise[:, index[0]].mean())
    parts = [
        (mean[i : i + 512, None, index] + noise[None, :, index]).max(axis=2).mean(axis=1)
        for i in range(0, len(mean), 512)
    ]
    return np.concatenate(parts)


# --- the price that a budget sets ----------------------------------------------------------------------


@dataclass(frozen=True)
class Priced:
    """Two prices of cost and the probability `share` of the first, the cheap one, with which the budget is met."""

    cheap: float
    dear: float
    share: float

    def at(self, draw: float) -> float:
        """The price for one request, `draw` being uniform in [0, 1)."""
        return self.cheap if draw < self.share else self.dear


def price_for(budget: float, spent: Callable[[float], float], *, start: float, steps: int = 30) -> Priced:
    """The price λ at which the mean cost `spent(λ)` meets the budget, by bisection in λ's logarithm.

    Costs fall in steps, so two prices are kept: the lowest found with a mean cost within the budget and the highest
    found above it, mixed with the probability γ = (budget − C_low)/(C_high − C_low) of the second (2410.10347). If
    λ = 0 is within the budget it is the price. `start`: a price of the right size.

    >>> mixed = price_for(3.0, lambda price: 1.0 if price >= 0.5 else 5.0, start=1.0)
    >>> mixed.share, mixed.dear < 0.5 <= mixed.cheap
    (0.5, True)
    """
    if spent(0.0) <= budget:
        return Priced(0.0, 0.0, 1.0)
    cheap = start
    for _ in range(60):
        if spent(cheap) <= budget:
            break
        cheap *= 4
    else:
        least = spent(cheap)
        raise BadParameter(
            "budget_usd", budget, f"must be at least {least:g}, the least that answering costs"
        )
    dear = 0.0
    for _ in range(steps):
        middle = np.sqrt(dear * cheap) if dear > 0 else cheap / 16
        if spent(middle) <= budget:
            cheap = middle
        else:
            dear = middle
    low, high = spent(cheap), spent(dear)
    return Priced(float(cheap), float(dear), 1.0 if high <= low else float(1 - (budget - low) / (high - low)))
