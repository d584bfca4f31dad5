"""A lookup table that is read with weights: what members scored in the groups to which a question belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features, Rows, cosines
from septet.parts.routing.records import Fitted, Known

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

_CELLS = 4_000_000
"""Cells (queries × groups × members) that are weighed at once: 32 MB."""

_SAME = 1e-12
"""Predictions that differ by less are equal: the order of a sum decides nothing."""


@dataclass(frozen=True)
class Smoothed:
    """`value` (g, m): the statistic of each member in each group, NaN unknown; `prior` (m,): without a group.

    Groups are known questions (neighbours), clusters or tags. With weights w (n, k) on k groups of a query,
    estimate_m = (e·Σ w v / Σ w + n₀·prior_m) / (e + n₀), over the groups where v is known for member m;
    e = (Σ w)² / Σ w² is how many equal weights would say as much, and n₀ the pseudo-counts of the prior.
    Without any known group the estimate is the prior.
    """

    value: Floats
    prior: Floats

    @classmethod
    def of(cls, value: Floats) -> Smoothed:
        """A table whose prior is the mean over the groups that are known."""
        return cls(value, known_mean(value))

    @cached_property
    def unknown(self) -> Mask:
        """(m,) members of whom some group is unknown."""
        return holes(self.value)

    def at(self, groups: Index, weights: Floats, pseudo: float = 0.0) -> Floats:
        """(n, m) estimates of queries that belong to `groups` (n, k) with `weights` (n, k) ≥ 0.

        >>> table = Smoothed(np.array([[1., 0.], [0., np.nan]]), np.array([.5, .5]))
        >>> table.at(np.array([[0, 1]]), np.array([[3., 1.]])).tolist()
        [[0.75, 0.0]]
        >>> table.at(np.array([[0, 1]]), np.array([[1., 1.]]), pseudo=2.0).tolist()
        [[0.5, 0.3333333333333333]]
        """
        at_once = max(1, _CELLS // max(groups.shape[1] * self.value.shape[1], 1))
        found = np.empty((len(groups), self.value.shape[1]))
        for i in range(0, len(groups), at_once):
            part = slice(i, i + at_once)
            found[part] = self._at(groups[part], weights[part], pseudo)
        return found

    def _at(self, groups: Index, weights: Floats, pseudo: float) -> Floats:
        value = self.value[groups]  # (n, k, m)
        if not self.unknown.any():
            total = np.matmul(weights[:, None], value)[:, 0]
            weight, square = weights.sum(axis=1)[:, None], (weights**2).sum(axis=1)[:, None]
        else:
            known = ~np.isnan(value)
            total = np.matmul(weights[:, None], np.where(known, value, 0.0))[:, 0]
            weight = np.matmul(weights[:, None], known)[:, 0]
            square = np.matmul((weights**2)[:, None], known)[:, 0]
        return shrunk(total, weight, square, self.prior, pseudo)

    def near(self, similarity: Floats, k: int, power: float = 0.0, pseudo: float = 0.0) -> Floats:
        """(n, m) estimates from the k most similar groups for which each member is known.

        `similarity` (n, g); a group weighs max(similarity, 0)^power, all alike with power 0. Equally similar
        groups rank by position. A member with fewer than k known groups is estimated from those.

        >>> Smoothed.of(np.array([[1.], [0.], [0.]])).near(np.array([[.9, .1, .5]]), k=2).tolist()
        [[0.5]]
        """
        k = min(k, self.value.shape[0])
        if not self.unknown.any():
            groups = nearest(similarity, k)
            return self.at(groups, kernel(np.take_along_axis(similarity, groups, axis=1), power), pseudo)
        return self._near_known(similarity, k, power, pseudo)

    def _near_known(self, similarity: Floats, k: int, power: float, pseudo: float) -> Floats:
        """Twice as many groups as needed hold k known ones for most members; the others are ranked alone."""
        n, (g, m) = len(similarity), self.value.shape
        wide = min(2 * k, g)
        groups = nearest(similarity, wide)
        found = np.empty((n, m))
        short = np.zeros(m, dtype=bool)
        at_once = max(1, _CELLS // max(wide * m, 1))
        for i in range(0, n, at_once):
            part = slice(i, i + at_once)
            value = self.value[groups[part]]  # (n, wide, m)
            weights = kernel(np.take_along_axis(similarity[part], groups[part], axis=1), power)
            known = ~np.isnan(value)
            rank = np.cumsum(known, axis=1)
            short |= (rank[:, -1] < k).any(axis=0) if wide < g else False
            used = np.where(known & (rank <= k), weights[:, :, None], 0.0)
            total = (used * np.where(known, value, 0.0)).sum(axis=1)
            found[part] = shrunk(total, used.sum(axis=1), (used**2).sum(axis=1), self.prior, pseudo)
        for j in np.flatnonzero(short):
            own = np.flatnonzero(~np.isnan(self.value[:, j]))
            alone = Smoothed(self.value[own, j : j + 1], self.prior[j : j + 1])
            found[:, j] = (
                self.prior[j] if not len(own) else alone.near(similarity[:, own], k, power, pseudo)[:, 0]
            )
        return found


@dataclass(frozen=True)
class Neighbourhoods(Fitted):
    """Known questions `rows` (r, d), with a table of what members scored on them, of what their answers cost
    in USD and of the tokens they wrote; `k` neighbours say how good an answer will be, `k_cost` what it costs.
    """

    rows: Features
    quality: Smoothed
    usd: Smoothed
    written: Smoothed
    k: int
    k_cost: int

    @classmethod
    def of(
        cls,
        known: Known,
        featurizer: Featurizer,
        x: Features,
        scores: Floats,
        k: int,
        k_cost: int,
        prefer: float = 0.0,
    ) -> Neighbourhoods:
        """From what is known, the features x (r, d) of its questions and what is to be averaged, scores (r, m)."""
        quality, usd, written = (Smoothed.of(cells) for cells in (scores, known.usd, known.completion_tokens))
        return cls(featurizer, known.spending, prefer, light(x), quality, usd, written, k, k_cost)


def shrunk(total: Floats, weight: Floats, square: Floats, prior: Floats, pseudo: float) -> Floats:
    """(n, m) weighted means, moved towards prior (m,) as if it were `pseudo` outcomes more.

    `total` = Σ w v, `weight` = Σ w and `square` = Σ w², each (n, m) or, alike for all members, (n, 1).
    """
    some = square > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        evidence = np.where(some, weight**2 / square, 0.0)
        mean = np.where(some, total / weight, 0.0)
        if not pseudo:
            return np.where(some, mean, prior)
        estimate: Floats = (evidence * mean + pseudo * prior) / (evidence + pseudo)
    return estimate


def kernel(similarity: Floats, power: float) -> Floats:
    """What a group of this similarity weighs: max(similarity, 0)^power, and 1 with power 0."""
    if not power:
        return np.ones(similarity.shape)
    weight: Floats = np.maximum(similarity, 0.0).astype(np.float64) ** power
    return weight


def nearest(similarity: Floats, k: int) -> Index:
    """(n, k) the most similar of g groups, best first; equally similar ones by position.

    Only what may be among the k is sorted.

    >>> nearest(np.array([[.5, .9, .5, .5]]), 3).tolist()
    [[1, 0, 2]]
    """
    n, g = similarity.shape
    k = min(k, g)
    found: Index = np.empty((n, k), dtype=np.intp)
    if k == 1:
        found[:, 0] = similarity.argmax(axis=1)
        return found
    for out, row in zip(found, similarity, strict=True):
        if k == g:
            out[:] = np.argsort(-row, kind="stable")
            continue
        last = np.partition(row, g - k)[g - k]
        above = np.flatnonzero(row > last)
        equal = np.flatnonzero(row == last)[: k - len(above)]
        out[: len(above)] = above[np.argsort(-row[above], kind="stable")]
        out[len(above) :] = equal
    return found


def light(x: Features) -> Features:
    """The same rows in single precision where they are dense: half the memory to read at every question."""
    if isinstance(x, Rows):
        return x
    rows: Floats = x.astype(np.float32)
    return rows


def alike(rows: Features, x: Features) -> Floats:
    """(n, r) cosines of x (n, d) with known rows (r, d) of length one, in the precision of the rows."""
    if isinstance(rows, np.ndarray) and isinstance(x, np.ndarray):
        products: Floats = x.astype(rows.dtype, copy=False) @ rows.T
        return products
    return cosines(rows, x)


def holes(values: Floats) -> Mask:
    """(m,) columns of values (r, m) of which some cell is unknown."""
    some: Mask = np.isnan(values).sum(axis=0) > 0
    return some


def known_mean(values: Floats) -> Floats:
    """(m,) column means over what is known; NaN for a column without any."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean


