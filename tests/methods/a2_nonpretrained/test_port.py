"""PORT: loose and empty budgets, the warm-up, what is spent and settled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Battle, Decision
from septet.methods.a2_nonpretrained.port import Port, Stream
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)

# big is better and ten times as dear
N = 40
Q = np.column_stack([np.full(N, 1.0), np.full(N, 0.5)]) + np.linspace(0, 0.01, 2 * N).reshape(N, 2)
C = np.tile([[0.01, 0.001]], (N, 1))


def table() -> Table:
    return Table.of(
        {"query": f"add {i} and two", "model": m, "score": s, "cost_usd": usd}
        for i in range(6)
        for m, s, usd in (("big", 1.0, 0.01), ("small", 0.5, 0.001))
    )


def routed(
    q: np.ndarray = Q, c: np.ndarray = C, seed: int = 0, **parameters: Any
) -> tuple[np.ndarray, Stream]:
    port = Port(**{"stream": N, **parameters})
    state = port.fit(table(), {}, np.random.default_rng(0))
    choice = port.choose(q, c, np.zeros(len(q)), state, np.random.default_rng(seed))
    return choice.weights, choice.state


def test_with_loose_budgets_every_price_is_zero_and_the_best_answers() -> None:
    weights, state = routed(budget_usd=1e6, warm_up=0.1)
    assert state.prices.tolist() == [0, 0]
    assert (weights[4:].argmax(axis=1) == 0).all()


def test_a_member_without_budget_is_never_asked_and_too_dear_for_those_seen() -> None:
    port = Port(stream=N, budget_usd=1e6, warm_up=0.1, alpha=1e-3, solver="lp")
    state = port.fit(table(), {}, RNG)
    empty = np.array([0.0, 1e6])
    state = replace(state, budget=empty, left=empty)
    choice = port.choose(Q, C, np.zeros(N), state, RNG)
    assert choice.weights[:, 0].sum() == 0
    prices = choice.state.prices
    assert prices[0] > 0 and prices[1] == 0
    net = 1e-3 * choice.state.gain - prices * choice.state.cost
    assert (net[:, 0] <= net[:, 1] + 1e-9).all()


def test_no_member_spends_more_than_its_budget() -> None:
    for lose in (False, True):
        weights, state = routed(budget_usd=0.06, warm_up=0.25, lose=lose)
        spent = (weights * C).sum(axis=0)
        assert (spent <= state.budget * (1 + 1e-8)).all()
        np.testing.assert_allclose(state.budget - spent, state.left, atol=1e-12)
        assert state.seen == N


def test_a_query_whose_member_cannot_pay_goes_to_the_next_or_is_lost() -> None:
    # .03 each: three for big, then thirty for small, then nobody
    weights, _ = routed(budget_usd=0.06, warm_up=0.0)
    assert weights.sum(axis=0).tolist() == [3, 30]
    assert weights[33:].sum() == 0
    lost, _ = routed(budget_usd=0.06, warm_up=0.0, lose=True)
    assert lost.sum(axis=0).tolist() == [3, 0]


def test_a_query_that_is_not_worth_its_price_is_left_to_nobody_with_lose() -> None:
    # alpha 1: gains of .1 against prices of 20 a USD of .01
    port = Port(stream=N, warm_up=0.0, alpha=1.0, lose=True, budget_usd=1.0)
    state = replace(port.fit(table(), {}, RNG), prices=np.array([20.0, 200.0]))
    q, c, free = np.full((1, 2), 0.1), C[:1], np.zeros(1)
    assert port.choose(q, c, free, state, RNG).weights.sum() == 0
    released = Port(stream=N, warm_up=0.0, alpha=1.0, lose=True, nobody=False)
    assert released.choose(q, c, free, state, RNG).weights.tolist() == [[1, 0]]


def test_the_warm_up_draws_members_evenly_and_with_lose_also_nobody() -> None:
    weights, state = routed(budget_usd=1e6, warm_up=1.0)
    assert (weights.sum(axis=1) == 1).all()
    assert 10 <= weights[:, 0].sum() <= 30  # 20 expected, three deviations of 3.2
    dropped, _ = routed(budget_usd=1e6, warm_up=1.0, lose=True)
    assert 4 <= N - dropped.sum() <= 23  # 13.3 expected, three deviations of 3
    assert state.gain.shape == (N, 2)


def test_the_dual_is_solved_once_when_the_warm_up_ends() -> None:
    port = Port(stream=N, budget_usd=0.06, warm_up=0.1, alpha=1e-2, solver="lp")
    state = port.fit(table(), {}, RNG)
    seen = []
    for i in range(8):
        state = port.choose(Q[i : i + 1], C[i : i + 1], np.zeros(1), state, RNG).state
        seen.append(state.prices.tolist())
    assert seen[:3] == [[0, 0]] * 3
    assert seen[3] != [0, 0]
    assert seen[3:] == [seen[3]] * 5
    assert len(state.gain) == 4


def test_a_stream_can_be_decided_in_pieces() -> None:
    port = Port(stream=N, budget_usd=0.2, warm_up=0.2)
    state = port.fit(table(), {}, RNG)
    whole = port.choose(Q, C, np.zeros(N), state, np.random.default_rng(5))
    rows = []
    for i in range(N):
        choice = port.choose(Q[i : i + 1], C[i : i + 1], np.zeros(1), state, np.random.default_rng(5))
        rows.append(choice.weights[0])
        state = choice.state
    np.testing.assert_array_equal(np.array(rows), whole.weights)
    np.testing.assert_allclose(state.left, whole.state.left)


@pytest.mark.parametrize(
    ("split", "shares"),
    [
        ("equal", [0.5, 0.5]),
        ("cost", [10 / 11, 1 / 11]),
        ("score", [2 / 3, 1 / 3]),
        ("efficiency", [1 / 6, 5 / 6]),
    ],
)
def test_the_budget_is_split_as_stated(split: Any, shares: list[float]) -> None:
    # efficiency: 1/.01 = 100 against .5/.001 = 500
    state = Port(budget_usd=3.0, split=split).fit(table(), {}, RNG)
    np.testing.assert_allclose(state.budget, 3.0 * np.array(shares))


def test_the_default_budget_is_what_the_cheapest_member_costs_for_the_whole_stream() -> None:
    assert Port(stream=1000).fit(table(), {}, RNG).budget.sum() == pytest.approx(1.0)


def test_without_recorded_costs_there_is_no_limit_and_no_split_by_cost() -> None:
    free = Table.of({"query": "q", "model": m, "score": 1.0} for m in ("big", "small"))
    assert Port().fit(free, {}, RNG).budget.tolist() == [np.inf, np.inf]
    with pytest.raises(BadParameter, match="must be equal where a member's cost or score is unknown"):
        Port(split="cost", budget_usd=1.0).fit(free, {}, RNG)


def test_quality_and_cost_are_the_means_of_the_nearest_questions() -> None:
    port = Port(k=3)
    known = toy_table()
    state = port.fit(known, {}, RNG)
    x = state.featurizer.rows([known.questions[0]])
    near = np.argsort(-(x @ state.rows.T)[0], kind="stable")[:3]
    np.testing.assert_allclose(port.utility(x, state)[0], known.matrix("score")[near].mean(axis=0))
    np.testing.assert_allclose(port._near_usd(x, state)[0], known.matrix("usd")[near].mean(axis=0))


def test_feedback_settles_what_was_really_spent() -> None:
    port = Port(budget_usd=1.0)
    state = port.fit(table(), {}, RNG)
    paid = Decision("add 1 and two", {"big": 1.0}, 1.0, spent=0.03, member="big")
    after = port.update(state, [paid, Battle("q", "big", "small", "big")], RNG)
    np.testing.assert_allclose(after.left - state.left, [0.01 - 0.03, 0.0])
    with pytest.raises(BadParameter, match="member"):
        port.update(state, [Decision("q", {}, 1.0, member="who")], RNG)


def test_a_price_of_cost_comes_on_top() -> None:
    port = Port(stream=N, budget_usd=1e6, warm_up=0.0)
    state = port.fit(table(), {}, RNG)
    assert port.choose(Q[:1], C[:1], np.array([100.0]), state, RNG).weights.tolist() == [[0, 1]]


def test_the_state_survives_saving() -> None:
    port = Port(stream=20, warm_up=0.5)
    state = port.choose(Q[:3], C[:3], np.zeros(3), port.fit(table(), {}, RNG), RNG).state
    again = unpack(Stream, *pack(state))
    assert (again.seen, again.gain.shape) == (3, (3, 2))
    np.testing.assert_array_equal(again.left, state.left)


@pytest.mark.parametrize("check", check_method(Port, warm_up=0.0, solver="lp", budget_usd=1.0), ids=str)
def test_without_a_warm_up_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
