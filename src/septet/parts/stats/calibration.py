"""Whether predicted numbers mean what they say (calibration), and whether they order things rightly (AUC)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats


@dataclass(frozen=True)
class Reliability:
    """Bins of predictions: means of what was predicted and of what came (b,), and how many were in each (b,)."""

    predicted: Floats
    observed: Floats
    count: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean of |predicted − observed| over bins, by count; NaN when empty."""
        if not self.count.sum():
            return float("nan")
        return float(self.count @ np.abs(self.predicted - self.observed) / self.count.sum())


def brier(predicted: Floats, observed: Floats) -> float:
    """The mean of (predicted − observed)² over the known pairs, whatever their shape; 0 is perfect.

    >>> round(brier(np.array([.8, .3]), np.array([1., 0.])), 9)  # (.04 + .09) / 2
    0.065
    """
    p, y = _known(predicted, observed)
    return float(np.mean((p - y) ** 2)) if len(p) else float("nan")


def reliability(predicted: Floats, observed: Floats, *, bins: int = 10) -> Reliability:
    """Bins of equal width over [0, 1], the empty ones left out; a prediction outside counts to the end bin.

    arXiv 1706.04599; there the observed is 0 or 1, here a score in [0, 1] also.
    """
    p, y = _known(predicted, observed)
    index = np.clip((p * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(index, minlength=bins).astype(np.float64)
    filled = count > 0
    sums = (np.bincount(index, weights=v, minlength=bins)[filled] for v in (p, y))
    mean_p, mean_y = (s / count[filled] for s in sums)
    return Reliability(mean_p, mean_y, count[filled])


def ece(predicted: Floats, observed: Floats, *, bins: int = 10) -> float:
    """Expected calibration error over `bins` bins of equal width.

    >>> round(ece(np.array([.95, .95]), np.array([1., 0.])), 9)  # one bin: |.95 − .5|
    0.45
    """
    return reliability(predicted, observed, bins=bins).ece


def auc(score: Floats, positive: Floats, *, counts: Floats | None = None) -> Floats:
    """The chance that a positive has a higher score than a negative, ties half: Mann–Whitney's U, scaled.

    score (n,), positive (n,) of 0 and 1, both known; counts (…, n) are how often each is counted, as in resamples;
    the result is (…). NaN where a class is absent. A constant score has .5.

    >>> float(auc(np.array([.1, .4, .4, .8]), np.array([0., 0., 1., 1.])))  # 3.5 of 4 pairs
    0.875
    """
    s, y = np.asarray(score, dtype=np.float64), np.asarray(positive, dtype=np.float64)
    if s.shape != y.shape or s.ndim != 1:
        raise BadParameter("positive", y.shape, f"must be paired with the score, of shape {s.shape}")
    if not np.isin(y, (0.0, 1.0)).all() or np.isnan(s).any():
        raise BadParameter("positive", "other values", "must be 0 or 1, and each score a number")
    order = np.argsort(s, kind="stable")
    times = np.ones(len(s)) if counts is None else np.asarray(counts, dtype=np.float64)
    ends = np.flatnonzero(np.append(np.diff(s[order]) > 0, True))  # the last of each run of equal scores
    ups = np.diff(np.cumsum((times * y)[..., order], axis=-1)[..., ends], prepend=0.0, axis=-1)
    downs = np.diff(np.cumsum((times * (1 - y))[..., order], axis=-1)[..., ends], prepend=0.0, axis=-1)
    below = np.cumsum(downs, axis=-1) - downs
    pairs = ups.sum(axis=-1) * downs.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        found: Floats = np.asarray((ups * (below + downs / 2)).sum(axis=-1) / pairs)
    return found


def risk_coverage(confidence: Floats, quality: Floats) -> Floats:
    """(n,) mean loss 1 − quality among the 1, 2, … n most confident answers; equally confident ones share theirs.

    Its mean is AURC (arXiv 1805.08206); a confidence that says nothing has the mean loss everywhere.

    >>> risk_coverage(np.array([.9, .5, .5]), np.array([1., 0., 1.])).round(3).tolist()
    [0.0, 0.25, 0.333]
    """
    values, group = np.unique(-confidence, return_inverse=True)
    count = np.bincount(group, minlength=len(values))
    loss = (np.bincount(group, 1 - quality, len(values)) / count)[np.sort(group)]
    found: Floats = np.cumsum(loss) / np.arange(1, len(loss) + 1)
    return found


def ranks(values: Floats) -> Floats:
    """(n,) ranks from 1; equal values share the mean of theirs.

    >>> ranks(np.array([5., 2., 5.])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, index, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    shared: Floats = (last - (count - 1) / 2)[index]
    return shared


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's ρ: the correlation of the ranks of the known pairs; NaN where one side is constant."""
    a, b = (ranks(v) for v in _known(first, second))
    a, b = a - a.mean(), b - b.mean()
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 0 else float("nan")


def _known(predicted: Floats, observed: Floats) -> tuple[Floats, Floats]:
    """The pairs (k,) of which both are known."""
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if p.shape != y.shape:
        raise BadParameter("observed", y.shape, f"must be paired with the predicted, of shape {p.shape}")
    both = ~(np.isnan(p) | np.isnan(y))
    return p[both], y[both]
