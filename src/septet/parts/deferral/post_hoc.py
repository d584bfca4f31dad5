"""What a second member would add, estimated from the first one's outputs: targets, thresholds and deferral curves.

2307.02764: with a cost c of asking on, the best rule asks on where P(second right) − P(first right) > c; confidence of
the first alone is enough only where both order the questions alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats

Estimator: TypeAlias = Literal["confidence", "diff-01", "diff-prob", "max-prob"]


@dataclass(frozen=True)
class Pairs:
    """What two members said to n questions with k classes: class probabilities `first` and `second` (n, k), NaN
    unknown; `right` (n, 2), the scores of what they said; `label` (n,), the right class, −1 where nobody knows."""

    first: Floats
    second: Floats
    right: Floats
    label: NDArray[np.int64]

    def only(self, keep: NDArray[np.bool_]) -> Pairs:
        """The questions where `keep` (n,) is true."""
        return Pairs(self.first[keep], self.second[keep], self.right[keep], self.label[keep])


def targets(estimator: Estimator, pairs: Pairs) -> Floats:
    """(n,) what an estimator learns, NaN where it is not known (2307.02764, table of post-hoc estimators).

    diff-01: score₂ − score₁, which is 1[y = h₂] − 1[y = h₁] for 0 and 1; diff-prob: p₂(y) − p₁(y); max-prob:
    max_k p₂(k), for which no label is needed. confidence learns nothing.

    >>> one = Pairs(np.array([[.5, .2, .3]]), np.array([[.1, .7, .2]]), np.array([[0., 1.]]), np.array([1]))
    >>> [float(targets(kind, one)[0].round(9)) for kind in ("diff-01", "diff-prob", "max-prob")]
    [1.0, 0.5, 0.7]
    """
    if estimator == "diff-01":
        return np.asarray(pairs.right[:, 1] - pairs.right[:, 0])
    if estimator == "max-prob":
        return np.asarray(pairs.second.max(axis=1))
    if estimator == "diff-prob":
        rows, label = np.arange(len(pairs.label)), np.maximum(pairs.label, 0)
        gained = pairs.second[rows, label] - pairs.first[rows, label]
        return np.where(pairs.label >= 0, gained, np.nan)
    raise BadParameter("estimator", estimator, "must be diff-01, diff-prob or max-prob, for it to be learned")


def urgency(estimator: Estimator, learned: Floats, first: Floats) -> Floats:
    """(n,) what is compared with the cost of asking on: the expected gain from the learned g (n,) and the first
    member's class probabilities (n, k); of confidence, one minus the largest of them, and g is not read.

    >>> float(urgency("max-prob", np.array([.7]), np.array([[.5, .2, .3]])).round(9)[0])
    0.2
    """
    if estimator == "confidence":
        return np.asarray(1 - first.max(axis=1))
    return learned - first.max(axis=1) if estimator == "max-prob" else learned


def threshold_for_share(score: Floats, share: float) -> float:
    """The threshold above which the given share of score (n,) lies: the nearest that whole questions allow.

    Equal scores lie on one side. A share of 0 gives the largest score, so that nothing seen lies above it.

    >>> threshold_for_share(np.array([.1, .4, .2, .3]), 0.5)
    0.2
    """
    if not 0 <= share <= 1:
        raise BadParameter("share", share, "must be in [0, 1]")
    ranked = _ranked(score)
    counts = _splits(ranked)
    return _threshold(ranked, int(counts[np.abs(counts - share * len(ranked)).argmin()]))


def threshold_for_cost(score: Floats, first: Floats, second: Floats, budget: float) -> float:
    """The lowest threshold on score (n,) at which asking on above it keeps the mean cost within the budget.

    first, second (n,): what each member's answer costs; that of the first is always spent.

    >>> threshold_for_cost(np.array([.9, .5, .1]), np.ones(3), np.full(3, 6.), 5.0)  # 1 + 6·2/3
    0.1
    """
    known = ~(np.isnan(score) | np.isnan(first) | np.isnan(second))
    ranked = _ranked(score[known])
    order = np.argsort(-score[known], kind="stable")
    further = np.concatenate([[0.0], np.cumsum(second[known][order])])
    spent = first[known].mean() + further / len(ranked)
    counts = _splits(ranked)
    fits = counts[spent[counts] <= budget * (1 + 1e-12)]
    if not len(fits):
        least = float(first[known].mean())
        raise BadParameter("budget_usd", budget, f"must be at least {least:g}, the first member's mean cost")
    return _threshold(ranked, int(fits.max()))


@dataclass(frozen=True)
class DeferralCurve:
    """Mean quality when the most urgent are asked on: `share` (s,) rising from 0 to 1, `quality` (s,)."""

    share: Floats
    quality: Floats

    @property
    def area(self) -> float:
        """The mean quality over all shares, by trapezoids: that of random deferral is the mean of both ends."""
        return float(np.trapezoid(self.quality, self.share))

    def at(self, share: float) -> float:
        """The quality at a share, straight between the points."""
        return float(np.interp(share, self.share, self.quality))


def deferral_curve(score: Floats, first: Floats, second: Floats) -> DeferralCurve:
    """The curve of urgency score (n,) with the members' qualities (n,); equal scores are deferred together.

    >>> curve = deferral_curve(np.array([.9, .1]), np.array([0., 1.]), np.array([1., 0.]))
    >>> curve.quality.tolist(), curve.area
    ([0.5, 1.0, 0.5], 0.75)
    """
    known = ~(np.isnan(score) | np.isnan(first) | np.isnan(second))
    ranked = _ranked(score[known])
    order = np.argsort(-score[known], kind="stable")
    gained = np.concatenate([[0.0], np.cumsum((second - first)[known][order])])
    counts = _splits(ranked)
    quality = first[known].mean() + gained[counts] / len(ranked)
    return DeferralCurve(counts / len(ranked), quality)


def _ranked(score: Floats) -> Floats:
    """(n,) the known scores, largest first."""
    ranked = np.sort(score[~np.isnan(score)])[::-1]
    if not len(ranked):
        raise BadParameter("score", [], "must hold at least one known number")
    return ranked


def _splits(ranked: Floats) -> NDArray[np.int64]:
    """How many can be above a threshold: equal ones are all above it or none."""
    return np.concatenate([[0], np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True)) + 1])


def _threshold(ranked: Floats, count: int) -> float:
    """The number that the first `count` of ranked (n,) are above and the others are not."""
    return float(ranked[count]) if count < len(ranked) else float(np.nextafter(ranked[-1], -np.inf))
