"""How certain a member was of its own answer, read from the answer's tokens or from what it says about itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from septet.core.types import Floats, Tokens

VERBAL: Mapping[str, float] = {"high": 1.0, "medium": 0.4, "low": 0.3}
"""What a stated confidence counts (2410.21520, released code)."""

_SAID = re.compile(
    r"confidence\W{0,4}(?:is\W{1,3})?(?P<word>high|medium|low|\d{1,3}(?:\.\d+)?\s*%?)", re.IGNORECASE
)


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


def negentropy(rows: Floats) -> float:
    """The mean over tokens of Σ_x p log p in nats, of distributions (t, V) as log-probabilities: 0 is certain."""
    p = np.exp(rows)
    return float(np.where(p > 0, p * rows, 0.0).sum(axis=1).mean())


def self_certainty(rows: Floats) -> float:
    """Mean over tokens of KL(uniform ‖ p_t) = −(1/V) Σ_x log(V p_t(x)), from log-probabilities (t, V) (2502.18581).

    A string that is impossible would make it infinite, so log-probabilities of −inf are left out of the mean over x.

    >>> self_certainty(np.log(np.full((3, 4), .25)))
    -0.0
    >>> round(self_certainty(np.log([[.97, .01, .01, .01]])), 3)
    2.075
    """
    if not rows.size:
        return float("nan")
    size = rows.shape[1]
    finite = np.isfinite(rows)
    mean = np.where(finite, rows, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
    return float(-(np.log(size) + mean).mean())


def truncated_certainty(tokens: Tokens | None) -> float:
    """Self-certainty over the best alternatives that were reported, as if they were all: ours, where a member shows no
    whole distributions. Each position's probabilities are scaled to sum to one; NaN where none were reported.
    """
    if tokens is None or tokens.top is None:
        return float("nan")
    found = []
    for top in tokens.top:
        logp = np.array([value for _, value in top])
        if len(logp) > 1:
            found.append(self_certainty((logp - np.logaddexp.reduce(logp))[None, :]))
    return float(np.mean(found)) if found else float("nan")


def verbal(text: str) -> float | None:
    """The confidence that a text states, in 0..1: "Confidence: high" or "confidence is 80 %"; None: it states none.

    >>> verbal("It is 7. Confidence: medium"), verbal("Confidence: 80%"), verbal("It is 7.")
    (0.4, 0.8, None)
    """
    found = None
    for match in _SAID.finditer(text):
        found = match["word"].lower()
    if found is None:
        return None
    if found in VERBAL:
        return VERBAL[found]
    value = float(found.rstrip("% "))
    return min(value / 100 if "%" in found or value > 1 else value, 1.0)
