"""Bounds on three questions and three members, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.bench.bounds import best_single, bounds, column_means, oracle, random, task_oracle
from septet.bench.curves import zero_router
from septet.core.errors import BadParameter

TRAIN = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])  # the first member is best
SCORES = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])  # the third is
USD = np.array([[1.0, 2.0, 8.0]] * 4)
TASKS = ["a", "b", "b", "a"]


def of(name: str, **how: str) -> tuple[float, float]:
    """Mean quality and USD of one bound."""
    found = {b.name: b for b in bounds(TRAIN, SCORES, USD, TASKS, **how)}  # type: ignore[arg-type]
    return float(found[name].quality.mean()), float(found[name].usd.mean())


def test_the_best_single_member_on_train_need_not_be_that_on_test() -> None:
    assert of("best single (train)") == (0.25, 1.0)
    assert of("best single (test)") == (0.75, 8.0)


def test_random_is_the_mean_over_members() -> None:
    assert of("random") == (pytest.approx(6 / 12), pytest.approx(11 / 3))


def test_the_task_oracle_takes_the_best_member_of_each_task() -> None:
    # task a: the second and third have 2 of 2, so the second; task b: the first and third 1 of 2, so the first
    assert task_oracle(SCORES, TASKS).argmax(axis=1).tolist() == [1, 0, 0, 1]
    assert of("task oracle") == (0.75, 1.5)


def test_the_oracle_takes_the_cheapest_of_the_best() -> None:
    assert oracle(SCORES, USD).argmax(axis=1).tolist() == [1, 0, 0, 1]
    assert of("oracle") == (0.75, (2 + 1 + 1 + 2) / 4)


def test_an_unsolvable_question_may_cost_the_oracle_nothing() -> None:
    assert of("oracle", unsolvable="free") == (0.75, (2 + 1 + 0 + 2) / 4)
    assert "costs nothing" in bounds(TRAIN, SCORES, USD, TASKS, unsolvable="free")[-1].convention


def test_the_oracle_prefers_a_known_cost_and_then_the_first_member() -> None:
    scores = np.ones((2, 3))
    usd = np.array([[np.nan, 5.0, 4.0], [np.nan, np.nan, np.nan]])
    assert oracle(scores, usd).argmax(axis=1).tolist() == [2, 0]


def test_an_unknown_score_is_never_the_best() -> None:
    scores = np.array([[np.nan, 0.2, 0.1]])
    assert oracle(scores, np.ones((1, 3))).tolist() == [[0, 1, 0]]
    assert random(scores).tolist() == [[0, 0.5, 0.5]]


def test_a_question_of_which_nothing_is_known_stays_unknown() -> None:
    scores = np.array([[1.0, 0.0], [np.nan, np.nan]])
    found = bounds(scores, scores, np.ones((2, 2)), ["a", "a"])
    assert all(np.isnan(b.quality[1]) and not np.isnan(b.quality[0]) for b in found)


def test_a_member_without_a_known_score_is_not_the_best_single_one() -> None:
    assert best_single(np.array([[np.nan, 0.0, 0.5], [np.nan, 1.0, 0.5]])) == 1  # .5 each: the first
    with pytest.raises(BadParameter, match="at least one known score"):
        best_single(np.full((2, 2), np.nan))


def test_weights_of_every_bound_add_up_to_one() -> None:
    for bound in bounds(TRAIN, SCORES, USD, TASKS):
        assert bound.weights.sum(axis=1) == pytest.approx(np.ones(4))


def test_the_zero_router_mixes_the_single_members() -> None:
    # (1, .25), (2, .5), (8, .75): all on the hull
    found = zero_router(column_means(USD), column_means(SCORES))
    assert found.at(np.array([1.5, 5.0])).tolist() == pytest.approx([0.375, 0.625])


def test_costs_and_tasks_must_fit_the_scores() -> None:
    with pytest.raises(BadParameter, match="shape of the scores"):
        bounds(TRAIN, SCORES, USD[:2], TASKS)
    with pytest.raises(BadParameter, match="each of 4 questions"):
        bounds(TRAIN, SCORES, USD, TASKS[:2])
