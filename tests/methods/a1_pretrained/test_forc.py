"""FORC: its strategies on the example of two queries, and who nobody answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter, NoCandidate
from septet.core.method import SeatPool
from septet.core.state import pack, unpack
from septet.core.types import Query
from septet.methods.a1_pretrained.forc import Forc
from septet.parts.routing.network import Head
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_config, toy_house, toy_table

RNG = np.random.default_rng(0)
V = np.array([[0.6, 0.9], [0.2, 0.9]])
C = np.array([[1.0, 3.0], [1.0, 3.0]])


def weights(
    q: np.ndarray = V, c: np.ndarray = C, prefer: float = 0.0, **parameters: Any
) -> list[list[float]]:
    found: list[list[float]] = (
        Forc(**parameters).choose(q, c, np.full(len(q), prefer), None, RNG).weights.tolist()
    )
    return found


def test_performance_takes_who_is_most_likely_right() -> None:
    assert weights() == [[0, 1], [0, 1]]
    assert weights(prefer=0.2) == [[1, 0], [0, 1]]  # .4 against .3, 0 against .3


def test_the_threshold_is_strict_and_falls_back_to_the_dearest() -> None:
    assert weights(strategy="threshold", threshold=0.5) == [[1, 0], [0, 1]]
    assert weights(strategy="threshold", threshold=0.6) == [[0, 1], [0, 1]]
    assert weights(strategy="threshold", threshold=0.95) == [[0, 1], [0, 1]]
    assert weights(strategy="threshold", threshold=0.95, otherwise="cheapest") == [[1, 0], [1, 0]]


def test_a_budget_of_four_is_spent_better_by_the_program_than_by_greed() -> None:
    assert weights(strategy="ilp", budget_usd=4.0) == [[1, 0], [0, 1]]
    assert weights(strategy="greedy", budget_usd=4.0) == [[0, 1], [0, 0]]


def test_a_floor_is_reached_at_the_least_cost() -> None:
    assert weights(strategy="ilp", quality_floor=1.4) == [[1, 0], [0, 1]]


def test_a_floor_below_one_is_a_share_of_the_queries_rounded() -> None:
    # .75 · 2 = 1.5 rounds to 2, and all right at .9 each reach 1.8
    with pytest.raises(BadParameter, match=r"floor: must be at most 1\.8"):
        weights(strategy="ilp", quality_floor=0.75)


def test_a_floor_of_one_is_absolute_and_costs_four() -> None:
    # one query at big, the other anywhere with at least .1: (cheap, big) or (big, cheap)
    x = np.array(weights(strategy="ilp", quality_floor=1.0))
    assert (C * x).sum() == 4.0


def test_without_budget_or_floor_quality_and_cost_are_weighed() -> None:
    # .9·v − .1·c: .44 against .51, .08 against .51; with .5: −.2 at best, so nobody
    assert weights(strategy="ilp", alpha=0.9) == [[0, 1], [0, 1]]
    assert weights(strategy="ilp", alpha=0.5) == [[0, 0], [0, 0]]
    assert weights(strategy="ilp", alpha=0.5, penalty=1.0) == [[1, 0], [1, 0]]


def test_binary_counts_who_is_likely_right_as_right() -> None:
    # both are right on the first, only big on the second; the cheap one leaves money for it
    assert weights(strategy="ilp", binary=True, budget_usd=4.0) == [[1, 0], [0, 1]]


def test_a_single_query_is_thresholded_and_paid_from_the_budget_or_not_answered() -> None:
    assert weights(V[:1], C[:1], strategy="ilp", budget_usd=1.0) == [[1, 0]]
    assert weights(V[1:], C[1:], strategy="ilp", budget_usd=1.0) == [[0, 0]]


def test_the_fit_learns_who_is_right_on_what() -> None:
    router, table = Forc(), toy_table()
    state = router.fit(table, {}, RNG)
    assert isinstance(state, Head)
    x = state.featurizer.rows(table.questions)
    p = router.utility(x, state)
    assert p[:2].argmax(axis=1).tolist() == [0, 1]
    assert ((p > 0) & (p < 1)).all()
    again = unpack(Head, *pack(state))
    np.testing.assert_array_equal(router.utility(x, again), p)


def test_a_query_that_nobody_answers_asks_nobody_and_says_so() -> None:
    router = Forc(strategy="ilp", budget_usd=0.0)
    state = router.fit(toy_table(20), {}, RNG)

    def script(ask: Any) -> Any:
        assert ask.do == "decide", "nobody may be asked"
        return router.choose(**ask.args, state=state, rng=RNG)

    pool = SeatPool((seat("ada"), seat("bob"), seat("cyd")))
    verdict, yielded = drive(router.plan(Query.of("Is 2 plus two even or odd?"), pool, state, RNG), script)
    assert verdict.abstained
    assert verdict.reason.endswith("so nobody was asked")
    assert len(yielded) == 1


def test_the_queries_of_a_call_share_its_budget(tmp_path: Path) -> None:
    # cyd costs 1.5e-4 on average, so only two of three queries can be served by anybody
    text = toy_config("forc", {"strategy": "ilp", "budget_usd": 3.2e-4}, folder=tmp_path)
    queries = [Query.of(f"Is {i} plus two even or odd? Say even.", task="even") for i in (2, 4, 6)]

    async def ask() -> list[str]:
        async with toy_house(text) as house:
            await house["toys"].fit(toy_table())
            missed: list[str] = []

            def failed(i: int, error: Any) -> Any:
                assert isinstance(error, NoCandidate)
                missed.append(str(error))
                return None

            await house["toys"].ask_many(queries, failed=failed)
            return missed

    missed = asyncio.run(ask())
    assert len(missed) == 1 and "nobody was asked" in missed[0]


@pytest.mark.parametrize("check", check_method(Forc, strategy="threshold", otherwise="best"), ids=str)
def test_with_a_threshold_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