def group_means(values: Floats, group: Index, n_groups: int, prior: Floats, pseudo: float = 0.0) -> Floats:
    """(g, m) mean of values (r, m) over the rows of each group (r,), shrunk to the prior by pseudo-counts.

    >>> group_means(np.array([[1.], [0.], [1.]]), np.array([0, 0, 1]), 2, np.array([0.5]), pseudo=1.0).ravel()
    array([0.5 , 0.75])
    """
    known = ~np.isnan(values)
    total, count = np.zeros((n_groups, values.shape[1])), np.zeros((n_groups, values.shape[1]))
    np.add.at(total, group, np.where(known, values, 0.0))
    np.add.at(count, group, known)
    return shrunk(total, count, count, prior, pseudo)


def rank_reciprocal(means: Floats, epsilon: float) -> Floats:
    """(g, m) 1 / (rank + ε), the best member of a group having rank 0 and equal members the same rank.

    >>> rank_reciprocal(np.array([[.9, .6, .9]]), 1.0).tolist()
    [[1.0, 0.3333333333333333, 1.0]]
    """
    better = means[:, None, :] > means[:, :, None] + _SAME  # (g, m, m): the other is better
    reciprocal: Floats = np.where(np.isnan(means), np.nan, 1.0 / (better.sum(axis=2) + epsilon))
    return reciprocal


