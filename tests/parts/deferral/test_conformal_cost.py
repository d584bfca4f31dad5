"""Thresholds without labels: what a chain comes to, the bound on its cost, and the search."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.deferral.conformal_cost import Sampled, cost_bound, grid, search, walked

# Four questions, a weak and a strong member. The weak one's shares are 1, .8, .6, .4; it differs from the strong
# one on the last two. It costs 1, the strong one 9.
FOUR = Sampled(
    confidence=np.array([[1.0, 1.0], [0.8, 1.0], [0.6, 1.0], [0.4, 1.0]]),
    differs=np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
    cost=np.array([[1.0, 9.0]] * 4),
)


def test_what_is_accepted_costs_the_weak_member_and_the_rest_costs_both() -> None:
    lost, cost = walked(FOUR, np.array([[0.7]]))
    assert lost.tolist() == [[0.0, 0.0, 0.0, 0.0]]
    assert cost.tolist() == [[1.0, 1.0, 10.0, 10.0]]


def test_a_threshold_above_1_skips_the_member_which_is_cheaper_than_asking_it_in_vain() -> None:
    _, cost = walked(FOUR, np.array([[1.0], [1.1]]))
    assert cost.tolist() == [[1.0, 10.0, 10.0, 10.0], [9.0, 9.0, 9.0, 9.0]]


def test_three_members_are_walked_from_the_first() -> None:
    seen = Sampled(np.array([[0.5, 0.9, 1.0]]), np.array([[1.0, 0.5, 0.0]]), np.array([[1.0, 2.0, 4.0]]))
    lost, cost = walked(seen, np.array([[0.4, 0.4], [0.6, 0.4], [0.6, 1.0], [1.1, 0.4], [1.1, 1.1]]))
    assert lost[:, 0].tolist() == [1.0, 0.5, 0.0, 0.5, 0.0]
    assert cost[:, 0].tolist() == [1.0, 3.0, 7.0, 2.0, 4.0]


def test_the_bound_is_the_rank_that_leaves_alpha_above() -> None:
    # n = 9, α = .1: ⌈10·.9⌉ = 9, the largest; α = .2: the 8th; α = .05: ⌈9.5⌉ = 10 > 9
    costs = np.arange(1.0, 10.0)
    assert [float(cost_bound(costs, a)) for a in (0.1, 0.2, 0.05)] == [9.0, 8.0, np.inf]


def test_the_bound_holds_for_new_questions_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    costs = rng.exponential(size=(4000, 20))
    kept = costs[:, 0] <= cost_bound(costs[:, 1:], 0.2)  # n = 19: ⌈20·.8⌉ = the 16th of 19, so exactly .8
    assert kept.mean() == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / 4000))


def test_the_grid_ends_above_1() -> None:
    assert len(grid(15)) == 15
    assert (grid(15)[0], grid(15)[-1]) == (0.0, pytest.approx(1.1))
    assert (grid(15) > 1).sum() == 2  # 14 steps of .0786: 1.021 and 1.1


def test_the_thresholds_agree_most_with_the_last_member_within_the_budget() -> None:
    # α = .2, n = 4: ⌈5·.8⌉ = 4, the dearest question. Only a chain that accepts everything stays below 9; from 9
    # on the strong member alone does, which never disagrees.
    cheap = search(FOUR, FOUR, points=12, alpha=0.2, budget=5.0)
    assert (cheap.thresholds, cheap.disagreement, cheap.bound) == ((0.0,), 0.5, 1.0)
    dear = search(FOUR, FOUR, points=12, alpha=0.2, budget=9.0)
    assert (dear.disagreement, dear.cost, dear.bound) == (0.0, 9.0, 9.0)
    assert dear.thresholds[0] > 1
    # with 10 the chain that accepts the first two agrees as well, and costs 5.5 on average
    both = search(FOUR, FOUR, points=12, alpha=0.2, budget=10.0)
    assert (both.disagreement, both.cost, both.bound) == (0.0, 5.5, 10.0)
    assert 0.6 < both.thresholds[0] <= 0.8


def test_the_search_finds_what_looking_at_every_chain_finds() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        seen = [
            Sampled(
                rng.integers(0, 6, (30, 3)) / 5,
                rng.integers(0, 2, (30, 3)) * np.array([1.0, 1.0, 0.0]),
                rng.uniform(0.5, 1.5, (30, 3)) * np.array([1.0, 3.0, 9.0]),
            )
            for _ in range(2)
        ]
        found = search(seen[0], seen[1], points=8, alpha=0.2, budget=9.0)
        every = np.array(list(product(grid(8), repeat=2)))
        within = cost_bound(walked(seen[1], every)[1], 0.2) <= 9.0
        assert found.disagreement == pytest.approx(walked(seen[0], every[within])[0].mean(axis=1).min())
        assert found.bound <= 9.0


def test_a_budget_below_every_chain_is_refused_with_the_least_that_would_do() -> None:
    with pytest.raises(BadParameter, match="must be at least 1, the lowest bound"):
        search(FOUR, FOUR, points=12, alpha=0.2, budget=0.5)


def test_too_few_questions_for_alpha_are_refused_with_the_number_that_it_takes() -> None:
    with pytest.raises(BadParameter, match="at least 19 held-out questions, there are 4"):
        search(FOUR, FOUR, points=12, alpha=0.05, budget=100.0)


def test_a_grid_that_is_too_large_is_refused() -> None:
    n, m = 200, 5
    rng = np.random.default_rng(0)
    many = Sampled(rng.uniform(size=(n, m)), np.zeros((n, m)), np.ones((n, m)))
    with pytest.raises(BadParameter, match="chains of 5 members, more than 2,000,000"):
        search(many, many, points=60, alpha=0.1, budget=5.0)
