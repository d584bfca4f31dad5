"""TO-Router: soft labels by hand, and its classifiers on the toy table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.methods.a1_pretrained.to_router import Experts, ToRouter
from septet.parts.routing.records import Known
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

SUMS = ["Is 8 plus two even or odd? Say even.", "Is 9 plus two odd or even? Say odd."]
CLASSIFIERS = ["knn", "mlp", "linear"]


def one(*scores: float | None) -> Known:
    return Known.of(
        Table.of({"query": "q", "model": m, "score": s} for m, s in zip("abc", scores, strict=False))
    )


@pytest.mark.parametrize(
    ("temperature", "label"), [(1.0, [0.525, 0.475]), (0.1, [0.731, 0.269]), (0.0, [1.0, 0.0])]
)
def test_the_temperature_says_how_much_a_lead_counts(temperature: float, label: list[float]) -> None:
    targets = ToRouter(temperature=temperature).targets(one(0.9, 0.8))
    assert targets.y.round(3).tolist() == [label]
    assert targets.loss == "kl"


def test_equal_scores_give_a_uniform_label() -> None:
    np.testing.assert_allclose(ToRouter().targets(one(1.0, 1.0, 1.0)).y, [[1 / 3] * 3])


def test_neighbours_are_averaged_as_labels_and_not_as_scores() -> None:
    table = Table.of(
        {"query": q, "model": m, "score": s}
        for q, scores in (("add it up", (1.0, 0.0)), ("add it down", (0.5, 0.5)))
        for m, s in zip("ab", scores, strict=True)
    )
    router = ToRouter(network="knn", temperature=1.0, k=2, features="tf-idf")
    state = router.fit(table, {}, np.random.default_rng(0))
    # e/(e + 1) = .7311 and ½: mean .6155
    q = router.utility(state.featurizer.rows(["add it"]), state)
    np.testing.assert_allclose(q, [[0.6155, 0.3845]], atol=5e-5)


@pytest.mark.parametrize("network", CLASSIFIERS)
def test_every_classifier_knows_who_is_good_at_what(network: Any) -> None:
    router = ToRouter(network=network, k=5)
    state = router.fit(toy_table(), {}, np.random.default_rng(0))
    q = router.utility(state.featurizer.rows(SUMS), state)
    assert q.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize("network", CLASSIFIERS)
def test_a_member_that_was_never_scored_is_unknown(network: Any) -> None:
    table = Table.of(
        [
            {"query": f"{q} {i}", "model": m, "score": s}
            for i in range(4)
            for q, scores in (("add", (1.0, 0.0)), ("say", (0.0, 1.0)))
            for m, s in zip("ab", scores, strict=True)
        ]
        + [{"query": "add 0", "model": "c", "score": None}]
    )
    router = ToRouter(network=network, k=3)
    state = router.fit(table, {}, np.random.default_rng(0))
    q = router.utility(state.featurizer.rows(["add 9"]), state)
    assert np.isnan(q[0, 2])
    assert not np.isnan(q[0, :2]).any()


@pytest.mark.parametrize("network", CLASSIFIERS)
def test_the_state_survives_saving(network: Any) -> None:
    router = ToRouter(network=network)
    state = router.fit(toy_table(12), {}, np.random.default_rng(0))
    again = unpack(Experts, *pack(state))
    x = state.featurizer.rows(SUMS)
    np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


CHECKS = [check for network in CLASSIFIERS for check in check_method(ToRouter, network=network)]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
