"""Self-MoA by hand: who is sampled, what the fuser reads at once and window by window, who may fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import SeatPool
from septet.core.types import Query
from septet.methods.c1_noncascade.self_moa import Means, SelfMoa
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

POOL = SeatPool((seat("ada"), seat("bob"), seat("cyd")), {"fuser": (seat("eve"),)})
LEARNED = Means(np.array([0.5, 0.7, np.nan]))
TEN = [f"sample{i}" for i in range(10)]


def asked(said: Any, state: Means = LEARNED, **parameters: Any) -> Any:
    return drive(SelfMoa(**parameters).plan(Query.of("2+3?"), POOL, state, np.random.default_rng(0)), said)


def shown(ask: Any) -> list[str]:
    """The answers in a prompt, in order."""
    blocks = ask.args["query"].text.split("\n[answer ")[1:]
    return [block.split("]\n")[1].split("\n[end")[0] for block in blocks]


def test_the_best_of_the_fit_is_sampled_and_only_it() -> None:
    verdict, yielded = asked({"bob": TEN, "eve": "five"})
    assert [(a.to.name, a.final) for items in yielded for a in items] == [("bob", False), ("eve", True)]
    assert (yielded[0][0].args["n"], yielded[0][0].args["query"].temperature) == (6, 0.7)
    assert shown(yielded[1][0]) == TEN[:6]
    assert verdict.reason == "eve wrote from 6 answers of bob"


def test_ten_samples_in_windows_of_four_that_hold_the_text_so_far_twice() -> None:
    # 4 samples; then twice the text so far and 2 new ones, three times: 1 + (10 − 4) / 2 = 4 prompts
    parameters: dict[str, Any] = {"samples": 10, "order": "sequential", "window": 4, "reserved": 2}
    verdict, yielded = asked({"bob": TEN, "eve": "five"}, **parameters)
    prompts = [shown(items[0]) for items in yielded[1:]]
    assert prompts == [
        TEN[:4], ["five", "five", *TEN[4:6]], ["five", "five", *TEN[6:8]], ["five", "five", *TEN[8:]]
    ]  # fmt: skip
    assert [items[0].final for items in yielded[1:]] == [False, False, False, True]
    assert verdict.reason == "eve wrote from 10 answers of bob in 4 windows"
    worst = SelfMoa(**parameters).worst(Query.of("?", max_tokens=5), POOL)
    assert (worst["bob"].calls, worst["eve"].calls, worst["eve"].tokens) == (10, 4, 20)


def test_an_uneven_rest_takes_one_more_prompt() -> None:
    # w = 4, r = 1: 4, then 3 new ones each: 10 → 1 + 2, 11 → 1 + 3 (rounded up)
    found = SelfMoa(order="sequential", window=4, reserved=1)
    assert [found.windows(n) for n in (3, 4, 5, 7, 8, 10, 11)] == [1, 1, 2, 2, 3, 3, 4]
    assert SelfMoa(window=4).windows(11) == 1  # at once


def test_a_best_member_that_fails_is_followed_by_the_next_best_and_named() -> None:
    verdict, yielded = asked({"bob": BackendError("bob is down"), "ada": "5", "eve": "five"})
    assert [items[0].to.name for items in yielded] == ["bob", "ada", "eve"]
    assert verdict.reason == "eve wrote from 6 answers of ada; failed: bob is down"
    with pytest.raises(NoCandidate, match="bob is down; ada is down; cyd says nothing"):
        asked({"bob": BackendError("bob is down"), "ada": BackendError("ada is down"), "cyd": " "})


@pytest.mark.parametrize("order", ["at-once", "sequential"])
def test_a_fuser_that_fails_is_named(order: str) -> None:
    with pytest.raises(NoCandidate, match="the fuser eve failed"):
        asked({"bob": TEN, "eve": BackendError("down")}, samples=10, order=order)


def test_a_member_that_is_named_needs_no_fit() -> None:
    state = SelfMoa(member=3).begin(POOL.names)
    assert state is not None
    _, yielded = asked({"cyd": "5", "eve": "five"}, state, member=3)
    assert yielded[0][0].to.name == "cyd"
    assert SelfMoa().begin(POOL.names) is None
    with pytest.raises(BadParameter, match="member"):
        SelfMoa(member=4).begin(POOL.names)


def test_mean_scores_are_learned_and_a_window_must_have_room() -> None:
    # ada is right on even questions, bob on odd ones, cyd on every third
    learned = SelfMoa().fit(toy_table(), {}, np.random.default_rng(0))
    assert learned.score.round(4).tolist() == [0.5, 0.5, 0.3333]
    with pytest.raises(BadParameter, match="less than the window"):
        SelfMoa(window=3, reserved=3)


@pytest.mark.parametrize("check", check_method(SelfMoa), ids=str)
def test_self_moa_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
