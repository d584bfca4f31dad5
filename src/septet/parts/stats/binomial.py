"""The binomial distribution, exactly: its probabilities, and who of two counts is the larger."""

from __future__ import annotations

import numpy as np

from septet.core.types import Floats


def pmf(n: int, p: float) -> Floats:
    """(n + 1,) probabilities of 0 … n successes in n trials.

    >>> pmf(2, 0.5).tolist()
    [0.25, 0.5, 0.25]
    """
    if p <= 0.0 or p >= 1.0:
        certain: Floats = np.eye(n + 1)[0 if p <= 0.0 else n]
        return certain
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # (n + 1,)
    ways = log_factorial[n] - log_factorial - log_factorial[::-1]
    density: Floats = np.exp(ways + k * np.log(p) + (n - k) * np.log1p(-p))
    density /= density.sum()  # the logarithms lose some 1e-12 for n in the thousands
    return density


def p_exceeds(first: Floats, second: Floats) -> float:
    """The probability that a count drawn from `first` is strictly larger than one drawn from `second`.

    Both are probabilities of 0, 1, 2, …, independent of each other.

    >>> p_exceeds(pmf(1, 0.5), pmf(1, 0.5))
    0.25
    """
    below = np.concatenate([[0.0], np.cumsum(second)])  # below[k] = P(second < k)
    k = np.minimum(np.arange(len(first)), len(second))
    return float(first @ below[k])
