"""LLM routing lessons: its policies by hand, its class weights, and clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import ConfigError
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Floats
from septet.methods.a1_pretrained.routing_lessons import Lessons, RoutingLessons, speed, target
from septet.parts.learning.features import Featurizer
from septet.parts.routing.clusters import Clusters
from septet.parts.routing.cost import Spending
from septet.parts.routing.records import Known
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)
SUMS = ["Is 8 plus two even or odd? Say even.", "Is 9 plus two odd or even? Say odd."]


def state(regression: list[float], seconds: list[float]) -> Lessons:
    m = len(seconds)
    unknown = np.full(m, np.nan)
    none = np.empty((0, m))
    return Lessons(
        Featurizer.unused(),
        Spending(unknown, unknown, unknown, np.array(seconds)),
        0.0,
        none,
        np.zeros(m),
        "bce",
        regression=np.array(regression),
        clusters=Clusters(none),
        accuracy=none,
    )


def chosen(q: list[float], held: Lessons | None = None, **parameters: Any) -> list[float]:
    row = np.array([q])
    choice = RoutingLessons(**parameters).choose(row, np.zeros_like(row), np.zeros(1), held, RNG)
    return choice.weights[0].round(4).tolist()  # type: ignore[no-any-return]


def test_argmax_takes_the_most_confident() -> None:
    assert chosen([0.2, 0.9, 0.5]) == [0.0, 1.0, 0.0]


def test_random_draws_among_three_where_nobody_is_sure() -> None:
    assert chosen([0.1, 0.6, 0.5, 0.4], policy="random") == [0.0, 0.3333, 0.3333, 0.3333]  # .60 is not sure
    assert chosen([0.1, 0.61, 0.5, 0.4], policy="random") == [0.0, 1.0, 0.0, 0.0]


def test_prediction_takes_the_nearest_to_the_regressed_confidence() -> None:
    # ½·.9 + .1 = .55: .5 is nearest
    held = state([0.5, 0.0, 0.0, 0.1], seconds=[1.0, 1.0, 1.0])
    assert chosen([0.9, 0.7, 0.5], held, policy="prediction") == [0.0, 0.0, 1.0]


def test_sorted_takes_the_fastest_near_the_regressed_confidence() -> None:
    # the target is .62: .6 is off by .02, .58 by .04, .9 by .28
    held = state([0.0, 0.0, 0.0, 0.62], seconds=[3.0, 1.0, 0.1])
    assert chosen([0.6, 0.58, 0.9], held, policy="sorted", window=0.05) == [0.0, 1.0, 0.0]
    assert chosen([0.6, 0.58, 0.9], held, policy="sorted", window=0.0) == [1.0, 0.0, 0.0]
    assert chosen([0.6, 0.58, 0.9], held, policy="sorted", window=1.0) == [0.0, 0.0, 1.0]


def test_of_equally_fast_members_sorted_takes_the_nearest() -> None:
    held = state([0.0, 0.0, 0.0, 0.62], seconds=[1.0, 1.0, 1.0])
    assert chosen([0.58, 0.6, 0.9], held, policy="sorted", window=0.05) == [0.0, 1.0, 0.0]


def test_the_target_is_the_confidence_of_a_right_member() -> None:
    p = np.array([[0.9, 0.7, 0.5], [0.9, 0.7, 0.5], [0.9, 0.7, 0.5]])
    y = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [np.nan, 0.0, 1.0]])
    # prediction: the most confident one; sorted: the fastest one; nobody right: ½
    assert target(p, y, np.zeros(3)).tolist() == [0.7, 0.5, 0.5]
    assert target(p, y, np.array([0.0, 2.0, 1.0])).tolist() == [0.5, 0.5, 0.5]


def test_speed_is_by_seconds_else_by_cost_else_unknown() -> None:
    nan = np.full(3, np.nan)
    seconds, usd = np.array([2.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    assert speed(Spending(usd, nan, nan, seconds)).tolist() == [1.0, 0.0, 1.0]
    assert speed(Spending(usd, nan, nan, nan)).tolist() == [0.0, 1.0, 2.0]
    assert speed(Spending(nan, nan, nan, nan)).tolist() == [0.0, 0.0, 0.0]


def test_positive_labels_are_weighed_by_how_rare_they_are() -> None:
    # 60 sums: ada and bob are right on 30, cyd on 20; 80/(3·30) and 80/(3·20)
    targets = RoutingLessons().targets(Known.of(toy_table()))
    assert targets.loss == "bce"
    assert np.unique(targets.weight[:, 0].round(4)).tolist() == [0.8889, 1.0]
    assert np.unique(targets.weight[:, 2].round(4)).tolist() == [1.0, 1.3333]


def fitted(**parameters: Any) -> tuple[RoutingLessons, Lessons]:
    router = RoutingLessons(**parameters)
    held: Lessons = router.fit(toy_table(), {}, np.random.default_rng(0))
    return router, held


@pytest.mark.parametrize(
    "parameters", [{}, {"router": "clustering", "n_clusters": 2}, {"router": "clustering"}]
)
def test_classifier_and_clusters_know_who_is_good_at_what(parameters: dict[str, Any]) -> None:
    router, held = fitted(**parameters)
    assert router.utility(held.featurizer.rows(SUMS), held).argmax(axis=1).tolist() == [0, 1]


def test_a_cluster_holds_the_mean_of_its_questions() -> None:
    table = Table.of(
        {"query": q, "model": m, "score": s}
        for q, scores in (("add it", (1.0, 0.0)), ("say so", (0.0, 1.0)))
        for m, s in zip("ab", scores, strict=True)
    )
    router = RoutingLessons(router="clustering", n_clusters=1, features="tf-idf")
    held = router.fit(table, {}, np.random.default_rng(0))
    assert router.utility(held.featurizer.rows(["anything"]), held).tolist() == [[0.5, 0.5]]


def test_the_regression_is_fitted_on_questions_that_were_held_out() -> None:
    router, held = fitted(policy="prediction")
    assert router.held_out(60, np.random.default_rng(0)).sum() == 6
    assert RoutingLessons().held_out(60, np.random.default_rng(0)).sum() == 0
    assert held.regression.shape == (4,)
    assert np.abs(held.regression).sum() > 0


@pytest.mark.parametrize("policy", ["argmax", "random", "prediction", "sorted"])
def test_a_price_of_cost_ends_at_the_cheapest(policy: Any) -> None:
    router, held = fitted(policy=policy)
    q: Floats = router.utility(held.featurizer.rows(SUMS), held)
    c = np.tile([3e-4, 2e-4, 1e-4], (2, 1))
    weights = router.choose(q, c, np.full(2, 1e9), held, RNG).weights
    if policy == "random":
        assert (weights[:, 2] >= 1 / 3 - 1e-12).all()
    else:
        assert weights[:, 2].tolist() == [1.0, 1.0]


def test_clusters_have_no_encoder() -> None:
    with pytest.raises(ConfigError, match="clustering"):
        RoutingLessons(router="clustering", network="encoder")


@pytest.mark.parametrize("parameters", [{"policy": "sorted"}, {"router": "clustering"}])
def test_the_state_survives_saving(parameters: dict[str, Any]) -> None:
    router, held = fitted(**parameters)
    again = unpack(Lessons, *pack(held))
    x = held.featurizer.rows(SUMS)
    np.testing.assert_array_equal(router.utility(x, again), router.utility(x, held))


CHECKS = [
    *check_method(RoutingLessons),
    *check_method(RoutingLessons, policy="sorted"),
    *check_method(RoutingLessons, router="clustering", n_clusters=4),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
