"""How certain a member was of its own answer, read from the log-probabilities of the answer's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from septet.core.types import Floats, Tokens


def known(tokens: Tokens | None) -> Floats:
    """(t,) the log-probabilities of an answer's tokens that are known; none where it has no tokens."""
    if tokens is None:
        return np.zeros(0)
    logp: Floats = tokens.logp[~np.isnan(tokens.logp)]
    return logp


def sum_logp(tokens: Tokens | None) -> float:
    """Chow-Sum (2404.10136): Σ log p_t; NaN where nothing is known.

    >>> round(sum_logp(Tokens((b"a", b"b", b"c"), np.array([-.1, -.2, -2.3]))), 3)
    -2.6
    """
    logp = known(tokens)
    return float(logp.sum()) if len(logp) else float("nan")


def mean_logp(tokens: Tokens | None) -> float:
    """Chow-Average (2404.10136): the mean log-probability per token; NaN where nothing is known."""
    logp = known(tokens)
    return float(logp.mean()) if len(logp) else float("nan")


def quantiles(logp: Floats, alphas: Sequence[float] | Floats) -> Floats:
    """Chow-Quantile(α) (2404.10136): (a,) quantiles of token log-probabilities (t,); 0 is the least.

    Between two tokens it is interpolated; NaN without tokens.

    >>> quantiles(np.array([-.1, -.2, -2.3]), [0, .5, 1]).tolist()
    [-2.3, -0.2, -0.1]
    """
    if not len(logp):
        return np.full(len(alphas), np.nan)
    found: Floats = np.quantile(np.asarray(logp, dtype=np.float64), alphas)
    return found


LEAST = 1e-9
"""The least probability that is thought to remain for the tokens that are not listed: below it is rounding."""


def self_certainty(rows: Sequence[Floats], size: int) -> float:
    """KL(uniform ‖ p_t) = −(1/V) Σ_v ln(V p_tv), the mean over tokens, in nats (2502.18581, section 3).

    `rows`: for each token the natural log-probabilities (k,) of the k likeliest of V = `size` tokens. Where k < V what
    remains is spread evenly over the others, which gives the least value that is possible: a lower bound. A masked
    token (−inf) is none. NaN without rows.

    >>> p = np.log([.7, .2, .1])
    >>> round(self_certainty([p], 3), 4), round(self_certainty([p[:1]], 3), 4)  # −(ln 2.1 + ln .6 + ln .3)/3; .15 twice
    (0.3243, 0.285)
    """

    def certainty(listed: Floats, rest: float, others: int) -> float:
        n = len(listed) + others
        return -(float(listed.sum()) + others * rest) / n - float(np.log(n))

    return _mean_of_rows(rows, size, certainty)


def negentropy(rows: Sequence[Floats], size: int) -> float:
    """KL(p_t ‖ uniform) = ln V − H(p_t), the mean over tokens, in nats: 0 where all V = `size` tokens are alike.

    `rows` as in `self_certainty`; what is not listed is spread evenly, which again gives a lower bound.

    >>> round(negentropy([np.log([.7, .2, .1])], 3), 4)  # ln 3 − .8018
    0.2968
    """

    def certainty(listed: Floats, rest: float, others: int) -> float:
        n = len(listed) + others
        return float(np.exp(listed) @ listed) + others * float(np.exp(rest)) * rest + float(np.log(n))

    return _mean_of_rows(rows, size, certainty)


def _mean_of_rows(rows: Sequence[Floats], size: int, measure: Callable[[Floats, float, int], float]) -> float:
    """The mean of a measure of (listed log-probabilities, log-probability of each other token, how many others)."""
    found = []
    for row in rows:
        logp = np.asarray(row, dtype=np.float64)
        listed = logp[np.isfinite(logp)]
        if not len(listed):
            continue
        others = max(size - len(logp), 0)
        rest = float(listed.min())
        if others:  # none of the others is likelier than the least of those that are listed
            rest = min(rest, float(np.log(max(1 - np.exp(listed).sum(), LEAST) / others)))
        found.append(measure(listed, rest, others))
    return float(np.mean(found)) if found else float("nan")
