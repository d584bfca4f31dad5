"""Routoo: the pool it chooses, the price it sets, and both predictors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter, ConfigError
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.routoo import Performance, Routoo
from septet.parts.routing.choose import best, net_utility
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

SUMS = ["Is 8 plus two even or odd? Say even.", "Is 9 plus two odd or even? Say odd."]
PREDICTORS: list[Any] = ["head", "bilinear"]


def fitted(table: Table | None = None, **parameters: Any) -> tuple[Routoo, Performance]:
    router = Routoo(**parameters)
    state: Performance = router.fit(table or toy_table(), {}, np.random.default_rng(0))
    return router, state


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_the_predictor_knows_who_will_be_right(predictor: Any) -> None:
    router, state = fitted(predictor=predictor, passes=500)
    q = router.utility(state.featurizer.rows(SUMS), state)
    assert q.argmax(axis=1).tolist() == [0, 1]
    assert ((q > 0) & (q < 1)).all()


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_members_outside_the_pool_are_never_asked(predictor: Any) -> None:
    # ada and bob together are right on all questions, so cyd adds nothing
    router, state = fitted(predictor=predictor, pool_size=2)
    assert state.pool.tolist() == [True, True, False]
    assert np.isnan(router.utility(state.featurizer.rows(SUMS), state)[:, 2]).all()


def test_the_pool_covers_most_questions_and_is_not_that_of_the_best_members() -> None:
    # x and y are right on the same two of three questions, z only on the third
    table = Table.of(
        {"query": f"question {i}", "model": m, "score": float(i in right)}
        for m, right in (("x", (0, 1)), ("y", (0, 1)), ("z", (2,)))
        for i in range(3)
    )
    _, state = fitted(table, pool_size=2)
    assert state.pool.tolist() == [True, False, True]


def test_the_price_of_cost_is_the_least_that_keeps_the_budget_on_held_out_questions() -> None:
    table, budget = toy_table(), 1.9e-4
    router, state = fitted(table, budget_usd=budget)
    # mean of 1 + i/60 over 60 questions
    np.testing.assert_allclose(state.spending.usd, np.array([3, 2, 1]) * 1e-4 * (1 + 59 / 120))
    held = router.held_out(60, np.random.default_rng(0))
    x = state.featurizer.rows([q for q, kept in zip(table.questions, held, strict=True) if kept])
    q, c = router.utility(x, state), np.tile(state.spending.usd, (len(x), 1))

    def spent(price: float) -> float:
        return float((best(net_utility(q, c, np.full(len(q), price))) * c).sum(axis=1).mean())

    assert spent(state.prefer) <= budget < spent(np.nextafter(state.prefer, 0.0))
    assert Routoo().held_out(60, np.random.default_rng(0)).sum() == 0


def test_a_budget_needs_costs_and_one_that_can_be_kept() -> None:
    free = Table.of({"query": f"q {i}", "model": m, "score": 1.0} for i in range(20) for m in "ab")
    with pytest.raises(BadParameter, match="must be known for a budget"):
        fitted(free, budget_usd=1.0)
    with pytest.raises(BadParameter, match="what the cheapest members cost"):
        fitted(budget_usd=1e-9)


def test_a_bilinear_form_has_no_encoder() -> None:
    with pytest.raises(ConfigError, match="bilinear"):
        Routoo(predictor="bilinear", network="encoder")


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_the_state_survives_saving(predictor: Any) -> None:
    router, state = fitted(toy_table(12), predictor=predictor, pool_size=2)
    again = unpack(Performance, *pack(state))
    x = state.featurizer.rows(SUMS)
    np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


CHECKS = [
    *check_method(Routoo),
    *check_method(Routoo, predictor="bilinear", passes=10, budget_usd=4e-4, pool_size=2),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
