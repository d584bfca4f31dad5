"""Whether an aggregator is moved by a voter that only repeats another: identity T9, measured on small fixed cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats
from septet.parts.answers.crowd import Labels, dawid_skene, glad, mace, one_coin
from septet.parts.answers.reliability import accuracies, agreement, log_odds
from septet.parts.answers.similarity import mean_of_others
from septet.parts.answers.vote import shares

Answers = NDArray[np.int64]
"""(n, m): the class, from 0, that each of m voters gives to each of n questions."""

Aggregate = Callable[[Answers, int], Floats]
"""Answers (n, m) among k classes → the posterior over the classes of each question (n, k)."""

TOLERANCE = 1e-6

CASES: tuple[tuple[Answers, int], ...] = (
    (np.array([[0, 0, 1], [0, 1, 1], [1, 0, 0], [2, 2, 0], [0, 1, 2], [1, 1, 1]]), 3),
    (np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 1]]), 2),
    (np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 1, 1], [0, 1, 0, 0]]), 2),
)
"""Voters that differ, one that contradicts the others, and ties."""


def duplicate_safe(aggregate: Aggregate) -> bool:
    """Whether no posterior of `CASES` changes by more than `TOLERANCE` when any one voter is there twice.

    >>> duplicate_safe(plurality)
    False
    """
    for answers, k in CASES:
        before = aggregate(answers, k)
        for voter in range(answers.shape[1]):
            after = aggregate(np.concatenate([answers, answers[:, [voter]]], axis=1), k)
            if np.abs(after - before).max() > TOLERANCE:
                return False
    return True


def plurality(answers: Answers, k: int) -> Floats:
    """Each class's share of the voters."""
    return _weighed(answers, k, np.ones(answers.shape[1]))


def from_agreement(answers: Answers, k: int) -> Floats:
    """OW-L: log-odds of the accuracies that the agreement of pairs fits best."""
    return _weighed(answers, k, np.maximum(log_odds(accuracies(agreement(answers), k), k), 0.0))


def worth(answers: Answers, k: int) -> Floats:
    """MBR with equality as utility: a class has the worth of its answers, each as it is supported by the others."""
    return np.array([_by_class(row, k, mean_of_others((row[:, None] == row) * 1.0)) for row in answers])


def nearness(answers: Answers, k: int) -> Floats:
    """Closeness 1 − r to the centroid of answers as unit vectors, one axis for a class."""
    z = np.eye(k)[answers]
    away = ((z - z.mean(axis=1, keepdims=True)) ** 2).sum(axis=2)
    return np.array([_by_class(row, k, np.maximum(1 - r, 0.0)) for row, r in zip(answers, away, strict=True)])


AGGREGATORS: Mapping[str, Aggregate] = {
    "plurality": plurality,
    "ow-l": from_agreement,
    "mbr": worth,
    "centroid": nearness,
    "dawid-skene": lambda answers, k: dawid_skene(Labels.of(answers.astype(float), k))[0],
    "one-coin": lambda answers, k: one_coin(Labels.of(answers.astype(float), k))[0],
    "glad": lambda answers, k: glad(Labels.of(answers.astype(float), k))[0],
    "mace": lambda answers, k: mace(Labels.of(answers.astype(float), k))[0],
}
"""Those that need nothing but the answers."""


def _weighed(answers: Answers, k: int, weights: Floats) -> Floats:
    return np.array([_by_class(row, k, weights) for row in answers])


def _by_class(row: Answers, k: int, values: Floats) -> Floats:
    """(k,) shares of the classes in values (m,) of their voters."""
    posterior = shares([str(c) for c in row.tolist()], values)
    found = np.zeros(k)
    for name, p in zip(posterior.classes, posterior.p, strict=True):
        found[int(name)] = p
    return found
