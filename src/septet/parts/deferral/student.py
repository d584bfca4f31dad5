"""A student that learns to answer like a member: a multinomial logistic regression over the answers it has seen.

The policies of neural caching (2310.13561) decide with it which questions are worth the member's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Floats

STEPS, TOLERANCE = 300, 1e-4
"""The fit ends after so many steps, or when no part of the slope is steeper than the tolerance."""


@dataclass(frozen=True)
class Student:
    """Logits x·`weights` (d, c) + `bias` (c,) of `classes` (c), for features x (n, d) of length one or zero."""

    classes: tuple[str, ...]
    weights: Floats
    bias: Floats

    def logits(self, x: Floats) -> Floats:
        """(n, c)."""
        z: Floats = x @ self.weights + self.bias
        return z

    def answer(self, x: Floats) -> tuple[str, ...]:
        """(n) the likeliest class of each row; of equals the first."""
        return tuple(self.classes[i] for i in self.logits(x).argmax(axis=1))


def fit_student(x: Floats, shares: Floats, classes: Sequence[str], *, l2: float = 1e-3) -> Student:
    """The student of r rows x (r, d) with soft labels `shares` (r, c), whose rows add up to one:

    min mean over r of −Σ_c shares·ln softmax(x·w + b) + l2/2·|w|², from zero weights, by accelerated descent
    (Nesterov). The slope changes by at most ½(|x|² + 1) + l2 per step, and |x| ≤ 1, so a step of 1/(1 + l2) is safe.
    The bias bears no penalty. With one class the student always answers it.

    >>> student = fit_student(np.eye(2), np.eye(2), ("no", "yes"))
    >>> student.answer(np.array([[0.0, 1.0]]))
    ('yes',)
    """
    if shares.shape != (len(x), len(classes)) or not len(x):
        raise BadParameter(
            "shares", shares.shape, f"must be ({len(x)}, {len(classes)}), with one row at least"
        )
    if not np.allclose(shares.sum(axis=1), 1.0):
        raise BadParameter("shares", float(shares.sum(axis=1).min()), "must add up to 1 in every row")
    theta = np.zeros((x.shape[1] + 1, len(classes)))  # the bias is the last row
    at, momentum = theta, 1.0
    for _ in range(STEPS):
        z = x @ at[:-1] + at[-1]
        p = np.exp(z - z.max(axis=1, keepdims=True))
        pull = (p / p.sum(axis=1, keepdims=True) - shares) / len(x)  # (r, c)
        slope = np.vstack([x.T @ pull + l2 * at[:-1], pull.sum(axis=0)])
        if np.abs(slope).max() < TOLERANCE:
            theta = at
            break
        following = at - slope / (1 + l2)
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        at = following + (momentum - 1) / faster * (following - theta)
        theta, momentum = following, faster
    return Student(tuple(classes), theta[:-1], theta[-1])


def top_two(logits: Floats) -> Floats:
    """(n,) the largest logit less the second; ∞ with one class, where there is nothing to doubt.

    On raw logits, as the released code does, so it is no probability.

    >>> top_two(np.array([[2.0, 1.75, -1.0]])).tolist()
    [0.25]
    """
    if logits.shape[-1] < 2:
        return np.full(logits.shape[:-1], np.inf)
    ranked = np.sort(logits, axis=-1)
    return np.asarray(ranked[..., -1] - ranked[..., -2])


def softmax(logits: Floats) -> Floats:
    """(n, c) probabilities."""
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def agreeing(current: Student, older: Sequence[Student], x: Floats) -> NDArray[np.int64]:
    """(n,) how many older students answer as the current one does."""
    said = current.answer(x)
    votes = [[a == b for a, b in zip(said, student.answer(x), strict=True)] for student in older]
    return np.asarray(np.array(votes, dtype=np.int64).reshape(len(older), len(x)).sum(axis=0))


def obliged(seen: int, left: int, *, first: int, stream: int) -> bool:
    """Whether the member is asked whatever the student says: among the `first` queries, and where the budget that
    is `left` covers all that remain of the stream (`seen` before this one). Never without a budget.

    >>> [obliged(960, left, first=100, stream=1000) for left in (40, 39)], obliged(3, 0, first=9, stream=9)
    ([True, False], False)
    """
    return left > 0 and (seen < first or stream - seen <= left)
