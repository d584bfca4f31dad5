"""Assignments of many queries: FORC's and OmniRouter's examples by hand, brute force, and what cannot be met."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.routing.assign import assign, greedy

# two queries; cheap costs 1, big costs 3; big is right on both, cheap hardly on the second
V = np.array([[0.6, 0.9], [0.2, 0.9]])
C = np.array([[1.0, 3.0], [1.0, 3.0]])


def test_a_budget_of_four_buys_cheap_and_big_at_a_value_of_one_and_a_half() -> None:
    x = assign(V, cost=C, budget=4.0, penalty=0.0)
    assert x.tolist() == [[1, 0], [0, 1]]
    assert (V * x).sum() == pytest.approx(1.5)


def test_the_greedy_rule_buys_big_and_then_nobody() -> None:
    x = greedy(V, C, 4.0)
    assert x.tolist() == [[0, 1], [0, 0]]
    assert (V * x).sum() == pytest.approx(0.9)


def test_the_greedy_rule_goes_on_after_a_query_that_it_could_not_pay() -> None:
    v, c = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]), np.array([[3.0, 1.0]] * 3)
    assert greedy(v, c, 4.0).tolist() == [[1, 0], [0, 0], [0, 1]]
    assert greedy(np.full((1, 2), np.nan), c[:1], 4.0).tolist() == [[0, 0]]
    assert greedy(v[:1], np.full((1, 2), np.nan), 4.0).tolist() == [[0, 0]]


def test_a_floor_of_1_4_costs_four() -> None:
    x = assign(-C, quality=V, floor=1.4, penalty=0.0)
    assert x.tolist() == [[1, 0], [0, 1]]
    assert (C * x).sum() == 4.0


def test_a_floor_of_2_is_more_than_anybody_reaches() -> None:
    with pytest.raises(BadParameter, match=r"floor: must be at most 1\.8, what the best members reach"):
        assign(-C, quality=V, floor=2.0, penalty=0.0)


def test_a_floor_of_1_without_penalty_costs_four_as_three_would_reach_only_0_9() -> None:
    served = assign(-C, quality=V, floor=1.0)
    assert (C * served).sum() == 4.0
    assert (assign(-C, quality=V, floor=0.9, penalty=0.0) * C).sum() == 3.0


def test_omnirouters_mean_quality_of_three_quarters_costs_four() -> None:
    assert assign(-C, quality=V, floor=0.75 * 2).tolist() == [[1, 0], [0, 1]]
    assert assign(-C, quality=V, floor=0.4 * 2).tolist() == [[1, 0], [1, 0]]
    with pytest.raises(BadParameter, match="floor"):
        assign(-C, quality=V, floor=0.91 * 2)


def test_places_per_member_are_kept() -> None:
    # both want big, which has one place: it goes to the query that gains more
    assert assign(V, capacity=np.array([2.0, 1.0])).tolist() == [[1, 0], [0, 1]]


def test_a_query_that_nobody_answers_costs_the_penalty() -> None:
    # serving costs 1 or 3 each and brings at most .9
    assert assign(V - C, penalty=0.0).tolist() == [[0, 0], [0, 0]]
    assert assign(V - C, penalty=1.0).tolist() == [[1, 0], [1, 0]]


def test_shares_use_up_a_budget_that_whole_queries_leave_over() -> None:
    # a budget of 3: one query at big costs 4 with the other at cheap; half of the swap 1 -> 3 on the second is left
    x = assign(V, cost=C, budget=3.0, whole=False)
    np.testing.assert_allclose(x, [[1, 0], [0.5, 0.5]], atol=1e-9)
    assert assign(V, cost=C, budget=3.0).tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"cost": C, "budget": 1.5}, r"budget: must be at least 2, what the cheapest members cost"),
        ({"capacity": np.array([1.0, 0.0])}, r"capacity: must have room for 2 queries"),
        (
            {"cost": C, "budget": 4.0, "quality": V, "floor": 1.7},
            r"budget and floor: cannot all be met by any assignment",
        ),
    ],
)
def test_what_cannot_be_met_says_why(more: dict[str, Any], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        assign(V, **more)


def test_an_unknown_pair_is_not_assigned_and_a_query_without_any_is_named() -> None:
    v = np.array([[0.6, np.nan], [0.2, 0.9]])
    assert assign(v).tolist() == [[1, 0], [0, 1]]
    c = np.array([[np.nan, 3.0], [1.0, 3.0]])
    assert assign(V, cost=c, budget=6.0).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(
        BadParameter, match="query: must have a member of which quality and cost are known, got 1"
    ):
        assign(np.array([[0.5, 0.5], [np.nan, np.nan]]))


def test_no_queries_need_no_program() -> None:
    assert assign(np.empty((0, 3))).shape == (0, 3)


def test_small_programs_equal_brute_force() -> None:
    rng = np.random.default_rng(3)
    for _ in range(15):
        v, c, places = rng.random((4, 3)), rng.random((4, 3)), rng.integers(1, 4, 3).astype(float)
        budget, floor = float(rng.uniform(0.8, 2.0)), float(rng.uniform(0.5, 2.0))
        best = -np.inf
        for picks in product(range(3), repeat=4):
            x = np.eye(3)[list(picks)]
            kept = (c * x).sum() <= budget and (v * x).sum() >= floor and (x.sum(axis=0) <= places).all()
            best = max(best, float((v * x).sum())) if kept else best
        if np.isneginf(best):
            with pytest.raises(BadParameter):
                assign(v, cost=c, budget=budget, quality=v, floor=floor, capacity=places)
        else:
            x = assign(v, cost=c, budget=budget, quality=v, floor=floor, capacity=places)
            assert (v * x).sum() == pytest.approx(best, rel=2e-4)  # HiGHS stops at a gap of 1e-4
            assert (c * x).sum() <= budget + 1e-6
