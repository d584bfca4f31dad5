"""HomoRouter: predicted scores and costs, the cheapest of the good ones, and whole calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.method import Seat, SeatPool
from septet.core.money import Price
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.homo_router import HomoRouter, ScoreAndCost
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)
Q = np.array([[0.9, 0.8], [0.9, 0.5]])
C = np.array([[3.0, 1.0], [3.0, 1.0]])
POOL = SeatPool(tuple(Seat(name, Caps(text=True)) for name in ("ada", "bob", "cyd")))


def weights(
    q: np.ndarray = Q, c: np.ndarray = C, prefer: float = 0.0, **parameters: Any
) -> list[list[float]]:
    found: list[list[float]] = (
        HomoRouter(**parameters).choose(q, c, np.full(len(q), prefer), None, RNG).weights.tolist()
    )
    return found


def test_best_performance_takes_the_largest_prediction() -> None:
    assert weights() == [[1, 0], [1, 0]]
    assert weights(prefer=0.1) == [[0, 1], [1, 0]]  # .6 against .7, .6 against .4


def test_an_epsilon_of_zero_takes_the_best_and_of_one_the_cheapest() -> None:
    assert weights(strategy="cost-saving", epsilon=0.0) == [[1, 0], [1, 0]]
    assert weights(strategy="cost-saving", epsilon=0.1) == [[0, 1], [1, 0]]
    assert weights(strategy="cost-saving", epsilon=1.0) == [[0, 1], [0, 1]]


def test_an_assignment_may_lose_epsilon_on_average() -> None:
    # the best reach 1.8; .05 each may lose .1, which moves the first; .25 each may lose .5, which moves both
    assert weights(strategy="assignment", epsilon=0.05) == [[0, 1], [1, 0]]
    assert weights(strategy="assignment", epsilon=0.25) == [[0, 1], [0, 1]]


def test_where_costs_are_unknown_an_assignment_is_the_best_within_epsilon() -> None:
    assert weights(c=np.full((2, 2), np.nan), strategy="assignment") == [[1, 0], [1, 0]]


def test_scores_and_costs_are_predicted_from_the_question() -> None:
    router, table = HomoRouter(l2=1e-6), toy_table()
    state = router.fit(table, {}, RNG)
    assert isinstance(state, ScoreAndCost)
    x = state.featurizer.rows(table.questions)
    q, c = router.utility(x, state), router.cost(x, state, POOL)
    assert isinstance(c, np.ndarray)
    np.testing.assert_allclose(state.mean_usd, np.array([3, 2, 1]) * 1e-4 * (1 + 59 / 120))
    assert q[[2, 1]].argmax(axis=1).tolist() == [0, 1]
    assert np.corrcoef(c[:, 0], table.matrix("usd")[:, 0])[0, 1] > 0.9
    assert (c >= 0).all()
    again = unpack(ScoreAndCost, *pack(state))
    np.testing.assert_array_equal(router.cost(x, again, POOL), c)


def test_where_no_cost_was_recorded_the_price_says_it() -> None:
    rows = [
        {
            "query": f"add {i} and two",
            "model": m,
            "score": float(m == "ada"),
            "prompt_tokens": 1000,
            "completion_tokens": 0,
        }
        for i in range(6)
        for m in ("ada", "bob", "cyd")
    ]
    router = HomoRouter()
    state = router.fit(Table.of(rows), {}, RNG)
    priced = SeatPool(
        tuple(
            Seat(n, Caps(text=True), price=Price(usd_per_mtok_in=p))
            for n, p in (("ada", 2.0), ("bob", 1.0), ("cyd", 0.0))
        )
    )
    x = state.featurizer.rows(["add 3 and two"])
    np.testing.assert_allclose(router.cost(x, state, priced), [[0.002, 0.001, 0.0]])
    assert np.isfinite(router.utility(x, state)).all()


@pytest.mark.parametrize("check", check_method(HomoRouter, strategy="cost-saving", epsilon=0.1), ids=str)
def test_with_cost_saving_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
