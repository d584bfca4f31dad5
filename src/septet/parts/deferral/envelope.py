"""What cascades of two members can reach: a curve for every pair, and the envelope over all pairs (2605.06350)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats


@dataclass(frozen=True)
class Curve:
    """A cascade `first` → `second` at rising thresholds (k,): the mean quality and the mean cost of a question. The
    first answer is kept where its confidence ≥ the threshold; −inf keeps all, inf none."""

    first: int
    second: int
    threshold: Floats
    quality: Floats
    cost: Floats

    def best(self, price: float) -> tuple[int, float]:
        """The point with the largest quality − price·cost, and that value; of equals the cheaper."""
        net = self.quality - price * self.cost if price > 0 else self.quality
        at = int(np.lexsort((self.cost, -net.round(12)))[0])
        return at, float(net[at])


def sweep(
    first: int, second: int, confidence: Floats, quality: Floats, cost: Floats, *, keep_hull: bool = True
) -> Curve:
    """The curve of a pair over n questions: confidence (n,) in the first answer, quality and cost (n, 2) of both.

    Questions with equal confidence are handed on together. `keep_hull` leaves only the points that are best at some
    price of cost: a threshold between two of them is never better than a mixture of the two.

    >>> small, large = [1., 1., 0., 0.], [1., 0., 1., 1.]
    >>> both = np.column_stack([small, large])
    >>> curve = sweep(0, 1, np.array([.9, .8, .4, .2]), both, np.array([[1., 10.]] * 4), keep_hull=False)
    >>> curve.quality.tolist(), curve.cost.tolist()
    ([0.5, 0.75, 1.0, 0.75, 0.75], [1.0, 3.5, 6.0, 8.5, 11.0])
    """
    n = len(confidence)
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    gain = np.concatenate([[0.0], np.cumsum((quality[:, 1] - quality[:, 0])[order])])  # (n + 1,)
    more = np.concatenate([[0.0], np.cumsum(cost[order, 1])])
    # after j questions were handed on, the threshold lies above the j-th confidence and at most at the next one
    whole = np.concatenate([[True], ranked[1:] > ranked[:-1], [True]])
    at = np.flatnonzero(whole)
    threshold = np.concatenate([[-np.inf], ranked[1:], [np.inf]])[at]
    curve = Curve(
        first,
        second,
        threshold,
        quality[:, 0].mean() + gain[at] / n,
        cost[:, 0].mean() + more[at] / n,
    )
    return on_hull(curve) if keep_hull else curve


def on_hull(curve: Curve) -> Curve:
    """The points of a curve that are the best at some price of cost, 0 included, cheapest first."""
    kept = upper_hull(curve.cost, curve.quality)
    return Curve(curve.first, curve.second, curve.threshold[kept], curve.quality[kept], curve.cost[kept])


def upper_hull(cost: Floats, quality: Floats) -> NDArray[np.int64]:
    """Indices of the points (cost, quality), (k,) each, on the concave frontier from the cheapest to the best.

    >>> upper_hull(np.array([1., 3.5, 6., 8.5, 11.]), np.array([.5, .75, 1., .75, .75])).tolist()
    [0, 1, 2]
    >>> upper_hull(np.array([1., 2., 3.]), np.array([0., .1, 1.])).tolist()
    [0, 2]
    """
    kept: list[int] = []
    for i in np.lexsort((-quality, cost)).tolist():
        if kept and quality[i] <= quality[kept[-1]] + 1e-12:
            continue
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            rise, run = quality[b] - quality[a], cost[b] - cost[a]
            # b stays where it lies above or on the line from a to i
            if rise * (cost[i] - cost[a]) >= (quality[i] - quality[a]) * run - 1e-12:
                break
            kept.pop()
        kept.append(i)
    return np.array(kept, dtype=np.int64)


@dataclass(frozen=True)
class Point:
    """One setting of one pair, its mean quality and cost."""

    first: int
    second: int
    threshold: float
    quality: float
    cost: float


def envelope(curves: Sequence[Curve]) -> tuple[Point, ...]:
    """The settings that are best at some price of cost over all pairs, cheapest first: the pool's frontier."""
    points = [
        Point(c.first, c.second, float(t), float(q), float(spent))
        for c in curves
        for t, q, spent in zip(c.threshold, c.quality, c.cost, strict=True)
    ]
    kept = upper_hull(np.array([p.cost for p in points]), np.array([p.quality for p in points]))
    return tuple(points[i] for i in kept)


def best_pair(curves: Sequence[Curve], price: float) -> Point:
    """The setting of any of these pairs with the largest quality − price·cost: all obey the one price.

    Of equals the pair that is listed first.
    """
    found = [(c, *c.best(price)) for c in curves]
    curve, at, _ = max(found, key=lambda item: round(item[2], 12))
    return Point(
        curve.first,
        curve.second,
        float(curve.threshold[at]),
        float(curve.quality[at]),
        float(curve.cost[at]),
    )


def shadow_price(curve: Curve) -> Floats:
    """(k − 1,) dQ/dC between neighbouring points of a curve on its hull: what a cost unit more buys there."""
    slopes: Floats = np.diff(curve.quality) / np.diff(curve.cost)
    return slopes
