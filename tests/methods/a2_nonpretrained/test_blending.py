"""Blending: a draw per turn of the conversation, and the mean of its members."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import SeatPool
from septet.core.types import Completion, Message, Query
from septet.engine.offline import realised
from septet.methods.a2_nonpretrained.blending import Blending
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)
POOL = SeatPool((seat("ada"), seat("bob"), seat("cyd")))


def asked(blend: Blending, query: Query, seed: int = 0, fails: str = "") -> str:
    def script(ask: Any) -> Any:
        if ask.do == "decide":
            return blend.choose(**ask.args, state=None, rng=RNG)
        if ask.to.name == fails:
            from septet.core.errors import BackendError

            return BackendError("down")
        return [Completion(member=ask.to.name, text="4")]

    _, yielded = drive(blend.plan(query, POOL, None, np.random.default_rng(seed)), script)
    last: Any = yielded[-1][0]
    name: str = last.to.name
    return name


def test_its_expected_score_is_the_mean_of_its_members() -> None:
    # .5, .5 and 1/3 of the toy table
    scores = toy_table().matrix("score")
    weights = Blending().featurise([Query.of("?")] * 60, POOL, None)
    assert isinstance(weights, np.ndarray)
    assert realised(weights, scores).mean() == pytest.approx((0.5 + 0.5 + 20 / 60) / 3)


def test_members_are_drawn_as_often_as_their_weights_say() -> None:
    blend = Blending(weights=(2.0, 1.0, 0.0))
    drawn = [asked(blend, Query.of(f"{i} + 1?")) for i in range(300)]
    assert "cyd" not in drawn
    assert 176 <= drawn.count("ada") <= 224  # 200 expected, three deviations of 8.2


def test_each_turn_is_drawn_anew_and_the_whole_history_goes_along() -> None:
    turns: list[Message] = []
    drawn = []
    for i in range(40):
        turns.append(Message("user", "and then?"))
        query = Query(messages=tuple(turns))
        who = asked(Blending(), query)
        assert asked(Blending(), query) == who  # the same request is answered alike
        drawn.append(who)
        turns.append(Message("assistant", f"{who} says {i}"))
    assert set(drawn) == {"ada", "bob", "cyd"}


def test_another_seed_draws_otherwise() -> None:
    drawn = {asked(Blending(), Query.of("2 + 2?"), seed) for seed in range(30)}
    assert drawn == {"ada", "bob", "cyd"}


def test_a_member_that_fails_is_replaced() -> None:
    assert {asked(Blending(), Query.of(f"{i}?"), fails="bob") for i in range(20)} == {"ada", "cyd"}


def test_a_bare_prompt_is_drawn_for_as_well() -> None:
    assert asked(Blending(), Query(raw="2 + 2 =")) in {"ada", "bob", "cyd"}


def test_weights_that_do_not_fit_the_members_are_refused() -> None:
    with pytest.raises(
        BadParameter, match=r"weights: must hold one number for each of \['ada', 'bob', 'cyd'\]"
    ):
        Blending(weights=(1.0, 1.0)).featurise([Query.of("?")], POOL, None)
    with pytest.raises(BadParameter, match="not all 0"):
        Blending(weights=(0.0, 0.0, 0.0)).featurise([Query.of("?")], POOL, None)
