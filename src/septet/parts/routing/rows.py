"""Feature rows that are mostly zero, kept as the numbers that are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats

_BLOCK = 512
"""Rows that are made dense at once."""


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

    @classmethod
    def of(cls, dense: Floats) -> Rows:
        """The rows of a dense matrix (n, d)."""
        held = dense != 0
        starts = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
        return cls(dense[held], np.nonzero(held)[1].astype(np.int32), starts, dense.shape[1])

    def dense(self, first: int = 0, last: int | None = None) -> Floats:
        """Rows `first` to `last` as a matrix (n, d)."""
        last = len(self) if last is None else min(last, len(self))
        part = slice(int(self.starts[first]), int(self.starts[last]))
        matrix = np.zeros((last - first, self.width))
        row = np.repeat(np.arange(last - first), np.diff(self.starts[first : last + 1]))
        matrix[row, self.columns[part]] = self.values[part]
        return matrix

    def cosines(self, x: Floats) -> Floats:
        """(k, n) inner products of x (k, d) with every row; cosines where all rows have length one."""
        if len(x) < 16 and self.values.size < len(self) * self.width:
            row = np.repeat(np.arange(len(self)), np.diff(self.starts))
            return np.array(
                [np.bincount(row, self.values * one[self.columns], minlength=len(self)) for one in x]
            ).reshape(len(x), len(self))
        found = np.empty((len(x), len(self)))
        for start in range(0, len(self), _BLOCK):
            found[:, start : start + _BLOCK] = x @ self.dense(start, start + _BLOCK).T
        return found

    def joined(self, more: Rows) -> Rows:
        """These rows, then more of the same width."""
        return Rows(
            np.concatenate([self.values, more.values]),
            np.concatenate([self.columns, more.columns]),
            np.concatenate([self.starts, self.starts[-1] + more.starts[1:]]),
            self.width,
        )
