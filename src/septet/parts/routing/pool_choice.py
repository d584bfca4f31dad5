"""Which members make a good pool: those that together answer most questions."""

from __future__ import annotations

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats


def coverage(scores: Floats, pool: list[int]) -> float:
    """f(T) = Σ_i max_{m∈T} S[i, m] of scores (r, m) ≥ 0; an unknown score covers nothing (2401.13979)."""
    return float(np.nan_to_num(scores)[:, pool].max(axis=1, initial=0.0).sum())


def greedy_pool(scores: Floats, size: int) -> list[int]:
    """`size` members of scores (r, m), each the one that adds most to the coverage; ties → the lowest index.

    f is monotone and submodular, so the coverage is at least 1 − 1/e of the best pool's of that size.
    The order is that of the picks, so every prefix is the pool of its size.

    >>> greedy_pool(np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 1, 0]], dtype=float), 2)
    [0, 1]
    """
    if not 1 <= size <= scores.shape[1]:
        raise BadParameter("size", size, f"must be between 1 and the number of members, {scores.shape[1]}")
    held = np.nan_to_num(scores)
    best, pool = np.zeros(len(held)), list[int]()
    for _ in range(size):
        gain = np.maximum(held, best[:, None]).sum(axis=0)
        gain[pool] = -np.inf
        pool.append(int(gain.argmax()))
        best = np.maximum(best, held[:, pool[-1]])
    return pool
