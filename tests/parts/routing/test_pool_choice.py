"""Greedy pools: the case of the paper's rule by hand, and its bound against all pools."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septet.core.errors import BadParameter
from septet.parts.routing.pool_choice import coverage, greedy_pool

FOUR = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 1, 0]], dtype=float)


def test_the_first_covers_two_and_the_second_adds_the_other_two() -> None:
    assert greedy_pool(FOUR, 2) == [0, 1]
    assert coverage(FOUR, [0, 1]) == 4
    assert coverage(FOUR, [0, 2]) == 3


def test_every_prefix_is_the_pool_of_its_size() -> None:
    assert [greedy_pool(FOUR, k) for k in (1, 2, 3)] == [[0], [0, 1], [0, 1, 2]]


def test_an_unknown_score_covers_nothing() -> None:
    assert greedy_pool(np.array([[np.nan, 0.2], [np.nan, 0.0]]), 1) == [1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_greedy_covers_at_least_its_share_of_the_best_pool(seed: int, size: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 2, size=(12, 5)).astype(float)
    optimum = max(coverage(scores, list(pool)) for pool in combinations(range(5), size))
    assert coverage(scores, greedy_pool(scores, size)) >= (1 - 1 / np.e) * optimum


@pytest.mark.parametrize("size", [0, 4])
def test_a_size_beyond_the_members_is_refused(size: int) -> None:
    with pytest.raises(BadParameter, match="between 1 and the number of members, 3"):
        greedy_pool(FOUR, size)
