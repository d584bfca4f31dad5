"""How many n-grams texts share: counted once per text, compared for all pairs of a group at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats

Ints = NDArray[np.int64]

COLUMNS = 4096
"""So many n-grams are compared at a time: a block of n rows of float32 stays small."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Of n texts and orders 1..k: `matched` (k, n, n) n-grams that two texts share, each counted as often as in
    the text that has it less often, and `total` (k, n) n-grams of each text."""

    matched: Floats
    total: Floats


def shared(texts: Sequence[Ints], order: int) -> Shared:
    """The n-grams of one to `order` tokens that texts share; a text is an array of the ids of its tokens, from 0.

    An n-gram that only one text has is dropped before the next order is made of it: it cannot match.

    >>> found = shared([np.array([0, 1, 0]), np.array([0, 0, 1])], 2)
    >>> found.matched[:, 0, 1].tolist(), found.total.tolist()
    ([3.0, 1.0], [[3.0, 3.0], [2.0, 2.0]])
    """
    n, lengths = len(texts), np.array([len(text) for text in texts], dtype=np.int64)
    total = np.maximum(lengths - np.arange(order)[:, None], 0).astype(np.float64)
    matched = np.zeros((order, n, n))
    tokens = np.concatenate([np.zeros(0, np.int64), *texts])
    of = np.repeat(np.arange(n), lengths)  # the text of each token
    left = np.repeat(lengths.cumsum(), lengths) - np.arange(len(tokens))  # tokens from here to the text's end
    n_ids = int(tokens.max(initial=0)) + 1
    at, gram = np.arange(len(tokens)), np.zeros(len(tokens), np.int64)
    for k in range(order):
        fits = left[at] > k
        at, gram = at[fits], gram[fits]
        if not len(at):
            break
        cells, gram = _cells((gram * n_ids + tokens[at + k]) * n + of[at], n)
        often = np.bincount(cells.gram) > 1  # in more than one text
        matched[k] = _overlap(cells, often, n)
        keep = often[gram]
        at, gram = at[keep], gram[keep]
    everyone = np.arange(n)
    matched[:, everyone, everyone] = total  # a text shares all it has with itself
    return Shared(matched, total)


@dataclass(frozen=True, slots=True)
class _Cells:
    """That a text has an n-gram so many times, once per pair that occurs."""

    text: Ints
    gram: Ints
    count: Ints


def _cells(keys: Ints, n: int) -> tuple[_Cells, Ints]:
    """Keys are gram · n + text; gives what occurs, and each place's gram, renumbered from 0."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    raw = ranked // n
    number = np.concatenate([[0], (raw[1:] != raw[:-1]).cumsum()])  # of the gram, in sorted order
    gram = np.empty(len(keys), np.int64)
    gram[order] = number
    counts = np.diff(np.append(begins, len(keys)))
    return _Cells(ranked[begins] % n, number[begins], counts), gram


def _overlap(cells: _Cells, often: NDArray[np.bool_], n: int) -> Floats:
    """(n, n): Σ over n-grams of the smaller of two texts' counts, for those that are in more than one text."""
    number = often.cumsum() - 1
    keep = often[cells.gram]
    text, gram, count = cells.text[keep], number[cells.gram[keep]], cells.count[keep]
    found = np.zeros((n, n))
    # cells come in the order of their grams, so a block of columns is a slice
    edges = [*range(0, int(often.sum()), COLUMNS), int(often.sum())]
    for low, high in pairwise(edges):
        begin, end = np.searchsorted(gram, [low, high])
        table = np.zeros((n, high - low), np.float32)
        table[text[begin:end], gram[begin:end] - low] = count[begin:end]
        once = table.max(axis=0) == 1
        found += table[:, once] @ table[:, once].T  # of zeros and ones the smaller is the product
        repeated = table[:, ~once]
        if repeated.shape[1]:
            found += np.stack([np.minimum(row, repeated).sum(axis=1) for row in repeated])
    return found
