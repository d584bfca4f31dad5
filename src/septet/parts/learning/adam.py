"""Adam, and the order in which a fit visits its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats


class Adam:
    """Gradient descent with a step of its own for every weight (1412.6980, algorithm 1).

    `weights` are changed in place, step by step; `decay` adds decay · weight to each gradient (a squared
    penalty of decay / 2). It lives as long as one fit.

    >>> w = np.array([1.0])
    >>> Adam([w], rate=0.1).step([np.array([5.0])])
    >>> w.round(6).tolist()
    [0.9]
    """

    def __init__(self, weights: Sequence[Floats], *, rate: float, decay: float = 0.0) -> None:
        self.weights, self.rate, self.decay = weights, rate, decay
        self._first = [np.zeros_like(w) for w in weights]
        self._second = [np.zeros_like(w) for w in weights]
        self._n = 0

    def step(self, gradients: Sequence[Floats]) -> None:
        """One step against the gradients, which have the shapes of the weights."""
        self._n += 1
        first_size, second_size = 1 - 0.9**self._n, 1 - 0.999**self._n
        for w, g, first, second in zip(self.weights, gradients, self._first, self._second, strict=True):
            pull = g + self.decay * w
            first += 0.1 * (pull - first)
            second += 0.001 * (pull * pull - second)
            w -= self.rate * (first / first_size) / (np.sqrt(second / second_size) + 1e-8)


def batches(n: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """All n rows once, in random order, `size` at a time; the last batch may be smaller.

    >>> [len(rows) for rows in batches(5, 2, np.random.default_rng(0))]
    [2, 2, 1]
    """
    order = rng.permutation(n)
    for first in range(0, n, size):
        yield order[first : first + size]


def by_name(names: Sequence[str], size: int, rng: np.random.Generator) -> Floats:
    """(m, size) normal draws, one row per name, whatever the order of the names.

    >>> a = by_name(["x", "y"], 2, np.random.default_rng(0))
    >>> (a[::-1] == by_name(["y", "x"], 2, np.random.default_rng(0))).all()
    np.True_
    """
    drawn = rng.standard_normal((len(names), size))
    rows = np.empty_like(drawn)
    rows[np.argsort(names)] = drawn
    return rows


def spread(shape: tuple[int, ...], fan: int, rng: np.random.Generator) -> Floats:
    """Weights before the first step: uniform within ±1/√fan."""
    width = 1 / np.sqrt(max(fan, 1))
    return rng.uniform(-width, width, shape)


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + e^−z), without overflow.

    >>> sigmoid(np.array([-1e4, 0.0])).tolist()
    [0.0, 0.5]
    """
    half: Floats = 0.5 * (1 + np.tanh(0.5 * z))
    return half


def softmax(z: Floats) -> Floats:
    """(n, m) probabilities along the last axis; −∞ has none. A row of nothing but −∞ is NaN."""
    top = z.max(axis=-1, keepdims=True)
    p = np.exp(z - np.where(np.isfinite(top), top, 0.0))
    with np.errstate(invalid="ignore"):
        shares: Floats = p / p.sum(axis=-1, keepdims=True)
    return shares
