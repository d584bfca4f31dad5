"""Bench-CoE: the table of subjects by hand, and both levels on the toy table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.bench_coe import BenchCoe, Subjects
from septet.parts.learning.features import Featurizer
from septet.parts.routing.cost import Spending
from septet.parts.routing.records import Known
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))


def test_with_a_perfect_classifier_the_subject_level_scores_the_best_member_of_each() -> None:
    # shares (½, ½), accuracy ((.8, .6), (.4, .7)): ½·.8 + ½·.7 = .75; the best single member has .65
    identity = np.eye(2) * 100
    accuracy = np.array([[0.8, 0.6], [0.4, 0.7]])
    state = Subjects(
        Featurizer.unused(), FREE, 0.0, identity, np.zeros(2), "ce", subjects=("s", "t"), accuracy=accuracy
    )
    q = BenchCoe().utility(np.eye(2), state)
    np.testing.assert_array_equal(q, accuracy)
    assert q.max(axis=1).mean() == pytest.approx(0.75)
    assert accuracy.mean(axis=0).max() == pytest.approx(0.65)


def fitted(**parameters: Any) -> tuple[BenchCoe, Subjects]:
    router = BenchCoe(**parameters)
    state: Subjects = router.fit(toy_table(), {}, np.random.default_rng(0))
    return router, state


def test_the_table_holds_the_mean_scores_of_each_subject() -> None:
    _, state = fitted()
    assert state.subjects == ("parity-even", "parity-odd")
    # cyd is right on every third question: 0, 6, 12 … of the even ones and 3, 9 … of the odd ones
    np.testing.assert_allclose(state.accuracy, [[1, 0, 1 / 3], [0, 1, 1 / 3]])


@pytest.mark.parametrize("level", ["subject", "query"])
def test_both_levels_know_who_is_good_at_what(level: Any) -> None:
    router, state = fitted(level=level)
    x = state.featurizer.rows(["Is 8 plus two even or odd? Say even.", "Is 9 plus two odd or even? Say odd."])
    assert router.utility(x, state).argmax(axis=1).tolist() == [0, 1]


def test_the_query_level_regresses_the_scores_themselves() -> None:
    known = Known.of(toy_table(6))
    targets = BenchCoe(level="query").targets(known)
    assert targets.loss == "mse"
    np.testing.assert_array_equal(targets.y, known.scores)


def test_the_subject_level_has_one_hot_tasks() -> None:
    targets = BenchCoe().targets(Known.of(toy_table(3)))
    assert targets.loss == "ce"
    assert targets.y.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_a_member_that_was_never_scored_on_a_subject_is_unknown_there() -> None:
    table = Table.of(
        {"query": f"{task} {i}", "task": task, "model": m, "score": 1.0}
        for task, members in (("sums", "ab"), ("poets", "a"))
        for m in members
        for i in range(3)
    )
    state = BenchCoe().fit(table, {}, np.random.default_rng(0))
    np.testing.assert_array_equal(state.accuracy, [[1.0, np.nan], [1.0, 1.0]])


@pytest.mark.parametrize("level", ["subject", "query"])
def test_the_state_survives_saving(level: Any) -> None:
    router, state = fitted(level=level)
    again = unpack(Subjects, *pack(state))
    x = state.featurizer.rows(["Is 8 plus two even or odd?"])
    np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


CHECKS = [*check_method(BenchCoe), *check_method(BenchCoe, level="query")]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
