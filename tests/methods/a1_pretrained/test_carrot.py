"""CARROT: two estimates, chosen apart and weighed by μ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.method import Seat, SeatPool
from septet.core.money import Price
from septet.core.table import Table
from septet.methods.a1_pretrained.carrot import Carrot
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)


def pool(*prices: Price | None) -> SeatPool:
    return SeatPool(tuple(Seat(f"m{i}", Caps(text=True), price=p) for i, p in enumerate(prices)))


def test_mu_is_the_price_mu_over_one_minus_mu() -> None:
    # μ = .8: λ = 4 per USD
    state = Carrot(mu=0.8, k=1).fit(toy_table(8), {}, RNG)
    assert state.prefer == pytest.approx(4.0)
    assert Carrot(k=1).fit(toy_table(8), {}, RNG).prefer == 0.0


def test_mu_of_zero_asks_the_best_and_of_nearly_one_the_cheapest() -> None:
    q, c = np.array([[0.9, 0.5, 0.4]]), np.array([[0.03, 0.02, 0.01]])
    router = Carrot(k=1)
    for mu, chosen in ((0.0, 0), (1 - 1e-9, 2)):
        state = Carrot(k=1, mu=mu).fit(toy_table(8), {}, RNG)
        weights = router.choose(q, c, np.array([state.prefer]), state, RNG).weights
        assert weights.argmax() == chosen


def test_quality_and_cost_have_neighbours_of_their_own() -> None:
    # Twenty questions of each of two kinds. The score depends on nothing, so the mean over all 32 that a fold
    # leaves is best; the cost depends on the kind alone, so 16 neighbours beyond its own kind mislead.
    rng = np.random.default_rng(5)
    rows = [
        {"query": f"{kind} {i}", "model": m, "score": float(rng.random() < 0.5), "cost_usd": usd}
        for i in range(20)
        for kind, usd in (("alpha", 1.0), ("beta", 3.0))
        for m in "ab"
    ]
    state = Carrot().fit(Table.of(rows), {}, np.random.default_rng(0))
    assert state.k > state.k_cost
    x = state.featurizer.rows(["alpha 3", "beta 4"])
    cost = Carrot().cost(x, state, pool(None, None))
    np.testing.assert_allclose(cost, [[1.0, 1.0], [3.0, 3.0]], atol=0.25)


def test_where_no_cost_is_recorded_predicted_tokens_are_priced() -> None:
    rows = [
        {"query": q, "model": m, "score": 1.0, "prompt_tokens": 1000, "completion_tokens": n}
        for q, n in (("say hello", 10), ("write a long story", 990))
        for m in "ab"
    ]
    router = Carrot(k=1, features="tf-idf")
    state = router.fit(Table.of(rows), {}, RNG)
    x = state.featurizer.rows(["hello", "a story"])
    # a: (1000·1 + tokens·10) / 10⁶; b has no price
    cost = router.cost(x, state, pool(Price(usd_per_mtok_in=1.0, usd_per_mtok_out=10.0), None))
    np.testing.assert_allclose(cost, [[0.0011, np.nan], [0.0109, np.nan]])


def test_by_the_second_the_mean_of_the_outcomes_is_priced() -> None:
    rows = [
        {"query": "q", "model": "a", "score": 1.0, "seconds": 2.0, "prompt_tokens": 1, "completion_tokens": 1}
    ]
    router = Carrot(k=1, features="tf-idf")
    state = router.fit(Table.of(rows), {}, RNG)
    cost = router.cost(state.featurizer.rows(["q"]), state, pool(Price(usd_per_second=0.5)))
    np.testing.assert_allclose(cost, [[1.0]])


def test_one_neighbour_returns_its_row() -> None:
    router = Carrot(k=1)
    state = router.fit(toy_table(10), {}, RNG)
    x = state.featurizer.rows(["Is 4 plus two even or odd? Say even."])
    assert router.utility(x, state).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("check", check_method(Carrot, k=4, mu=0.5), ids=str)
def test_with_a_mu_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
