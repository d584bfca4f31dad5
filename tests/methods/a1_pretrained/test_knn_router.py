"""The kNN router: means over neighbours by hand, votes at a fixed price, and the choice of k."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BadParameter
from septet.core.method import Seat, SeatPool
from septet.core.money import Price
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.knn_router import KnnRouter, votes
from septet.parts.routing.smoothed import Neighbourhoods
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)


def pool(*prices: Price | None) -> SeatPool:
    return SeatPool(tuple(Seat(f"m{i}", Caps(text=True), price=p) for i, p in enumerate(prices)))


def outcomes(*rows: tuple[str, float, float, float, float]) -> Table:
    """(question, a's score and cost, b's score and cost)."""
    return Table.of(
        {"query": q, "model": m, "score": s, "cost_usd": c}
        for q, *cells in rows
        for m, (s, c) in zip("ab", (cells[:2], cells[2:]), strict=True)
    )


THREE = outcomes(
    ("red apple", 1.0, 0.4, 0.0, 0.1), ("red pear", 0.0, 0.2, 0.0, 0.1), ("blue car", 0.0, 0.3, 1.0, 0.1)
)


def test_quality_and_cost_are_means_over_the_nearest() -> None:
    router = KnnRouter(k=2, features="tf-idf")
    state = router.fit(THREE, {}, RNG)
    x = state.featurizer.rows(["a red plum", "blue car"])
    np.testing.assert_allclose(router.utility(x, state)[0], [0.5, 0.0])
    np.testing.assert_allclose(router.cost(x, state, pool(None, None))[0], [0.3, 0.1])


def test_one_neighbour_returns_its_row_and_all_of_them_the_best_single_member() -> None:
    one, all_ = KnnRouter(k=1, features="tf-idf"), KnnRouter(k=100, features="tf-idf")
    state = one.fit(THREE, {}, RNG)
    x = state.featurizer.rows(["blue car"])
    assert one.utility(x, state).tolist() == [[0.0, 1.0]]
    np.testing.assert_allclose(all_.utility(x, all_.fit(THREE, {}, RNG)), [[1 / 3, 1 / 3]])


def test_of_equally_good_members_the_cheaper_answers() -> None:
    router = KnnRouter(features="tf-idf")  # k = 100: both have a third
    state = router.fit(THREE, {}, RNG)
    x = state.featurizer.rows(["blue car"])
    q, c = router.utility(x, state), router.cost(x, state, pool(None, None))
    assert router.choose(q, c, np.zeros(1), state, RNG).weights.tolist() == [[0.0, 1.0]]


def test_without_recorded_cost_the_price_says_what_a_call_costs() -> None:
    table = Table.of(
        {"query": q, "model": m, "score": 1.0, "prompt_tokens": 1000, "completion_tokens": 500}
        for q in ("one", "two")
        for m in "ab"
    )
    router = KnnRouter(features="tf-idf")
    state = router.fit(table, {}, RNG)
    price = Price(usd_per_mtok_in=1.0, usd_per_mtok_out=2.0)  # (1000·1 + 500·2) / 10⁶
    cost = router.cost(state.featurizer.rows(["one"]), state, pool(price, None))
    np.testing.assert_allclose(cost, [[0.002, np.nan]])


def test_votes_at_a_price_go_to_the_best_net_score() -> None:
    # scores 1 and .8 at costs .4 and .1: at a price of 1 the second is ahead, .7 to .6
    scores, usd = np.array([[1.0, 0.8]]), np.array([[0.4, 0.1]])
    assert votes(scores, 0 * usd).tolist() == [[1.0, 0.0]]
    assert votes(scores, usd).tolist() == [[0.0, 1.0]]


def test_the_selection_variant_predicts_the_share_of_votes() -> None:
    # mean costs .3 and .1, the largest is .3: a trade of .3 prices a dollar at 1. Net scores of a and b:
    # .6 and −.1, −.2 and −.1, −.3 and .9: a is best on the first, b on the others
    router = KnnRouter(variant="selection", k=2, trade=0.3, features="tf-idf")
    state = router.fit(THREE, {}, RNG)
    assert state.quality.value.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    np.testing.assert_allclose(router.utility(state.featurizer.rows(["a red plum"]), state), [[0.5, 0.5]])


def test_a_priced_selection_without_recorded_cost_is_refused() -> None:
    table = Table.of({"query": "q", "model": m, "score": 1.0} for m in "ab")
    with pytest.raises(BadParameter, match=r"cost_usd.*trade.*'a', 'b'"):
        KnnRouter(variant="selection").fit(table, {}, RNG)
    assert KnnRouter(variant="selection", trade=0.0).fit(table, {}, RNG).quality.value.tolist() == [
        [0.5, 0.5]
    ]


def test_k_of_zero_is_chosen_by_cross_validation() -> None:
    state = KnnRouter(k=0).fit(toy_table(), {}, np.random.default_rng(0))
    assert state.k in (5, 10, 20, 40)  # 48 questions are left in a fold, 320 and 160 become 48
    assert state.k == state.k_cost


def test_the_state_survives_saving_with_dense_and_sparse_rows() -> None:
    for features in ("lsa", "tf-idf"):
        router = KnnRouter(k=3, features=features)
        state = router.fit(toy_table(12), {}, RNG)
        again = unpack(Neighbourhoods, *pack(state))
        x = state.featurizer.rows(["Is 8 plus two even or odd?"])
        np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


@pytest.mark.parametrize("check", check_method(KnnRouter, k=5), ids=str)
def test_with_few_neighbours_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(KnnRouter, variant="selection", k=0), ids=str)
def test_the_selection_variant_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
