"""How far the samples of a member agree with each other, and what that says about their answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.errors import BadParameter
from septet.parts.deferral.confidence import counted


@dataclass(frozen=True)
class Agreed:
    """The answer that most samples give, their share among all samples, and the place of the first of them.

    Where no sample could be read, `answer` is None, `share` 0 and `first` 0.
    """

    answer: str | None
    share: float
    first: int


def agreed(outcomes: Sequence[str], void: Sequence[str] = ()) -> Agreed:
    """The mode of the outcomes (n,), n ≥ 1; ties → the one that was seen first.

    Outcomes that are `void` are never the mode, but count among the samples (2310.03094: an answer that could
    not be read stays in the denominator).

    >>> agreed(["18", "20", "18", "(no answer)"], void=["(no answer)"])
    Agreed(answer='18', share=0.5, first=0)
    """
    if not outcomes:
        raise BadParameter("outcomes", [], "must hold at least one outcome")
    counts = {answer: n for answer, n in counted(outcomes).items() if answer not in void}
    if not counts:
        return Agreed(None, 0.0, 0)
    answer = max(counts, key=lambda a: counts[a])  # the first of equals
    return Agreed(answer, counts[answer] / len(outcomes), list(outcomes).index(answer))


def inner_weight(outcomes: Sequence[str]) -> float:
    """W_α = b + (1 − b)·(1 − H/log₂ D) of a member that answered `outcomes` (n,), b = 1/n (2504.00762).

    H is the entropy of the answers in bits and D the number of distinct ones; D = 1 → 1. Between b, where all
    distinct answers are equally frequent, and 1. The normaliser is log₂ D and not log₂ n, so that one dissenter
    already moves a member to the scale of two answers.

    >>> round(inner_weight(["7", "7", "7", "5", "7"]), 4), round(inner_weight(["5", "5", "5", "3", "2"]), 4)
    (0.4225, 0.308)
    """
    if not outcomes:
        raise BadParameter("outcomes", [], "must hold at least one outcome")
    counts = np.array(list(counted(outcomes).values()), dtype=np.float64)  # (D,)
    if len(counts) == 1:
        return 1.0
    p = counts / counts.sum()
    floor = 1 / len(outcomes)
    evenness = -(p * np.log2(p)).sum() / np.log2(len(counts))
    return float(floor + (1 - floor) * (1 - evenness))
