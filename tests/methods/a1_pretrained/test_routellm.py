"""RouteLLM: similarity-weighted battles by hand, factors, labels of encoders, and the calibrated threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter, ConfigError
from septet.core.method import SeatPool
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Query
from septet.methods.a1_pretrained.routellm import ABOVE_ALL, Preferences, RouteLLM, share_of_strong
from septet.parts.learning.features import Featurizer
from septet.parts.routing.cost import Spending
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))
NO_COST, NO_PRICE = np.full((3, 2), np.nan), np.zeros(3)


def battles(rows: list[list[float]], share: list[float], threshold: float = 0.5) -> Preferences:
    return Preferences(Featurizer.unused(), FREE, 0.0, threshold, np.array(rows), np.array(share), None)


def p_strong(router: RouteLLM, x: list[float], state: Preferences) -> float:
    return float(router.utility(np.array([x]), state)[0, 1])


def outcomes(n: int) -> Table:
    """The weak member fails on proofs, the strong one never."""
    rows = []
    for i in range(n):
        kind = "prove" if i % 2 else "add"
        for model, right in (("weak", kind == "add"), ("strong", True)):
            rows.append({"query": f"{kind} number {i}", "model": model, "score": float(right)})
    return Table.of(rows)


def test_the_best_match_weighs_ten_times_what_nothing_alike_does() -> None:
    # strong won at a cosine of 0.6, weak at 0: 100 against 10, whatever the largest cosine is
    state = battles([[0.6, 0.8], [0.0, 1.0]], [1.0, 0.0])
    assert p_strong(RouteLLM(), [1.0, 0.0], state) == pytest.approx(100 / 110)


def test_with_plain_cosines_the_weights_are_those_of_the_paper() -> None:
    # cosines 0.6 and 0.3: 39.81 and 19.95; with the code's 100 and 31.62
    state = battles([[0.6, 0.8], [0.3, 0.954]], [1.0, 0.0])
    assert p_strong(RouteLLM(scaling="none"), [1.0, 0.0], state) == pytest.approx(39.81 / 59.76, abs=1e-4)
    assert p_strong(RouteLLM(), [1.0, 0.0], state) == pytest.approx(100 / 131.62, abs=1e-4)


def test_a_tie_counts_half() -> None:
    # alike in all: a win, a loss and two ties
    state = battles([[1.0, 0.0]] * 4, [1.0, 0.0, 0.5, 0.5])
    assert p_strong(RouteLLM(), [1.0, 0.0], state) == pytest.approx(0.5)


def test_the_share_of_a_battle_is_one_half_or_none() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [np.nan, 1.0]])
    np.testing.assert_array_equal(share_of_strong(scores), [1.0, 0.5, 0.0, np.nan])


@pytest.mark.parametrize("router", ["sw", "mf"])
def test_the_fit_tells_where_the_strong_member_is_needed(router: Any) -> None:
    made = RouteLLM(router=router, mf_lr=0.02)
    state = made.fit(outcomes(60), {}, np.random.default_rng(0))
    add, prove = made.utility(state.featurizer.rows(["add number 7", "prove number 8"]), state)[:, 1]
    assert prove > add


@pytest.mark.parametrize("router", ["sw", "mf"])
def test_the_state_survives_saving(router: Any) -> None:
    made = RouteLLM(router=router, mf_epochs=2)
    state = made.fit(outcomes(20), {}, np.random.default_rng(0))
    x = state.featurizer.rows(["prove number 8"])
    again = unpack(Preferences, *pack(state))
    np.testing.assert_array_equal(made.utility(x, again), made.utility(x, state))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_threshold_gives_the_strong_member_its_share(share: float) -> None:
    made = RouteLLM(router="bert", strong_share=share)
    head = Head(Featurizer.unused(), FREE, 0.0, np.empty((0, 3)), np.zeros(3), "ce")
    p = np.random.default_rng(0).random(1000)
    labels = np.column_stack([p, 1 - p, np.zeros(1000)])
    state = made.finish(head, Known.of(outcomes(4)), np.arange(4), labels)
    q = np.column_stack([1 - p, p])
    n = len(q)
    chosen = made.choose(q, np.full((n, 2), np.nan), np.zeros(n), state, np.random.default_rng(0)).weights
    assert chosen[:, 1].mean() == pytest.approx(share)


def test_a_share_of_one_sends_every_held_out_question_to_strong_and_of_none_no_question() -> None:
    fitted = [RouteLLM(strong_share=s).fit(outcomes(60), {}, np.random.default_rng(0)) for s in (1.0, 0.0)]
    x = fitted[0].featurizer.rows(outcomes(60).questions)
    p = RouteLLM().utility(x, fitted[0])[:, 1]
    assert (p >= fitted[0].threshold).mean() > 0.9
    assert fitted[1].threshold == ABOVE_ALL


def test_strong_answers_where_the_chance_reaches_the_threshold() -> None:
    q = np.array([[0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    state = battles([[1.0]], [1.0], threshold=0.7)
    chosen = RouteLLM().choose(q, NO_COST, NO_PRICE, state, np.random.default_rng(0)).weights
    assert chosen.argmax(axis=1).tolist() == [0, 1, 1]


def test_three_labels_of_an_encoder_count_ties_as_weak() -> None:
    # strong wins ½, tie ¼, weak wins ¼
    logits = np.log([[0.5, 0.25, 0.25]])
    np.testing.assert_allclose(RouteLLM(router="bert").utility(logits, battles([], [])), [[0.5, 0.5]])


def test_five_grades_send_the_two_best_to_weak() -> None:
    logits = np.log([[0.1, 0.2, 0.3, 0.25, 0.15]])
    np.testing.assert_allclose(RouteLLM(router="causal").utility(logits, battles([], [])), [[0.4, 0.6]])


def test_an_output_that_is_no_number_asks_the_strong_member() -> None:
    made, state = RouteLLM(router="bert"), battles([], [])
    q = made.utility(np.full((1, 3), np.nan), state)
    chosen = made.choose(q, NO_COST[:1], NO_PRICE[:1], state, np.random.default_rng(0)).weights
    assert chosen.tolist() == [[0.0, 1.0]]


def test_an_encoder_with_other_outputs_is_refused() -> None:
    with pytest.raises(BadParameter, match="must give 3 outputs"):
        RouteLLM(router="bert").utility(np.zeros((1, 2)), battles([], []))


def test_the_encoder_of_the_role_is_asked_once_per_query() -> None:
    made, state = RouteLLM(router="bert"), battles([], [])
    assert made.roles()["encoder"].rate
    pool = SeatPool((seat("weak"), seat("strong")), {"encoder": (seat("e", rate=True),)})

    def script(ask: Any) -> Any:
        if ask.do == "rate":
            return np.log([[0.8, 0.1, 0.1]]) if "prove" in ask.args["texts"][0] else np.log([[0.1, 0.1, 0.8]])
        return made.choose(**ask.args, state=state, rng=np.random.default_rng(0))

    queries = [Query.of("prove it"), Query.of("add it")]
    plans, asked = drive(made.plan_many(queries, pool, state, np.random.default_rng(0)), script)
    assert [ask.do for ask in asked[0]] == ["rate", "rate"]
    assert [next(plan)[0].to.name for plan in plans] == ["strong", "weak"]


def test_the_targets_of_encoders_are_labels_and_grades() -> None:
    known = Known.of(
        Table.of(
            {"query": q, "model": m, "score": s}
            for q, weak, strong in (("x", 0.0, 1.0), ("y", 1.0, 1.0), ("z", 0.5, 0.0))
            for m, s in (("weak", weak), ("strong", strong))
        )
    )
    assert RouteLLM(router="bert").targets(known).y.argmax(axis=1).tolist() == [0, 1, 2]
    assert (RouteLLM(router="causal").targets(known).y.argmax(axis=1) + 1).tolist() == [1, 5, 3]


def test_the_trainer_sets_the_threshold_on_what_it_held_out() -> None:
    made = RouteLLM(router="bert", strong_share=0.5)
    head = Head(Featurizer.unused(), FREE, 0.0, np.empty((0, 3)), np.zeros(3), "ce")
    p = np.array([[0.2, 0.4, 0.4], [0.8, 0.1, 0.1]])
    state = made.finish(head, Known.of(outcomes(4)), np.array([0, 1]), p)
    assert state.threshold == pytest.approx(0.8)
    assert made.trainer == "encoder"
    with pytest.raises(ConfigError, match=r"septet\.training"):
        made.learn(Known.of(outcomes(4)), Featurizer.unused(), np.zeros((4, 1)), np.random.default_rng(0))


def test_questions_that_only_one_member_answered_are_refused() -> None:
    alone = Table.of([{"query": "x", "model": "a", "score": 1.0}, {"query": "y", "model": "b", "score": 0.0}])
    with pytest.raises(BadParameter, match="both members answered"):
        RouteLLM().fit(alone, {}, np.random.default_rng(0))


def test_the_fit_on_the_toy_table_uses_all_of_it() -> None:
    state = RouteLLM().fit(toy_table().of_members(("ada", "bob")), {}, np.random.default_rng(0))
    assert state.share.tolist() == [0.0, 1.0] * 30  # ada is right on even questions, bob on odd ones


@pytest.mark.parametrize("check", check_method(RouteLLM, router="mf", strong_share=0.3, mf_epochs=5), ids=str)
def test_with_factors_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
