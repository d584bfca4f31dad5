"""Cost against quality: hulls, areas under them, and the curve of a router between a weak and a strong member.

An operating point is (mean USD, mean quality) over the test questions. Points come as arrays (…, k) over k points;
leading axes, where allowed, are resamples of the questions (`parts.stats.bootstrap`), all computed at once.
Points of which a number is unknown (NaN) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats

Left = Literal["null", "missing"]
"""What a curve is worth left of its cheapest point. "null": what mixing with a router that answers nothing, for
nothing (0 USD, quality 0), is worth. "missing": nothing, as in RouterBench's released code."""


@dataclass(frozen=True)
class Curve:
    """Vertices by rising usd (k,) with quality (k,), straight between them and flat to the right of the last."""

    usd: Floats
    quality: Floats

    def at(self, usd: Floats | float) -> Floats:
        """The quality at each cost; NaN left of the cheapest point, where the curve does not reach."""
        if not len(self.usd):
            return np.full(np.shape(usd), np.nan)
        return np.asarray(np.interp(usd, self.usd, self.quality, left=np.nan))


def hull(usd: Floats, quality: Floats) -> Curve:
    """The non-decreasing convex hull of points (k,): what a router's points and random mixtures of them reach.

    R̃ of RouterBench (arXiv 2403.12031, section 3.3): the upper concave envelope, as far as it rises; by Andrew's
    monotone chain. Chords are reachable by using one point with probability t, else the other.

    >>> hull(np.array([0., 1., 2., 4.]), np.array([.5, .8, .82, .9])).usd.tolist()  # (2, .82) is under a chord
    [0.0, 1.0, 4.0]
    """
    x, y, size = _hulls(np.atleast_2d(usd), np.atleast_2d(quality))
    k = int(size[0])
    return Curve(x[0, :k], y[0, :k])


def zero_router(usd: Floats, quality: Floats) -> Curve:
    """The hull of single members, of mean usd (m,) and quality (m,): random mixing of two neighbours.

    What a router has to beat before it has learned anything about questions (arXiv 2403.12031, section 3.3).
    """
    return hull(usd, quality)


def aiq(usd: Floats, quality: Floats, low: float, high: float, *, left: Left = "null") -> Floats:
    """AIQ: the mean height of the hull of points (…, k) over costs from `low` to `high`; the result is (…).

    1/(high − low) ∫ R̃(c) dc (arXiv 2403.12031, section 3.3). The range must be shared by all that is compared; it
    is a level of quality, not an improvement, so print the zero router's beside it. With low = 0 and
    left = "missing" it is what the released code computes: the part left of the cheapest point counts 0.

    >>> points = np.array([0., 1., 2., 4.]), np.array([.5, .8, .82, .9])
    >>> float(aiq(*points, 0, 4).round(4))
    0.8
    """
    x, y = _with_null(usd, quality, left)
    x, y, _ = _hulls(x, y)
    return _mean_height(x, y, low, high).reshape(np.shape(usd)[:-1])


def audc(usd: Floats, quality: Floats, low: float, high: float, *, left: Left = "null") -> Floats:
    """AUDC: the mean height of the deferral curve itself over costs from `low` to `high`; the result is (…).

    The points (…, k) of a sweep of λ joined by straight lines in order of cost, without a hull: at one cost the
    better point counts, and right of the last point the curve is flat (UniRoute, arXiv 2502.08773; the
    normalisation by the width of the range is ours).
    """
    x, y, known = _sorted(*_with_null(usd, quality, left))
    again = np.concatenate([np.zeros_like(known[:, :1]), (np.diff(x) == 0) | ~known[:, 1:]], axis=1)
    first = np.maximum.accumulate(np.where(again, 0, np.arange(x.shape[1])), axis=1)
    x, y = (np.take_along_axis(v, first, axis=1) for v in (x, y))
    return _mean_height(x, y, low, high).reshape(np.shape(usd)[:-1])


def peak(quality: Floats) -> Floats:
    """The highest mean quality among the points (…, k); the result is (…)."""
    found: Floats = np.asarray(np.fmax.reduce(quality, axis=-1))
    return found


def qnc(usd: Floats, quality: Floats, best_usd: Floats | float, best_quality: Floats | float) -> Floats:
    """QNC: the least cost at which a point (…, k) reaches the quality of the best single member, ÷ its cost (…).

    Quality-neutral cost (UniRoute, arXiv 2502.08773). Only the points count, not mixtures of them; ∞ where none
    reaches it, NaN where no cost is known.

    >>> float(qnc(np.array([1., 2., 3.]), np.array([.6, .8, .9]), 4.0, .8))
    0.5
    """
    target, price = np.asarray(best_quality)[..., None], np.asarray(best_usd)
    reached = np.where(quality >= target, usd, np.where(np.isnan(usd) | np.isnan(quality), np.nan, np.inf))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.asarray(np.fmin.reduce(reached, axis=-1) / price)
    return found


