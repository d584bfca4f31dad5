"""Cascade routing: the dossier's case through the plan, the strategies, the fit, budgets and failures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.money import Load
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c2_cascade._estimates import Estimates, Known, Ran, inputs_of, newton, sets_of
from septet.methods.c2_cascade.cascade_routing import FREE, CascadeRouting, State
from septet.parts.deferral.supermodels import Priced, gaussian_points, root
from septet.parts.learning.features import Featurizer
from septet.parts.learning.linear import Linear, fit_logistic
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

POOL = SeatPool((seat("weak"), seat("strong")))


@pytest.mark.parametrize("check", check_method(CascadeRouting), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def by_end(price: Priced = FREE, threshold: float = 0.9) -> State:
    """The dossier's case: .6 is expected of the first member, with deviation .35, and .9 of the second; costs 1 and 5.

    Once the first ran, .95 is expected of it if its answer ends in a full stop, else .25.
    """
    before = Linear(np.zeros((1, 2)), np.array([logit(0.6), logit(0.9)]))
    # inputs of one answer: two logits, logp, confidence, log length, unfinished end
    after, both = np.zeros((6, 2)), np.zeros((2 + 8 + 1, 2))
    after[5, 0] = logit(0.25) - logit(0.95)
    both[5, 0] = after[5, 0]
    bias, sure = np.array([logit(0.95), logit(0.9)]), np.zeros((2, 2))

    def ran(members: tuple[int, ...], weights: Floats, bias: Floats = bias) -> Ran:
        return Ran(members, Linear(weights, bias), np.zeros(len(weights)), np.ones(len(weights)), sure)

    estimates = Estimates(
        Featurizer.of("task", ["?"], ["t"]),
        before,
        root(np.diag([0.35**2, 0.0])),
        (ran((0,), after), ran((1,), np.zeros((6, 2)), before.bias), ran((0, 1), both)),
    )
    return State(
        estimates, np.array([1.0, 5.0]), "usd", gaussian_points(128, 2, 0), price, threshold, 0.0, 0.0
    )


GOOD, BAD = "The sky is blue.", "The sky is"


def run(
    weak: Any, state: State | None = None, prefer: float | None = 0.02, strong: Any = GOOD, **parameters: Any
) -> tuple[Verdict, list[str]]:
    method = CascadeRouting(features="task", **parameters)
    asked = Query.of("Why is the sky blue?", prefer=prefer)
    plan = method.plan(asked, POOL, state or by_end(), np.random.default_rng(0))
    verdict, yielded = drive(plan, {"weak": weak, "strong": strong})
    return verdict, [a.to.name for items in yielded for a in items if isinstance(a, Ask)]


def test_it_stops_after_a_good_answer_of_the_cheap_member() -> None:
    verdict, asked = run(GOOD)
    assert (asked, verdict.chosen) == (["weak"], 0)
    assert verdict.confidence == pytest.approx(0.95)


def test_it_goes_on_after_a_bad_one_and_returns_the_better() -> None:
    verdict, asked = run(BAD)
    assert (asked, verdict.chosen) == (["weak", "strong"], 1)
    assert verdict.confidence == pytest.approx(0.9)
    # E[max] = .9380 less .12 for both: .818 before anyone ran
    assert verdict.reason.startswith("expected quality: weak 0.60, strong 0.90; best is weak + strong (0.8")
    assert "after weak: weak 0.25, strong 0.90; best is weak + strong (0.78" in verdict.reason


def test_at_a_higher_price_it_routes_to_the_strong_member_at_once() -> None:
    # .65 for the strong one alone; both come to .9380 − .30 = .638
    assert run(BAD, prefer=0.05)[1] == ["strong"]


def test_at_a_price_of_0_everything_useful_is_run_and_at_a_huge_one_the_cheapest() -> None:
    assert run(BAD, prefer=0.0)[1] == ["weak", "strong"]
    for prefer in (1e9, float("inf")):
        assert run(BAD, prefer=prefer)[1] == ["weak"]


def test_means_know_no_doubt_so_the_cheap_member_is_not_tried() -> None:
    assert run(BAD, ahead="means")[1] == ["strong"]
    assert run(BAD, ahead="greedy")[1] == ["strong"]  # one member ahead: .80 beats .58


def test_routing_asks_one_member_and_a_cascade_begins_with_the_first() -> None:
    assert run(BAD, strategy="routing")[1] == ["strong"]
    # prefixes: {weak} .58, {weak, strong} .818
    assert run(BAD, strategy="cascade", prefer=0.05)[1] == ["weak", "strong"]  # {weak} .55, both .638


def test_depth_1_is_routing() -> None:
    for prefer in (0.0, 0.02, 0.05, 0.2):
        assert run(BAD, prefer=prefer, depth=1)[1] == run(BAD, prefer=prefer, strategy="routing")[1]


def test_a_threshold_looks_at_the_last_answer_alone() -> None:
    assert run(GOOD, strategy="threshold")[1] == ["weak"]
    verdict, asked = run(BAD, strategy="threshold")
    assert (asked, verdict.chosen) == (["weak", "strong"], 1)
    assert run(BAD, by_end(threshold=0.2), strategy="threshold")[1] == ["weak"]


def test_the_budgets_price_is_taken_where_the_request_states_none() -> None:
    mixed = by_end(Priced(cheap=1e9, dear=0.0, share=0.5))
    asked = set()
    for seed in range(8):
        plan = CascadeRouting(features="task").plan(Query.of("?"), POOL, mixed, np.random.default_rng(seed))
        _, yielded = drive(plan, {"weak": BAD, "strong": GOOD})
        asked.add(len(yielded))
    assert asked == {1, 2}


def test_a_failed_member_is_left_out_of_all_sets() -> None:
    verdict, asked = run(BackendError("down"))
    assert (asked, verdict.chosen) == (["weak", "strong"], 0)
    with pytest.raises(NoCandidate, match="weak: down; strong: down"):
        run(BackendError("down"), strong=BackendError("down"))


def test_if_what_was_to_be_run_fails_the_answer_that_is_there_stands() -> None:
    verdict, asked = run(BAD, strong=BackendError("down"))
    assert (asked, verdict.chosen) == (["weak", "strong"], 0)
    assert verdict.confidence == pytest.approx(0.25)


# --- what is read from answers -------------------------------------------------------------------------


def test_inputs_are_logits_signs_of_each_answer_and_agreement_of_each_two() -> None:
    a = Completion(member="a", text="So it is 5.", confidence=0.7)
    b = Completion(member="b", text="5", extra={"logp": -0.5})
    row = inputs_of(np.array([[0.1, 0.2]]), (0, 1), [{0: a, 1: b}])[0]
    assert row[:2].tolist() == [0.1, 0.2]
    np.testing.assert_allclose(row[2:6], [np.nan, 0.7, np.log(12), 0.0])
    np.testing.assert_allclose(row[6:10], [-0.5, np.nan, np.log(2), 0.0])
    assert row[10] == 1.0  # both end in 5


def test_sets_of_members_are_bounded() -> None:
    assert sets_of(3, 2) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    with pytest.raises(BadParameter, match="sets of 20 members, more than 2,000"):
        sets_of(20, 5)


# --- the fit -------------------------------------------------------------------------------------------


def told(n: int = 120) -> Table:
    """Outcomes in which an answer shows whether it is right: the weak member is right on half of the questions."""
    rows = []
    for i in range(n):
        for member, right, usd in (("weak", i % 2 == 0, 1.0), ("strong", i % 10 != 0, 5.0)):
            rows.append(
                {
                    "query": f"Question {i}",
                    "model": member,
                    "response": GOOD if right else BAD,
                    "score": float(right),
                    "cost_usd": usd,
                }
            )
    return Table.of(rows)


def fitted(**parameters: Any) -> State:
    state, _ = drive(
        CascadeRouting(features="surface", **parameters).fit(told(), {}, np.random.default_rng(0)), {}
    )
    assert isinstance(state, State)
    return state


def test_the_estimates_after_an_answer_tell_right_from_wrong() -> None:
    state = fitted()
    logits = np.zeros(2)
    good = state.estimates.quality(logits, {0: Completion(member="weak", text=GOOD)})[0]
    bad = state.estimates.quality(logits, {0: Completion(member="weak", text=BAD)})[0]
    assert good[0] > 0.85
    assert bad[0] < 0.15


def test_before_any_answer_the_doubt_about_the_weak_member_is_large() -> None:
    covariance = (state := fitted()).estimates.low @ state.estimates.low.T
    assert covariance[0, 0] == pytest.approx(0.2, abs=0.06)  # nearly ½·½, that of a fair coin


def test_a_budget_is_met_on_the_questions_that_were_held_out() -> None:
    # between 1, the weak one alone, and 6, both
    found = [fitted(budget_usd=b) for b in (1.5, 3.0, 4.5)]
    assert [f.spent for f in found] == pytest.approx([1.5, 3.0, 4.5], abs=0.3)
    assert [f.score for f in found] == sorted(f.score for f in found)


def test_cascade_routing_is_at_least_as_good_as_routing_where_answers_tell() -> None:
    routed = fitted(budget_usd=2.5, strategy="routing")
    assert fitted(budget_usd=2.5).score > routed.score + 0.05


def test_the_threshold_that_was_fitted_keeps_the_budget_too() -> None:
    free, tight = fitted(strategy="threshold"), fitted(strategy="threshold", budget_usd=2.0)
    assert free.score > 0.9
    assert tight.spent <= 2.0 < free.spent


def test_budgets_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(BadParameter, match="must be at least 1, the least"):
        fitted(budget_usd=0.5)
    with pytest.raises(BadParameter, match="what the first member costs"):
        fitted(budget_usd=0.5, strategy="threshold")
    rows = [
        {"query": f"q{i}", "model": m, "response": "x", "score": 1.0} for i in range(20) for m in ("a", "b")
    ]
    with pytest.raises(BadParameter, match="cost_usd for every answer"):
        drive(CascadeRouting(budget_usd=1.0).fit(Table.of(rows), {}, np.random.default_rng(0)), {})


def test_a_table_without_questions_that_all_have_answered_is_refused() -> None:
    rows = [{"query": f"q{i}", "model": "ab"[i % 2], "response": "x", "score": 1.0} for i in range(40)]
    with pytest.raises(BadParameter, match="that every member answered"):
        Known.of(Table.of(rows))


def test_the_state_survives_saving() -> None:
    state = fitted(budget_usd=3.0)
    again: State = unpack(State, *pack(state))
    assert (again.price, again.threshold) == (state.price, state.threshold)
    for ran, other in zip(state.estimates.after, again.estimates.after, strict=True):
        assert ran.members == other.members
        np.testing.assert_array_equal(ran.low, other.low)


def test_with_an_embedder_the_question_is_embedded_once() -> None:
    pool = SeatPool(POOL.members, {"embedder": (seat("emb", embed=True),)})

    def answer(ask: Ask) -> Any:
        if ask.do == "embed":
            return np.array([[float(len(text) % 3), 1.0] for text in ask.args["texts"]])
        return [Completion(member=ask.to.name, text=BAD)]

    method = CascadeRouting(features="embedder")
    state, _ = drive(method.fit(told(), pool.roles, np.random.default_rng(0)), answer)
    _, yielded = drive(method.plan(Query.of("Q?", prefer=0.0), pool, state, np.random.default_rng(0)), answer)
    assert [a.do for items in yielded for a in items if isinstance(a, Ask)].count("embed") == 1
    assert method.worst(Query.of("?", max_tokens=3), pool)["emb"] == Load(1, 1, 0)


def test_log_probabilities_are_asked_for_only_where_they_are_read() -> None:
    assert CascadeRouting().needs() == Caps(text=True)
    assert CascadeRouting(answers="text+logp").needs() == Caps(text=True, logprobs=True, topk=1)
    # on the toy table a wrong answer has logp −1 and a right one −.1, and both look alike
    reads: Mapping[str, float] = {
        kind: drive(
            CascadeRouting(answers=kind, features="surface").fit(
                toy_table(120), {}, np.random.default_rng(0)
            ),
            {},
        )[0].score
        for kind in ("text", "text+logp")
    }
    assert reads["text+logp"] == 1.0


def test_newtons_method_finds_what_the_patient_fit_finds() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    y = np.column_stack([x[:, 0] + rng.normal(size=60) > 0, np.ones(60), rng.uniform(size=60)]).astype(float)
    fast, patient = newton(x, y, 1.0), fit_logistic(x, y, l2=1.0)
    np.testing.assert_allclose(fast.weights, patient.weights, atol=1e-4)
    np.testing.assert_allclose(fast.bias, patient.bias, atol=1e-4)
