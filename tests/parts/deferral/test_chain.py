"""The search for a cascade, by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.parts.deferral.chain import Seen, search

# Three queries, a cheap member (1 unit) and a dear one (10): the paper's hand case g = (.7, .2, .9), τ = .5.
HAND = Seen(
    confidence=np.array([[0.7, 0.5], [0.2, 0.5], [0.9, 0.5]]),
    score=np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
    cost=np.array([[1.0, 10.0]] * 3),
)


def test_the_first_and_third_are_accepted_and_the_second_goes_on() -> None:
    found = HAND.of((0, 1), (0.5,))
    assert found.quality == 1.0
    assert found.cost == pytest.approx((3 * 1 + 10) / 3)


def test_the_search_finds_that_chain_and_prefers_it_to_either_member() -> None:
    found = search(HAND, depth=2, budget=None)
    assert (found.order, found.quality) == ((0, 1), 1.0)
    assert 0.2 < found.thresholds[0] <= 0.7


def test_a_budget_below_the_chain_leaves_the_cheap_member_alone() -> None:
    found = search(HAND, depth=2, budget=1.5)
    assert (found.order, found.thresholds, found.cost) == ((0,), (), 1.0)


def test_a_budget_that_nobody_meets_is_refused_with_the_least_that_is_needed() -> None:
    with pytest.raises(BadParameter, match="at least 1, the cheapest"):
        search(HAND, depth=2, budget=0.5)


def test_of_chains_that_score_alike_the_cheaper_is_taken() -> None:
    same = Seen(np.full((4, 2), 0.5), np.ones((4, 2)), np.array([[3.0, 2.0]] * 4))
    assert search(same, depth=2, budget=None).order == (1,)


def test_no_chain_of_three_on_any_threshold_beats_the_one_found() -> None:
    rng = np.random.default_rng(1)
    score = rng.integers(0, 2, (30, 3)).astype(float)
    seen = Seen(np.clip(score * 0.3 + rng.random((30, 3)), 0, 1), score, np.tile([1.0, 3.0, 9.0], (30, 1)))
    found = search(seen, depth=3, budget=6.0, n_grid=31)
    steps = [np.sort(seen.confidence[:, m]) for m in (0, 1)]
    brute = [seen.of((0, 1, 2), pair) for pair in product(*steps)]
    assert found.cost <= 6.0
    assert found.quality >= max(c.quality for c in brute if c.cost <= 6.0) - 1e-12


def test_only_questions_that_every_member_answered_are_seen() -> None:
    rows = Table.of(
        [
            {"query": q, "model": m, "response": "x", "score": 1.0}
            for q, m in [("p", "a"), ("p", "b"), ("half", "a")]
        ]
    )
    seen = Seen.of_rows(rows, np.array([0.1, 0.2, 0.3]), np.ones(3))
    assert seen.confidence.tolist() == [[0.1, 0.2]]
