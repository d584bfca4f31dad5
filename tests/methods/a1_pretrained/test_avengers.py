"""Avengers: rank scores over clusters by hand, the balance with cost, and sets of members."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.avengers import Avengers, ClusterRanks, balanced
from septet.parts.learning.features import Featurizer
from septet.parts.routing.clusters import Clusters
from septet.parts.routing.cost import Spending
from septet.parts.routing.smoothed import Smoothed, rank_reciprocal
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)
FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))


def ranks(epsilon: float) -> ClusterRanks:
    """Cluster 0 at a distance of .1 from (1, 0), where A is first; cluster 1 at .2, where B is first."""
    clusters = Clusters(np.array([[0.9, 0.0], [0.8, 0.0]]))
    score = Smoothed.of(rank_reciprocal(np.array([[0.9, 0.6], [0.2, 0.3]]), epsilon))
    return ClusterRanks(Featurizer.unused(), FREE, 0.0, clusters, score)


X = np.array([[1.0, 0.0]])


def test_two_soft_clusters_weigh_reciprocal_ranks() -> None:
    # weights (.711, .289): A .711·1 + .289·½ = .855, B .711·½ + .289·1 = .645
    q = Avengers(top_k=2, beta=9.0, epsilon=1.0).utility(X, ranks(1.0))
    np.testing.assert_allclose(q, [[0.855, 0.645]], atol=6e-4)


def test_with_one_cluster_its_best_member_wins_whatever_beta_and_epsilon() -> None:
    for beta, epsilon in ((0.0, 0.1), (9.0, 5.0)):
        assert Avengers(beta=beta, epsilon=epsilon).utility(X, ranks(epsilon)).argmax() == 0


def test_a_single_cluster_asks_the_best_single_member() -> None:
    router = Avengers(clusters=1)
    table = Table.of(
        {"query": f"q{i}", "model": m, "score": float(i % 3 == 0 or m == "b")} for i in range(9) for m in "ab"
    )
    state = router.fit(table, {}, RNG)
    assert router.utility(state.featurizer.rows(["q1", "else"]), state).argmax(axis=1).tolist() == [1, 1]


@pytest.mark.parametrize(("cost_scale", "switch"), [("max", 0.9 / 1.9), ("min-max", 0.5)])
def test_pro_switches_to_the_strong_member_where_the_scale_of_cost_says(
    cost_scale: Any, switch: float
) -> None:
    # accuracy .9 and .6, cost 10 and 1: α·1 against (1 − α)·.9, or (1 − α)·1 with min–max
    means, usd = np.array([[0.9, 0.6]]), np.array([[10.0, 1.0]])
    assert balanced(means, usd, switch - 1e-6, cost_scale).argmax() == 1
    assert balanced(means, usd, switch + 1e-6, cost_scale).argmax() == 0


def test_equal_members_are_balanced_by_cost_alone() -> None:
    # the scores have no span: 0 for both; costs 10 and 5 of at most 10
    np.testing.assert_allclose(balanced(np.array([[0.5, 0.5]]), np.array([[10.0, 5.0]]), 0.5), [[0.0, 0.25]])


def test_pro_ranks_by_the_balance_of_its_clusters() -> None:
    # toy costs 3 : 2 : 1; with α = 0 the cheapest is first everywhere, with α = 1 the best
    for alpha, first in ((0.0, {2}), (1.0, {0, 1})):
        router = Avengers(variant="pro", alpha=alpha, clusters=2)
        state = router.fit(toy_table(), {}, np.random.default_rng(0))
        x = state.featurizer.rows([f"Is {i} plus two even or odd? Say even." for i in range(4)])
        assert set(router.utility(x, state).argmax(axis=1).tolist()) <= first


def test_pro_without_recorded_cost_is_refused_and_names_who_lacks_it() -> None:
    table = Table.of(
        {"query": "q", "model": m, "score": 1.0, "cost_usd": c} for m, c in (("a", 1), ("b", None))
    )
    with pytest.raises(BadParameter, match=r"cost_usd.*\['b'\]"):
        Avengers(variant="pro").fit(table, {}, RNG)


def test_more_members_than_one_are_a_set_with_equal_weights() -> None:
    q, c = np.array([[0.1, 0.5, 0.5, 0.4]]), np.array([[1.0, 3.0, 2.0, 1.0]])
    choice = Avengers(top_n=3).choose(q, c, np.zeros(1), ranks(1.0), RNG)
    assert choice.draw == "all"
    np.testing.assert_allclose(choice.weights, [[0, 1 / 3, 1 / 3, 1 / 3]])
    one = Avengers().choose(q, c, np.zeros(1), ranks(1.0), RNG)
    assert one.draw == "one"
    assert one.weights.tolist() == [[0.0, 0.0, 1.0, 0.0]]  # of the two best the cheaper


def test_a_set_of_more_members_than_there_are_is_all_of_them() -> None:
    choice = Avengers(top_n=9).choose(np.array([[0.1, 0.5]]), np.ones((1, 2)), np.zeros(1), ranks(1.0), RNG)
    assert choice.weights.tolist() == [[0.5, 0.5]]


def test_the_state_survives_saving() -> None:
    router = Avengers(clusters=4, top_k=2)
    state = router.fit(toy_table(20), {}, np.random.default_rng(0))
    again = unpack(ClusterRanks, *pack(state))
    x = state.featurizer.rows(["Is 8 plus two even or odd?"])
    np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


@pytest.mark.parametrize("check", check_method(Avengers, variant="pro", top_k=3, n_init=1), ids=str)
def test_pro_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
