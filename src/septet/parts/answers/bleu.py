"""Sentence BLEU (Papineni 2002) as sacreBLEU computes it by default: 13a tokens, exponential smoothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce

import numpy as np

from septet.core.types import Floats
from septet.parts.answers.ngrams import Shared, shared

ORDER = 4
"""N-grams of one to four tokens."""

# The steps of mteval-v13a, in its order; the classes are ranges of ASCII punctuation.
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_PLAIN = (
    ("<skipped>", ""), ("-\n", ""), ("\n", " "),
    ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"),
)  # fmt: skip


def tokens_13a(text: str) -> list[str]:
    """The tokens of a text, lower-cased, as mteval-v13a splits them.

    >>> tokens_13a("It costs $3.50, or less.")
    ['it', 'costs', '$', '3.50', ',', 'or', 'less', '.']
    """
    line = reduce(lambda line, step: line.replace(*step), _PLAIN, text.lower().rstrip())
    return reduce(lambda line, step: step[0].sub(step[1], line), _SPLITS, f" {line} ").split()


def bleu(hypothesis: str, reference: str) -> float:
    """How much of the reference's n-grams a hypothesis has, in 0..100; it is not symmetric.

    exp(mean_n log p_n) · min(1, exp(1 − r/h)) over the orders that the hypothesis has; the k-th order
    without a match counts 1/(2^k · its n-grams) (Chen and Cherry 2014, method 3).

    >>> round(bleu("the cat sat on the mat", "the cat sat on a mat"), 3)
    53.728
    """
    return float(bleus([hypothesis, reference])[0, 1])


def bleus(texts: Sequence[str]) -> Floats:
    """(n, n): BLEU of hypothesis i against reference j, in 0..100; the n-grams of a text are counted once."""
    known: dict[str, int] = {}
    ids = [[known.setdefault(token, len(known)) for token in tokens_13a(text)] for text in texts]
    return _scores(shared([np.array(text, dtype=np.int64) for text in ids], ORDER))


def bleu_matrix(texts: Sequence[str]) -> Floats:
    """(n, n): BLEU of hypothesis i against reference j; the diagonal is 0, nobody supports itself."""
    found = bleus(texts)
    np.fill_diagonal(found, 0.0)
    return found


def _scores(found: Shared) -> Floats:
    """(n, n) from what texts share: the formula of `bleu` for all pairs."""
    total = found.total[:, :, None]  # (4, n, 1) of the hypothesis
    there = np.broadcast_to(total > 0, found.matched.shape)
    none = there & (found.matched == 0)
    # the k-th order without a match counts as 2^-k of one n-gram
    counted = np.where(none, 0.5 ** none.cumsum(axis=0), found.matched)
    ratio = np.divide(counted, total, out=np.ones(counted.shape), where=there)
    mean = np.log(ratio).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    words = found.total[0]
    brevity = np.minimum(0.0, 1 - words[None, :] / np.maximum(words[:, None], 1))
    any_match = (found.matched > 0).any(axis=0)
    return np.asarray(np.where(any_match, 100 * np.exp(mean + brevity), 0.0))
