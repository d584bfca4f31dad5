"""Benchmark routing: its statistics by hand, what its fit keeps, and whole tasks in the toy house."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import SeatPool
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Answer, Query
from septet.methods.a1_pretrained.benchmark_routing import BenchmarkRouting, Benchmarks
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Rows
from septet.parts.routing.cost import Spending
from septet.parts.routing.shift import AccuracyByDistance
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_config, toy_house, toy_table

FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))


def known(scores: list[list[float]], p: list[float], mean: list[float]) -> Benchmarks:
    """Questions along the axes of a plane: two on the first, two on the second."""
    rows = Rows.of(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    shift = AccuracyByDistance(np.array([0.5]), np.array([p]))
    return Benchmarks(Featurizer.unused(), FREE, 0.0, rows, np.array(scores), np.array(mean), shift)


# Member 0 is right on the first axis, member 1 on the second and once on the first.
STATE = known([[1, 0], [1, 1], [0, 1], [0, 1]], p=[0.8, 0.9], mean=[0.5, 0.75])
X = np.array([[1.0, 0.0]] * 9 + [[0.0, 1.0]])  # ten queries of a task, nine of them on the first axis


def test_s1_is_the_mean_of_the_neighbours_of_each_query() -> None:
    q = BenchmarkRouting(k=2, prior=0.0).utility(X, STATE)
    assert q[0].tolist() == [1.0, 0.5]
    assert q[9].tolist() == [0.0, 1.0]


def test_s1_decides_between_equals_by_the_mean_score() -> None:
    # all four questions are neighbours: .5 and .75, plus 0.01 times the mean
    q = BenchmarkRouting(k=4).utility(X[:1], STATE)
    assert q.tolist() == [[0.505, 0.7575]]


def test_s1_of_a_task_is_the_mean_over_its_queries() -> None:
    q = BenchmarkRouting(statistic="S1-task", k=2).utility(X, STATE)
    np.testing.assert_allclose(q, [[0.9, 0.55]] * 10)


def test_s2_counts_queries_above_the_threshold_strictly() -> None:
    # member 1's mean of exactly .5 on the first axis is not above it
    q = BenchmarkRouting(statistic="S2", k=2).utility(X, STATE)
    np.testing.assert_allclose(q, [[0.9, 0.1]] * 10)


def test_s3_corrects_s2_by_its_accuracy() -> None:
    # .9·.8 + .1·.2 = .74 and .1·.9 + .9·.1 = .18: the winner is surely better than the best on average
    q = BenchmarkRouting(statistic="S3", k=2).utility(X, STATE)
    np.testing.assert_allclose(q, [[0.74, 0.18]] * 10)


def test_s3_falls_back_to_the_mean_scores_where_the_winner_is_not_surely_better() -> None:
    # Both right on the first axis, member 0 on the second, nobody on the third; seven, two and one queries:
    # S2 (.9, .7), S3 (.74, .66), and 0.586 is less than 0.6.
    axes = np.eye(3)
    shift = AccuracyByDistance(np.array([0.5]), np.array([[0.8, 0.9]]))
    scores, mean = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]), np.array([0.5, 0.6])
    state = Benchmarks(Featurizer.unused(), FREE, 0.0, Rows.of(axes), scores, mean, shift)
    task = axes[[0] * 7 + [1] * 2 + [2]]
    kept = BenchmarkRouting(statistic="S3", k=1).utility(task, state)
    np.testing.assert_allclose(kept, [[0.5, 0.6]] * 10)
    unguarded = BenchmarkRouting(statistic="S3", k=1, guard=0.0).utility(task, state)
    np.testing.assert_allclose(unguarded, [[0.74, 0.66]] * 10)


def test_a_p_of_one_makes_s3_equal_s2_and_a_half_makes_all_members_equal() -> None:
    sure = known(STATE.scores.tolist(), p=[1.0, 1.0], mean=[0.75, 0.5])
    blind = known(STATE.scores.tolist(), p=[0.5, 0.5], mean=[0.75, 0.5])
    s2 = BenchmarkRouting(statistic="S2", k=2).utility(X, STATE)
    np.testing.assert_allclose(BenchmarkRouting(statistic="S3", k=2).utility(X, sure), s2)
    np.testing.assert_allclose(BenchmarkRouting(statistic="S3", k=2).utility(X, blind), np.full((10, 2), 0.5))


def test_the_fit_keeps_questions_scores_costs_and_the_accuracy_of_each_task_left_out() -> None:
    state = BenchmarkRouting().fit(toy_table(20), {}, np.random.default_rng(0))
    assert isinstance(state, Benchmarks)
    assert state.scores.shape == (20, 3)
    assert state.mean == pytest.approx([0.5, 0.5, (4 / 10 + 3 / 10) / 2])
    # usd means: 3e-4 · mean(1 + i/20) = 3e-4 · 1.475
    assert state.spending.usd == pytest.approx(np.array([3, 2, 1]) * 1e-4 * 1.475)
    # 2 tasks · 15 shares · 10 draws; ada and bob are right on one task and wrong on the other
    assert state.shift.accuracy.shape == (300, 3)
    assert (state.shift.accuracy[state.shift.u.argmax(), :2] == 0).all()


def test_the_fitted_router_knows_who_is_good_at_what() -> None:
    router, rng = BenchmarkRouting(), np.random.default_rng(0)
    state = router.fit(toy_table(), {}, rng)
    x = state.featurizer.rows(["Is 8 plus two even or odd? Say even.", "Is 9 plus two odd or even? Say odd."])
    assert router.utility(x, state).argmax(axis=1).tolist() == [0, 1]


def test_the_state_survives_saving() -> None:
    state = BenchmarkRouting().fit(toy_table(12), {}, np.random.default_rng(0))
    again = unpack(Benchmarks, *pack(state))
    x = state.featurizer.rows(["Is 8 plus two even or odd?"]).dense()
    for statistic in ("S1", "S3"):
        router = BenchmarkRouting(statistic=statistic)
        np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


def test_features_may_come_from_an_embedder() -> None:
    router, rng = BenchmarkRouting(features="embedder", k=1), np.random.default_rng(0)
    axes = {"sums": [1.0, 0.0], "poets": [0.0, 1.0]}
    table = Table.of(
        {"query": q, "model": m, "score": float((q, m) in [("sums", "a"), ("poets", "b")])}
        for q in axes
        for m in ("a", "b")
    )
    embedder = (seat("e", embed=True),)

    def script(ask: Any) -> Any:
        if ask.do == "embed":
            return np.array([axes[t] for t in ask.args["texts"]])
        return router.choose(**ask.args, state=state, rng=rng)

    state, asked = drive(router.fit(table, {"embedder": embedder}, rng), script)
    assert len(asked) == 1
    pool = SeatPool((seat("a"), seat("b")), {"embedder": embedder})
    plans, _ = drive(router.plan_many([Query.of("sums"), Query.of("poets")], pool, state, rng), script)
    assert [next(p)[0].to.name for p in plans] == ["a", "b"]


@pytest.mark.parametrize("check", check_method(BenchmarkRouting, features="embedder"), ids=str)
def test_with_an_embedder_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)


def test_queries_that_share_a_task_are_decided_together(tmp_path: Path) -> None:
    text = toy_config("benchmark-routing", {"statistic": "S2"}, folder=tmp_path)
    even = [Query.of(f"Is {i} plus two even or odd? Say even.", task="even") for i in (2, 4)]
    odd = [Query.of(f"Is {i} plus two odd or even? Say odd.", task="odd") for i in (3, 5)]

    async def ask() -> list[Answer]:
        async with toy_house(text) as house:
            await house["toys"].fit(toy_table())
            return await house["toys"].ask_many([even[0], odd[0], even[1], odd[1]])

    answers = asyncio.run(ask())
    assert [a.candidates[0].member for a in answers] == ["ada", "bob", "ada", "bob"]


def test_a_statistic_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadParameter, match="S1, S1-task, S2, S3"):
        BenchmarkRouting(statistic="S4")  # type: ignore[arg-type]
