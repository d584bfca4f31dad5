"""The plan of every router: who is asked, who replaces whom, and what is said about it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BackendError, NoCandidate
from septet.core.method import Ask, Choice, Plan, Rng, Seat, SeatPool
from septet.core.money import Load, Price
from septet.core.types import Completion, Floats, Query, Verdict
from septet.parts.learning.features import Featurizer
from septet.parts.routing.cost import Spending
from septet.parts.routing.plan import Decided, Router, draw
from septet.parts.routing.records import Fitted
from septet.testing.scripted import drive, seat

UNKNOWN = np.full(3, np.nan)
POOL = SeatPool((seat("a"), seat("b"), seat("c")))
ASKED = Query.of("Who wrote Faust?")


STATE = Fitted(
    Featurizer.of("tf-idf", ["who"]),
    Spending(np.array([0.03, 0.02, 0.01]), UNKNOWN, UNKNOWN, UNKNOWN),
    prefer=0.0,
)


class Fixed(Router):
    """Thinks the same of every query."""

    def __init__(self, q: list[float], choice: Choice | None = None) -> None:
        self.q, self.choice = q, choice

    def utility(self, x: Floats, state: Any) -> Floats:
        return np.tile(self.q, (len(x), 1))

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Rng) -> Choice:
        return self.choice or super().choose(q, c, prefer, state, rng)


def run(
    router: Router, query: Query = ASKED, *, failing: str = "", pool: SeatPool = POOL, seed: int = 0
) -> tuple[Verdict, list[str]]:
    rng = np.random.default_rng(seed)

    def script(ask: Ask) -> Any:
        if ask.do == "decide":
            return router.choose(**ask.args, state=STATE, rng=rng)
        if ask.to.name in failing:
            return BackendError("no answer")
        return [Completion(member=ask.to.name, text=f"says {ask.to.name}")]

    verdict, yielded = drive(router.plan(query, pool, STATE, rng), script)
    asked = [i.to.name for items in yielded for i in items if isinstance(i, Ask) and i.to is not None]
    return verdict, asked


def test_the_best_member_answers_with_a_final_ask() -> None:
    verdict, asked = run(Fixed([0.2, 0.9, 0.5]))
    assert asked == ["b"]
    assert (verdict.chosen, verdict.weights.tolist()) == (0, [0.0, 1.0, 0.0])  # type: ignore[union-attr]
    assert verdict.reason == "expected quality: a 0.2, b 0.9, c 0.5; so b was asked"


def test_a_price_of_cost_is_taken_from_the_query_and_said() -> None:
    # at 50 per USD: a .8 − 1.5, b .9 − 1.0, c .5 − .5
    verdict, asked = run(Fixed([0.8, 0.9, 0.5]), ASKED.but(prefer=50.0))
    assert asked == ["c"]
    assert "less 50 per USD of expected cost: a $0.03, b $0.02, c $0.01" in verdict.reason


def test_a_failed_member_is_replaced_by_the_best_of_the_rest() -> None:
    verdict, asked = run(Fixed([0.2, 0.9, 0.5]), failing="bc")
    assert asked == ["b", "c", "a"]
    assert verdict.reason.endswith("b failed (no answer); c failed (no answer); so a was asked")


def test_when_every_member_fails_the_error_says_so_of_each() -> None:
    with pytest.raises(
        NoCandidate, match=r"a failed .* b failed .* c failed|b failed .* c failed .* a failed"
    ):
        run(Fixed([0.2, 0.9, 0.5]), failing="abc")


def test_weights_are_drawn_in_proportion_and_the_same_seed_draws_the_same() -> None:
    router = Fixed([0.0, 0.0, 0.0], Choice(np.array([[0.75, 0.25, 0.0]])))
    asked = [run(router, seed=seed)[1] for seed in range(400)]
    assert asked == [run(router, seed=seed)[1] for seed in range(400)]
    # 400 draws of 3/4: 300 ± 3 · √(400 · 3/16) = 300 ± 26
    assert 274 <= Counter(a for (a,) in asked)["a"] <= 326


def test_a_failed_draw_is_redrawn_without_it_before_weightless_members_are_asked() -> None:
    decided = Decided(np.array([0.5, 0.5, 0.0]), np.array([0.1, 0.2, 0.9]), "")
    rng = np.random.default_rng(0)
    assert draw(decided, [0], rng) == 1
    assert draw(decided, [0, 1], rng) == 2


def test_drawing_all_hands_the_weighed_members_to_the_method_behind() -> None:
    def then(query: Query, pool: SeatPool, rng: Rng) -> Plan:
        replies = yield [m.complete(query) for m in pool.members]
        return Verdict(text=" ".join(f"{m.name}:{m.weight}" for m in pool.members), confidence=len(replies))

    choice = Choice(np.array([[0.7, 0.0, 0.3]]), draw="all")
    verdict, asked = run(Fixed([0.0] * 3, choice), pool=SeatPool(POOL.members, then_=then))
    assert asked == ["a", "c"]
    assert verdict.text == "a:0.7 c:0.3"


def test_many_queries_are_decided_in_one_step() -> None:
    router, rng = Fixed([0.2, 0.9, 0.5]), np.random.default_rng(0)
    queries = [ASKED, ASKED.but(prefer=1e6)]

    def script(ask: Ask) -> Any:
        assert ask.args["q"].shape == (2, 3)
        return router.choose(**ask.args, state=STATE, rng=rng)

    plans, yielded = drive(router.plan_many(queries, POOL, STATE, rng), script)
    assert len(yielded) == 1
    asked = [next(plan)[0].to.name for plan in plans]  # type: ignore[union-attr]
    assert asked == ["b", "c"]


def test_prices_stand_in_for_costs_that_were_not_recorded() -> None:
    spending = Spending(np.array([np.nan]), np.array([1000.0]), np.array([0.0]), np.array([np.nan]))
    priced = SeatPool((Seat("a", Caps(text=True), price=Price(usd_per_mtok_in=5.0)),))
    cost = Fixed([1.0]).cost(np.zeros((2, 16)), Fitted(STATE.featurizer, spending, 0.0), priced)
    assert cost.tolist() == [[0.005], [0.005]]  # type: ignore[union-attr]


def test_a_router_offers_what_all_its_members_offer_and_may_ask_each_once() -> None:
    router = Fixed([0.0, 0.0])
    offered = router.offers([Caps(text=True, topk=5, stream=True), Caps(text=True, topk=20)])
    assert offered == Caps(text=True, topk=5)
    pool = SeatPool((seat("a"), seat("b")), {"embedder": (seat("a", embed=True),)})
    worst = router.worst(ASKED.but(max_tokens=9), pool)
    assert worst == {"a": Load(2, 2, 9), "b": Load(1, 1, 9)}
