"""The dual contrastive loss of RouterDC (2409.19886): questions near the members that answer them well, and near
the questions like them. Values with their gradients, so that a linear map and an encoder are fitted alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.method import Rng
from septet.core.types import Floats

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Contrast:
    """What a question pulls and pushes: `scores` (n, m), `positive` (n, m) its best members, `negative` (n, m)
    its worst, `cluster` (n,) which questions are alike."""

    scores: Floats
    positive: Mask
    negative: Mask
    cluster: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Floats, cluster: NDArray[np.int64], n_best: int, n_worst: int) -> Contrast:
        """The `n_best` members of scores (n, m) that have more than 0, and the `n_worst` that have at most a
        half; equals by index, an unknown score in neither.

        >>> sets = Contrast.of(np.array([[.9, .0, .2, np.nan]]), np.zeros(1, dtype=np.int64), 2, 2)
        >>> sets.positive.tolist(), sets.negative.tolist()
        ([[True, False, True, False]], [[False, True, True, False]])
        """
        known = ~np.isnan(scores)
        best = np.argsort(np.where(known, -scores, np.inf), axis=1, kind="stable")[:, :n_best]
        worst = np.argsort(np.where(known, scores, np.inf), axis=1, kind="stable")[:, :n_worst]
        positive, negative = np.zeros_like(known), np.zeros_like(known)
        np.put_along_axis(positive, best, True, axis=1)
        np.put_along_axis(negative, worst, True, axis=1)
        with np.errstate(invalid="ignore"):
            return cls(scores, positive & (scores > 0), negative & (scores <= 0.5), cluster)

    def only(self, index: NDArray[np.int64]) -> Contrast:
        """Some of the questions."""
        return Contrast(self.scores[index], self.positive[index], self.negative[index], self.cluster[index])


def to_members(sim: Floats, sets: Contrast) -> tuple[float, Floats]:
    """The sample–LLM loss and its slope (n, m), for similarities sim (n, m) already divided by the temperature.

    Mean over questions of Σ over positives p of −ln(e^{s_p} / (e^{s_p} + Σ e^{s_j})), j over the negatives that
    scored less than p. Without any it is 0.

    >>> sets = Contrast.of(np.array([[1., 0.]]), np.zeros(1, dtype=np.int64), 1, 1)
    >>> value, slope = to_members(np.zeros((1, 2)), sets)
    >>> round(value, 4), slope.tolist()  # ln 2
    (0.6931, [[-0.5, 0.5]])
    """
    n = max(len(sim), 1)
    with np.errstate(invalid="ignore"):
        less = sets.scores[:, None, :] < sets.scores[:, :, None]  # (n, p, j)
    against = less & sets.positive[:, :, None] & sets.negative[:, None, :]
    ratio = np.where(against, np.exp(np.where(against, sim[:, None, :] - sim[:, :, None], 0.0)), 0.0)
    total = ratio.sum(axis=2)  # (n, p)
    share = ratio / (1 + total[:, :, None])
    slope: Floats = (share.sum(axis=1) - total / (1 + total)) / n
    return float(np.log1p(total).sum() / n), slope


def to_questions(rows: Floats, cluster: NDArray[np.int64], n_others: int, rng: Rng) -> tuple[float, Floats]:
    """The sample–sample loss of a batch of rows (n, d) of length one, and its slope (n, d).

    Each question is drawn towards one of its cluster and away from `n_others` of other clusters, all from the
    batch: mean of −ln(e^{s⁺} / (e^{s⁺} + Σ e^{s⁻})), s the cosine. One that has no partner or no other counts 0.
    """
    n = len(rows)
    sim = rows @ rows.T
    same = (cluster[:, None] == cluster[None, :]) & ~np.eye(n, dtype=bool)
    other = cluster[:, None] != cluster[None, :]
    drawn = rng.random((n, n))
    partner = np.where(same, drawn, -1.0).argmax(axis=1)
    rank = np.argsort(np.argsort(np.where(other, -drawn, 2.0), axis=1), axis=1)
    away = other & (rank < n_others) & same.any(axis=1, keepdims=True)
    ratio = np.where(away, np.exp(sim - sim[np.arange(n), partner][:, None]), 0.0)
    total = ratio.sum(axis=1)
    slope = ratio / (1 + total[:, None])  # of each similarity (n, n)
    slope[np.arange(n), partner] -= total / (1 + total)
    slope /= n
    return float(np.log1p(total).mean()), (slope + slope.T) @ rows


@dataclass(frozen=True)
class Pull:
    """The whole loss: cosines over `temperature` to members, plus `weight` times the one among questions."""

    temperature: float
    weight: float
    n_others: int

    def loss(self, rows: Floats, arms: Floats, sets: Contrast, rng: Rng) -> tuple[float, Floats, Floats]:
        """The loss of a batch, its slope for rows (n, d) of length one, and for arms (m, d) of any length."""
        length = np.linalg.norm(arms, axis=1, keepdims=True)
        unit_arms = arms / length
        value, slope = to_members(rows @ unit_arms.T / self.temperature, sets)
        slope = slope / self.temperature
        rows_slope = slope @ unit_arms
        if self.weight:
            among, among_slope = to_questions(rows, sets.cluster, self.n_others, rng)
            value += self.weight * among
            rows_slope = rows_slope + self.weight * among_slope
        return value, rows_slope, through_length(slope.T @ rows, unit_arms, length)


def through_length(slope: Floats, unit_rows: Floats, length: Floats) -> Floats:
    """The slope (n, d) for rows from the slope for the same rows at length one; `length` (n, 1) is theirs."""
    along = (slope * unit_rows).sum(axis=1, keepdims=True)
    found: Floats = (slope - along * unit_rows) / length
    return found


class Adam:
    """Adam (1412.6980) on one array, in place of a library where torch is not there."""

    def __init__(self, lr: float) -> None:
        self.lr, self.first, self.second, self.step = lr, 0.0, 0.0, 0

    def next(self, value: Floats, slope: Floats) -> Floats:
        """The array after one step down its slope."""
        self.step += 1
        self.first = 0.9 * self.first + 0.1 * slope  # type: ignore[assignment]
        self.second = 0.999 * self.second + 0.001 * slope**2  # type: ignore[assignment]
        mean, spread = self.first / (1 - 0.9**self.step), self.second / (1 - 0.999**self.step)
        found: Floats = value - self.lr * mean / (np.sqrt(spread) + 1e-8)
        return found


def even_over_tasks(tasks: tuple[str, ...]) -> Floats:
    """(r,) how likely each question is to be drawn, every task being as likely as any other.

    >>> even_over_tasks(("a", "a", "b")).tolist()
    [0.25, 0.25, 0.5]
    """
    names, of, counts = np.unique(np.array(tasks), return_inverse=True, return_counts=True)
    share: Floats = 1.0 / (len(names) * counts[of])
    return share


def line_through(cosines: Floats, scores: Floats) -> Floats:
    """(2,) intercept and slope > 0 of the least squares line from cosines (n, m) to known scores (n, m), so that
    quality has the unit of the scores and the order of the cosines.

    >>> line_through(np.array([[0., 1.]]), np.array([[.2, .8]])).round(2).tolist()
    [0.2, 0.6]
    """
    known = ~np.isnan(scores)
    x, y = cosines[known], scores[known]
    spread = x.var()
    slope = max(float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else 0.0, 1e-6)
    return np.array([y.mean() - slope * x.mean(), slope])
