"""Knobs set on held-out outcomes: shares, budgets, drops and bounds by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.routing.calibrate import (
    drop_threshold,
    mean_cost,
    price_for_budget,
    share_threshold,
    upper_bound,
)

P = np.array([0.1, 0.4, 0.2, 0.3, np.nan])


@pytest.mark.parametrize(("share", "threshold"), [(0.0, np.inf), (0.25, 0.4), (0.5, 0.3), (1.0, 0.1)])
def test_a_share_of_queries_is_at_or_above_the_threshold(share: float, threshold: float) -> None:
    assert share_threshold(P, share) == threshold


def test_equal_scores_are_all_above_or_all_below() -> None:
    # thresholds reach shares 0, 3/4 and 1 only
    p = np.array([0.5, 0.5, 0.5, 0.1])
    assert share_threshold(p, 0.3) == np.inf
    assert share_threshold(p, 0.5) == 0.5


def test_a_share_outside_0_to_1_and_nothing_known_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"share: must be in \[0, 1\]"):
        share_threshold(P, 1.5)
    with pytest.raises(BadParameter, match="at least one known number"):
        share_threshold(np.array([np.nan]), 0.5)


Q = np.array([[0.9, 0.5], [0.6, 0.5]])
C = np.array([[3.0, 1.0], [3.0, 1.0]])


def test_the_price_is_the_exact_step_at_which_the_budget_is_kept() -> None:
    # the queries leave the dear member at (.6 − .5)/2 = .05 and (.9 − .5)/2 = .2
    price = price_for_budget(Q, C, 2.0)
    assert price == pytest.approx(0.05, abs=1e-12)
    assert mean_cost(Q, C, price) == 2.0
    assert mean_cost(Q, C, float(np.nextafter(price, 0))) == 3.0
    assert price_for_budget(Q, C, 1.0) == pytest.approx(0.2, abs=1e-12)


def test_a_budget_that_is_never_reached_needs_no_price() -> None:
    assert price_for_budget(Q, C, 3.0) == 0.0


def test_real_costs_count_where_they_are_given() -> None:
    # really the first costs 1 on the second query: at price 0 the mean is 2
    spent = np.array([[3.0, 1.0], [1.0, 1.0]])
    assert price_for_budget(Q, C, 2.0, spent) == 0.0


def test_a_price_is_found_for_costs_of_a_millionth_of_a_dollar() -> None:
    assert price_for_budget(Q, C * 1e-6, 2e-6) == pytest.approx(0.05e6)


def test_a_budget_below_the_cheapest_is_refused_with_what_they_cost() -> None:
    with pytest.raises(BadParameter, match="budget: must be at least 1, what the cheapest members cost"):
        price_for_budget(Q, C, 0.5)
    with pytest.raises(BadParameter, match="cost: must be known"):
        price_for_budget(Q, np.full((2, 2), np.nan), 0.5)


def test_the_threshold_for_a_drop_calls_strong_as_rarely_as_it_may() -> None:
    # strong is right on all four; weak on the last two. With k strong calls by p: 2/4, 3/4, 4/4, 4/4, 4/4
    p = np.array([0.9, 0.7, 0.4, 0.2])
    weak, strong = np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4)
    assert drop_threshold(p, weak, strong, 0.01) == 0.7
    assert drop_threshold(p, weak, strong, 0.25) == 0.9
    assert drop_threshold(p, weak, strong, 0.5) == np.inf


def test_equals_are_not_split_by_the_threshold_for_a_drop() -> None:
    p = np.array([0.9, 0.9, 0.4])
    weak, strong = np.array([1.0, 0.0, 1.0]), np.ones(3)
    assert drop_threshold(p, weak, strong, 0.0) == 0.9
    # a negative score (a log-likelihood): 10 % of |−2| may be lost
    assert drop_threshold(p, np.full(3, -2.1), np.full(3, -2.0), 0.1) == np.inf
    with pytest.raises(BadParameter, match="at least one query"):
        drop_threshold(np.array([np.nan]), np.ones(1), np.ones(1), 0.1)


@pytest.mark.parametrize(
    ("failures", "n", "bound"), [(0, 50, 0.0582), (0, 59, 0.0495), (2, 100, 0.0616), (5, 100, 0.1023)]
)
def test_the_bound_is_clopper_and_pearsons(failures: int, n: int, bound: float) -> None:
    assert upper_bound(failures, n) == pytest.approx(bound, abs=5e-5)
