"""How much each voter's word is worth, from known accuracies or from agreement alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats


def log_odds(x: Floats, k: int) -> Floats:
    """(m,) OW's weights ω_i = log[(K − 1) x_i / (1 − x_i)] of accuracies x among K classes (2510.01499).

    Optimal where errors are independent and uniform over the wrong classes. Accuracies are kept off 0 and 1.

    >>> log_odds(np.array([.9, .6, .6]), 2).round(3).tolist(), log_odds(np.array([.9, .6, .6]), 4).round(3).tolist()
    ([2.197, 0.405, 0.405], [3.296, 1.504, 1.504])
    """
    x = np.clip(x, 1e-6, 1 - 1e-6)
    found: Floats = np.log((k - 1) * x / (1 - x))
    return found


def agreement(answers: NDArray[np.int64]) -> Floats:
    """(m, m) how often two voters give the same class, from answers (n, m), −1 unknown; NaN where never together."""
    m = answers.shape[1]
    found = np.full((m, m), np.nan)
    for i in range(m):
        for j in range(m):
            both = (answers[:, i] >= 0) & (answers[:, j] >= 0)
            if both.any():
                found[i, j] = float((answers[both, i] == answers[both, j]).mean())
    return found


def accuracies(agree: Floats, k: int) -> Floats:
    """(m,) accuracies whose agreement x_i x_j + (1 − x_i)(1 − x_j)/(K − 1) fits that of pairs (m, m) best (OW-L).

    Least squares over all pairs i < j, each accuracy between chance and one, from a start above chance. With two voters
    they cannot be told apart and come out alike; in noise several fits are as good, and the order of the voters
    may decide which is found.
    """
    from scipy.optimize import least_squares

    m = len(agree)
    i, j = np.triu_indices(m, 1)
    known = ~np.isnan(agree[i, j])
    i, j = i[known], j[known]

    def off(x: Floats) -> Floats:
        found: Floats = x[i] * x[j] + (1 - x[i]) * (1 - x[j]) / max(k - 1, 1) - agree[i, j]
        return found

    if not len(i):
        return np.full(m, 0.5 + 0.5 / k)
    fitted = least_squares(off, np.full(m, 0.5 + 0.5 / k), bounds=(1 / k, 1 - 1e-6))
    x: Floats = fitted.x
    return x


def entropy_weights(p: Floats, epsilon: float = 1e-6) -> Floats:
    """(m,) SCoOP's weights ∝ 1 / (h_m + ε), h = entropy over log of the classes, of distributions (m, c) (2603.23853).

    A member that always says the same (h = 0) has nearly all the weight, right or wrong.

    >>> entropy_weights(np.array([[.8, .2, 0], [.3, .3, .4]])).round(4).tolist()
    [0.6851, 0.3149]
    """
    logs = np.log(np.where(p > 0, p, 1.0))
    h = -(p * logs).sum(axis=1) / np.log(max(p.shape[1], 2))
    found = 1 / (h + epsilon)
    shares: Floats = found / found.sum()
    return shares


def powers(accuracy: Floats, gamma: float) -> Floats:
    """(m,) weights ∝ exp(γ · accuracy) (DFPE, 2501.17479).

    >>> powers(np.array([.8, .6]), 5).round(3).tolist()
    [0.731, 0.269]
    """
    found = np.exp(gamma * (accuracy - accuracy.max()))
    shares: Floats = found / found.sum()
    return shares


def effective_votes(n: int, correlation: float) -> float:
    """N / (1 + (N − 1) ρ̄): how many independent voters N dependent ones are worth.

    >>> round(effective_votes(4, .7), 2)
    1.29
    """
    return n / (1 + (n - 1) * correlation)
