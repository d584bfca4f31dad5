"""How alike texts are, by one of several measures, as a matrix (n, n) in 0..1: row i is hypothesis i."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from septet.core.errors import MissingExtra
from septet.core.types import Floats
from septet.parts.answers.bleu import bleu_matrix
from septet.parts.answers.extract import final_answer

Measure = Literal["exact", "bleu", "chrf", "token-f1", "rouge-l"]
"""exact: equal final answers · bleu: sentence BLEU · chrf: chrF2 · token-f1: SQuAD's · rouge-l: F of the longest common
subsequence of words. BLEU, chrF and the like compare hypothesis i with reference j, so they need not be symmetric."""

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def similarity(measure: Measure, texts: Sequence[str]) -> Floats:
    """(n, n) of texts against each other; the diagonal is 1.

    >>> similarity("token-f1", ["the red cat", "a red dog"]).round(2).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    if measure == "bleu":
        found = bleu_matrix(texts) / 100
    elif measure == "exact":
        answers = [final_answer(text) for text in texts]
        found = np.array([[float(a is not None and a == b) for b in answers] for a in answers])
    elif measure == "chrf":
        found = _chrf(texts)
    elif measure == "token-f1":
        found = _token_f1(texts)
    else:
        found = _rouge_l(texts)
    np.fill_diagonal(found, 1.0)
    return found


def cosines(z: Floats) -> Floats:
    """(n, n) of rows of length one (n, d)."""
    found: Floats = z @ z.T
    return found


def mean_of_others(s: Floats, weights: Floats | None = None) -> Floats:
    """(n,) each row's weighted mean over the others: MBR's expected utility; 0 for one text alone.

    >>> s = np.array([[1, .9, .8], [.9, 1, .3], [.8, .3, 1]])
    >>> mean_of_others(s).round(3).tolist()
    [0.85, 0.6, 0.55]
    """
    n = len(s)
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    off = np.where(np.eye(n, dtype=bool), 0.0, s)
    total = w.sum() - w
    found: Floats = np.where(total > 0, off @ w / np.where(total > 0, total, 1), 0.0)
    return found


def words(text: str) -> list[str]:
    """Lower case, no punctuation, no articles: SQuAD's reading of an answer.

    >>> words("The cat, a dog.")
    ['cat', 'dog']
    """
    return _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _token_f1(texts: Sequence[str]) -> Floats:
    """(n, n) 2 · common / (words of both), over bags of words."""
    bags = [Counter(words(text)) for text in texts]
    columns = {word: c for c, word in enumerate(dict.fromkeys(w for bag in bags for w in bag))}
    counts = np.zeros((len(texts), max(len(columns), 1)))
    for row, bag in zip(counts, bags, strict=True):
        for word, count in bag.items():
            row[columns[word]] = count
    common = np.minimum(counts[:, None], counts[None]).sum(axis=2)
    total = counts.sum(axis=1)
    both = total[:, None] + total[None]
    return np.where(both > 0, 2 * common / np.where(both > 0, both, 1), 1.0)


def _rouge_l(texts: Sequence[str]) -> Floats:
    try:
        from rapidfuzz.distance import LCSseq
    except ModuleNotFoundError:
        raise MissingExtra("rapidfuzz", "answers") from None
    read = [re.findall(r"\w+", text.lower()) for text in texts]
    found = np.eye(len(texts))
    for i, one in enumerate(read):
        for j in range(i):
            both = len(one) + len(read[j])
            found[i, j] = found[j, i] = 2 * LCSseq.similarity(one, read[j]) / both if both else 1.0
    return found


def _chrf(texts: Sequence[str]) -> Floats:
    try:
        from sacrebleu.metrics import CHRF
    except ModuleNotFoundError:
        raise MissingExtra("sacrebleu", "answers") from None
    chrf = CHRF()
    return np.array([[chrf.sentence_score(a, [b]).score / 100 for b in texts] for a in texts])
