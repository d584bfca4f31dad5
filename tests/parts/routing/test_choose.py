"""Decision rules by hand, and their invariants (price of cost, shifts, dominance, order, unknowns)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from septet.core.errors import BadParameter
from septet.parts.routing.choose import (
    best,
    capped,
    cheapest_best,
    cheapest_good,
    chebyshev,
    epsilon_greedy,
    mix,
    mixture,
    net_utility,
    softmax,
    strong_if,
    top,
    within,
)

RNG = np.random.default_rng(5)
Q, C = RNG.random((200, 4)), RNG.random((200, 4))


def pick(prefer: float, q: np.ndarray = Q, c: np.ndarray = C) -> np.ndarray:
    return best(net_utility(q, c, np.full(len(q), prefer))).argmax(axis=1)


def test_a_free_cost_leaves_the_best_and_an_infinite_price_the_cheapest() -> None:
    np.testing.assert_array_equal(pick(0.0), Q.argmax(axis=1))
    np.testing.assert_array_equal(pick(1e9), C.argmin(axis=1))
    np.testing.assert_array_equal(pick(np.inf), C.argmin(axis=1))


def test_a_row_with_unknowns_does_not_change_what_stands_beside_it() -> None:
    net = np.array([[NAN, 2.0, 2.0], [NAN, NAN, NAN], [1.0, 3.0, 2.0], [-np.inf, NAN, -1.0]])
    assert best(net).argmax(axis=1).tolist() == [1, 0, 1, 2]
    assert best(net).sum(axis=1).tolist() == [1.0] * 4


def test_cost_decides_between_equals_only() -> None:
    # equal: the first two, also by 1e-13; an unknown cost is the highest; a better one needs no cost
    net = np.array([[2.0, 2.0, 1.0], [2.0, 2.0 + 1e-13, 1.0], [2.0, 2.0, NAN], [2.0, 2.1, 1.0]])
    cost = np.array([[0.03, 0.02, 0.01], [0.02, 0.03, 0.01], [NAN, 0.03, 0.01], [0.01, NAN, 0.01]])
    assert cheapest_best(net, cost).argmax(axis=1).tolist() == [1, 0, 1, 1]


def test_without_a_price_the_net_utility_is_a_copy_of_the_quality() -> None:
    q = np.array([[0.5, NAN]])
    net = net_utility(q, np.array([[NAN, 9.0]]), np.array([0.0]))
    np.testing.assert_array_equal(net, q)
    assert not np.shares_memory(net, q)


def test_rows_with_and_without_a_price_are_decided_apart() -> None:
    # 0: quality; 2: .9 − 2·.4 = .1 and .5 − 2·.1 = .3; ∞: the cost; a cost that nobody knows: quality
    q, c = np.array([[0.9, 0.5]] * 4), np.array([[0.4, 0.1]] * 3 + [[NAN, NAN]])
    net = net_utility(q, c, np.array([0.0, 2.0, np.inf, 5.0]))
    np.testing.assert_allclose(net, [[0.9, 0.5], [0.1, 0.3], [-0.4, -0.1], [0.9, 0.5]])


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


# --- the other rules -----------------------------------------------------------------------------------

P = np.array([[0.9, 0.6, 0.75], [0.2, 0.9, 0.3]])
USD = np.array([[5.0, 1.0, 2.0], [5.0, 1.0, 2.0]])
NAN = np.nan


def chosen(weights: np.ndarray) -> list[int]:
    """Who answers; the rows must be a one among zeros."""
    assert ((weights == 0) | (weights == 1)).all() and (weights.sum(axis=1) == 1).all()
    return weights.argmax(axis=1).tolist()


def test_strong_answers_from_the_threshold_on() -> None:
    p = np.array([0.0, 0.3, 0.7])
    assert chosen(strong_if(p, 0.3)) == [0, 1, 1]
    assert chosen(strong_if(p, 0.0)) == [1, 1, 1]
    assert chosen(strong_if(p, 1.01)) == [0, 0, 0]


def test_where_it_is_unknown_who_wins_strong_answers() -> None:
    assert chosen(strong_if(np.array([NAN]), 0.99)) == [1]


def test_the_cheapest_of_the_good_ones_answers() -> None:
    assert chosen(cheapest_good(P, USD, 0.7)) == [2, 1]
    assert chosen(cheapest_good(P, USD, np.array([0.8, 0.25]))) == [0, 1]


@pytest.mark.parametrize(("otherwise", "who"), [("best", 1), ("cheapest", 2), ("dearest", 0)])
def test_where_nobody_is_good_enough_the_fallback_answers(otherwise: Any, who: int) -> None:
    q, c = np.array([[0.1, 0.3, 0.2]]), np.array([[5.0, 2.0, 1.0]])
    assert chosen(cheapest_good(q, c, 0.5, otherwise)) == [who]


def test_of_equally_cheap_good_ones_the_best_answers() -> None:
    assert chosen(cheapest_good(np.array([[0.6, 0.9, 0.8]]), np.ones((1, 3)), 0.5)) == [1]


def test_an_unknown_cost_is_dearer_than_any_known_one() -> None:
    q, c = np.array([[0.9, 0.8]]), np.array([[NAN, 7.0]])
    assert chosen(cheapest_good(q, c, 0.5)) == [1]
    assert chosen(cheapest_good(q, np.full((1, 2), NAN), 0.5)) == [0]


def test_an_epsilon_of_zero_leaves_the_best_and_one_of_one_the_cheapest() -> None:
    q, c = RNG.random((50, 4)), RNG.random((50, 4))
    assert chosen(within(q, c, 0.0)) == q.argmax(axis=1).tolist()
    assert chosen(within(q, c, 1.0)) == c.argmin(axis=1).tolist()


def test_a_cap_leaves_the_best_that_fits_and_else_the_cheapest() -> None:
    assert chosen(capped(P, USD, 2.0)) == [2, 1]
    assert chosen(capped(P, USD, np.array([9.0, 0.5]))) == [0, 1]
    assert chosen(capped(np.array([[0.9, 0.5]]), np.array([[NAN, 1.0]]), 3.0)) == [1]


def test_chebyshev_finds_the_member_below_the_chord_that_no_price_does() -> None:
    # linear .5p − .5c: .05, .25, .225; the larger of the two regrets: .40, .20, .15
    p, c = np.array([[0.9, 0.6, 0.75]]), np.array([[0.8, 0.1, 0.3]])
    np.testing.assert_allclose(0.5 * p - 0.5 * c, [[0.05, 0.25, 0.225]])
    assert chosen(best(net_utility(p, c, np.ones(1)))) == [1]
    assert chosen(chebyshev(p, c, 0.5)) == [2]


def test_a_mixture_spends_the_budget_on_two_members() -> None:
    np.testing.assert_allclose(mixture(np.array([[1.0, 3.0]]), np.array([[1.0, 5.0]]), 3.0), [[0.5, 0.5]])


def test_a_mixture_leaves_out_a_member_below_the_chord() -> None:
    # .82 at 2 lies below the chord from (1, .8) to (4, .9); 3 is two thirds of the way
    got = mixture(np.array([[0.8, 0.82, 0.9]]), np.array([[1.0, 2.0, 4.0]]), 3.0)
    np.testing.assert_allclose(got, [[1 / 3, 0, 2 / 3]])


def test_a_budget_below_the_cheapest_leaves_the_cheapest_alone() -> None:
    assert chosen(mixture(P, USD, 0.5)) == [1, 1]


@pytest.mark.parametrize("budget", [0.2, 0.5, 0.9])
def test_a_mixture_is_the_linear_program(budget: float) -> None:
    q, c = RNG.random((20, 5)), RNG.random((20, 5))
    c[:, 0] = 0.1
    got = mixture(q, c, budget)
    for weights, value, cost in zip(got, q, c, strict=True):
        exact = linprog(-value, A_ub=[cost], b_ub=[budget], A_eq=[np.ones(5)], b_eq=[1.0])
        assert weights @ value == pytest.approx(-exact.fun, abs=1e-9)
        assert weights @ cost <= budget + 1e-9
        assert (weights > 0).sum() <= 2


def test_the_best_s_are_a_set_with_weights() -> None:
    q = np.array([[0.6, NAN, 0.1, 0.3]])
    np.testing.assert_allclose(top(q, 2), [[0.5, 0, 0, 0.5]])
    np.testing.assert_allclose(top(q, 2, "score"), [[2 / 3, 0, 0, 1 / 3]])
    np.testing.assert_allclose(top(q, 9), [[1 / 3, 0, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(top(-q, 1, "score"), [[0, 0, 1, 0]])
    assert chosen(top(np.full((1, 2), NAN), 2)) == [0]
    with pytest.raises(BadParameter, match="at least 1"):
        top(q, 0)


def test_a_fixed_mixture_is_the_same_for_every_query() -> None:
    np.testing.assert_allclose(mix(np.array([1.0, 3.0]), 2), [[0.25, 0.75]] * 2)
    for bad in ([0.0, 0.0], [-1.0, 2.0], [NAN, 1.0]):
        with pytest.raises(BadParameter, match="weights"):
            mix(np.array(bad), 1)


def test_softmax_gives_an_unknown_member_nothing() -> None:
    np.testing.assert_allclose(softmax(np.array([[np.log(3.0), 0.0, NAN]]), 1.0), [[0.75, 0.25, 0.0]])
    np.testing.assert_allclose(softmax(np.full((1, 2), NAN), 1.0), [[0.5, 0.5]])
    assert chosen(softmax(P, 0.0)) == [0, 1]
    assert softmax(np.array([[1e6, 0.0]]), 1e-3).tolist() == [[1.0, 0.0]]


def test_epsilon_greedy_tries_an_unknown_member_too() -> None:
    np.testing.assert_allclose(epsilon_greedy(np.array([[0.2, NAN]]), 0.1), [[0.95, 0.05]])


# --- what holds for all of them (a-routing, section 0) ---------------------------------------------------

numbers = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 3))
worlds = (
    st.integers(2, 5)
    .flatmap(
        lambda m: st.tuples(
            st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=1, max_size=4).map(np.array),
            st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=4, max_size=4).map(np.array),
            st.permutations(range(m)),
        )
    )
    .map(lambda world: (world[0], world[1][: len(world[0])], list(world[2])))
)

few = settings(max_examples=25, deadline=None)
"""Enough for rules this small; no test depends on the clock."""

RULES: dict[str, Any] = {
    "net utility": lambda q, c: best(net_utility(q, c, np.full(len(q), 0.3))),
    "cheapest good": lambda q, c: cheapest_good(q, c, 0.5),
    "within": lambda q, c: within(q, c, 0.1),
    "capped": lambda q, c: capped(q, c, 0.5),
    "chebyshev": lambda q, c: chebyshev(q, c, 0.4),
    "mixture": lambda q, c: mixture(q, c, 0.5),
    "top": lambda q, c: top(q, 2, "score"),
    "softmax": lambda q, c: softmax(q, 0.2),
    "epsilon-greedy": lambda q, c: epsilon_greedy(q, 0.2),
}


@pytest.mark.parametrize("rule", RULES)
@few
@given(world=worlds)
def test_weights_add_up_to_one_whatever_is_unknown(rule: str, world: Any) -> None:
    q, c, order = world
    q, c = q.copy(), c.copy()
    q[0, order[0]], c[0, order[-1]] = NAN, NAN
    for a, b in ((q, c), (np.full_like(q, NAN), c), (q, np.full_like(c, NAN))):
        weights = RULES[rule](a, b)
        assert weights.shape == q.shape and (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)


@pytest.mark.parametrize("rule", RULES)
@few
@given(world=worlds)
def test_another_order_permutes_the_weights_unless_there_are_equals(rule: str, world: Any) -> None:
    q, c, order = world
    # all different, no sum of two of them equal to another, and no three members on a line of quality and cost
    q, c = distinct(q), distinct(c) ** 2
    np.testing.assert_allclose(RULES[rule](q[:, order], c[:, order]), RULES[rule](q, c)[:, order], atol=1e-9)


@pytest.mark.parametrize("rule", ["net utility", "cheapest good", "within", "capped", "chebyshev", "mixture"])
@few
@given(world=worlds)
def test_a_worse_and_dearer_member_is_never_chosen(rule: str, world: Any) -> None:
    q, c, _ = world
    q, c = np.column_stack([q, q[:, 0] - 0.01]), np.column_stack([c, c[:, 0] + 0.01])
    assert (RULES[rule](q, c)[:, -1] == 0).all()


@few
@given(world=worlds, prefer=st.floats(0, 10), shift=st.integers(-3, 3))
def test_a_constant_on_a_query_changes_no_choice_by_net_utility(
    world: Any, prefer: float, shift: int
) -> None:
    q, c, _ = world
    q, c = distinct(q), distinct(c)
    net = net_utility(q, c, np.full(len(q), prefer))
    clear = np.sort(net, axis=1)[:, -1] - np.sort(net, axis=1)[:, -2] > 1e-6  # rounding decides no near tie
    moved = best(net_utility(q + shift, c + abs(shift), np.full(len(q), prefer)))
    np.testing.assert_array_equal(moved[clear], best(net)[clear])


@few
@given(world=worlds, prices=st.lists(st.floats(0, 100), min_size=2, max_size=5))
def test_predicted_spending_falls_with_the_price_of_cost(world: Any, prices: list[float]) -> None:
    q, c, _ = world
    spent = [(best(net_utility(q, c, np.full(len(q), p))) * c).sum() for p in [*sorted(prices), np.inf]]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(spent))


def distinct(values: np.ndarray) -> np.ndarray:
    """The same numbers, each moved a little by its own amount."""
    moves = np.sqrt(np.arange(2, values.size + 2)).reshape(values.shape) * 1e-4
    moved: np.ndarray = values + moves
    return moved
