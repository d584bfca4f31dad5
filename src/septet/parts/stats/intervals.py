"""How sure a mean, a share or a difference is: bootstrap, Wilson and Clopper–Pearson intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.parts.stats.binomial import pmf

_CELLS = 4_000_000
"""Resampled indices held at once: 32 MB."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval at `level`, from n observations."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(
    values: Floats, rng: np.random.Generator, *, draws: int = 2000, level: float = 0.95
) -> Estimate:
    """Percentile bootstrap of the mean of values (n,); a NaN is unknown and left out.

    >>> bootstrap_mean(np.full(5, 0.3), np.random.default_rng(0))
    Estimate(value=0.3, low=0.3, high=0.3, n=5, level=0.95)
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    n = len(known)
    if n == 0:
        raise BadParameter("values", [], "must hold at least one known number")
    means = np.empty(draws)
    block = max(1, _CELLS // n)
    for start in range(0, draws, block):
        picked = rng.integers(0, n, size=(min(block, draws - start), n))
        means[start : start + block] = known[picked].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(known.mean()), float(low), float(high), n, level)


def bootstrap_difference(
    first: Floats, second: Floats, rng: np.random.Generator, *, draws: int = 2000, level: float = 0.95
) -> Estimate:
    """Paired bootstrap of mean(first − second), both (n,) on the same queries; pairs with a NaN are left out.

    Resampling the pairs keeps what the two have in common, so this is narrower than two separate intervals.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise BadParameter("second", second.shape, f"must be paired with the first, of shape {first.shape}")
    return bootstrap_mean(first - second, rng, draws=draws, level=level)


def wilson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """Wilson's score interval of a share: close to the level on average, never outside [0, 1].

    >>> str(wilson(8, 10))
    '0.800 [0.490, 0.943]'
    """
    _check_count(successes, n)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else float(middle - half)
    high = 1.0 if successes == n else float(middle + half)
    return Estimate(share, low, high, n, level)


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """The exact interval of a share: covers at least at the level, whatever the true share is.

    >>> str(clopper_pearson(8, 10))
    '0.800 [0.444, 0.975]'
    """
    _check_count(successes, n)
    tail = (1 - level) / 2
    low, high = 0.0, 1.0
    if successes > 0:  # the share at which this many or more would still happen with probability `tail`
        low = _bisect(lambda p: float(pmf(n, p)[successes:].sum()) < tail)
    if successes < n:  # the share at which this many or fewer would
        high = _bisect(lambda p: float(pmf(n, p)[: successes + 1].sum()) > tail)
    return Estimate(successes / n, low, high, n, level)


def _bisect(is_below: Callable[[float], bool]) -> float:
    """The place in [0, 1] where a falling condition stops to hold, to 2^-50."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def _check_count(successes: int, n: int) -> None:
    if not 0 <= successes <= n or n < 1:
        raise BadParameter("successes", successes, f"must be in [0, {n}], out of at least one trial")
