"""Features of questions: dense rows, or rows that are mostly zero, kept as the numbers that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats

Index: TypeAlias = slice | Sequence[int] | NDArray[np.int64] | NDArray[np.bool_]

_BLOCK = 512
"""Rows that are multiplied at once."""


@dataclass(frozen=True)
class Rows:
    """n rows of width d (compressed sparse rows): row i holds `values[starts[i]:starts[i + 1]]` in `columns`.

    A router keeps thousands of questions in 4096 buckets; dense, each would be 32 kB instead of one.
    """

    values: Floats  # (nnz,)
    columns: NDArray[np.int32]  # (nnz,)
    starts: NDArray[np.int64]  # (n + 1,)
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self), self.width

    @classmethod
    def of(cls, dense: Floats) -> Rows:
        """The rows of a dense matrix (n, d)."""
        held = dense != 0
        starts = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
        return cls(dense[held], np.nonzero(held)[1].astype(np.int32), starts, dense.shape[1])

    def __getitem__(self, index: Index) -> Rows:
        """Some of the rows, in the given order."""
        picked = np.arange(len(self))[index]
        lengths = np.diff(self.starts)[picked]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        # place of every kept number: the start of its row, and its position inside the row
        inside = np.arange(int(starts[-1])) - np.repeat(starts[:-1], lengths)
        place = np.repeat(self.starts[picked], lengths) + inside
        return Rows(self.values[place], self.columns[place], starts, self.width)

    def dense(self, first: int = 0, last: int | None = None) -> Floats:
        """Rows `first` to `last` as a matrix (n, d)."""
        last = len(self) if last is None else min(last, len(self))
        part = slice(int(self.starts[first]), int(self.starts[last]))
        matrix = np.zeros((last - first, self.width))
        row = np.repeat(np.arange(last - first), np.diff(self.starts[first : last + 1]))
        matrix[row, self.columns[part]] = self.values[part]
        return matrix

    def cosines(self, x: Features) -> Floats:
        """(k, n) inner products of x (k, d) with every row; cosines where all rows have length one.

        Only the rows that share a column with a query are touched.
        """
        x = x if isinstance(x, Rows) else Rows.of(np.atleast_2d(x))
        row, values, starts = self._by_column
        found = np.zeros((len(x), len(self)))
        for out, first, last in zip(found, x.starts[:-1], x.starts[1:], strict=True):
            for column, value in zip(
                x.columns[first:last].tolist(), x.values[first:last].tolist(), strict=True
            ):
                part = slice(starts[column], starts[column + 1])
                out[row[part]] += value * values[part]
        return found

    @cached_property
    def _by_column(self) -> tuple[NDArray[np.int32], Floats, list[int]]:
        """The same numbers in the order of columns: their rows, themselves, where each column starts."""
        order = np.argsort(self.columns, kind="stable")
        row = np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))
        starts = np.searchsorted(self.columns[order], np.arange(self.width + 1)).tolist()
        return row[order], self.values[order], starts

    def times(self, w: Floats) -> Floats:
        """(n, k) products with w (d, k)."""
        found = np.zeros((len(self), w.shape[1]))
        for first in range(0, len(self), _BLOCK):
            starts = self.starts[first : first + _BLOCK + 1]
            filled = np.flatnonzero(np.diff(starts))  # a sum over no numbers would be that of the next row
            if len(filled):
                part = slice(int(starts[0]), int(starts[-1]))
                products = self.values[part, None] * w[self.columns[part]]
                found[first + filled] = np.add.reduceat(products, starts[filled] - starts[0])
        return found

    def joined(self, more: Rows) -> Rows:
        """These rows, then more of the same width."""
        return Rows(
            np.concatenate([self.values, more.values]),
            np.concatenate([self.columns, more.columns]),
            np.concatenate([self.starts, self.starts[-1] + more.starts[1:]]),
            self.width,
        )


Features: TypeAlias = Rows | Floats
"""(n, d) features of n questions. `len(x)` and `x[index]` work for both kinds; so do the functions below."""


def cosines(known: Features, x: Features) -> Floats:
    """(k, n) inner products of x (k, d) with every known row (n, d); cosines where rows have length one."""
    if isinstance(known, Rows):
        return known.cosines(x)
    products: Floats = dense(x) @ known.T
    return products


def times(x: Features, w: Floats) -> Floats:
    """(n, k) products of x (n, d) with w (d, k)."""
    return x.times(w) if isinstance(x, Rows) else x @ w


def dense(x: Features) -> Floats:
    """x (n, d) as a matrix."""
    return x.dense() if isinstance(x, Rows) else x


def joined(x: Features, more: Features) -> Features:
    """The rows of x, then more of the same width."""
    if isinstance(x, Rows) and isinstance(more, Rows):
        return x.joined(more)
    both: Floats = np.concatenate([dense(x), dense(more)])
    return both