def cost_save(usd: Floats, quality: Floats, best_usd: Floats | float, best_quality: Floats | float) -> Floats:
    """CostSave: 1 − QNC, the share of the best single member's cost that is saved at its quality; −∞ if never.

    LLMRouterBench (arXiv 2601.07206).
    """
    return np.asarray(1.0 - qnc(usd, quality, best_usd, best_quality))


def pareto_front(usd: Floats, quality: Floats) -> NDArray[np.bool_]:
    """(k,) which points no other point beats: none is as cheap and as good, and better in one of the two."""
    as_cheap, as_good = usd[:, None] <= usd, quality[:, None] >= quality  # (k, k): row against column
    better = (usd[:, None] < usd) | (quality[:, None] > quality)
    beaten = (as_cheap & as_good & better).any(axis=0)
    return np.asarray(~(beaten | np.isnan(usd) | np.isnan(quality)))


def pareto_distance(usd: Floats, quality: Floats, all_usd: Floats, all_quality: Floats) -> float:
    """ParetoDist: the mean distance of a method's points (k,) to the front of all methods' points (a,).

    LLMRouterBench (arXiv 2601.07206) does not state the scale; here both axes are scaled to [0, 1] over all
    points, and the distance is Euclidean, to the nearest point of the front. 0: every point is on the front.
    """
    front = pareto_front(all_usd, all_quality)
    if not front.any():
        return float("nan")
    wide, tall = (float(np.nanmax(v) - np.nanmin(v)) for v in (all_usd, all_quality))
    dx = (usd[:, None] - all_usd[front]) / (wide or 1.0)
    dy = (quality[:, None] - all_quality[front]) / (tall or 1.0)
    return float(np.nanmean(np.hypot(dx, dy).min(axis=1)))


# --- two members: a weak and a strong one -----------------------------------------------------------


@dataclass(frozen=True)
class CallCurve:
    """Quality (…, k) as the share of questions sent to the strong member rises from 0 to 1, shares (…, k)."""

    shares: Floats
    quality: Floats

    @property
    def weak(self) -> Floats:
        """(…) the quality of always asking the weak member."""
        return np.asarray(self.quality[..., 0])

    @property
    def strong(self) -> Floats:
        """(…) the quality of always asking the strong member."""
        return np.asarray(self.quality[..., -1])

    @property
    def pgr(self) -> Floats:
        """(…, k) performance gap recovered: (q − q_weak) / (q_strong − q_weak).

        arXiv 2406.18665. May exceed 1; NaN where the strong member is not the better one.
        """
        gap = (self.strong - self.weak)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = np.where(gap > 0, (self.quality - self.weak[..., None]) / gap, np.nan)
        return found


def call_curve(score: Floats, weak: Floats, strong: Floats, *, counts: Floats | None = None) -> CallCurve:
    """The exact curve of a router between two members: who has the highest score (n,) is sent to strong first.

    weak and strong (n,) are what the members got; equal scores are sent in random order, so the curve is straight
    through them. counts (…, n) are how often each question occurs, as in resamples.
    """
    known = ~(np.isnan(score) | np.isnan(weak) | np.isnan(strong))
    if not known.any():
        raise BadParameter(
            "score", "no question", "must be known, with both members' scores, for at least one"
        )
    order = np.flatnonzero(known)[np.argsort(-score[known], kind="stable")]
    ends = np.flatnonzero(np.append(np.diff(score[order]) < 0, True))  # the last of each run of equal scores
    times = np.ones(len(order)) if counts is None else np.asarray(counts, dtype=np.float64)[..., order]
    total = times.sum(axis=-1, keepdims=True)
    sent, won = (np.cumsum(v, axis=-1)[..., ends] for v in (times, times * (strong - weak)[order]))
    start = np.zeros((*times.shape[:-1], 1))
    base = (times @ weak[order])[..., None]
    with np.errstate(invalid="ignore"):  # a resample may hold nothing known
        shares, quality = (np.concatenate([start, v], axis=-1) / total for v in (sent, won))
        return CallCurve(shares, quality + base / total)


def apgr(shares: Floats, pgr: Floats) -> Floats:
    """APGR: the area under PGR (…, k) over the share of strong calls (…, k) from 0 to 1, by trapezoids.

    arXiv 2406.18665, which takes the mean at ten equally spaced shares for it.

    >>> float(apgr(np.linspace(0, 1, 5), np.array([0, .5, .8333333, .9333333, 1])).round(4))
    0.6917
    """
    middle = (pgr[..., 1:] + pgr[..., :-1]) / 2
    found: Floats = np.asarray((np.diff(shares, axis=-1) * middle).sum(axis=-1))
    return found


