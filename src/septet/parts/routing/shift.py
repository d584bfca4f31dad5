"""How far the prediction of a router can be trusted on a task that it was not fitted on.

The further a task lies from the known questions, the less the neighbours of its questions say (2309.15789,
section 3.3). The accuracy of "right" or "wrong" as predicted from neighbours is measured on every known task
as if it were new, and looked up for a new task by its distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats
from septet.parts.routing.neighbours import nearest, nearest_distance, nearest_mean
from septet.parts.stats.binomial import p_exceeds, pmf

SHARES = tuple(s / 100 for s in range(0, 30, 2))
"""The shares of a held-out task's questions whose labels are given back (0, 0.02, …, 0.28)."""

MOST_LABELS = 50
"""At most so many labels are given back."""


@dataclass(frozen=True)
class AccuracyByDistance:
    """Pairs of a task's distance `u` (r,) and the share of right predictions per member, `accuracy` (r, m)."""

    u: Floats
    accuracy: Floats

    def at(self, u: float, width: float) -> Floats:
        """(m,) accuracy at distance u, a mean under the Gaussian kernel exp(−(u − uᵢ)² / 2 width²).

        >>> AccuracyByDistance(np.array([.1, .3]), np.array([[.9], [.6]])).at(.2, .09).round(4)
        array([0.75])
        """
        exponent = -((u - self.u) ** 2) / (2 * width**2)
        weight = np.exp(exponent - exponent.max())[:, None]  # the nearest pair weighs 1: no underflow
        known = ~np.isnan(self.accuracy)
        with np.errstate(invalid="ignore"):
            mean: Floats = np.where(known, weight * self.accuracy, 0).sum(axis=0) / (weight * known).sum(
                axis=0
            )
        return mean


def measure(
    similarity: Floats,
    scores: Floats,
    tasks: Sequence[str],
    rng: np.random.Generator,
    *,
    k: int,
    kappa: int,
    threshold: float,
    draws: int = 10,
) -> AccuracyByDistance:
    """Leaves each task out in turn, with a few of its labels given back, and measures the accuracy there.

    `similarity` (n, n) of known questions, `scores` (n, m), `tasks` (n,). Per task, share and draw one pair;
    a draw that leaves no known or no held-out question makes none.
    """
    of = np.array([list(dict.fromkeys(tasks)).index(task) for task in tasks])
    pairs: list[tuple[float, Floats]] = []
    for task in range(int(of.max()) + 1):
        left_out = _LeftOut.of(similarity, scores, of == task, max(k, kappa))
        for share in SHARES:
            for _ in range(draws):
                n_labels = int(min(share * left_out.n, MOST_LABELS))
                shown = np.zeros(left_out.n, dtype=bool)
                shown[rng.choice(left_out.n, n_labels, replace=False)] = True
                pairs += left_out.pair(shown, k, kappa, threshold)
    u = np.array([u for u, _ in pairs])
    accuracy = np.array([a for _, a in pairs]).reshape(len(pairs), scores.shape[1])
    return AccuracyByDistance(u, accuracy)


@dataclass(frozen=True)
class _LeftOut:
    """A task that is left out: its questions' nearest neighbours elsewhere, and each other."""

    outside: Floats  # (t, c) similarity to the nearest questions of other tasks
    outside_scores: Floats  # (t, c, m)
    inside: Floats  # (t, t) similarity among its own questions
    scores: Floats  # (t, m)

    @property
    def n(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, similarity: Floats, scores: Floats, own: NDArray[np.bool_], depth: int) -> _LeftOut:
        rows = similarity[np.ix_(own, ~own)]
        # with unknown scores a member's k nearest may lie deeper, so then all are kept
        depth = rows.shape[1] if np.isnan(scores).any() else min(depth, rows.shape[1])
        order = nearest(rows, depth)
        return cls(
            np.take_along_axis(rows, order, axis=1),
            scores[~own][order],
            similarity[np.ix_(own, own)],
            scores[own],
        )

    def pair(
        self, shown: NDArray[np.bool_], k: int, kappa: int, threshold: float
    ) -> Iterator[tuple[float, Floats]]:
        """The distance and the accuracy per member when the labels of some of its questions are shown."""
        hidden = ~shown
        similarity = np.hstack([self.outside[hidden], self.inside[np.ix_(hidden, shown)]])
        if 0 in similarity.shape:
            return
        n_hidden, n_members = len(similarity), self.scores.shape[1]
        own = np.broadcast_to(self.scores[shown], (n_hidden, int(shown.sum()), n_members))
        near = nearest_mean(similarity, np.concatenate([self.outside_scores[hidden], own], axis=1), k)
        true = self.scores[hidden]
        known = ~(np.isnan(near) | np.isnan(true))
        agrees = ((near > threshold) == (true > threshold)) & known
        with np.errstate(invalid="ignore"):
            yield float(nearest_distance(similarity, kappa).mean()), agrees.sum(axis=0) / known.sum(axis=0)


def corrected(s2: Floats, p: Floats) -> Floats:
    """S3 (m,) = S2·p + (1 − S2)·(1 − p), the expected share of right answers.

    >>> float(corrected(np.array(.9), np.array(.8)).round(2))
    0.74
    """
    return np.asarray(s2 * p + (1 - s2) * (1 - p))


def p_more_right(s2: Floats, p: Floats, n: int) -> float:
    """The probability that the first of two members has more right answers than the second on n queries.

    A member's count is Bin(n₊, p) + Bin(n₋, 1 − p), with n₊ = n·S2 queries predicted right; s2 and p (2,).
    """
    counts = []
    for share, accuracy in zip(s2, p, strict=True):
        positive = round(float(share) * n)
        counts.append(np.convolve(pmf(positive, float(accuracy)), pmf(n - positive, 1 - float(accuracy))))
    return p_exceeds(counts[0], counts[1])


def guarded(s2: Floats, p: Floats, mean: Floats, n: int, level: float) -> Floats:
    """S3 (m,) of n queries; or the mean scores (m,), where its winner is not surely better than theirs.

    A member whose p is unknown has no S3 and cannot win.
    """
    s3 = corrected(s2, p)
    if np.isnan(s3).all():
        return mean
    winner, best_on_average = int(np.nanargmax(s3)), int(np.nanargmax(mean))
    if winner == best_on_average or np.isnan(s3[best_on_average]):
        return s3
    pair = [winner, best_on_average]
    return s3 if p_more_right(s2[pair], p[pair], n) >= level else mean
