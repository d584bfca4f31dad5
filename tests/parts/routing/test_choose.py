"""The decision rule and its invariants (price of cost, shifts, dominance, order, unknowns)."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.routing.choose import best, net_utility

RNG = np.random.default_rng(5)
Q, C = RNG.random((200, 4)), RNG.random((200, 4))


def pick(prefer: float, q: np.ndarray = Q, c: np.ndarray = C) -> np.ndarray:
    return best(net_utility(q, c, np.full(len(q), prefer))).argmax(axis=1)


def test_a_free_cost_leaves_the_best_and_an_infinite_price_the_cheapest() -> None:
    np.testing.assert_array_equal(pick(0.0), Q.argmax(axis=1))
    np.testing.assert_array_equal(pick(1e9), C.argmin(axis=1))
    np.testing.assert_array_equal(pick(np.inf), C.argmin(axis=1))


def test_a_constant_on_all_members_changes_nothing() -> None:
    np.testing.assert_array_equal(pick(0.7), pick(0.7, q=Q + 3.0))
    np.testing.assert_array_equal(pick(0.7), pick(0.7, c=C + 3.0))


def test_a_member_that_is_worse_and_dearer_is_never_picked() -> None:
    q, c = Q.copy(), C.copy()
    q[:, 2], c[:, 2] = q[:, 0] - 0.01, c[:, 0] + 0.01
    for prefer in (0.0, 0.3, 10.0):
        assert 2 not in pick(prefer, q, c)


def test_expected_spending_does_not_rise_with_the_price_of_cost() -> None:
    spent = [C[np.arange(200), pick(prefer)].mean() for prefer in (0.0, 0.1, 0.5, 1.0, 5.0, np.inf)]
    assert spent == sorted(spent, reverse=True)


def test_another_order_of_members_picks_the_same_member() -> None:
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(np.array(order)[pick(0.4, Q[:, order], C[:, order])], pick(0.4))


def test_equals_go_to_the_first() -> None:
    assert pick(0.0, np.array([[0.5, 0.5]]), np.zeros((1, 2))).tolist() == [0]


def test_an_unknown_quality_is_chosen_only_where_all_are_unknown() -> None:
    q = np.array([[np.nan, -5.0], [np.nan, np.nan]])
    assert pick(0.0, q, np.zeros((2, 2))).tolist() == [1, 0]


def test_an_unknown_cost_does_not_matter_while_cost_is_free() -> None:
    q, c = np.array([[0.9, 0.5]]), np.array([[np.nan, 0.1]])
    assert pick(0.0, q, c).tolist() == [0]
    assert pick(1.0, q, c).tolist() == [1]


@pytest.mark.parametrize("prefer", [1.0, np.inf])
def test_where_no_cost_is_known_quality_decides(prefer: float) -> None:
    assert pick(prefer, np.array([[0.1, 0.5]]), np.full((1, 2), np.nan)).tolist() == [1]
