"""When a second, dearer member is worth asking, as a table over bins of a verifier's confidence (AutoMix, 2310.12963).

A question is *good* where the first member is right, *needy* where only the second is, *hopeless* where neither is;
the state is hidden, and the confidence v in 0..1 is what is seen of it. With one decision per question the partially
observed decision process is a table: ask on, or not, in each bin of v. Right means a score of at least a half.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats

TableKind: TypeAlias = Literal["threshold", "pomdp"]

SMOOTHING = 2.0
"""Deviation, in bins, of the Gaussian by which the gains of neighbouring bins are averaged (released package)."""


def benefit_per_cost(quality: float, cost: float, first_quality: float, first_cost: float) -> float:
    """IBC: quality gained over the first member per further unit of cost; NaN at the same cost.

    >>> round(benefit_per_cost(.6, 20, .5, 1), 6)
    0.005263
    """
    return (quality - first_quality) / (cost - first_cost) if cost != first_cost else float("nan")


def lift(quality: float, cost: float, first: tuple[float, float], second: tuple[float, float]) -> float:
    """ΔIBC in percent: how much more a unit of cost buys than it does between two members, (quality, cost) each.

    0 on the line between them. NaN where the second member is not better and dearer: there is no line to rise above.

    >>> round(lift(.6, 20, (.5, 1), (.7, 50)), 1)
    28.9
    """
    base = benefit_per_cost(*second, *first)
    if not base > 0 or second[1] <= first[1]:
        return float("nan")
    return 100 * (benefit_per_cost(quality, cost, *first) - base) / base


@dataclass(frozen=True)
class Spent:
    """What one question costs on average: the first answer, checking it, and the second answer."""

    first: float
    check: float
    second: float


@dataclass(frozen=True)
class ValueTable:
    """`ask` (b,): 1 where the second member is asked, for bins around 0, 1/(b − 1), …, 1.

    `states` (b, 3): shares of good, needy and hopeless questions in each bin, NaN where none was seen. `lift`, in
    percent, on the questions of the fit; `made_by`: which of the tried shapes it is.
    """

    ask: Floats
    states: Floats
    lift: float
    made_by: str

    def asks(self, v: Floats) -> NDArray[np.bool_]:
        """(n,) whether the second member is asked at each confidence; at an unknown one it is."""
        return np.isnan(v) | (self.ask[bins_of(v, len(self.ask))] > 0)


def bins_of(v: Floats, n_bins: int) -> NDArray[np.int64]:
    """(n,) the bin whose middle, one of 0, 1/(n_bins − 1), …, 1, is nearest; half-way counts up; 0 for a NaN.

    >>> bins_of(np.array([0., .06, .0625, 1.]), 9).tolist()
    [0, 0, 1, 8]
    """
    place = np.floor(np.nan_to_num(v) * (n_bins - 1) + 0.5)
    return np.clip(place, 0, n_bins - 1).astype(np.int64)


def states_of(first: Floats, second: Floats) -> NDArray[np.int64]:
    """(n,) 0 good, 1 needy, 2 hopeless, from the scores of both members (n,)."""
    return np.where(first >= 0.5, 0, np.where(second >= 0.5, 1, 2))


def fit_table(
    v: Floats,
    first: Floats,
    second: Floats,
    spent: Spent,
    *,
    kind: TableKind = "pomdp",
    bins: int = 8,
    hopeless: bool = True,
) -> ValueTable:
    """The table with the highest IBC on confidences v (n,) and the scores of both members (n,).

    "threshold" tries every "ask below t". "pomdp" also tries: asking in the bins where the chance of needy exceeds a
    price, for every price; in the bins of largest gain, smoothed over neighbours, one more each time; and, with
    `hopeless`, asking between two bounds only. Without `hopeless` every wrong first answer counts as needy. A table
    that never asks has IBC 0, so it wins where asking on only harms. Of equals the first tried.
    """
    known = ~(np.isnan(v) | np.isnan(first) | np.isnan(second))
    if not known.any():
        raise BadParameter("table", len(v), "must hold questions with a confidence and both scores")
    v, first, second = v[known], first[known], second[known]
    place, n_bins = bins_of(v, bins + 1), bins + 1
    count = np.bincount(place, minlength=n_bins)
    state = states_of(first, second)
    with np.errstate(invalid="ignore"):
        states = (
            np.array([np.bincount(place[state == s], minlength=n_bins) for s in range(3)]).T / count[:, None]
        )
    gain = np.bincount(place, weights=second - first, minlength=n_bins)  # (b,) sums
    wanted = states[:, 1] if hopeless else states[:, 1] + states[:, 2]
    best: ValueTable | None = None
    best_value = -np.inf
    for name, ask in _tables(n_bins, kind, hopeless, np.nan_to_num(wanted), gain / np.maximum(count, 1)):
        quality = float(first.mean() + (ask @ gain) / len(v))
        share = float(ask @ count) / len(v)
        cost = spent.first + spent.check + share * spent.second
        value = benefit_per_cost(quality, cost, float(first.mean()), spent.first)
        value = quality - float(first.mean()) if np.isnan(value) else value
        if value > best_value + 1e-15:
            ends = (float(first.mean()), spent.first), (float(second.mean()), spent.second)
            best_value, best = value, ValueTable(ask, states, lift(quality, cost, *ends), name)
    assert best is not None
    return best


def _tables(
    n_bins: int, kind: TableKind, hopeless: bool, wanted: Floats, gain: Floats
) -> Iterator[tuple[str, Floats]]:
    """The names and the tables (b,) that are tried; `wanted` and `gain` (b,) order the bins."""
    place = np.arange(n_bins)
    for t in range(n_bins + 1):
        yield "one threshold", (place < t).astype(np.float64)
    if kind == "threshold":
        return
    for price in np.unique(wanted)[::-1]:
        yield "chance of needy", ((wanted >= price) & (wanted > 0)).astype(np.float64)
    order = np.argsort(-_smooth(gain), kind="stable")
    for j in range(1, n_bins + 1):
        yield "smoothed gain", np.isin(place, order[:j]).astype(np.float64)
    if hopeless:
        for low in range(1, n_bins):
            for high in range(low, n_bins):
                yield "two thresholds", ((place >= low) & (place <= high)).astype(np.float64)


def _smooth(gain: Floats) -> Floats:
    """(b,) each bin's mean of gain (b,) under a Gaussian around it, within the table."""
    place = np.arange(len(gain))
    weight = np.exp(-0.5 * ((place[:, None] - place) / SMOOTHING) ** 2)
    smoothed: Floats = weight @ gain / weight.sum(axis=1)
    return smoothed
