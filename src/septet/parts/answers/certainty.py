"""How certain a member was of its own answer, read from the log-probabilities of the answer's tokens."""

from __future__ import annotations

from collections.abc import Sequence

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
