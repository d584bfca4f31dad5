"""UniRoute: cluster tables as nearest neighbours and as the best single member, and the learned map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.knn_router import KnnRouter
from septet.methods.a1_pretrained.uniroute import ClusterTable, Uniroute
from septet.parts.learning.rows import dense
from septet.testing.contract import check_method
from septet.testing.toys import toy_table


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_as_many_clusters_as_questions_are_one_nearest_neighbour() -> None:
    table, one = toy_table(16), KnnRouter(k=1)
    router = Uniroute(clusters=16)
    state, neighbours = router.fit(table, {}, rng()), one.fit(table, {}, rng())
    assert len(state.clusters) == 16
    x = state.featurizer.rows(list(table.questions))
    np.testing.assert_array_equal(router.utility(x, state), one.utility(x, neighbours))


def test_one_cluster_is_the_best_single_member() -> None:
    router = Uniroute(clusters=1)
    state = router.fit(toy_table(), {}, rng())
    q = router.utility(state.featurizer.rows(["anything", "at all"]), state)
    np.testing.assert_allclose(q, [[0.5, 0.5, 1 / 3]] * 2)


def test_a_member_known_on_one_cluster_only_has_its_mean_in_the_other() -> None:
    kinds = ["sum two and two", "write a poem"]
    rows = [
        {"query": f"{kind} number {i}", "model": m, "score": s}
        for place, kind in enumerate(kinds)
        for i in range(5)
        for m, s in (("a", float(place == 0)), ("new", 0.25))
        if m == "a" or place == 0
    ]
    router = Uniroute(clusters=2, features="tf-idf")
    state = router.fit(Table.of(rows), {}, rng())
    q = router.utility(state.featurizer.rows(kinds), state)
    np.testing.assert_allclose(q, [[1.0, 0.25], [0.0, 0.25]])


def test_the_number_of_clusters_is_what_a_held_out_fifth_says() -> None:
    kinds = ["sum two and two", "write a poem"]
    rows = [
        {"query": f"{kind} {i}", "model": m, "score": float((m == "a") == (place == 0))}
        for i in range(20)
        for place, kind in enumerate(kinds)
        for m in "ab"
    ]
    state = Uniroute().fit(Table.of(rows), {}, rng())
    assert len(state.clusters) > 1
    noise = Table.of(
        {"query": "the same words", "query_id": i, "model": "a", "score": i % 2} for i in range(3)
    )
    assert len(Uniroute().fit(noise, {}, rng()).clusters) == 1


def test_the_learned_map_explains_outcomes_better_than_the_centroids_do() -> None:
    table = toy_table()
    plain, learned = Uniroute(clusters=6), Uniroute(variant="learned-map", clusters=6)
    first, second = plain.fit(table, {}, rng()), learned.fit(table, {}, rng())
    x, scores = first.featurizer.rows(list(table.questions)), table.matrix("score")

    def entropy(q: np.ndarray) -> float:
        p = np.clip(q, 1e-6, 1 - 1e-6)
        return float(-(scores * np.log(p) + (1 - scores) * np.log(1 - p)).mean())

    start = Uniroute(variant="learned-map", clusters=6, ridge=10.0).fit(table, {}, rng())
    assert entropy(learned.utility(x, second)) < entropy(learned.utility(x, start))
    rows = dense(x)
    assert rows.shape[1] == second.weights.shape[0]


def test_the_state_survives_saving_with_and_without_a_map() -> None:
    for variant in ("k-means", "learned-map"):
        router = Uniroute(variant=variant, clusters=3)
        state = router.fit(toy_table(20), {}, rng())
        again = unpack(ClusterTable, *pack(state))
        x = state.featurizer.rows(["Is 8 plus two even or odd?"])
        np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


@pytest.mark.parametrize("check", check_method(Uniroute, variant="learned-map", n_init=1), ids=str)
def test_the_learned_map_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
