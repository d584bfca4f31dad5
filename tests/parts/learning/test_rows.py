"""Sparse rows against the dense matrix they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.parts.learning.rows import Rows

DENSE = np.array([[0.0, 0.6, 0.8], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])


def test_rows_come_back_as_the_matrix_they_were_made_of() -> None:
    rows = Rows.of(DENSE)
    assert (rows.values.tolist(), rows.columns.tolist(), rows.starts.tolist()) == (
        [0.6, 0.8, 1.0],
        [1, 2, 0],
        [0, 2, 2, 3],
    )
    np.testing.assert_array_equal(rows.dense(), DENSE)
    np.testing.assert_array_equal(rows.dense(1, 3), DENSE[1:])


@pytest.mark.parametrize("n", [1, 40])
def test_cosines_are_the_products_with_every_row(n: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, 3))
    np.testing.assert_allclose(Rows.of(DENSE).cosines(x), x @ DENSE.T)


def test_joined_rows_follow_each_other() -> None:
    np.testing.assert_array_equal(Rows.of(DENSE).joined(Rows.of(DENSE[:1])).dense(), DENSE[[0, 1, 2, 0]])


def test_rows_survive_saving() -> None:
    again = unpack(Rows, *pack(Rows.of(DENSE)))
    np.testing.assert_array_equal(again.dense(), DENSE)
