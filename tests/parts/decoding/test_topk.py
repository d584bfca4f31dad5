"""Rows of log-probabilities: exact top k, one END, no mass on masked rows."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BackendError
from septet.parts.decoding.topk import log_normaliser, read_row, top_k


@pytest.mark.parametrize("size", [6, 512, 5000, 20_000])
@pytest.mark.parametrize("k", [1, 3, 40, 6000])
def test_the_top_k_is_that_of_a_full_sort_with_ties_to_the_lowest_index(size: int, k: int) -> None:
    rng = np.random.default_rng(size + k)
    values = rng.integers(0, 50, size).astype(np.float32)  # many ties
    assert top_k(values, k).tolist() == np.argsort(-values, kind="stable")[:k].tolist()


def test_rows_without_mass_are_never_among_the_top() -> None:
    values = np.array([-np.inf, 1, -np.inf, 2], dtype=np.float32)
    assert top_k(values, 4).tolist() == [3, 1]
    assert top_k(np.full(3000, -np.inf, dtype=np.float32), 2).tolist() == []


def test_the_normaliser_is_the_log_of_the_sum_of_exponentials() -> None:
    logits = np.log(np.array([0.1, 0.2, 0.3], dtype=np.float32)) + np.float32(500)
    assert log_normaliser(logits) == pytest.approx(500 + np.log(0.6), abs=1e-4)
    assert log_normaliser(np.array([-np.inf], dtype=np.float32)) == -np.inf


def test_logits_that_are_not_numbers_are_an_error() -> None:
    with pytest.raises(BackendError, match="not numbers"):
        log_normaliser(np.array([0.0, np.nan], dtype=np.float32))


def test_end_ids_are_summed_into_the_first_and_masked_rows_have_no_mass() -> None:
    # Masses: END .1 and .3, a masked row .5, the rest .1; without the masked row END is .4 of .5.
    logits = np.log(np.array([0.1, 0.5, 0.3, 0.1], dtype=np.float32))
    row = read_row(logits, end_ids=(0, 2), masked_ids=np.array([1], dtype=np.int32))
    assert np.exp(row.full()) == pytest.approx([0.8, 0, 0, 0.2], abs=1e-6)
    assert row.top(4).tolist() == [0, 3]
    assert row.best() == 0


def test_duplicates_are_summed_and_no_id_at_all_is_minus_infinity() -> None:
    logits = np.log(np.array([0.2, 0.3, 0.5], dtype=np.float32))
    row = read_row(logits, end_ids=(2,), masked_ids=np.array([], dtype=np.int32))
    assert row.logp_of([0, 1]) == pytest.approx(np.log(0.5), abs=1e-6)
    assert row.logp_of([]) == -np.inf
