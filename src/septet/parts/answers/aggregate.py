"""From scores to one answer: the best candidate under a stated tie policy, and posteriors made of many opinions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from septet.core.types import Completion, Floats, Posterior
from septet.parts.answers.vote import VOID

Tie = Literal["first", "random", "best-member", "longest", "shortest"]
"""Who wins among candidates of equal value: the first (in the order of members, then samples), one drawn at
random, the first of the member with the greatest weight, or the first of the longest or shortest text."""

CLOSE = 1e-9
"""Relative: values that differ by less are equal, since sums depend on the order in which they are made."""

NO_CHANCE = 1e-12
"""The least probability in a logarithmic pool, so that one opinion of zero does not overrule all others."""


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


def standing(posterior: Posterior) -> Floats:
    """(n,): the share of each candidate's class, what `best_of` chooses by; −1 for one without an answer, which
    thereby wins only where there is no other.

    >>> from septet.parts.answers.vote import NO_ANSWER, shares
    >>> standing(shares(["4", NO_ANSWER, NO_ANSWER], np.ones(3))).round(3).tolist()
    [0.333, -0.333, -0.333]
    """
    void = np.array([name in VOID for name in posterior.classes])
    # below every answer, but still in the order of their shares
    value = np.where(void, posterior.p - 1.0, posterior.p)
    return np.asarray(value[list(posterior.of)])


def mbr(similarity: Floats, weights: Floats) -> Floats:
    """(n,): the expected utility of each candidate, U_i = Σ_j w_j S_ij / Σ_j w_j, from S (n, n) (2310.01387, eq. 5).

    Each candidate is also its own reference. With equal weights and a diagonal of 1 the mean over the others is
    (n·U_i − 1)/(n − 1), and for S = "same class" U is the share of the candidate's class in a weighted vote.

    >>> mbr(np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]), np.ones(3)).tolist()
    [0.5, 0.5, 0.3333333333333333]
    """
    w = _proportions(weights)
    return np.asarray(similarity @ w)


def effective_n(similarity: Floats, weights: Floats) -> float:
    """How many unlike candidates there are: (Σ w)² / Σ_ij w_i w_j S_ij; n where no two are alike, 1 where all are.

    With equal weights it is n/(1 + (n − 1)·ρ), ρ the mean similarity of two different candidates.

    >>> effective_n(np.ones((4, 4)), np.ones(4)), effective_n(np.eye(4), np.ones(4))
    (1.0, 4.0)
    """
    w = _proportions(weights)
    return float(1 / (w @ similarity @ w))


def borda(scores: Floats, p: float) -> Floats:
    """(n,): the votes (n − rank + 1)^p of candidates that are ranked by score; equal scores share the mean rank,
    and unknown ones (NaN) are ranked last (2502.18581, section 4). p = 0 is one vote each.

    >>> borda(np.array([0.1, 0.9, 0.5, 0.3]), 0.5).round(3).tolist()
    [1.0, 2.0, 1.732, 1.414]
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    above = (known[None, :] > known[:, None]).sum(axis=1)
    equal = (known[None, :] == known[:, None]).sum(axis=1)
    rank = above + (equal + 1) / 2
    return np.asarray((len(scores) - rank + 1.0) ** p)


def linear_pool(p: Floats, weights: Floats) -> Floats:
    """(c,): the weighted arithmetic mean of opinions p (m, c), each of which sums to 1."""
    return np.asarray(_proportions(weights) @ p)


def log_pool(p: Floats, weights: Floats) -> Floats:
    """(c,): the weighted geometric mean of opinions p (m, c), made to sum to 1: p_c ∝ Π_i p_ic^(w_i / Σ w).

    >>> log_pool(np.array([[0.9, 0.1], [0.5, 0.5]]), np.ones(2)).round(3).tolist()
    [0.75, 0.25]
    """
    mean = _proportions(weights) @ np.log(np.maximum(p, NO_CHANCE))
    odds = np.exp(mean - mean.max())
    return np.asarray(odds / odds.sum())


def _proportions(weights: Floats) -> Floats:
    """Weights that sum to 1; those that sum to zero count alike."""
    total = weights.sum()
    return np.asarray(weights / total if total > 0 else np.full(len(weights), 1 / len(weights)))