# --- how many neighbours, and how much of the prior ----------------------------------------------------


@dataclass(frozen=True)
class Validation:
    """Every k and n₀ tried on questions that were held out.

    `k` and `pseudo` (c,); `realised` (r, c): the score of the member with the best estimate for each
    question, the mean where several are best, NaN where unknown; `error` (c,): mean squared error of all
    estimates; `closeness` (r,): mean similarity of each question to its nearest others.
    """

    k: NDArray[np.int64]
    pseudo: Floats
    realised: Floats
    error: Floats
    closeness: Floats

    def best(self) -> tuple[int, float]:
        """The k and n₀ with the least squared error among those whose realised score is within one standard
        error, of the paired difference, of the highest: realised scores alone are too noisy to choose by."""
        mean = known_mean(self.realised)
        behind = self.realised[:, [int(np.nanargmax(mean))]] - self.realised
        n = np.maximum((~np.isnan(behind)).sum(axis=0), 1)
        allowed = known_mean(behind) <= np.nanstd(behind, axis=0) / np.sqrt(n) + _SAME
        return self._at(int(np.where(allowed, self.error, np.inf).argmin()))

    def most_exact(self) -> tuple[int, float]:
        """The k and n₀ with the least squared error."""
        return self._at(int(self.error.argmin()))

    def _at(self, place: int) -> tuple[int, float]:
        return int(self.k[place]), float(self.pseudo[place])


