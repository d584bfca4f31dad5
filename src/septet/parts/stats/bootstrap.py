"""The bootstrap over queries: one set of resamples, shared by everything that is compared on them.

Efron's percentile interval. What is drawn is how often each query occurs in each resample, so the means of many
columns at all resamples are one matrix product, and differences between columns are paired without more work.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.parts.stats.intervals import Estimate

_CELLS = 4_000_000
"""Counts held as floats at once: 32 MB."""


@dataclass(frozen=True)
class Resamples:
    """counts (draws, n): how often each of n queries occurs in each resample; a row adds up to about n.

    >>> again = Resamples.of(4, np.random.default_rng(0), draws=1000)
    >>> again.mean(np.full(4, 0.3))
    Estimate(value=0.3, low=0.3, high=0.3, n=4, level=0.95)
    """

    counts: NDArray[np.uint16]

    @classmethod
    def of(
        cls,
        n: int,
        rng: np.random.Generator,
        *,
        draws: int = 2000,
        groups: Sequence[Hashable] | None = None,
    ) -> Resamples:
        """Draws n queries with replacement, `draws` times.

        With groups (n,), whole groups are drawn, as many as there are: for queries that are not independent of
        each other, as variants of one question are. Then a row adds up to n only on average.
        """
        if n < 1 or draws < 1:
            raise BadParameter("n", n, "must be at least 1, as must be the number of draws")
        if groups is None:
            return cls(_counts(n, draws, rng))
        if len(groups) != n:
            raise BadParameter("groups", len(groups), f"must name a group for each of {n} queries")
        number: dict[Hashable, int] = {}
        of_query = np.array([number.setdefault(g, len(number)) for g in groups])
        return cls(_counts(len(number), draws, rng)[:, of_query])

    @property
    def n(self) -> int:
        """The number of queries."""
        return int(self.counts.shape[1])

    def means(self, values: Floats) -> Floats:
        """(draws, k) means of the columns of values (n, k) in each resample, or (draws,) of values (n,).

        A NaN is unknown and left out of the mean of its column; NaN where a resample holds nothing known.
        """
        columns = np.asarray(values, dtype=np.float64)
        if len(columns) != self.n:
            raise BadParameter("values", columns.shape, f"must have a row for each of {self.n} queries")
        columns = columns[:, None] if columns.ndim == 1 else columns
        known = ~np.isnan(columns)
        complete = bool(known.all())
        filled = columns if complete else np.where(known, columns, 0.0)
        found = np.empty((len(self.counts), columns.shape[1]))
        block = max(1, _CELLS // self.n)
        for start in range(0, len(self.counts), block):
            counts = self.counts[start : start + block].astype(np.float64)
            weight = counts.sum(axis=1, keepdims=True) if complete else counts @ known.astype(np.float64)
            with np.errstate(invalid="ignore"):
                found[start : start + block] = (counts @ filled) / weight
        return found[:, 0] if np.ndim(values) == 1 else found

    def mean(self, values: Floats, *, level: float = 0.95) -> Estimate:
        """The mean of values (n,) with its percentile interval; unknown values are left out."""
        known = ~np.isnan(values)
        value = float(np.mean(np.asarray(values)[known])) if known.any() else np.nan
        return self.estimate(value, self.means(values), level=level, n=int(known.sum()))

    def difference(self, first: Floats, second: Floats, *, level: float = 0.95) -> Estimate:
        """The mean of first − second, both (n,) on the same queries: what they have in common cancels out."""
        return self.mean(np.asarray(first) - np.asarray(second), level=level)

    def estimate(self, value: float, drawn: Floats, *, level: float = 0.95, n: int | None = None) -> Estimate:
        """A statistic with the percentile interval of its values in the resamples, drawn (draws,).

        The ends are order statistics, not interpolated, so ∞ may be one of them; NaN draws are left out.
        """
        known = drawn[~np.isnan(drawn)]
        tail = (1 - level) / 2
        low, high = (
            np.quantile(known, [tail, 1 - tail], method="inverted_cdf") if len(known) else (np.nan, np.nan)
        )
        return Estimate(float(value), float(low), float(high), self.n if n is None else n, level)


def _counts(n: int, draws: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    counts = np.empty((draws, n), dtype=np.uint16)
    block = max(1, _CELLS // n)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        picked = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts[start : start + rows] = np.bincount(picked.ravel(), minlength=rows * n).reshape(rows, n)
    return counts
