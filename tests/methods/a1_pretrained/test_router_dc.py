"""RouterDC: a cosine by hand, what its fit draws from, and the contract of its linear form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BadParameter, ConfigError
from septet.core.method import Ask, SeatPool
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Completion, Query
from septet.methods.a1_pretrained.router_dc import Embedded, RouterDc
from septet.parts.learning.features import Featurizer
from septet.parts.routing.cost import Spending
from septet.parts.routing.records import Known
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))


def embedded(map: list[list[float]], arms: list[list[float]], line: tuple[float, float]) -> Embedded:
    made = np.array(map) if map else np.empty((0, 0))
    return Embedded(Featurizer.unused(), FREE, 0.0, made, np.array(arms), np.array(line))


def test_quality_is_a_line_through_the_cosine_to_each_member() -> None:
    # x·map = (6, 8) has length 10: cosines .6 and .8 to the axes; .5 + .25·cosine
    state = embedded([[0.0, 8.0], [6.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], (0.5, 0.25))
    q = RouterDc().utility(np.array([[1.0, 1.0]]), state)
    np.testing.assert_allclose(q, [[0.65, 0.7]])


def test_rows_of_an_encoder_are_compared_as_they_are() -> None:
    state = embedded([], [[1.0, 0.0], [0.0, 1.0]], (0.0, 1.0))
    q = RouterDc(network="encoder").utility(np.array([[0.6, 0.8]]), state)
    np.testing.assert_allclose(q, [[0.6, 0.8]])
    arrays, facts = pack(state)
    np.testing.assert_array_equal(unpack(Embedded, arrays, facts).arms, state.arms)


def test_a_member_without_scores_has_no_quality() -> None:
    rows = [
        {"query": f"{word} {i}", "task": "t", "model": m, "score": score}
        for i in range(8)
        for word, right in (("add", 0), ("write", 1))
        for m, score in (("ada", 1.0 - right), ("bob", float(right)), ("cyd", None))
    ]
    table = Table.of(rows)
    router = RouterDc(steps=50)
    state = router.fit(table, {}, np.random.default_rng(0))
    q = router.utility(state.featurizer.rows(["add 3"]), state)
    assert np.isnan(q[0, 2])
    assert q[0, 0] > q[0, 1]
    choice = router.choose(q, np.zeros((1, 3)), np.zeros(1), state, np.random.default_rng(0))
    assert choice.weights.tolist() == [[1.0, 0.0, 0.0]]


def test_a_fit_learns_who_is_right_on_what() -> None:
    router, table = RouterDc(steps=300), toy_table()
    state = router.fit(table, {}, np.random.default_rng(0))
    asked = [f"Is {i} plus two {kind} or {other}? Say {kind}."
             for i in (100, 101) for kind, other in (("even", "odd"), ("odd", "even"))]  # fmt: skip
    q = router.utility(state.featurizer.rows(asked), state)
    assert q[:, :2].argmax(axis=1).tolist() == [0, 1, 0, 1]  # ada on even ones, bob on odd ones


def test_the_same_seed_gives_the_same_embeddings() -> None:
    router, table = RouterDc(steps=20), toy_table(20)
    first, second, other = [router.fit(table, {}, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(first.arms, second.arms)
    assert not np.allclose(first.arms, other.arms)


def test_held_out_questions_are_never_drawn_and_tasks_are_drawn_alike() -> None:
    known = Known.of(toy_table(6))
    kept = np.array([True, False, False, False, False, False])
    chances = RouterDc().chances(known, kept)
    # even: two left of three at 1/6, odd: three at 1/6; to a sum of one
    np.testing.assert_allclose(chances, [0, 0.2, 0.2, 0.2, 0.2, 0.2])


def test_wide_features_are_projected_to_the_width() -> None:
    state = RouterDc(steps=5, features="tf-idf", width=16).fit(toy_table(20), {}, np.random.default_rng(0))
    assert state.map.shape == (4096, 16)
    assert state.arms.shape == (3, 16)


def test_an_encoder_is_asked_for_rows_and_named_as_a_role() -> None:
    router = RouterDc(network="encoder")
    assert router.roles() == {"encoder": Caps(embed=True)}
    assert router.trainer == "router-dc"
    state = embedded([], [[1.0, 0.0], [0.0, 1.0]], (0.0, 1.0))
    pool = SeatPool((seat("ada"), seat("bob")), {"encoder": (seat("mini"),)})
    asked = []

    def script(ask: Ask) -> Any:
        asked.append((ask.to.name if ask.to else "", ask.do))
        if ask.do == "embed":
            assert ask.args["texts"] == ["add two"]
            return np.array([[0.6, 0.8]])
        if ask.do == "decide":
            return router.choose(**ask.args, state=state, rng=np.random.default_rng(0))
        return [completion(ask.to.name)]

    verdict, _ = drive(router.plan(Query.of("add two"), pool, state, np.random.default_rng(0)), script)
    assert asked == [("mini", "embed"), ("", "decide"), ("bob", "complete")]
    assert verdict.reason == "expected quality: ada 0.6, bob 0.8; so bob was asked"


def completion(member: str) -> Completion:
    return Completion(member=member, text="4")


def test_an_encoder_is_not_fitted_here() -> None:
    with pytest.raises(ConfigError, match=r"fitted by septet\.training"):
        RouterDc(network="encoder").fit(toy_table(8), {}, np.random.default_rng(0))


def test_parameters_have_rules() -> None:
    with pytest.raises(BadParameter, match=r"router-dc\.temperature: must be > 0"):
        RouterDc(temperature=0)


@pytest.mark.parametrize("check", check_method(RouterDc, steps=200), ids=str)
def test_router_dc_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)