def cpt(shares: Floats, pgr: Floats, level: float) -> Floats:
    """CPT(level): the least share of strong calls (…) that recovers `level` of the gap; ∞ where none does.

    arXiv 2406.18665; the first crossing of the running maximum of PGR (…, k), straight between the
    shares (…, k).

    >>> pgr = np.array([0, .5, .8333333, .9333333, 1])
    >>> [float(cpt(np.linspace(0, 1, 5), pgr, level).round(3)) for level in (.5, .8)]
    [0.25, 0.475]
    """
    shares, pgr = np.broadcast_arrays(shares, pgr)
    reached = pgr >= level
    at = reached.argmax(axis=-1)[..., None]
    before = np.maximum(at - 1, 0)
    (x, y), (x0, y0) = (
        [np.take_along_axis(v, i, axis=-1)[..., 0] for v in (shares, pgr)] for i in (at, before)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(at[..., 0] == 0, x, x0 + (x - x0) * (level - y0) / (y - y0))
    found: Floats = np.where(
        reached.any(axis=-1), crossing, np.where(np.isnan(pgr).any(axis=-1), np.nan, np.inf)
    )
    return np.asarray(found)


# --- many curves at once ----------------------------------------------------------------------------


def _with_null(usd: Floats, quality: Floats, left: Left) -> tuple[Floats, Floats]:
    """Points as (d, k), with the null router's where that is asked for."""
    x, y = np.asarray(usd, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    x, y = (v.reshape(-1, v.shape[-1]) for v in np.broadcast_arrays(x, y))
    if left == "null":
        unknown = np.isnan(x + y).all(axis=1, keepdims=True)
        null = np.where(unknown, np.nan, 0.0)
        x, y = (np.concatenate([null, v], axis=1) for v in (x, y))
    return x, y


def _sorted(usd: Floats, quality: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Points (d, k) by rising cost, the better first at one cost, the unknown last; and which are known."""
    unknown = np.isnan(usd) | np.isnan(quality)
    x, y = np.where(unknown, np.inf, usd), np.where(unknown, np.nan, quality)
    order = np.lexsort((-y, x), axis=-1)
    x, y, unknown = (np.take_along_axis(v, order, axis=1) for v in (x, y, unknown))
    return np.where(unknown, np.nan, x), y, ~unknown


def _hulls(usd: Floats, quality: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """The hulls of d sets of points (d, k): vertices (d, k), the last repeated to the end, and how many (d,).

    The monotone chains of all sets grow in step, so that two thousand resamples cost few array operations.
    """
    x, y, known = _sorted(usd, quality)
    d, k = x.shape
    size, row = np.zeros(d, dtype=np.int64), np.arange(d)
    hx, hy = np.full((d, k), np.nan), np.full((d, k), np.nan)
    for j in range(k):
        top = hy[row, np.maximum(size - 1, 0)]
        rises = known[:, j] & ((size == 0) | (y[:, j] > top))
        while True:
            last, before = np.maximum(size - 1, 0), np.maximum(size - 2, 0)
            rise = (hy[row, last] - hy[row, before]) * (x[:, j] - hx[row, before])
            under = rise <= (y[:, j] - hy[row, before]) * (hx[row, last] - hx[row, before])
            pop = rises & (size >= 2) & under
            if not pop.any():
                break
            size -= pop
        hx[row[rises], size[rises]], hy[row[rises], size[rises]] = x[rises, j], y[rises, j]
        size += rises
    stay = np.minimum(np.arange(k), np.maximum(size - 1, 0)[:, None])
    return np.take_along_axis(hx, stay, axis=1), np.take_along_axis(hy, stay, axis=1), size


def _mean_height(usd: Floats, quality: Floats, low: float, high: float) -> Floats:
    """(d,) mean over [low, high] of the lines through points (d, k) by rising cost: 0 to the left, flat right."""
    if not 0 <= low < high < np.inf:
        raise BadParameter("low, high", (low, high), "must be costs in USD, the first below the second")
    a, b = np.clip(usd[:, :-1], low, high), np.clip(usd[:, 1:], low, high)
    wide = np.diff(usd)
    slope = np.divide(np.diff(quality), wide, out=np.zeros_like(wide), where=wide > 0)
    middle = quality[:, :-1] + slope * ((a + b) / 2 - usd[:, :-1])
    beyond = (high - np.clip(usd[:, -1], low, high)) * quality[:, -1]
    area: Floats = ((b - a) * middle).sum(axis=1) + beyond
    return area / (high - low)
