"""The default router: shrunk neighbours, the fallback where none is near, feedback, and its explanations."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Answer, Battle, Decision
from septet.methods.a1_pretrained.septet_router import SeptetRouter
from septet.parts.learning.features import Featurizer
from septet.parts.routing.cost import Spending
from septet.parts.routing.known_ground import KnownGround, excerpt
from septet.parts.routing.smoothed import Smoothed
from septet.testing.contract import check_method
from septet.testing.toys import toy_config, toy_house, toy_table

NAN = float("nan")
AXES = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
SCORES = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def ground(**other: Any) -> KnownGround:
    """Two questions on each axis; a is right on the first, b on the second and once on the first."""
    facts: dict[str, Any] = {
        "featurizer": Featurizer.unused(),
        "spending": Spending(*(np.array([0.02, 0.01]) for _ in range(4))),
        "prefer": 0.0,
        "members": ("a", "b"),
        "rows": AXES,
        "table": Smoothed.of(SCORES),
        "usd": np.full((4, 2), 0.001),
        "excerpts": ("sum one", "sum two", "poem one", "poem two"),
        "k": 2,
        "pseudo": 0.0,
        "reach": 0.5,
        "recorded": 4,
        "surprise": np.zeros(2),
        "heard": np.zeros(2),
    }
    return KnownGround(**(facts | other))


# --- the decision --------------------------------------------------------------------------------------


def test_estimates_are_shrunk_means_over_the_neighbours() -> None:
    # on the first axis 1 and ½; with two pseudo-counts of the means ½ and ¾: (2·1 + 2·½)/4, (2·½ + 2·¾)/4
    router = SeptetRouter(kappa=2)
    assert router.utility(AXES[:1], ground()).tolist() == [[1.0, 0.5]]
    assert router.utility(AXES[:1], ground(pseudo=2.0)).tolist() == [[0.75, 0.625]]


def test_a_question_far_from_all_known_ones_is_answered_by_the_best_single_member() -> None:
    # cosines to the two nearest: .3 and .3, below the reach of .5
    router, x = SeptetRouter(kappa=2), np.array([[0.3, 0.1]])
    assert router.utility(x, ground()).tolist() == [[0.5, 0.75]]
    assert router.utility(x, ground(reach=0.2)).tolist() == [[1.0, 0.5]]


def test_with_too_few_known_questions_the_means_decide() -> None:
    assert SeptetRouter(kappa=5).utility(AXES[:1], ground()).tolist() == [[0.5, 0.75]]


def test_the_price_of_cost_moves_the_choice_to_the_cheaper_member() -> None:
    # a is ahead by .5 on the first axis and dearer by .01: they are equal at 50 per USD, where the cheaper wins
    router, state = SeptetRouter(kappa=2), ground()
    q, c = router.utility(AXES[:1], state), np.array([[0.02, 0.01]])
    for price, chosen in ((49.0, 0), (50.0, 1), (51.0, 1)):
        assert router.choose(q, c, np.array([price]), state, rng()).weights.argmax() == chosen


def test_the_fit_learns_who_is_good_at_what_and_how_far_the_known_reaches() -> None:
    rows = [
        {"query": f"{text} {i}", "model": m, "score": float((m == "a") == (text == "add two numbers"))}
        for i in range(30)
        for text in ("add two numbers", "write some verses")
        for m in "ab"
    ]
    router = SeptetRouter()
    state = router.fit(Table.of(rows), {}, rng())
    x = state.featurizer.rows(["please add two numbers", "write me verses", "zebra"])
    q = router.utility(x, state)
    assert q[:2].argmax(axis=1).tolist() == [0, 1]
    assert q[2].tolist() == [0.5, 0.5]
    assert 0 < state.reach <= 1


# --- feedback ------------------------------------------------------------------------------------------


def decision(query: str, member: str, score: float) -> Decision:
    return Decision(query, {member: 1.0}, 1.0, 0.002, member, score)


def fitted() -> tuple[SeptetRouter, KnownGround]:
    router = SeptetRouter()
    state = router.fit(toy_table(), {}, rng())
    assert isinstance(state, KnownGround)
    return router, state


EVEN = [f"Is {i} plus two even or odd? Say even." for i in range(0, 60, 2)]


def test_a_scored_decision_becomes_a_known_question() -> None:
    router, state = fitted()
    after = router.update(state, [decision("Who is the tallest?", "bob", 0.25)], rng())
    assert after.table.value[-1].tolist()[1] == 0.25
    assert np.isnan(after.table.value[-1][[0, 2]]).all()
    assert after.usd[-1, 1] == 0.002
    assert after.excerpts[-1] == "Who is the tallest?"
    assert len(after.rows) == len(state.rows) + 1
    assert len(state.table.value) == 60  # the old state is as it was


def test_two_hundred_bad_answers_take_the_favourite_its_questions() -> None:
    router, state = fitted()
    x = state.featurizer.rows(EVEN)
    assert (router.utility(x, state).argmax(axis=1) == 0).mean() > 0.9
    punished = router.update(state, [decision(EVEN[i % 30], "ada", 0.0) for i in range(200)], rng())
    assert (router.utility(x, punished).argmax(axis=1) == 0).mean() < 0.1


def test_answers_as_good_as_expected_change_nothing_much() -> None:
    router, state = fitted()
    x = state.featurizer.rows(EVEN)
    expected = router.utility(x, state)[:, 0]
    neutral = [decision(EVEN[i % 30], "ada", float(expected[i % 30])) for i in range(200)]
    after = router.update(state, neutral, rng())
    np.testing.assert_allclose(after.surprise, 0.0, atol=1e-6)
    before = router.utility(x, state).argmax(axis=1)
    assert (router.utility(x, after).argmax(axis=1) == before).mean() > 0.9


def test_surprise_is_believed_by_halves_after_as_many_decisions_as_the_patience() -> None:
    # 20 answers that are .5 worse than expected, patience 20: −10 / 40
    router = SeptetRouter(features="embedder")
    state = ground()
    after = router.update(state, [decision("q", "a", 0.0)] * 20, rng())
    assert router.bias(after).tolist() == [-0.25, 0.0]
    assert len(after.rows) == 4  # no embedder can be asked here


def test_the_oldest_feedback_is_forgotten_and_the_fit_never() -> None:
    _, state = fitted()
    router = SeptetRouter(remembered=3)
    asked = [f"question number {i}" for i in range(5)]
    for first in (asked[:2], asked[2:]):
        state = router.update(state, [decision(q, "cyd", 1.0) for q in first], rng())
    assert state.excerpts[60:] == tuple(asked[2:])
    assert len(state.rows) == len(state.table.value) == len(state.usd) == 63
    assert state.heard.tolist() == [0.0, 0.0, 5.0]
    assert (
        SeptetRouter(remembered=0).update(state, [decision("x", "cyd", 1.0)], rng()).excerpts
        == state.excerpts[:60]
    )


def test_a_member_without_an_outcome_is_heard_of_first_by_feedback() -> None:
    rows = [
        {"query": f"add {i}", "model": m, "score": s} for i in range(12) for m, s in (("a", 0.5), ("b", None))
    ]
    router = SeptetRouter()
    state = router.fit(Table.of(rows), {}, rng())
    x = state.featurizer.rows(["add 3"])
    assert np.isnan(router.utility(x, state)[0, 1])
    after = router.update(state, [decision("add 3", "b", 1.0)], rng())
    assert router.utility(x, after)[0, 1] == 1.0


def test_battles_unscored_decisions_and_strangers_teach_nothing() -> None:
    router, state = fitted()
    events = [Battle("q", "ada", "bob", "ada"), decision("q", "ada", NAN), decision("q", "zoe", 1.0)]
    assert router.update(state, events, rng()) is state


# --- explanations --------------------------------------------------------------------------------------


def test_a_decision_names_its_neighbours_what_the_winner_scored_and_what_that_cost() -> None:
    router, state = SeptetRouter(kappa=2), ground()
    x = np.array([[1.0, 0.0], [0.1, 0.1]])
    q, c = router.utility(x, state), np.tile([0.02, 0.01], (2, 1))
    near, far = router.reasons(x, state, q, c, np.zeros(2), ("a", "b"))
    assert near == (
        "expected quality: a 1, b 0.5; nearest of 2: “sum one” (1.00; a scored 1 for $0.001),"
        " “sum two” (1.00; a scored 1 for $0.001), “poem one” (0.00; a scored 0 for $0.001)"
    )
    assert far == (
        "expected quality: a 0.5, b 0.75; no known question is near, so the means over all of them decide"
    )


def test_a_neighbour_that_the_winner_never_answered_says_so() -> None:
    scores = np.array([[1.0, NAN], [NAN, 0.0], [0.0, 0.0], [0.0, 0.0]])
    state = replace(ground(), table=Smoothed.of(scores), usd=np.full((4, 2), NAN))
    router = SeptetRouter(kappa=2)
    x = AXES[:1]
    (why,) = router.reasons(x, state, router.utility(x, state), np.ones((1, 2)), np.zeros(1), ("a", "b"))
    assert "“sum one” (1.00; a scored 1), “sum two” (1.00; a was not asked)" in why


def test_the_explanation_reaches_the_answer(tmp_path: Path) -> None:
    async def ask() -> Answer:
        async with toy_house(toy_config("septet-router", folder=tmp_path)) as house:
            await house["toys"].fit(toy_table())
            return await house["toys"].ask("Is 8 plus two even or odd? Say even.")

    answer = asyncio.run(ask())
    assert "nearest of" in answer.verdict.reason
    assert "plus two even or odd? Say even.” (" in answer.verdict.reason
    assert answer.verdict.reason.endswith("so ada was asked")


def test_an_excerpt_is_one_short_line() -> None:
    assert excerpt("one\n two") == "one two"
    assert excerpt("x" * 100) == "x" * 59 + "…"


def test_the_state_survives_saving() -> None:
    for features in ("lsa", "tf-idf"):
        router = SeptetRouter(features=features)
        state = router.fit(toy_table(20), {}, rng())
        again = unpack(KnownGround, *pack(state))
        x = state.featurizer.rows(["Is 8 plus two even or odd?"])
        np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))
        assert again.excerpts == state.excerpts


@pytest.mark.parametrize("check", check_method(SeptetRouter, features="embedder"), ids=str)
def test_with_an_embedder_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
