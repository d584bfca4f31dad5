"""LLM Bandit: relative costs by hand, what each stage learns, and what the preference does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.methods.a1_pretrained.llm_bandit import Bandit, LlmBandit, nearest_other, relative_cost
from septet.parts.routing.cost import Spending
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

RNG = np.random.default_rng
QUESTIONS = ["Is 8 plus two even or odd? Say even.", "Is 7 plus two odd or even? Say odd."]
QUICK: dict[str, Any] = {"lr": 0.01, "epochs": 150, "batch": 20, "steps": 150, "hidden": 16, "size": 4}


def spending(usd: list[float], tokens: float = np.nan) -> Spending:
    n = np.full(len(usd), np.nan)
    return Spending(
        np.array(usd),
        n + tokens if np.isnan(tokens) else np.full(len(usd), tokens),
        np.full(len(usd), tokens),
        n,
    )


def test_costs_are_relative_to_the_dearest_and_an_unknown_one_is_the_mean() -> None:
    # the mean of 1 and 4 is 2.5
    assert relative_cost(spending([1.0, np.nan, 4.0])).tolist() == [0.25, 0.625, 1.0]


def test_without_usd_tokens_count_and_without_tokens_every_call_is_alike() -> None:
    nan = np.full(2, np.nan)
    assert relative_cost(Spending(nan, np.array([10.0, 20.0]), np.array([0.0, 20.0]), nan)).tolist() == [
        0.25,
        1.0,
    ]
    assert relative_cost(spending([np.nan, np.nan])).tolist() == [1.0, 1.0]


def test_the_nearest_question_is_another_one() -> None:
    x = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    assert nearest_other(x).tolist() == [1, 0, 1]


@pytest.mark.parametrize("decision", ["supervised", "pretrained", "ppo"])
def test_every_stage_knows_who_is_good_at_what(decision: Any) -> None:
    router = LlmBandit(decision=decision, **QUICK)
    state = router.fit(toy_table(), {}, RNG(0))
    assert router.utility(state.featurizer.rows(QUESTIONS), state).argmax(axis=1).tolist() == [0, 1]


def test_the_policy_gives_probabilities_and_shifts_them_to_cheap_members_as_cost_matters() -> None:
    # ada costs three times what cyd does, and bob twice
    free, dear = (
        LlmBandit(decision="pretrained", **QUICK),
        LlmBandit(decision="pretrained", preference=2.0, **QUICK),
    )
    state = free.fit(toy_table(), {}, RNG(0))
    x = state.featurizer.rows(QUESTIONS)
    np.testing.assert_allclose(free.utility(x, state).sum(axis=1), 1.0)
    assert (dear.utility(x, state)[:, 2] > free.utility(x, state)[:, 2]).all()


@pytest.mark.parametrize("decision", ["supervised", "ppo"])
def test_the_state_survives_saving(decision: Any) -> None:
    router = LlmBandit(decision=decision, steps=2)
    state = router.fit(toy_table(12), {}, RNG(0))
    x = state.featurizer.rows(QUESTIONS)
    again = unpack(Bandit, *pack(state))
    np.testing.assert_array_equal(router.utility(x, again), router.utility(x, state))


def test_the_order_of_members_permutes_predicted_quality() -> None:
    router, table = LlmBandit(decision="supervised"), toy_table(30)
    straight = router.fit(table, {}, RNG(0))
    turned = router.fit(table.of_members(("cyd", "bob", "ada")), {}, RNG(0))
    x = straight.featurizer.rows(QUESTIONS)
    np.testing.assert_allclose(router.utility(x, turned)[:, ::-1], router.utility(x, straight), atol=1e-9)


@pytest.mark.parametrize("check", check_method(LlmBandit, decision="supervised"), ids=str)
def test_without_a_policy_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
