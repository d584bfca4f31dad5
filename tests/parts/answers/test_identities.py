"""Identities between aggregators that hold for all inputs: T1, T2, T3 and T8 of the dossier."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from septet.bench.duplicates import AGGREGATORS
from septet.parts.answers.centroid import distances, errors, triplets
from septet.parts.answers.reliability import log_odds
from septet.parts.answers.similarity import cosines, mean_of_others
from septet.parts.answers.vote import shares

seeds = st.integers(0, 2**31)
few = settings(max_examples=40, deadline=None)


@few
@given(st.integers(3, 6), seeds)
def test_t1_errors_by_all_triplets_are_the_closed_form_in_the_distance_to_the_centroid(
    m: int, seed: int
) -> None:
    z = np.random.default_rng(seed).normal(size=(7, m, 4))
    squared = ((z[:, :, None] - z[:, None]) ** 2).sum(axis=3).mean(axis=0)
    np.testing.assert_allclose(errors(distances(z)), triplets(squared), atol=1e-9)


@few
@given(st.integers(3, 6), seeds)
def test_t2_for_rows_of_length_one_the_nearest_to_the_centroid_is_cosine_mbr_s(m: int, seed: int) -> None:
    z = np.random.default_rng(seed).normal(size=(m, 4))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert (
        distances(z[None]).argmin() == mean_of_others(cosines(z)).argmax() == cosines(z).sum(axis=1).argmax()
    )


@few
@given(st.integers(2, 6), st.integers(2, 4), st.floats(0.6, 0.95), seeds)
def test_t3_votes_of_equal_accuracies_are_plurality(m: int, k: int, x: float, seed: int) -> None:
    said = [str(c) for c in np.random.default_rng(seed).integers(0, k, m)]
    np.testing.assert_allclose(
        shares(said, log_odds(np.full(m, x), k)).p, shares(said, np.ones(m)).p, atol=1e-12
    )


@few
@given(seeds)
def test_t8_the_order_of_voters_moves_no_posterior(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers, turned = rng.integers(0, 3, (8, 4)), rng.permutation(4)
    for name in ("plurality", "mbr", "centroid", "dawid-skene", "one-coin"):
        before, after = AGGREGATORS[name](answers, 3), AGGREGATORS[name](answers[:, turned], 3)
        np.testing.assert_allclose(after, before, atol=1e-8, err_msg=name)
