"""Dual prices: loose budgets, empty ones, and the exact program."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.routing.dual import dual_prices, dual_value

RNG = np.random.default_rng(1)
GAIN, COST = RNG.random((60, 3)), RNG.random((60, 3)) + 0.5


@pytest.mark.parametrize("solver", ["l-bfgs-b", "lp"])
def test_loose_budgets_have_no_price(solver: str) -> None:
    prices = dual_prices(GAIN, COST, np.full(3, 1e4), 1.0, solver)  # type: ignore[arg-type]
    assert prices.tolist() == [0, 0, 0]
    np.testing.assert_array_equal((GAIN - prices * COST).argmax(axis=1), GAIN.argmax(axis=1))


@pytest.mark.parametrize("solver", ["l-bfgs-b", "lp"])
def test_a_member_without_budget_becomes_too_dear_for_every_query(solver: str) -> None:
    budget = np.array([0.0, 1e4, 1e4])
    prices = dual_prices(GAIN, COST, budget, 1.0, solver)  # type: ignore[arg-type]
    assert prices[0] > 0 and prices[1:].tolist() == [0, 0]
    net = GAIN - prices * COST
    # at the least price that does it, the last query to leave is left between two members
    assert (net[:, 0] <= net[:, 1:].max(axis=1) + 1e-6).all()


@pytest.mark.parametrize("scale", [1e-4, 1.0])
@pytest.mark.parametrize("nobody", [True, False])
def test_the_papers_solver_comes_near_the_exact_program_and_never_below_it(
    scale: float, nobody: bool
) -> None:
    gain, budget = scale * GAIN, np.array([50.0, 30.0, 40.0])

    def value(prices: np.ndarray) -> float:
        return dual_value(prices, gain, COST, budget, 0.5, nobody)

    exact = value(dual_prices(gain, COST, budget, 0.5, "lp", nobody))
    paper = value(dual_prices(gain, COST, budget, 0.5, "l-bfgs-b", nobody))
    assert exact <= paper + 1e-9 * scale
    assert paper == pytest.approx(exact, rel=0.05)


def test_where_budgets_do_not_suffice_serving_all_drives_every_price_to_the_cap() -> None:
    # the queries cost at least .5 each, 30 in all; there are 3
    budget = np.full(3, 1.0)
    assert dual_prices(GAIN, COST, budget, 1.0, "lp", nobody=False).tolist() == [1, 1, 1]
    assert (dual_prices(0.1 * GAIN, COST, budget, 1.0, "lp") < 1).all()


def test_prices_keep_the_queries_seen_to_their_share_of_the_budget() -> None:
    budget = np.array([5.0, 3.0, 8.0])
    prices = dual_prices(0.1 * GAIN, COST, budget, 0.5, "lp")
    net = 0.1 * GAIN - prices * COST
    pick = net.argmax(axis=1)
    served = net.max(axis=1) > 1e-9
    used = np.bincount(pick[served], weights=COST[served, pick[served]], minlength=3)
    # at the optimum only the few queries that are even between two choices may be beyond the budget
    assert ((prices > 0) & (prices < 1)).all()
    assert (used <= 0.5 * budget + 3 * COST.max()).all()
    assert (used >= 0.5 * budget - 3 * COST.max()).all()


def test_what_is_unknown_takes_no_part() -> None:
    gain, cost = GAIN.copy(), COST.copy()
    gain[:, 2] = np.nan
    cost[0] = np.nan
    budget = np.array([2.0, 2.0, 2.0])
    both = dual_prices(gain[1:, :2], cost[1:, :2], budget[:2], 1.0, "lp")
    np.testing.assert_allclose(dual_prices(gain, cost, budget, 1.0, "lp")[:2], both, atol=1e-7)


def test_an_infinite_budget_has_no_price_and_no_queries_none_either() -> None:
    assert dual_prices(GAIN, COST, np.array([1.0, np.inf, np.inf]), 1.0, "lp")[1:].tolist() == [0, 0]
    assert dual_prices(np.empty((0, 3)), np.empty((0, 3)), np.ones(3), 1.0).tolist() == [0, 0, 0]


def test_a_budget_per_member_is_wanted() -> None:
    with pytest.raises(BadParameter, match="one number for each of 3"):
        dual_prices(GAIN, COST, np.ones(2), 1.0)