def cross_validated(
    x: Features,
    values: Floats,
    ks: Sequence[int],
    rng: np.random.Generator,
    *,
    pseudos: Sequence[float] = (0.0,),
    power: float = 0.0,
    folds: int = 5,
    kappa: int = 10,
) -> Validation:
    """Holds out each fold of the known rows x (r, d) with values (r, m) in turn; k stays within what is left.

    `closeness` is taken over the kappa nearest. The folds are drawn by rng.
    """
    n, m = values.shape
    folds = min(folds, n)
    fold = rng.permutation(n) % folds if folds > 1 else np.zeros(n, dtype=np.int64)
    largest = max(1, n - -(-n // folds)) if folds > 1 else n
    ks = sorted({min(k, largest) for k in ks})
    grid = [(k, p) for k in ks for p in pseudos]
    realised, closeness = np.full((n, len(grid)), np.nan), np.empty(n)
    error, cells = np.zeros(len(grid)), max(1, int((~np.isnan(values)).sum()))
    at_once = max(1, _CELLS // max(ks[-1] * m, 1))
    for f in range(folds):
        held = np.flatnonzero(fold == f)
        rest = np.flatnonzero(fold != f) if folds > 1 else held
        rows, known = x[rest], values[rest]
        prior = known_mean(known)
        for i in range(0, len(held), at_once):
            part = held[i : i + at_once]
            similarity = alike(rows, x[part])
            closeness[part] = nearness(similarity, kappa)
            sums = _sums(similarity, known, ks, power)
            for c, (k, pseudo) in enumerate(grid):
                total, weight, square = (s[:, ks.index(k)] for s in sums)
                q = shrunk(total, weight, square, prior, pseudo)
                realised[part, c] = _score_of_best(q, values[part])
                error[c] += np.nansum((q - values[part]) ** 2)
    return Validation(
        np.array([k for k, _ in grid], dtype=np.int64),
        np.array([p for _, p in grid], dtype=np.float64),
        realised,
        error / cells,
        closeness,
    )


def nearness(similarity: Floats, kappa: int) -> Floats:
    """(n,) mean similarity to the kappa most similar of g groups."""
    kappa = min(kappa, similarity.shape[1])
    top = np.partition(similarity, similarity.shape[1] - kappa, axis=1)[:, -kappa:]
    mean: Floats = top.mean(axis=1, dtype=np.float64)
    return mean


def _sums(
    similarity: Floats, values: Floats, ks: Sequence[int], power: float
) -> tuple[Floats, Floats, Floats]:
    """Σ w v, Σ w and Σ w², each (n, ks, m), over the k nearest known rows, for every k of ascending ks."""
    n, m = len(similarity), values.shape[1]
    sums = tuple(np.zeros((n, len(ks), m)) for _ in range(3))
    some = holes(values)
    for column in [np.flatnonzero(~some), *np.flatnonzero(some)[:, None]]:
        own = np.flatnonzero(~np.isnan(values[:, column]).any(axis=1))
        if not len(own) or not len(column):
            continue
        groups = own[nearest(similarity[:, own], ks[-1])]
        weights = kernel(np.take_along_axis(similarity, groups, axis=1), power)
        first = 0
        for place, k in enumerate(ks):  # each k adds the neighbours beyond the last one
            more = slice(first, min(k, groups.shape[1]))
            w, v = weights[:, more, None], values[groups[:, more]][:, :, column]
            for s, amount in zip(sums, (w * v, w, w**2), strict=True):
                before = s[:, place - 1, column] if place else 0.0
                s[:, place, column] = before + amount.sum(axis=1)
            first = more.stop
    return sums[0], sums[1], sums[2]


def _score_of_best(q: Floats, values: Floats) -> Floats:
    """(n,) the mean known value of the members with the largest estimate; NaN where none of it is known."""
    filled = np.where(np.isnan(q), -np.inf, q)
    used = (filled >= filled.max(axis=1, keepdims=True) - _SAME) & ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        score: Floats = np.where(used, values, 0.0).sum(axis=1) / used.sum(axis=1)
    return score
