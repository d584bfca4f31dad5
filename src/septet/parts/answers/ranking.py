"""From comparisons of pairs to one order: the scores of candidates that a pair ranker or a judge has compared.

Throughout, `better` (n, n) says in row i and column j how much candidate i is better than candidate j *when i was
shown first*: a logit (0: neither) or a probability (½: neither). Both orders of a pair are read, so a preference for
the first place cancels out. The diagonal is not read; NaN: this order was not asked, and speaks for nobody.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from septet.core.errors import BadParameter
from septet.core.method import Asking
from septet.core.types import Floats
from septet.parts.stats.bradley_terry import strengths


def max_logits(better: Floats) -> Floats:
    """(n,) s_i = Σ_{j≠i} (L_ij − L_ji), PairRanker's MaxLogits (2306.02561), of logits (n, n) or probabilities.

    >>> max_logits(np.array([[0., 2, -1], [-2, 0, 1], [3, -1, 0]])).tolist()
    [0.0, -2.0, 2.0]
    """
    found = np.nan_to_num(_off_diagonal(better))
    scores: Floats = found.sum(axis=1) - found.sum(axis=0)
    return scores


def max_wins(better: Floats, even: float = 0.0) -> Floats:
    """(n,) s_i = |{j: L_ij > even}| + |{j: L_ji < even}|, PairRanker's MaxWins; `even` is ½ for probabilities.

    >>> max_wins(np.array([[0., 2, 1], [-2, 0, 1], [-3, 1, 0]])).tolist()
    [4.0, 1.0, 1.0]
    """
    found = _off_diagonal(better)
    scores: Floats = ((found > even).sum(axis=1) + (found < even).sum(axis=0)).astype(np.float64)
    return scores


def bubble(better: Callable[[int, int], Asking[bool]], n: int) -> Asking[int]:
    """The winner of one pass over n candidates, n − 1 comparisons: who stands so far against the next one.

    `better(i, j)` asks whether i is better than j. The challenger must be better to take the place.
    """
    if n < 1:
        raise BadParameter("candidates", n, "must be at least one")
    best = 0
    for challenger in range(1, n):
        if (yield from better(challenger, best)):
            best = challenger
    return best


def bradley_terry(better: Floats, l2: float = 1e-6) -> Floats:
    """(n,) strengths ξ of mean 0 with P(i better than j) = σ(ξ_i − ξ_j), from probabilities or counts of wins (n, n).

    A probability is a part of a win for each of the two. NaN for a candidate that was never compared. Logits go
    through σ first.

    >>> bradley_terry(np.array([[0, .75], [.25, 0]])).round(4).tolist()  # ±ln(3)/2
    [0.5493, -0.5493]
    """
    found = _off_diagonal(better)
    if (found < 0).any():
        raise BadParameter(
            "better", float(np.nanmin(found)), "must be probabilities or counts of wins, at least 0"
        )
    known = ~np.isnan(found)
    # where one order was asked, the rest of its one comparison is the other's win
    one = known & ~known.T
    wins = np.where(known, found, np.where(one.T, 1 - np.nan_to_num(found.T), 0.0))
    return strengths(np.maximum(wins, 0.0), l2)


def _off_diagonal(better: Floats) -> Floats:
    """A copy with nothing on the diagonal; refuses what is not a square matrix."""
    found = np.array(better, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not len(found):
        raise BadParameter("better", found.shape, "must be a square matrix with a row for each candidate")
    np.fill_diagonal(found, np.nan)
    return found
