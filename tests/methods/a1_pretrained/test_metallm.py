"""MetaLLM: rewards by hand, feedback, prices inside the reward, and a start from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from septet.core.errors import BadParameter
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Battle, Decision
from septet.methods.a1_pretrained.metallm import Bandit, MetaLLM, relative
from septet.testing.contract import check_method
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)


def told(member: str, score: float, spent: float = 0.0, query: str = "add two and two") -> Decision:
    return Decision(query, {member: 1.0}, 1.0, spent=spent, member=member, score=score)


def share(router: MetaLLM, state: Bandit, member: int, questions: list[str]) -> float:
    """How often a member is chosen."""
    x = state.featurizer.rows(questions)
    q = router.utility(x, state)
    weights = router.choose(q, np.full_like(q, np.nan), np.zeros(len(q)), state, RNG).weights
    return float(weights[:, member].mean())


def begun(router: MetaLLM, *members: str) -> Bandit:
    state = router.begin(members)
    assert state is not None
    return state


def test_before_anything_is_learned_all_are_alike_and_the_first_name_answers() -> None:
    router = MetaLLM(ridge=1.0, constant=False)
    state = begun(router, "wit", "sum")
    x = state.featurizer.rows(["add two and two"])
    np.testing.assert_allclose(router.utility(x, state), [[1.0, 1.0]])  # no mean, a bonus of one
    assert share(router, state, 1, ["add two and two"]) == 1.0


def test_one_reward_gives_a_mean_of_a_half_and_a_bonus_of_0_7071() -> None:
    router = MetaLLM(ridge=1.0, constant=False)
    state = router.update(begun(router, "a", "b"), [told("a", 1.0)], RNG)
    x = state.featurizer.rows(["add two and two"])
    np.testing.assert_allclose(router.utility(x, state), [[0.5 + 0.7071, 1.0]], atol=5e-5)


def test_a_right_answer_of_the_dearest_member_earns_one_less_the_price() -> None:
    # one answer of each; ridge 1, no bonus: half the reward. a costs 2, b costs 1: rewards 1 − .4, 1 − .2
    router = MetaLLM(ridge=1.0, alpha=0.0, price=0.4, constant=False)
    state = router.update(begun(router, "a", "b"), [told("a", 1.0, 0.02), told("b", 1.0, 0.01)], RNG)
    x = state.featurizer.rows(["add two and two"])
    np.testing.assert_allclose(router.utility(x, state), [[0.3, 0.4]])
    assert state.spending.usd.tolist() == [0.02, 0.01]


def test_a_fit_is_ridge_regression_on_all_outcomes() -> None:
    router, table = MetaLLM(alpha=0.0), toy_table()
    state = router.fit(table, {}, RNG)
    x = state.featurizer.rows(table.questions)
    wide = np.column_stack([x, np.ones(len(x))])
    ridge = Ridge(alpha=12.94, fit_intercept=False).fit(wide, table.matrix("score"))
    np.testing.assert_allclose(router.utility(x, state), ridge.predict(wide), atol=1e-9)
    assert state.billed.tolist() == [60, 60, 60]
    assert MetaLLM(alpha=0.0).utility(x, state)[:2].argmax(axis=1).tolist() == [0, 1]


def test_after_a_fit_on_all_outcomes_the_bonus_changes_no_choice() -> None:
    table = toy_table()
    state = MetaLLM().fit(table, {}, RNG)
    x = state.featurizer.rows(table.questions)
    plain, bold = MetaLLM(alpha=0.0).utility(x, state), MetaLLM(alpha=1.0).utility(x, state)
    np.testing.assert_allclose(
        bold - bold.mean(axis=1, keepdims=True), plain - plain.mean(axis=1, keepdims=True)
    )


def test_feedback_moves_only_who_was_asked_and_continues_the_mean_cost() -> None:
    router = MetaLLM()
    state = router.fit(toy_table(), {}, RNG)
    after = router.update(state, [told("bob", 0.0, spent=1.0)], RNG)
    changed = (after.arms.b != state.arms.b).any(axis=1) | (after.arms.n != state.arms.n)
    assert changed.tolist() == [False, True, False]
    assert after.spending.usd[1] == pytest.approx((60 * state.spending.usd[1] + 1.0) / 61)
    assert state.spending.usd[1] == pytest.approx(2e-4 * (1 + 59 / 120))


def test_many_answers_at_once_equal_one_after_the_other() -> None:
    router = MetaLLM(discount=0.9)
    events = [told("a", 1.0, 0.02, "add two"), told("b", 0.5, 0.01, "who wrote it"), told("a", 0.0, 0.04)]
    at_once = router.update(begun(router, "a", "b"), events, RNG)
    slowly = begun(router, "a", "b")
    for event in events:
        slowly = router.update(slowly, [event], RNG)
    x = slowly.featurizer.rows(["add two and two", "who"])
    np.testing.assert_allclose(router.utility(x, at_once), router.utility(x, slowly))
    assert at_once.spending.usd.tolist() == slowly.spending.usd.tolist() == [0.03, 0.01]


def test_two_hundred_bad_answers_take_the_favourite_its_share() -> None:
    questions = [f"What is {i} plus {i + 1}?" for i in range(50)]
    router = MetaLLM()
    state = begun(router, "a", "b")
    assert share(router, state, 0, questions) == 1.0
    for question in questions:
        state = router.update(state, [told("a", 0.0, query=question)], RNG)
    assert share(router, state, 0, questions) < 0.1


def test_with_a_discount_the_last_answers_count_most() -> None:
    first, later = [told("a", 0.0)] * 30, [told("a", 1.0)] * 10
    slow, fast = MetaLLM(alpha=0.0), MetaLLM(alpha=0.0, discount=0.8)
    x = begun(slow, "a", "b").featurizer.rows(["add two and two"])
    steady = slow.utility(x, slow.update(begun(slow, "a", "b"), first + later, RNG))
    moved = fast.utility(x, fast.update(begun(fast, "a", "b"), first + later, RNG))
    assert moved[0, 0] > 0.8 > 0.4 > steady[0, 0]


def test_battles_and_unscored_decisions_teach_nothing() -> None:
    router = MetaLLM()
    state = begun(router, "a", "b")
    silent = Decision("q", {"a": 1.0}, 1.0, member="a")
    assert router.update(state, [Battle("q", "a", "b", "a"), silent], RNG) is state


def test_the_order_of_members_changes_nothing() -> None:
    table = toy_table(30)
    straight = MetaLLM().fit(table, {}, RNG)
    turned = MetaLLM().fit(table.of_members(("cyd", "bob", "ada")), {}, RNG)
    x = straight.featurizer.rows(table.questions)
    np.testing.assert_allclose(
        MetaLLM().utility(x, straight), MetaLLM().utility(x, turned)[:, ::-1], atol=1e-9
    )


def test_an_unknown_score_touches_only_that_member() -> None:
    rows = [
        {"query": f"add {i} and two", "model": m, "score": None if (i, m) == (3, "b") else float(m == "a")}
        for i in range(8)
        for m in ("a", "b", "c")
    ]
    state = MetaLLM().fit(Table.of(rows), {}, RNG)
    assert state.arms.n.tolist() == [8, 7, 8]
    np.testing.assert_allclose(state.arms.inverse[0], state.arms.inverse[2])


def test_the_state_survives_saving() -> None:
    state = MetaLLM().fit(toy_table(12), {}, RNG)
    again = unpack(Bandit, *pack(state))
    x = state.featurizer.rows(["Is 8 plus two even or odd?"])
    np.testing.assert_array_equal(MetaLLM().utility(x, again), MetaLLM().utility(x, state))


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(BadParameter, match="at most 1024 columns"):
        MetaLLM(features="tf-idf").fit(toy_table(12), {}, RNG)
    with pytest.raises(BadParameter, match=r"member: must be one of \['a', 'b'\]"):
        MetaLLM().update(begun(MetaLLM(), "a", "b"), [told("c", 1.0)], RNG)
    assert MetaLLM(features="task").begin(("a", "b")) is None
    assert MetaLLM(features="embedder").begin(("a", "b")) is None


def test_surface_features_need_no_fit_either() -> None:
    router = MetaLLM(features="surface")
    state = router.update(begun(router, "a", "b"), [told("a", 0.0)], RNG)
    assert share(router, state, 1, ["add two and two"]) == 1.0


def test_costs_are_relative_to_the_dearest() -> None:
    assert relative(np.array([0.02, 0.01, np.nan])).tolist() == [1.0, 0.5, 0.0]
    assert relative(np.array([np.nan, np.nan])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "check", check_method(MetaLLM, price=0.3, discount=0.99, features="surface"), ids=str
)
def test_with_a_price_and_a_discount_it_keeps_the_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
