"""ZOOTER: the labels it teaches, and what it learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.zooter import Zooter
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known
from septet.testing.contract import check_method
from septet.testing.toys import toy_table


def rewards(*rows: tuple[str, str, tuple[float, ...]]) -> Known:
    return Known.of(
        Table.of(
            {"query": q, "task": t, "model": m, "score": s}
            for q, t, scores in rows
            for m, s in zip("abc", scores, strict=False)
        )
    )


def test_targets_are_soft_labels_mixed_with_their_tasks() -> None:
    known = rewards(("p", "t", (2.0, 0.0)), ("q", "t", (0.0, 1.0)))
    targets = Zooter().targets(known)
    np.testing.assert_allclose(targets.y, [[0.6666, 0.3334], [0.4831, 0.5169]], atol=6e-5)
    assert targets.loss == "kl"
    assert (targets.weight == 1).all()


def test_with_beta_zero_every_question_of_a_task_has_the_same_target() -> None:
    known = rewards(("p", "t", (2.0, 0.0)), ("q", "t", (0.0, 1.0)), ("r", "u", (5.0, 0.0)))
    y = Zooter(beta=0.0).targets(known).y
    np.testing.assert_allclose(y[0], y[1])
    assert y[2, 0] > 0.99


def test_a_question_without_a_task_keeps_its_label() -> None:
    known = rewards(("p", "", (2.0, 0.0)), ("q", "", (0.0, 1.0)))
    np.testing.assert_allclose(Zooter().targets(known).y, Zooter(beta=1.0).targets(known).y)


def test_temperature_sharpens_bounded_rewards() -> None:
    known = rewards(("p", "", (0.9, 0.8)))
    assert Zooter(temperature=0.1).targets(known).y.round(4).tolist() == [[0.7311, 0.2689]]


def test_the_fitted_router_knows_who_is_rewarded_for_what() -> None:
    router = Zooter()
    state = router.fit(toy_table(), {}, np.random.default_rng(0))
    x = state.featurizer.rows(["Is 8 plus two even or odd? Say even.", "Is 9 plus two odd or even? Say odd."])
    q = router.utility(x, state)
    assert q.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(q.sum(axis=1), 1.0)


def test_a_member_without_a_reward_is_unknown_and_the_others_are_not() -> None:
    router = Zooter()
    rows = [("add it", "t", (1.0, 0.0)), ("add them", "t", (1.0, 0.0)), ("say it", "u", (0.0, 1.0))]
    table = Table.of(
        [
            {"query": q, "task": t, "model": m, "score": s}
            for q, t, scores in rows
            for m, s in zip("ab", scores, strict=True)
        ]
        + [{"query": "add it", "task": "t", "model": "c", "score": None}]
    )
    state = router.fit(table, {}, np.random.default_rng(0))
    q = router.utility(state.featurizer.rows(["add it"]), state)
    assert np.isnan(q[0, 2])
    assert q[0, 0] > q[0, 1]


def test_the_state_survives_saving() -> None:
    router = Zooter()
    state = router.fit(toy_table(12), {}, np.random.default_rng(0))
    x = state.featurizer.rows(["Is 8 plus two even or odd?"])
    again = unpack(Head, *pack(state))
    np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


@pytest.mark.parametrize("check", check_method(Zooter), ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
