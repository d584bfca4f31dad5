"""Sentence BLEU (Papineni 2002) as sacreBLEU computes it by default: 13a tokens, exponential smoothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from math import exp, log

import numpy as np

from septet.core.types import Floats

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


def ngrams(tokens: Sequence[str]) -> Counter[tuple[str, ...]]:
    """How often each n-gram of one to four tokens occurs."""
    spans = (tuple(tokens[i : i + n]) for n in range(1, ORDER + 1) for i in range(len(tokens) - n + 1))
    return Counter(spans)


def bleu(hypothesis: str, reference: str) -> float:
    """How much of the reference's n-grams a hypothesis has, in 0..100; it is not symmetric.

    exp(mean_n log p_n) · min(1, exp(1 − r/h)) over the orders that the hypothesis has; the k-th order
    without a match counts 1/(2^k · its n-grams) (Chen and Cherry 2014, method 3).

    >>> round(bleu("the cat sat on the mat", "the cat sat on a mat"), 3)
    53.728
    """
    return _score(ngrams(tokens_13a(hypothesis)), ngrams(tokens_13a(reference)))


def bleu_matrix(texts: Sequence[str]) -> Floats:
    """(n, n): BLEU of hypothesis i against reference j; the diagonal is 0, nobody supports itself."""
    counts = [ngrams(tokens_13a(text)) for text in texts]
    found = np.zeros((len(texts), len(texts)))
    for i, hypothesis in enumerate(counts):
        for j, reference in enumerate(counts):
            if i != j:
                found[i, j] = _score(hypothesis, reference)
    return found


def _score(hypothesis: Counter[tuple[str, ...]], reference: Counter[tuple[str, ...]]) -> float:
    matched, total = [0] * ORDER, [0] * ORDER
    for gram, count in hypothesis.items():
        matched[len(gram) - 1] += min(count, reference[gram])
        total[len(gram) - 1] += count
    if not any(matched):
        return 0.0
    logs, halving = [], 1
    for n_matched, n_total in zip(matched, total, strict=True):
        if not n_total:
            break
        if not n_matched:
            halving *= 2
        logs.append(log(n_matched / n_total if n_matched else 1 / (halving * n_total)))
    n_reference = sum(count for gram, count in reference.items() if len(gram) == 1)
    brevity = min(0.0, 1 - n_reference / total[0])
    return 100 * exp(sum(logs) / len(logs) + brevity)
