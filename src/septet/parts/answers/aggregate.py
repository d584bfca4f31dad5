"""From scores to one answer: the best candidate under a stated tie policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from septet.core.types import Completion, Floats

Tie = Literal["first", "random", "best-member", "longest", "shortest"]
"""Who wins among candidates of equal value: the first (in the order of members, then samples), one drawn at
random, the first of the member with the greatest weight, or the first of the longest or shortest text."""

CLOSE = 1e-9
"""Relative: values that differ by less are equal, since sums depend on the order in which they are made."""


def best_of(values: Floats, completions: Sequence[Completion], tie: Tie, rng: np.random.Generator) -> int:
    """The candidate with the greatest value (n,); NaN counts least, and if all are NaN all are equal.

    >>> texts = [Completion(member="a", text=t) for t in ("no", "perhaps", "yes")]
    >>> best_of(np.array([0.5, 0.5, 0.1]), texts, "longest", np.random.default_rng(0))
    1
    """
    known = np.where(np.isnan(values), -np.inf, values)
    top = known.max()
    slack = CLOSE * max(1.0, abs(top)) if np.isfinite(top) else 0.0
    tied = np.flatnonzero(known >= top - slack)
    if tie == "random":
        return int(rng.choice(tied))

    def key(i: int) -> float:
        if tie == "best-member":
            return completions[i].weight
        length = len(completions[i].text)
        return 0.0 if tie == "first" else float(length if tie == "longest" else -length)

    return int(tied[np.argmax([key(i) for i in tied.tolist()])])
