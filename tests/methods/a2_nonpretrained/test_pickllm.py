"""PickLLM: rewards and both learners by hand, and what a session comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import SeatPool
from septet.core.state import pack, unpack
from septet.core.types import Battle, Completion, Decision, Query
from septet.methods.a2_nonpretrained.pickllm import PickLLM, Session
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)
FREE = {"w_cost": 0.0, "w_latency": 0.0}


def told(member: str, score: float, spent: float = 0.0, seconds: float = float("nan")) -> Decision:
    return Decision("q", {member: 1.0}, 1.0, spent=spent, member=member, score=score, seconds=seconds)


def chosen(router: PickLLM, state: Session) -> list[float]:
    q = router.utility(np.empty((1, 0)), state)
    found: list[float] = (
        router.choose(q, np.full_like(q, np.nan), np.zeros(1), state, RNG).weights[0].tolist()
    )
    return found


def test_the_automaton_goes_from_a_half_to_55_percent_after_one_full_reward() -> None:
    router = PickLLM(learner="lri", rate=0.1, **FREE)
    state = router.update(router.begin(("a", "b")), [told("a", 1.0)], RNG)
    assert chosen(router, state) == pytest.approx([0.55, 0.45])


def test_a_bad_answer_teaches_the_automaton_nothing() -> None:
    router = PickLLM(learner="lri", **FREE)
    state = router.update(router.begin(("a", "b")), [told("a", 0.0)], RNG)
    assert state.p.tolist() == [0.5, 0.5]
    assert state.n.tolist() == [1, 0]


def test_the_automaton_cuts_a_reward_to_0_to_1() -> None:
    router = PickLLM(learner="lri", rate=0.1, w_score=5.0, w_cost=1.0, w_latency=0.0, usd_scale=0.01)
    state = router.begin(("a", "b"))
    assert router.update(state, [told("a", 1.0)], RNG).p.tolist() == pytest.approx([0.55, 0.45])
    assert router.update(state, [told("a", 0.0, spent=0.01)], RNG).p.tolist() == [0.5, 0.5]


def test_a_value_moves_towards_the_reward_and_the_largest_answers() -> None:
    router = PickLLM(rate=0.5, epsilon=0.1, **FREE)
    state = router.update(router.begin(("a", "b")), [told("b", 1.0), told("b", 0.0), told("a", 0.2)], RNG)
    assert state.values.tolist() == pytest.approx([0.1, 0.25])
    assert chosen(router, state) == pytest.approx([0.05, 0.95])


def test_without_exploration_the_first_that_earned_stays() -> None:
    router = PickLLM(epsilon=0.0, **FREE)
    state = router.update(router.begin(("a", "b")), [told("b", 0.3)], RNG)
    assert chosen(router, state) == [0, 1]


def test_the_sum_takes_cost_and_latency_off_the_score() -> None:
    # 1 − .1·(.02/.01) − .1·log10(1 + 9) = .7
    assert PickLLM().reward(1.0, 0.02, 9.0) == pytest.approx(0.7)
    assert PickLLM().reward(1.0, float("nan"), float("nan")) == 1.0


def test_the_product_as_printed_vanishes_at_one_second_and_pays_below_it() -> None:
    router = PickLLM(scoring="product", w_cost=1.0, w_latency=1.0)
    assert router.reward(1.0, 0.02, 1.0) == 1.0
    assert router.reward(1.0, 0.02, 10.0) == pytest.approx(-1.0)
    assert router.reward(1.0, 0.02, 0.1) == pytest.approx(3.0)
    assert router.reward(1.0, 0.02, float("nan")) == 1.0


@pytest.mark.parametrize("learner", ["lri", "q"])
def test_a_session_settles_on_the_better_member(learner: Any) -> None:
    router, rng = PickLLM(learner=learner, rate=0.05, **FREE), np.random.default_rng(1)
    state = router.begin(("good", "bad"))
    for _ in range(600):
        i = int(rng.choice(2, p=chosen(router, state)))
        score = float(rng.random() < (0.9, 0.3)[i])
        state = router.update(state, [told(("good", "bad")[i], score)], rng)
    assert chosen(router, state)[0] > 0.9


def test_two_hundred_bad_answers_take_the_favourite_its_share_and_neutral_ones_leave_it() -> None:
    router = PickLLM(**FREE)
    start = router.update(router.begin(("a", "b")), [told("a", 0.8)] * 60 + [told("b", 0.5)] * 60, RNG)
    assert chosen(router, start)[0] == pytest.approx(0.95)
    punished = router.update(start, [told("a", 0.0)] * 200, RNG)
    assert chosen(router, punished)[0] == pytest.approx(0.05)
    unsaid = router.update(start, [told("a", float("nan"))] * 200, RNG)
    assert chosen(router, unsaid)[0] == pytest.approx(0.95)


def test_a_price_of_cost_is_taken_off_the_values() -> None:
    router = PickLLM(epsilon=0.0, **FREE)
    state = router.update(router.begin(("a", "b")), [told("a", 1.0), told("b", 0.5)], RNG)
    q = router.utility(np.empty((1, 0)), state)  # .1 and .05
    c = np.array([[2.0, 1.0]])
    assert router.choose(q, c, np.array([0.01]), state, RNG).weights.tolist() == [[1, 0]]
    assert router.choose(q, c, np.array([0.1]), state, RNG).weights.tolist() == [[0, 1]]


def test_a_fit_plays_the_recorded_questions_as_one_session() -> None:
    state = PickLLM().fit(toy_table(), {}, np.random.default_rng(0))
    assert isinstance(state, Session)
    assert state.n.sum() == 60
    assert state.p.sum() == pytest.approx(1.0)
    again = unpack(Session, *pack(state))
    assert again.members == ("ada", "bob", "cyd")
    np.testing.assert_array_equal(again.values, state.values)


def test_battles_teach_nothing_and_a_stranger_is_refused() -> None:
    router = PickLLM()
    state = router.begin(("a", "b"))
    assert router.update(state, [Battle("q", "a", "b", "a")], RNG) is state
    with pytest.raises(BadParameter, match=r"member: must be one of \['a', 'b'\]"):
        router.update(state, [told("c", 1.0)], RNG)


def test_one_seed_draws_differently_for_different_questions() -> None:
    router = PickLLM(learner="lri")
    state = router.begin(("a", "b"))
    pool = SeatPool((seat("a"), seat("b")))

    def asked(text: str) -> str:
        def script(ask: Any) -> Any:
            if ask.do == "decide":
                return router.choose(**ask.args, state=state, rng=RNG)
            return [Completion(member=ask.to.name, text="4")]

        _, yielded = drive(router.plan(Query.of(text), pool, state, np.random.default_rng(0)), script)
        ask: Any = yielded[-1][0]
        name: str = ask.to.name
        return name

    drawn = [asked(f"{i} + 1?") for i in range(60)]
    assert 18 <= drawn.count("a") <= 42  # 30 expected, three deviations of 3.9
    assert drawn == [asked(f"{i} + 1?") for i in range(60)]


@pytest.mark.parametrize("check", check_method(PickLLM, learner="lri", scoring="product"), ids=str)
def test_as_an_automaton_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
