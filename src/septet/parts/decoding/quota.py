"""Quotas: how many candidates each member writes, from how often it wrote what was kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats

Counts = NDArray[np.int64]


def quotas(kept: Counts, total: int, tau: float, floor: int = 0) -> Counts:
    """(n,) shares of `total`: `floor` each, and the rest by softmax(kept / τ) with the largest remainders.

    `kept` (n,) counts the kept beams that each member wrote. A tie of remainders goes to the earlier member.
    EMNLP 2025 main.574; the floor is ours. `total` must be at least `floor` times n.

    >>> kept = np.array([2, 1, 1])
    >>> quotas(kept, 8, 1.0).tolist(), quotas(kept, 8, .1).tolist(), quotas(kept, 8, .1, floor=1).tolist()
    ([4, 2, 2], [8, 0, 0], [6, 1, 1])
    """
    rest = total - floor * len(kept)
    if rest < 0:
        raise BadParameter(
            "candidates",
            total,
            f"must be at least {floor * len(kept)}: {floor} for each of {len(kept)} members",
        )
    return floor + _largest_remainders(rest * _softmax(kept / tau), rest)


def _softmax(score: Floats) -> Floats:
    p = np.exp(score - score.max())
    return p / p.sum()  # type: ignore[no-any-return]


def _largest_remainders(share: Floats, total: int) -> Counts:
    """Integers that sum to `total`: each share rounded down, then one more for those that lost most."""
    # rounded, so that shares that are equal but for the last bit of a float are equal
    share = share.round(9)
    whole: Counts = np.floor(share).astype(np.int64)
    most = np.argsort(whole - share, kind="stable")[: total - int(whole.sum())]
    whole[most] += 1
    return whole
