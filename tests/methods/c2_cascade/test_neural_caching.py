"""Neural caching by hand: who is asked under each policy, what is learned, budgets, tenants, failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.money import Load
from septet.core.state import pack, unpack
from septet.core.types import Completion, Query, Verdict
from septet.methods.c2_cascade._streams import Answered, Arrived, Cache, Caches
from septet.methods.c2_cascade.neural_caching import NeuralCaching
from septet.parts.deferral.student import Student
from septet.parts.learning.rows import Rows
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_config, toy_house

ROW = Rows.of(np.array([[1.0, 0.0]]))
RNG = np.random.default_rng(0)


def always(name: str, *logits: float) -> Student:
    """A student with these logits for every question: a, b and c, or the other way round for who says b."""
    order = ("a", "b", "c") if name == "a" else ("b", "a", "c")
    return Student(order, np.zeros((2, 3)), np.array(logits or (2.0, 1.75, -1.0)))


def midway(*older: str, left: int = 50) -> Cache:
    """A stream after 500 of 1000 queries with a student whose margin is 2 − 1.75 = .25."""
    known = Rows.of(np.array([[0.6, 0.8]]))
    students = (always("a"), *(always(name) for name in older))
    return Cache(500, left, known, np.array([[1.0, 0.0, 0.0]]), ("a", "b", "c"), students, 1)


def called(policy: str, h: float, cache: Cache | None = None, **parameters: Any) -> bool:
    made = NeuralCaching(policy=policy, h=h, budget=100, stream=1000, **parameters)
    return made.judged(ROW, cache or midway("a", "a", "b", "b"), np.random.default_rng(3)).call


class World:
    """A member that says yes to good things, and a state that the asks change."""

    def __init__(self, method: NeuralCaching, fails: bool = False) -> None:
        self.method, self.fails, self.state, self.calls = method, fails, method.begin(("gpt",)), 0

    def __call__(self, ask: Ask) -> Any:
        if ask.do == "keep":
            kept = self.method.keep(ask.args["event"], self.state, RNG)
            self.state = kept.state
            return kept.value
        self.calls += 1
        if self.fails:
            return BackendError("down")
        text = "yes" if "good" in ask.args["query"].text else "no"
        return [Completion(member="gpt", text=text, sample=i) for i in range(ask.args["n"])]

    def ask(self, text: str, tenant: str = "") -> Verdict:
        pool = SeatPool((seat("gpt"),))
        return drive(self.method.plan(Query.of(text, tenant=tenant), pool, None, RNG), self)[0]


@pytest.mark.parametrize("check", check_method(NeuralCaching), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def test_a_margin_of_a_quarter_is_below_three_tenths() -> None:
    assert called("margin", 0.3) and not called("margin", 0.2)


def test_the_entropy_of_the_students_softmax_is_compared() -> None:
    # softmax(2, 1.75, −1) = (.548, .427, .0273): H = .330 + .363 + .098 = .791
    assert called("entropy", 0.79) and not called("entropy", 0.80)


def test_two_votes_of_four_are_a_call_at_two_and_none_at_one() -> None:
    assert called("committee", 2, midway("a", "a", "b", "b"))
    assert not called("committee", 1, midway("a", "a", "b", "b"))
    assert called("committee", 0, midway("a", "a", "a"))  # three older ones are no committee yet


def test_coreset_asks_about_what_is_far_from_all_that_is_stored() -> None:
    assert called("coreset", 0.7) and not called("coreset", 0.6)  # the cosine is .6


def test_random_asks_with_the_budget_over_what_is_left_of_the_stream() -> None:
    made = NeuralCaching(policy="random", budget=450, stream=1000, n_init=100)
    rng = np.random.default_rng(0)
    n_calls = sum(made.judged(ROW, midway(), rng).call for _ in range(2000))
    assert 900 < n_calls < 1100  # half of 2000, ± 4.5 deviations of 22


def test_front_load_asks_until_the_budget_is_gone_and_nothing_asks_beyond_it() -> None:
    assert called("front-load", 0)
    for policy in ("front-load", "random", "margin", "entropy", "committee", "coreset"):
        assert not called(policy, 3, midway("a", "a", "b", "b", left=0))


def test_forty_queries_left_and_forty_calls_left_is_always_a_call() -> None:
    late = replace(midway(), seen=960, left=40)
    assert called("margin", 0.0, late) and not called("margin", 0.0, replace(late, left=39))


def test_the_student_takes_over_when_the_budget_is_spent() -> None:
    world = World(NeuralCaching(n_init=4, every=4, budget=4, stream=100))
    films = ["a good film", "a bad film", "a good play", "a bad play", "good food"]
    verdicts = [world.ask(text) for text in films]
    assert [v.chosen for v in verdicts] == [0, 0, 0, 0, None]
    assert verdicts[-1].text == "yes"
    assert verdicts[-1].reason == "the budget of calls is spent; so the student answered"
    assert (world.calls, world.state.caches[0].left, world.state.caches[0].seen) == (4, 0, 5)


def test_the_student_is_fitted_anew_every_so_many_queries_if_anything_was_stored() -> None:
    world = World(NeuralCaching(n_init=6, every=2, budget=6, stream=100))
    for i, n_students in enumerate((0, 0, 1, 1, 2, 2, 3, 3, 3, 3)):
        world.ask(f"good {i}")
        assert len(world.state.caches[0].students) == n_students, i


def test_labels_are_shares_of_samples_and_close_ones_are_not_stored() -> None:
    method = NeuralCaching(samples=4, min_margin=0.5)

    def script(ask: Ask) -> Any:
        if ask.do != "keep":
            return [Completion(member="gpt", text=t) for t in said]
        kept = method.keep(ask.args["event"], states[-1], RNG)
        states.append(kept.state)
        return kept.value

    states = [method.begin(())]
    said: list[str] = []
    for texts in (["yes", "yes", "yes", "no"], ["yes", "yes", "no", "no"]):
        said[:] = texts
        verdict, _ = drive(method.plan(Query.of("?"), SeatPool((seat("gpt"),)), None, RNG), script)
        assert len(states[-1].caches[0].rows) == 1
    assert states[-1].caches[0].classes == ("yes", "no")
    np.testing.assert_allclose(states[-1].caches[0].shares, [[0.75, 0.25]])
    assert verdict.confidence == 0.5


def test_an_answer_that_was_cut_off_is_passed_on_and_not_learned() -> None:
    method, kept = NeuralCaching(), list[Any]()

    def script(ask: Ask) -> Any:
        if ask.do == "keep":
            kept.append(ask.args["event"])
            return method.keep(ask.args["event"], method.begin(()), RNG).value
        return [Completion(member="gpt", text="I th", finish="length")]

    verdict, _ = drive(method.plan(Query.of("?"), SeatPool((seat("gpt"),)), None, RNG), script)
    assert verdict.chosen == 0
    assert [type(e) for e in kept] == [Arrived]


def test_a_new_label_is_a_class_of_which_earlier_questions_have_no_share() -> None:
    method = NeuralCaching()
    state = method.keep(Answered("", ROW, {"a": 1.0}), method.begin(()), RNG).state
    state = method.keep(Answered("", ROW, {"b": 0.6, "a": 0.2}), state, RNG).state
    assert state.caches[0].classes == ("a", "b")
    np.testing.assert_allclose(state.caches[0].shares, [[1.0, 0.0], [0.25, 0.75]])


def test_tenants_share_neither_labels_nor_budget() -> None:
    world = World(NeuralCaching(n_init=1, every=1, budget=1, stream=100))
    world.ask("good", "ada")
    world.ask("good", "bob")  # ada's student is not asked
    assert (world.calls, world.state.tenants) == (2, ("ada", "bob"))
    assert world.ask("good", "ada").chosen is None


def test_a_member_that_fails_is_replaced_by_the_student_or_named() -> None:
    world = World(NeuralCaching(n_init=2, every=1, budget=9, stream=100))
    world.ask("good"), world.ask("good again")
    world.fails, world.method = True, NeuralCaching(n_init=9, every=1, budget=9, stream=100)
    verdict = world.ask("good once more")
    assert verdict.text == "yes"
    assert verdict.reason == "it is the start of the stream; gpt failed (down); so the student answered"
    with pytest.raises(NoCandidate, match="gpt failed"):
        World(NeuralCaching(), fails=True).ask("good")


def test_the_next_member_is_asked_where_the_first_fails() -> None:
    method, pool = NeuralCaching(), SeatPool((seat("gpt"), seat("spare")))

    def script(ask: Ask) -> Any:
        if ask.do == "keep":
            return method.keep(ask.args["event"], method.begin(()), RNG).value
        return BackendError("down") if ask.to.name == "gpt" else [Completion(member="spare", text="yes")]

    verdict, _ = drive(method.plan(Query.of("?"), pool, None, RNG), script)
    assert verdict.chosen == 0
    assert verdict.reason == "it is the start of the stream; gpt failed (down); so spare was asked"


def test_the_state_survives_a_round_trip() -> None:
    state = Caches(("", "ada"), (midway("a", "b"), midway()))
    arrays, facts = pack(state)
    again = unpack(Caches, arrays, facts)
    assert again.caches[0].students[2].classes == ("b", "a", "c")
    assert pack(again)[1] == facts
    for name, array in pack(again)[0].items():
        np.testing.assert_array_equal(array, arrays[name])


def test_the_worst_case_is_every_sample_of_one_call() -> None:
    pool = SeatPool((seat("gpt"),), {"embedder": (seat("minilm", embed=True),)})
    worst = NeuralCaching(samples=3, features="embedder").worst(Query.of("?", max_tokens=5), pool)
    assert worst == {"gpt": Load(3, 3, 15), "minilm": Load(1, 1)}


def test_a_policy_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(BadParameter, match="one of front-load, random, margin, entropy, committee, coreset"):
        NeuralCaching(policy="lottery")  # type: ignore[arg-type]


async def test_in_the_engine_requests_at_once_spend_the_budget_once(tmp_path: Path) -> None:
    import asyncio

    parameters = {
        "n_init": 1,
        "every": 1,
        "budget": 2,
        "stream": 1000,
        "policy": "front-load",
        "features": "embedder",
    }
    text = toy_config(
        "neural-caching", parameters, roles={"embedder": ["cyd"]}, order=("ada",), folder=tmp_path
    )
    async with toy_house(text) as house:
        await house["toys"].ask("Who wrote Faust?")
        questions = [f"What colour is the sky, {i}?" for i in range(4)]
        answers = await asyncio.gather(*(house["toys"].ask(q) for q in questions))
        assert sum(bool(a.candidates) for a in answers) == 1
        cache = house["toys"].ensemble.cell.value.caches[0]
        assert (cache.seen, cache.left) == (5, 0)
    async with toy_house(text) as house:
        assert house["toys"].ensemble.cell.value.caches[0].seen == 5
